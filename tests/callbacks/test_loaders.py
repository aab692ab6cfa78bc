"""Which loaders are looked at and fitted on: several of validation, none, streams, and labels that are not there."""

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.every_diagnostic import every_diagnostic
from helpers.toy_ssl import NUM_CLASSES, ToySSL, clean_loader, fit, seed_all, toy_images, view_loader
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    LinearProbe,
    NeuronSelectivity,
)
from lightning_ssl_theory.warnings import DiagnosticWarning

SIZES = {"first": 13, "second": 22}


class Several(ToySSL):
    """Validates with whatever its loaders give."""

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        pass


def seen(val, which, **arguments):
    module = Several(lr=0.0, momentum=0.0)
    callback = CollapseMonitor(val_loader=which, **arguments)
    fit(module, [callback], val=val)
    return callback.values


LOADERS = {
    "list": (lambda: [clean_loader(size) for size in SIZES.values()], {0: 13, 1: 22}),
    "dictionary": (
        lambda: {name: clean_loader(size) for name, size in SIZES.items()},
        {0: 13, 1: 22, "first": 13, "second": 22},
    ),
    **{
        mode: (
            lambda mode=mode: CombinedLoader({n: clean_loader(size) for n, size in SIZES.items()}, mode),
            {"first": 13, "second": 22 if mode != "min_size" else 16, 1: 22 if mode != "min_size" else 16},
        )
        for mode in ("sequential", "max_size", "max_size_cycle", "min_size")
    },
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_loader_by_index_or_name(name):
    build, expected = LOADERS[name]
    for which, size in expected.items():
        values = seen(build(), which)
        assert values["collapse/output/num_samples"] == size
        alone = seen(clean_loader(list(SIZES.values())[which] if isinstance(which, int) else SIZES[which]), 0)
        if alone["collapse/output/num_samples"] == size:
            assert values == pytest.approx(alone)


@pytest.mark.parametrize("which", ["third", 2, -1])
def test_an_unknown_loader_is_named_before_training(which):
    module = Several()
    sentence = (
        r"Expected `val_loader` to be the name or index of a validation loader, of 'first', 'second', got"
    )
    with pytest.raises(ValueError, match=sentence):
        fit(
            module,
            [CollapseMonitor(val_loader=which)],
            val={n: clean_loader(size) for n, size in SIZES.items()},
        )
    assert module.trainer.global_step == 0


def test_probes_on_two_loaders_keep_their_keys_and_states_apart():
    loaders = {n: clean_loader(size, seed=size) for n, size in SIZES.items()}
    probes = [
        LinearProbe(num_classes=3, fit_loader=clean_loader(30), val_loader=name, name=name)
        for name in loaders
    ]
    _, logger = fit(Several(), probes, val=loaders)
    keys = {key for _, row in logger.looks("probe/") for key in row}
    assert {f"probe/{name}/backbone/ridge_top1" for name in loaders} <= keys
    assert len({probe.state_key for probe in probes}) == 2
    assert {f"overhead/LinearProbe/{name}/share" for name in loaders} <= {
        k for _, row in logger.rows for k in row
    }


def test_keys_that_clash_are_told_at_the_start():
    both = [CollapseMonitor(every_n_steps=2), CollapseMonitor(every_n_epochs=1)]
    with pytest.warns(
        DiagnosticWarning, match=r"two callbacks of CollapseMonitor, both log 'collapse/output/…'; give"
    ):
        fit(ToySSL(), both, val=clean_loader())
    apart = [CollapseMonitor(every_n_steps=2), CollapseMonitor(["backbone"]), CollapseMonitor(name="epochs")]
    _, logger = fit(ToySSL(), apart, val=clean_loader())
    keys = {key for _, row in logger.looks("collapse/") for key in row}
    assert {"collapse/output/rankme", "collapse/backbone/rankme", "collapse/epochs/output/rankme"} <= keys
    for name in ("", "a/b"):
        with pytest.raises(ValueError, match="Expected `name` without a slash, got"):
            CollapseMonitor(name=name)


class Stream(IterableDataset):
    def __init__(self, size=60, seed=3):
        self.rows = TensorDataset(*toy_images(size, seed=seed))

    def __iter__(self):
        return iter(self.rows)


class Batches:
    """As DALI gives them: no length, a list of one dictionary, labels in a column."""

    def __iter__(self):
        for images, labels in clean_loader(60, seed=3):
            yield [{"data": images, "label": labels[:, None]}]


STREAMS = {
    "dataset": lambda: DataLoader(Stream(), 16),
    "list": lambda: list(clean_loader(60, seed=3)),
    "one dictionary a device": Batches,
}


def probe_values(fit_loader, world_size=1):
    seed_all()
    callback = LinearProbe(
        num_classes=NUM_CLASSES,
        fit_loader=fit_loader,
        score_loader=clean_loader(45),
        few_labels=[4],
        strict=True,
    )
    strategy = {"strategy": "ddp", "devices": 2} if world_size > 1 else {}
    fit(ToySSL(lr=0.0, momentum=0.0), [callback], **strategy)
    return callback.values


@pytest.mark.parametrize("name", STREAMS)
def test_anything_iterable_is_fitted_on(name):
    expected = probe_values(clean_loader(60, seed=3))
    assert expected
    assert probe_values(STREAMS[name]()) == pytest.approx(expected)


def on_each_rank(rank, world_size):
    return [probe_values(STREAMS[name](), world_size) for name in STREAMS]


@pytest.mark.ddp
def test_streams_are_shared_by_two_ranks():
    expected = probe_values(clean_loader(60, seed=3))
    for values in run_ranks(on_each_rank, 2, init=False):
        for found in values:
            assert {k: v for k, v in found.items() if "labels" not in k} == pytest.approx(
                {k: v for k, v in expected.items() if "labels" not in k}
            )


def test_a_probe_with_both_loaders_needs_nothing_of_training():
    class Odd(ToySSL):
        def training_step(self, batch, batch_idx):
            return self.embed(torch.ones(4, 1, 4, 4)).square().mean()

    loaders = {"fit_loader": clean_loader(30), "score_loader": clean_loader(20)}
    for cadence in ({"every_n_steps": 1}, {"every_n_epochs": 1}):
        callback = LinearProbe(num_classes=3, **loaders, **cadence)
        fit(Odd(), [callback], train=DataLoader([{"anything": 1}] * 3, batch_size=None))
        assert "probe/backbone/ridge_top1" in callback.values


def test_without_validation_a_rank_is_read_from_many_samples():
    small, validated = CollapseMonitor(num_samples=64), CollapseMonitor(num_samples=64)
    train = view_loader(64, 8, shuffle=False)
    fit(ToySSL(lr=0.0), [small], train=train)
    images = torch.cat([batch[0][0] for batch in train])
    fit(ToySSL(lr=0.0, momentum=0.0), [validated], train=train, val=DataLoader(TensorDataset(images), 8))
    assert small.values["collapse/output/num_samples"] == 64
    assert validated.values["collapse/output/num_samples"] == 64


UNKNOWN = torch.full((4,), -1)


def batches(labels):
    images, _ = toy_images(len(labels))
    return DataLoader(list(zip(images.split(4), labels.split(4), strict=True)), batch_size=None)


@pytest.mark.parametrize("which", [0, 1], ids=["selectivity", "probe"])
def test_a_batch_without_a_label_adds_nothing(which):
    def build():
        return [
            NeuronSelectivity(["backbone"], num_classes=3),
            LinearProbe(num_classes=3, fit_loader=batches(some), few_labels=[]),
        ][which]

    _, labels = toy_images(12)
    some = torch.cat([labels[:4], UNKNOWN, labels[8:]])
    callback, known = build(), build()
    fit(ToySSL(lr=0.0, momentum=0.0), [callback], val=batches(some))
    images, _ = toy_images(12)
    kept = [(images[:4], labels[:4]), (images[8:], labels[8:])]
    fit(ToySSL(lr=0.0, momentum=0.0), [known], val=DataLoader(kept, batch_size=None))
    assert callback.values
    assert callback.values == pytest.approx(known.values)
    with pytest.warns(
        DiagnosticWarning, match="Expected labels in the batches of a look, found none but -1;"
    ):
        fit(ToySSL(), [build()], val=batches(torch.full((12,), -1)))


def logged(rank, world_size, num_validated, num_samples):
    seed_all()
    strategy = {"strategy": "ddp", "devices": world_size} if world_size > 1 else {}
    _, logger = fit(
        ToySSL(lr=0.0, momentum=0.0),
        every_diagnostic(every_n_epochs=1, num_samples=num_samples),
        val=clean_loader(num_validated, 4),
        **strategy,
    )
    kept = ("selectivity", "feature_norms", "probe", "collapse")
    return {
        key: value for section in kept for _, row in logger.looks(f"{section}/") for key, value in row.items()
    }


@pytest.mark.ddp
@pytest.mark.parametrize(("world_size", "num_samples"), [(2, 8), (3, 3)])
def test_few_samples_on_several_ranks(world_size, num_samples):
    """On two, every second of 16 would be the first rank's; on three, one rank has none of three."""
    alone = logged(0, 1, 16, num_samples)
    assert "collapse/output/num_samples" in alone
    assert "probe/backbone/ridge_top1" in alone
    for values in run_ranks(logged, world_size, 16, num_samples, init=False):
        assert values == pytest.approx(alone, rel=1e-5)
    whole = logged(0, 1, 16, None)
    assert whole["collapse/output/rankme"] != pytest.approx(alone["collapse/output/rankme"], rel=1e-3)


def test_local_crops_are_left_out_and_said_once():
    images, labels = toy_images(12)
    crops = [images, images + 1, images[:, :, :2, :2], images[:, :, 1:3, 1:3]]
    train = DataLoader([(crops, labels)] * 3, batch_size=None)

    class Crops(ToySSL):
        def training_step(self, batch, batch_idx):
            return self.embed(batch[0][0]).square().mean()

    callback = CovarianceOperators(["projector.out"], every_n_steps=1)
    with pytest.warns(
        DiagnosticWarning, match=r"CovarianceOperators left out '2 of 4 views': .*`read_batch=`"
    ) as found:
        fit(Crops(lr=0.0), [callback], train=train)
    assert len([w for w in found if issubclass(w.category, DiagnosticWarning)]) == 1
    globals_ = CovarianceOperators(["projector.out"], every_n_steps=1)
    fit(Crops(lr=0.0), [globals_], train=DataLoader([(crops[:2], labels)] * 3, batch_size=None))
    assert callback.values == globals_.values != {}
