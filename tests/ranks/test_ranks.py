"""Every loss, metric, module and callback has the same values on one, two and three processes with uneven data.

The suite compares losses and metrics on two ranks. All of the table, on two ranks and on three, with a count:

    pytest tests/ranks --all-cases -n 0 -s
"""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import torch
from helpers.ddp import run_ranks

from ranks.rows import REASONS, ROWS_OF, Share, Values, share_of_all, weights

TOLERANCE = 1e-5
LEAST_DIFFERENCE = 1e-3  # of a rank that has not asked the others


def differences(found: Values, expected: Values) -> Values:
    """Largest one of each value, relative to its largest number."""
    assert list(found) == list(expected)
    relative = {}
    for name, value in expected.items():
        first, second = found[name].double(), value.double()
        both = first.isnan() & second.isnan()
        largest = torch.cat([first[~both].flatten(), second[~both].flatten()]).abs()
        distance = (first - second)[~both].abs()
        relative[name] = (
            (distance.max() / largest.max().clamp(min=1e-12)) if len(distance) else torch.zeros(())
        )
    return relative


def _on_rank(rank: int, num_ranks: int, names: list[str]) -> dict[str, Values]:
    share = Share((share_of_all(num_ranks).parts[rank],))
    if not all(ROWS_OF[name].is_quick for name in names):
        weights()  # trained before there are others
    torch.distributed.init_process_group("gloo")
    return {name: ROWS_OF[name].run(share) for name in names}


def verdicts(num_ranks: int, names: list[str]) -> dict[str, str]:
    """For each name what is wrong: nothing, a difference from one process, or a row that could not show one."""
    everyone, found = share_of_all(num_ranks), run_ranks(_on_rank, num_ranks, names, init=False, timeout=600)
    words = {}
    for name in names:
        expected, alone = ROWS_OF[name].run(everyone), ROWS_OF[name].run(Share(everyone.parts[:1]))
        worst = max(
            ((value.item(), key) for one in found for key, value in differences(one[name], expected).items())
        )
        apart = max(value.item() for key, value in differences(alone, expected).items() if key in alone)
        words[name] = "" if worst[0] < TOLERANCE else f"{worst[1]} differs by {worst[0]:.1e}"
        if not ROWS_OF[name].same_alone and apart < LEAST_DIFFERENCE:
            words[name] += f" a rank alone is within {apart:.1e}"
    return words


@pytest.mark.ddp
def test_quick_rows_on_two_ranks() -> None:
    words = verdicts(2, [name for name, row in ROWS_OF.items() if row.is_quick])
    assert not {name: word for name, word in words.items() if word}


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.all_cases
@pytest.mark.timeout(1800)
def test_every_row_on_two_and_three_ranks() -> None:
    words = {
        f"{name}, {count} ranks": word
        for count in (2, 3)
        for name, word in verdicts(count, list(ROWS_OF)).items()
    }
    wrong = {name: word for name, word in words.items() if word}
    print(
        f"\nequal {len(words) - len(wrong)} of {len(words)} within {TOLERANCE:g}, none of them alone", wrong
    )
    assert not wrong


@pytest.mark.parametrize("room", ["losses", "metrics", "modules", "callbacks"])
def test_every_public_name_has_a_row_or_a_reason(room: str) -> None:
    package = import_module(f"lightning_ssl_theory.{room}")
    covered = {name.split(",")[0] for name in ROWS_OF} | set(REASONS)
    for name in package.__all__:
        member = getattr(package, name)
        is_record = inspect.isclass(member) and issubclass(member, tuple)
        if is_record or f"{room}.{name}" in covered:
            continue
        assert inspect.isfunction(member), name
        source = Path(inspect.getsourcefile(member)).read_text()
        assert "lightning_ssl_theory.distributed" not in source, name  # it could communicate: compare it
