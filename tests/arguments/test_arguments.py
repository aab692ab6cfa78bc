"""Every argument of the whole public API with values that it must not have: a sentence, before anything runs."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from arguments.outcomes import CLEAR, ENDLESS, SHOWN, SILENT, outcome
from arguments.valid_calls import ROOMS, VALID, public_names, resolve
from arguments.wrong_values import parameters, wrong_values

# what looks wrong and is right: no rows of a rank without data, no times, more dimensions in front, documented words
RIGHT = {
    "empty": r"\.update\(|\.(scores|predictions|forward|root_features)\(|flow\(times|closed_form\(times|velocity\(q|"
    r"flow_(loss|outputs)\((trajectory|points)|fixed_point_rates\(chosen|labels_per_class\(targets|nearest_neighbours\(features|random_mask|four_rotations|"
    r"sample_latents\(roots|task_labels\(codes|half_squared_distances|find_module\(name|(resolve_layers|spectra)\(layers|"
    r"ImageDataModule\(data_dir|callbacks\.\w+\((output|val_loader|name)|LatentTreeMonitor\(network",
    "order": r"flows\.\w+\((q0?|trajectory)\)|manifolds\.|SymmetrizedReLU\.forward|latent_selectivity",
    "fewer dimensions": r"metrics\.latent_selectivity\(features|__matmul__",
    "letters": r"callbacks\.\w+\(layers",
    "type": r"callbacks\.\w+\((output|val_loader)|smallest_bound\(lipschitz",
    "infinite": r"top_k_correct\(scores|concentration\(distances",
    "none": r"draw\(generator|(spectra|exact_growth)\((layers|)|covariance_scalars\(exact_growth|\(reference",
}


def rows(name: str) -> Iterator[tuple[str, str, Any]]:
    """Argument, kind of mistake and value, for every argument of a call."""
    right = VALID[name]()
    for argument, parameter in parameters(resolve(name)).items():
        given = right.get(argument, parameter.default)
        for kind, value in wrong_values(argument, parameter.annotation, given):
            if not (kind in RIGHT and re.search(RIGHT[kind], f"{name}({argument})")):
                yield argument, kind, value


def results(room: str) -> list[tuple[str, str, str, str, str]]:
    """Call, argument, kind, outcome and sentence of every mistake in a room."""
    found = []
    for name in (name for name in VALID if name.startswith(f"{room}.")):
        others = parameters(resolve(name))
        for argument, kind, value in rows(name):
            found.append(
                (
                    name,
                    argument,
                    kind,
                    *outcome(resolve(name), VALID[name]() | {argument: value}, argument, others=others),
                )
            )
    return found


def test_every_public_name_has_a_call():
    assert set(public_names()) <= set(VALID)


@pytest.mark.parametrize("name", VALID)
def test_the_right_call_passes(name):
    resolve(name)(**VALID[name]())


@pytest.mark.parametrize("room", ROOMS)
def test_wrong_arguments_are_refused_in_a_sentence(room):
    found = results(room)
    counts = Counter(word for *_, word, _ in found)
    print(f"{room}: {dict(counts)}")
    others = [row for row in found if row[3] not in (CLEAR, SHOWN)]
    assert counts[SILENT] == counts[ENDLESS] == 0, others
    assert counts[CLEAR] + counts[SHOWN] >= 0.97 * len(found), others
