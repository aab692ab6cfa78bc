"""KNNProbe logs the accuracy of scikit-learn's nearest neighbours, on any number of ranks."""

import numpy as np
import pytest
import torch
from helpers.ddp import run_ranks
from helpers.toy_ssl import NUM_CLASSES, ToySSL, clean_loader, fit, seed_all
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from sklearn.neighbors import KNeighborsClassifier

from lightning_ssl_theory.callbacks import KNNProbe, LinearProbe
from lightning_ssl_theory.report.keys import parse_key
from lightning_ssl_theory.warnings import DiagnosticWarning

NUM_FIT, NUM_SCORED = 61, 45
SETTINGS = {"k": (1, 9), "temperature": (0.05, None)}
KEYS = ("knn1_t0.05_top1", "knn1_top1", "knn9_t0.05_top1", "knn9_top1")


def probe(**arguments):
    loader = {"num_classes": NUM_CLASSES, "fit_loader": clean_loader(NUM_FIT, seed=3)}
    return KNNProbe(**(loader | SETTINGS | arguments))


def features_of(module, loader):
    images, labels = loader.dataset.tensors
    found = module.eval()(images).detach().double().numpy()
    module.train()
    return found, labels.numpy()


def oracle(module, *, num_ranks=1):
    """Accuracies of scikit-learn's classifier; of the first of several ranks alone, by its own images."""
    x, y = (part[::num_ranks] for part in features_of(module, clean_loader(NUM_FIT, seed=3)))
    scored, labels = (part[::num_ranks] for part in features_of(module, clean_loader(NUM_SCORED)))
    values = {}
    for key, (k, temperature) in zip(KEYS, [(1, 0.05), (1, None), (9, 0.05), (9, None)], strict=True):
        weights = "uniform" if temperature is None else lambda d, t=temperature: np.exp((1 - d) / t)
        theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights).fit(x, y)
        values[f"probe/backbone/{key}"] = np.mean(theirs.predict(scored) == labels)
    return values


def untrained_values(rank=0, num_ranks=1):
    seed_all()
    callback = probe(strict=True)
    strategy = {"strategy": "ddp", "devices": num_ranks} if num_ranks > 1 else {}
    fit(ToySSL(lr=0.0, momentum=0.0), [callback], val=clean_loader(NUM_SCORED), **strategy)
    return callback.values


def test_values_of_a_trained_network():
    seed_all()
    module, callback = ToySSL(), probe()
    trainer, logger = fit(module, [callback], val=clean_loader(NUM_SCORED))
    ((step, values),) = logger.looks("probe/")
    assert step == trainer.global_step
    expected = oracle(module)
    assert values == expected
    assert len(set(expected.values())) > 1  # the toy tells them apart
    (validated,) = trainer.validate(module, clean_loader(NUM_SCORED), verbose=False)
    assert {key: validated[key] for key in expected} == pytest.approx(expected)


@pytest.mark.ddp
@pytest.mark.parametrize("num_ranks", [2, pytest.param(3, marks=pytest.mark.all_cases)])
def test_ranks_give_exactly_the_values_of_one_process(num_ranks):
    # 61 fitted and 45 scored images: ranks have different numbers of them, and the sampler repeats some
    expected = oracle(ToySSL())
    assert untrained_values() == expected
    assert run_ranks(untrained_values, num_ranks, init=False) == [expected] * num_ranks
    assert oracle(ToySSL(), num_ranks=num_ranks) != expected


def test_by_steps_with_loaders_of_its_own():
    callback = probe(every_n_steps=5, score_loader=clean_loader(NUM_SCORED))
    module = ToySSL()
    _, logger = fit(module, [callback])
    (first_step, first), (last_step, last) = logger.looks("probe/")
    assert (first_step, last_step) == (0, 5)
    assert first == oracle(ToySSL())
    assert last == oracle(module)


def test_images_without_label_do_not_vote():
    loader = clean_loader(NUM_FIT, seed=3)
    labels = loader.dataset.tensors[1]
    labels[::2] = -1
    module, callback = ToySSL(), probe(fit_loader=loader, k=3, temperature=None)
    fit(module, [callback], val=clean_loader(NUM_SCORED))
    x, y = features_of(module, loader)
    scored, expected = features_of(module, clean_loader(NUM_SCORED))
    theirs = KNeighborsClassifier(3, metric="cosine", algorithm="brute").fit(x[1::2], y[1::2])
    assert callback.values == {"probe/backbone/knn3_top1": np.mean(theirs.predict(scored) == expected)}


def test_more_neighbours_than_images():
    sentence = "Expected `k` of at most 61, the labelled images of the fit, got 62; pass a smaller `k`"
    with pytest.warns(DiagnosticWarning, match=f"KNNProbe left out a look. {sentence}"):
        fit(ToySSL(), [callback := probe(k=62)], val=clean_loader(NUM_SCORED))
    assert callback.values == {}
    with pytest.raises(ValueError, match=sentence):
        fit(ToySSL(), [probe(k=62, strict=True)], val=clean_loader(NUM_SCORED))


def test_keys_serve_monitors_and_the_report(tmp_path):
    key = "probe/backbone/knn9_t0.05_top1"
    saver = ModelCheckpoint(
        tmp_path, monitor=key, mode="max", filename=f"{{{key}:.2f}}", auto_insert_metric_name=False
    )
    stopper = EarlyStopping(key, mode="max", patience=9)
    _, logger = fit(
        ToySSL(),
        [probe(), saver, stopper],
        val=clean_loader(NUM_SCORED),
        max_epochs=2,
        enable_checkpointing=True,
    )
    scores = [values[key] for _, values in logger.looks("probe/")]
    assert float(saver.best_model_score) == pytest.approx(max(scores))
    assert saver.best_model_path.endswith(f"{max(scores):.2f}.ckpt")
    parsed = parse_key(key)
    assert parsed.quantity.name == "knn<k>_t<tau>_top1"
    assert parsed.filled(parsed.quantity.title) == "9 nearest neighbours, temperature 0.05"
    assert parse_key("probe/backbone/knn200_top1").filled("<k>") == "200"
    assert parse_key("probe/backbone/knn20_t1e-05_top1").filled("<tau>") == "1e-05"


def test_a_misspelt_key_beside_another_probe_is_left_to_lightning():
    linear = LinearProbe(num_classes=NUM_CLASSES, fit_loader=clean_loader(NUM_FIT, seed=3))
    for key in ("probe/backbone/knn9_t0.050_top1", "probe/backbone/ridge_top7"):
        with pytest.raises(RuntimeError, match=f"{key}` which is not available"):
            fit(ToySSL(), [linear, probe(), EarlyStopping(key)], val=clean_loader(NUM_SCORED))


def test_features_without_direction_are_at_equal_distance():
    callback = probe(layer="output", output=lambda images: torch.zeros(len(images), 4), k=1, temperature=None)
    fit(ToySSL(), [callback], val=clean_loader(NUM_SCORED))
    first = clean_loader(NUM_FIT, seed=3).dataset[0][1]
    labels = clean_loader(NUM_SCORED).dataset.tensors[1]
    share = torch.mean((labels == first).double())
    assert callback.values == {"probe/output/knn1_top1": pytest.approx(float(share))}
