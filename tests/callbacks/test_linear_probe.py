"""LinearProbe logs the accuracy that scikit-learn's classifiers get on the same features."""

import numpy as np
import pytest
import torch
from helpers.toy_ssl import NUM_CLASSES, ToySSL, clean_loader, fit, seed_all, toy_images, view_loader
from lightning.pytorch import LightningDataModule, Trainer
from sklearn.linear_model import LogisticRegression, Ridge
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, SubsetRandomSampler, TensorDataset

from lightning_ssl_theory.callbacks import LinearProbe
from lightning_ssl_theory.probes import labels_per_class

NUM_FIT, NUM_SCORED = 60, 45


def loaders():
    return clean_loader(NUM_FIT, seed=3), clean_loader(NUM_SCORED, seed=2)


def features_of(module, loader):
    images, labels = loader.dataset.tensors
    found = module.eval()(images).detach().double().numpy()
    module.train()
    return found, labels.numpy()


def oracle(fitted, scored, *, lamb=1e-3, l2=1e-3, few=None):
    """Accuracy on `scored` of classifiers of standardised features, scikit-learn's."""
    (x, y), (x_scored, y_scored) = fitted, scored
    mean, std = x.mean(0), x.std(0)
    std[std == 0] = np.inf
    inputs, held_out = (x - mean) / std, (x_scored - mean) / std
    ridge = Ridge(alpha=len(x) * lamb).fit(inputs, np.eye(NUM_CLASSES)[y]).predict(held_out)
    order = np.argsort(-ridge, axis=1)
    values = {
        "ridge_top1": np.mean(order[:, 0] == y_scored),
        "ridge_top2": np.mean((order[:, :2] == y_scored[:, None]).any(1)),
        "logistic_top1": logistic_accuracy(x, y, x_scored, y_scored, l2),
    }
    if few is not None:
        chosen = labels_per_class(
            torch.from_numpy(y), few, generator=torch.Generator().manual_seed(0)
        ).numpy()
        values[f"logistic_top1_{few}_labels"] = logistic_accuracy(
            x[chosen], y[chosen], x_scored, y_scored, l2
        )
    return values


def logistic_accuracy(x, y, x_scored, y_scored, l2):
    mean, std = x.mean(0), x.std(0)
    std[std == 0] = np.inf
    model = LogisticRegression(C=1 / (len(x) * l2), tol=1e-8, max_iter=10_000).fit((x - mean) / std, y)
    return np.mean(model.predict((x_scored - mean) / std) == y_scored)


def probe_rows(callback, val=None, module=None, **arguments):
    seed_all()
    module = module or ToySSL()
    trainer, logger = fit(module, [callback], val=val, **arguments)
    rows = [
        (step, {key.removeprefix("probe/backbone/"): value for key, value in values.items()})
        for step, values in logger.looks("probe/")
    ]
    return rows, module, trainer


def test_values_on_validation():
    fit_loader, val = loaders()
    callback = LinearProbe(
        num_classes=NUM_CLASSES,
        fit_loader=fit_loader,
        top_k=[2, 5],
        few_labels=[4, 1000],
        num_fit_samples=None,
    )
    rows, module, trainer = probe_rows(callback, val)
    ((step, values),) = rows
    assert step == trainer.global_step
    expected = oracle(features_of(module, fit_loader), features_of(module, val), few=4)
    assert values == pytest.approx(expected, rel=1e-12)
    assert len(set(expected.values())) == 4  # the toy tells the probes apart
    assert 1 / NUM_CLASSES < expected["ridge_top1"] < 1
    (validated,) = trainer.validate(module, val, verbose=False)
    assert {k: validated[f"probe/backbone/{k}"] for k in values} == pytest.approx(values)


def test_by_steps_the_score_is_that_of_validation():
    fit_loader, val = loaders()
    arguments = {"num_classes": NUM_CLASSES, "fit_loader": fit_loader, "few_labels": []}
    rows, module, _ = probe_rows(LinearProbe(every_n_steps=5, **arguments), val)
    assert [step for step, _ in rows] == [0, 5]
    untrained = oracle(features_of(ToySSL(), fit_loader), features_of(ToySSL(), val))
    trained = oracle(features_of(module, fit_loader), features_of(module, val))
    for (_, found), expected in zip(rows, (untrained, trained), strict=True):
        assert found == pytest.approx({key: expected[key] for key in found}, rel=1e-12)
    assert rows[0][1] != rows[1][1]


@pytest.mark.parametrize("val_loader", [0, 1])
def test_by_steps_the_score_is_there_before_the_first_validation(val_loader):
    fit_loader, val = loaders()
    val_loaders = [clean_loader(9, seed=11), val] if val_loader else val
    probe = LinearProbe(
        num_classes=NUM_CLASSES,
        fit_loader=fit_loader,
        few_labels=[],
        every_n_steps=100,
        val_loader=val_loader,
    )
    module = ToySSL()
    # no sanity check, and no validation in the only epoch: Lightning never asks for the validation loaders
    fit(module, [probe], val=val_loaders, num_sanity_val_steps=0, check_val_every_n_epoch=2, max_epochs=1)
    untrained = oracle(features_of(ToySSL(), fit_loader), features_of(ToySSL(), val))
    found = {key.rpartition("/")[2]: value for key, value in probe.values.items()}
    assert found
    assert found == pytest.approx({key: untrained[key] for key in found}, rel=1e-12)


def test_own_score_loader_needs_no_validation():
    fit_loader, scored = loaders()
    rows, module, _ = probe_rows(
        LinearProbe(num_classes=NUM_CLASSES, fit_loader=fit_loader, score_loader=scored)
    )
    expected = oracle(features_of(module, fit_loader), features_of(module, scored))
    assert rows[0][1]["ridge_top1"] == pytest.approx(expected["ridge_top1"], rel=1e-12)
    # With validation too, the score is still that of the loader asked for.
    other = clean_loader(9, seed=11)
    callback = LinearProbe(num_classes=NUM_CLASSES, fit_loader=fit_loader, score_loader=scored)
    again, _, _ = probe_rows(callback, other)
    assert again[-1][1]["ridge_top1"] == pytest.approx(expected["ridge_top1"], rel=1e-12)


def one_of_each_part(total, num_parts):
    """A sample of every equal part of a set, at places that follow the golden ratio."""
    ends = np.arange(num_parts + 1) * total // num_parts
    places = np.arange(num_parts) * (5**0.5 - 1) / 2 % 1
    return (ends[:-1] + np.floor(places * np.diff(ends))).astype(int)


def test_penalties_layer_and_numbers_of_samples():
    fit_loader, val = loaders()
    callback = LinearProbe(
        "backbone",
        num_classes=NUM_CLASSES,
        fit_loader=fit_loader,
        ridge_lamb=3.0,
        logistic_l2=1.0,
        num_fit_samples=30,
        num_samples=20,
    )
    rows, module, _ = probe_rows(callback, val)
    (x, y), (x_scored, y_scored) = features_of(module, fit_loader), features_of(module, val)
    fitted, few = one_of_each_part(len(x), 30), one_of_each_part(len(x_scored), 20)
    expected = oracle((x[fitted], y[fitted]), (x_scored[few], y_scored[few]), lamb=3.0, l2=1.0)
    values = rows[0][1]
    assert values["ridge_top1"] == pytest.approx(expected["ridge_top1"], rel=1e-12)
    assert values["logistic_top1"] == pytest.approx(expected["logistic_top1"], rel=1e-12)

    callback = LinearProbe("output", num_classes=NUM_CLASSES, fit_loader=fit_loader)
    _, logger = fit(ToySSL(), [callback], val=val)
    assert "probe/output/ridge_top1" in logger.looks("probe/")[0][1]


def test_samplers_of_the_fit_loader_are_followed():
    dataset = TensorDataset(*toy_images(NUM_FIT, seed=3))
    chosen = list(range(5, 45))
    _, val = loaders()
    subset = DataLoader(dataset, 16, sampler=SubsetRandomSampler(chosen))
    rows, module, _ = probe_rows(LinearProbe(num_classes=NUM_CLASSES, fit_loader=subset, few_labels=[]), val)
    x, y = features_of(module, subset)
    expected = oracle((x[chosen], y[chosen]), features_of(module, val))
    assert rows[0][1]["ridge_top1"] == pytest.approx(expected["ridge_top1"], rel=1e-12)

    batches = DataLoader(dataset, batch_sampler=BatchSampler(SequentialSampler(dataset), 7, drop_last=False))
    rows, module, _ = probe_rows(LinearProbe(num_classes=NUM_CLASSES, fit_loader=batches, few_labels=[]), val)
    expected = oracle(features_of(module, batches), features_of(module, val))
    assert rows[0][1]["ridge_top1"] == pytest.approx(expected["ridge_top1"], rel=1e-12)


def test_samples_without_label_are_left_out():
    images, labels = toy_images(NUM_FIT, seed=3)
    labels[::3] = torch.where(torch.arange(len(labels[::3])) % 2 == 0, -1, labels[::3])
    known = labels >= 0
    partly = DataLoader(TensorDataset(images, labels), 16)
    _, val = loaders()
    rows, module, _ = probe_rows(LinearProbe(num_classes=NUM_CLASSES, fit_loader=partly, few_labels=[4]), val)
    x, y = features_of(module, partly)
    expected = oracle((x[known], y[known]), features_of(module, val), few=4)
    assert rows[0][1] == pytest.approx({key: expected[key] for key in rows[0][1]}, rel=1e-12)


def test_datamodule_gives_the_classes_and_the_images_of_the_fit():
    class Data(LightningDataModule):
        num_classes = NUM_CLASSES

        def train_dataloader(self):
            return view_loader()

        def val_dataloader(self):
            return loaders()[1]

        def probe_dataloader(self):
            return loaders()[0]

    seed_all()
    callback, module = LinearProbe(few_labels=[]), ToySSL()
    Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[callback], logger=False, enable_checkpointing=False
    ).fit(module, datamodule=Data())
    expected = oracle(features_of(module, loaders()[0]), features_of(module, loaders()[1]))
    assert callback.values["probe/backbone/ridge_top1"] == pytest.approx(expected["ridge_top1"], rel=1e-12)
