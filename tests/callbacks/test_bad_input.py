"""Promise 5: bad arguments raise before anything runs; bad data gives one warning and no false value."""

import math
import warnings

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.every_diagnostic import every_diagnostic
from helpers.toy_ssl import NUM_CLASSES, ToySSL, clean_loader, fit, toy_images
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    FeatureNormMonitor,
    KNNProbe,
    LinearProbe,
    NeuronSelectivity,
    OrthogonalityMonitor,
)
from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.warnings import DiagnosticWarning


def test_a_refusal_names_its_callback_before_anything_runs():
    module = ToySSL()
    with pytest.raises(
        InputError, match=r"^CollapseMonitor: Expected the path of a layer of ToySSL"
    ) as refused:
        fit(module, [CollapseMonitor(["backbone"]), CollapseMonitor(["backbone.con"])])
    own = [entry for entry in refused.traceback if "callbacks" in str(entry.path.parent.name)]
    assert len(own) == 3  # this test's, the hook and its check, and nothing of what these called
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    assert module.trainer.global_step == 0
    with pytest.raises(InputError, match=r"^Expected labelled images to fit LinearProbe on"):
        fit(ToySSL(), [LinearProbe("backbone", num_classes=3)])


BOTH = "Expected one of `every_n_steps` and `every_n_epochs`, got 2 and 3; leave one out."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_n_steps": 2, "every_n_epochs": 3}, BOTH),
        ({"every_n_steps": 0}, "Expected `every_n_steps` of at least 1, got 0; leave the callback out"),
        ({"every_n_epochs": -1}, "Expected `every_n_epochs` of at least 1, got -1"),
        ({"num_samples": 1}, "Expected `num_samples` of at least 2, got 1; use None for all samples."),
        ({"max_overhead": 0.0}, r"Expected `max_overhead` in \(0, 1\], got 0.0; it is a share of the time."),
        ({"max_overhead": 1.5}, r"Expected `max_overhead` in \(0, 1\], got 1.5"),
    ],
)
def test_options_of_every_diagnostic(arguments, message):
    for build in (
        CovarianceOperators,
        CollapseMonitor,
        LinearProbe,
        KNNProbe,
        lambda **kwargs: NeuronSelectivity(["backbone"], **kwargs),
        lambda **kwargs: FeatureNormMonitor(["backbone"], **kwargs),
        lambda **kwargs: OrthogonalityMonitor(["backbone.conv"], **kwargs),
    ):
        with pytest.raises(ValueError, match=message):
            build(**arguments)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CovarianceOperators(num_probes=0), "Expected `num_probes` of at least 1, got 0; use None"),
        (lambda: CovarianceOperators(num_eigenvalues=0), "Expected `num_eigenvalues` of at least 1, got 0"),
        (
            lambda: CovarianceOperators(estimator="u"),
            "Expected `estimator` to be one of plugin, unbiased, got 'u'",
        ),
        (
            lambda: CovarianceOperators(precision="float16"),
            "Expected `precision` to be one of float32, float64, got 'float16'",
        ),
        (lambda: NeuronSelectivity(["backbone"], alpha=2.0), r"Expected `alpha` in \(0, 1\), got 2.0"),
        (lambda: LinearProbe(ridge_lamb=0.0), "Expected `ridge_lamb` > 0, got 0.0"),
        (lambda: LinearProbe(logistic_l2=-1.0), "Expected `logistic_l2` > 0, got -1.0"),
        (lambda: LinearProbe(top_k=[0]), "Expected `top_k` of at least 1, got 0"),
        (lambda: LinearProbe(few_labels=[5, 0]), "Expected `few_labels` of at least 1, got 0"),
        (
            lambda: NeuronSelectivity(["backbone"], num_classes=-3),
            "Expected `num_classes` of at least 1, got -3",
        ),
        (
            lambda: LinearProbe(fit_loader=TensorDataset(*toy_images(4))),
            "Expected `fit_loader` to be a loader of batches, got TensorDataset; wrap a dataset in torch.utils.data",
        ),
        (lambda: LinearProbe(num_fit_samples=1), "Expected `num_fit_samples` of at least 2, got 1"),
        (lambda: KNNProbe(k=0), "Expected `k` of at least 1, got 0"),
        (lambda: KNNProbe(k=[20, 2.5]), "Expected `k` to be an integer, got 2.5"),
        (lambda: KNNProbe(k=[]), "Expected `k` "),
        (lambda: KNNProbe(temperature=0.0), "Expected `temperature` > 0, got 0.0"),
        (lambda: KNNProbe(temperature=[0.1, "cold"]), "Expected `temperature` to be a number, got 'cold'"),
        (
            lambda: KNNProbe(k=[5, 200], num_fit_samples=100),
            "Expected `k` of at most num_fit_samples=100, got 200; pass a smaller `k`, or `num_fit_samples=None`",
        ),
    ],
)
def test_options_of_one_diagnostic(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def probe(layer="backbone", **arguments):
    return LinearProbe(layer, **({"num_classes": NUM_CLASSES, "fit_loader": clean_loader(25)} | arguments))


UNKNOWN = r"Expected the path of a layer of ToySSL, got 'backbone.con'; the nearest are 'backbone.conv'"
AT_SETUP = [
    pytest.param(lambda: CovarianceOperators(["backbone.con"]), UNKNOWN, id="covariance"),
    pytest.param(lambda: CovarianceOperators(spectra_layers=["backbone.con"]), UNKNOWN, id="spectra"),
    pytest.param(lambda: NeuronSelectivity(["backbone.con"], num_classes=3), UNKNOWN, id="selectivity"),
    pytest.param(lambda: FeatureNormMonitor(["backbone.con"]), UNKNOWN, id="norms"),
    pytest.param(lambda: probe("backbone.con"), UNKNOWN, id="probe"),
    pytest.param(lambda: CollapseMonitor(["backbone.con"]), UNKNOWN, id="collapse"),
    pytest.param(lambda: OrthogonalityMonitor(["backbone.con"]), UNKNOWN, id="orthogonality"),
    pytest.param(
        lambda: CovarianceOperators(["backbone.relu"]),
        "Expected layer 'backbone.relu' to hold its weight as a parameter, found none or a computed one in ReLU",
        id="type",
    ),
    pytest.param(
        lambda: NeuronSelectivity(["backbone"]),
        "Expected `num_classes` for NeuronSelectivity, found neither the argument nor a datamodule with it",
        id="selectivity-classes",
    ),
    pytest.param(
        lambda: probe(num_classes=None), "Expected `num_classes` for LinearProbe", id="probe-classes"
    ),
    pytest.param(
        lambda: probe(fit_loader=None),
        "Expected labelled images to fit LinearProbe on, found neither `fit_loader` nor a datamodule",
        id="fit-loader",
    ),
    pytest.param(
        lambda: FeatureNormMonitor(["output"], dictionary=torch.eye(3)),
        "Expected a layer with a weight matrix for `dictionary`, found none among 'output'",
        id="dictionary",
    ),
]


@pytest.mark.parametrize(("build", "message"), AT_SETUP)
def test_setup_raises_without_being_strict(build, message):
    module = ToySSL()
    with pytest.raises(ValueError, match=message):
        fit(module, [build()], val=clean_loader())
    assert module.trainer.global_step == 0


def test_setup_raises_without_anything_to_score_or_look_at():
    with pytest.raises(
        ValueError, match="Expected held-out images to score LinearProbe on, found neither validation"
    ):
        fit(ToySSL(), [probe()])
    module = ToySSL()
    module.backbone, module.projector = nn.Flatten(), nn.PReLU()
    with pytest.raises(ValueError, match="Expected a layer with a weight matrix in ToySSL, found none"):
        fit(module, [CovarianceOperators()])


class AnyBatch(ToySSL):
    """Trains on whatever comes."""

    def training_step(self, batch, batch_idx):
        return self.embed(torch.ones(4, 1, 4, 4)).square().mean()

    def validation_step(self, batch, batch_idx):
        pass


def batches(*batch):
    return DataLoader([batch if len(batch) > 1 else batch[0]] * 3, batch_size=None)


IMAGES, LABELS = toy_images(12)
NAN = IMAGES.clone()
NAN[3] = math.nan
VALIDATING = {"every_n_epochs": 1}
STEPPING = {"every_n_steps": 1}
FEATURE_NAN = "Expected finite features at layer '{}', found NaN or infinity; lower the learning rate"
IN_A_RUN = [
    pytest.param(
        lambda **k: CovarianceOperators(**STEPPING, **k),
        batches([IMAGES], LABELS),
        "Expected at least 2 views of every sample in the batch, got 1; pass a loader that makes them",
        id="one-view",
    ),
    pytest.param(
        lambda **k: CovarianceOperators(**STEPPING, **k),
        batches([IMAGES, IMAGES[:, :, :2]], LABELS),
        "Expected two views of the first one's shape for a covariance, got",
        id="view-shapes",
    ),
    pytest.param(
        lambda **k: CovarianceOperators(**STEPPING, **k),
        batches([IMAGES[:1], IMAGES[:1]], LABELS[:1]),
        "Expected at least 2 views of at least 2 samples, got 2 views of 1",
        id="batch-of-one",
    ),
    pytest.param(
        lambda **k: CovarianceOperators(**STEPPING, **k),
        batches([IMAGES, NAN], LABELS),
        "Expected finite images in the batch, found NaN or infinity; check the data.",
        id="nan-views",
    ),
    pytest.param(
        lambda **k: CovarianceOperators(output=lambda x: x.flatten(1), **STEPPING, **k),
        batches([IMAGES, IMAGES + 1], LABELS),
        "Expected the output to depend on a traced layer with a gradient, it does not",
        id="no-gradient",
    ),
    pytest.param(
        lambda **k: CovarianceOperators(output=lambda x: (x, x), **STEPPING, **k),
        batches([IMAGES, IMAGES + 1], LABELS),
        "Expected the network to put out one tensor, got tuple of 2; choose one by `output=`.",
        id="two-outputs",
    ),
    pytest.param(
        lambda **k: CollapseMonitor(**STEPPING, **k),
        batches({"pixels": IMAGES}),
        "Expected a network that takes the batch, TypeError was raised: ",
        id="format",
    ),
    pytest.param(
        lambda **k: NeuronSelectivity(["backbone"], num_classes=3, **VALIDATING, **k),
        batches(IMAGES),
        "Expected labels in the batch, found none",
        id="no-labels",
    ),
    pytest.param(
        lambda **k: NeuronSelectivity(["backbone"], num_classes=3, **VALIDATING, **k),
        batches(IMAGES, torch.ones_like(LABELS)),
        "Expected samples of at least two classes, got only class 1",
        id="one-class",
    ),
    pytest.param(
        lambda **k: NeuronSelectivity(["backbone"], num_classes=2, **VALIDATING, **k),
        batches(IMAGES, LABELS),
        r"Expected `targets` in 0..1, got 0 to 2; drop unlabelled rows or raise `num_classes`.",
        id="classes",
    ),
    pytest.param(
        lambda **k: NeuronSelectivity(["backbone"], num_classes=3, **VALIDATING, **k),
        batches(NAN, LABELS),
        FEATURE_NAN.format("backbone"),
        id="nan-selectivity",
    ),
    pytest.param(
        lambda **k: FeatureNormMonitor(["output"], **VALIDATING, **k),
        batches(NAN, LABELS),
        FEATURE_NAN.format("output"),
        id="nan-norms",
    ),
    pytest.param(
        lambda **k: CollapseMonitor(["backbone.conv"], **VALIDATING, **k),
        batches(NAN, LABELS),
        FEATURE_NAN.format("backbone.conv"),
        id="nan-collapse",
    ),
    pytest.param(
        lambda **k: CollapseMonitor(["unused"], **VALIDATING, **k),
        batches(IMAGES, LABELS),
        "Expected the forward pass to reach layer 'unused', it did not",
        id="unreached",
    ),
    pytest.param(
        lambda **k: CollapseMonitor(["pair"], **VALIDATING, **k),
        batches(IMAGES, LABELS),
        "Expected layer 'pair' to put out one tensor, got tuple; name a layer inside it.",
        id="tuple",
    ),
    pytest.param(
        lambda **k: CovarianceOperators(spectra_layers=["unused"], **STEPPING, **k),
        batches([IMAGES, IMAGES + 1], LABELS),
        "Expected a layer that is one linear map of its weight on the way to the output, 'unused' is not reached",
        id="unreached-spectrum",
    ),
    pytest.param(
        lambda **k: probe(**k), batches(NAN, LABELS), FEATURE_NAN.format("backbone"), id="nan-probe"
    ),
    pytest.param(
        lambda **k: probe(**k), batches(IMAGES), "Expected labels in the batch, found none", id="probe-labels"
    ),
    pytest.param(
        lambda **k: probe(fit_loader=DataLoader(TensorDataset(IMAGES, torch.ones_like(LABELS)), 4), **k),
        batches(IMAGES, LABELS),
        "Expected samples of at least two classes, got only class 1",
        id="probe-one-class",
    ),
    pytest.param(
        lambda **k: probe(fit_loader=DataLoader(TensorDataset(IMAGES, LABELS + 5), 4), **k),
        batches(IMAGES, LABELS),
        r"Expected `targets` in 0..2, got 5 to 7",
        id="probe-fit-classes",
    ),
    pytest.param(
        lambda **k: probe(
            fit_loader=DataLoader(
                TensorDataset(IMAGES, LABELS),
                4,
                sampler=torch.utils.data.WeightedRandomSampler([1.0] * 12, 5),
            ),
            **k,
        ),
        batches(IMAGES, LABELS),
        "Expected a loader of all or a subset of its dataset, found WeightedRandomSampler",
        id="probe-sampler",
    ),
]


class Pair(nn.Module):
    def forward(self, images):
        return images, images


def any_batch():
    module = AnyBatch()
    module.unused = nn.Linear(3, 3)
    module.pair = Pair()
    backbone = module.backbone.forward
    module.backbone.forward = lambda images: backbone(module.pair(images)[0])
    return module


def looks_of(callback, data, **arguments):
    """The sentences of all warnings, and what was logged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DiagnosticWarning)
        trainer, logger = fit(any_batch(), [callback], train=data, val=data, max_epochs=2, **arguments)
    assert trainer.global_step == 6
    found = [str(warning.message) for warning in caught if issubclass(warning.category, DiagnosticWarning)]
    return found, [values for _, values in logger.rows]


@pytest.mark.parametrize(("build", "data", "message"), IN_A_RUN)
def test_a_run_warns_once_and_goes_on(build, data, message):
    callback = build()
    with pytest.warns(DiagnosticWarning, match=f"^{type(callback).__name__} left out a look. {message}"):
        _, logger = fit(any_batch(), [callback], train=data, val=data, max_epochs=1)
    found, rows = looks_of(build(), data)
    assert len(found) == 1
    assert rows == logger.rows == []
    assert callback.values == {}
    with pytest.raises(ValueError, match=f"^{message}"):
        fit(any_batch(), [build(strict=True)], train=data, val=data)


@pytest.mark.parametrize(
    "index", range(6), ids=["covariance", "selectivity", "norms", "probe", "collapse", "drift"]
)
def test_nan_weights(index):
    """A run that has diverged goes on diverging, and no diagnostic says that all is well."""

    def diverged():
        module = any_batch()
        module.on_fit_start = lambda: [parameter.data.fill_(math.nan) for parameter in module.parameters()]
        return module

    data = DataLoader([([IMAGES, IMAGES + 1], LABELS)] * 3, batch_size=None)
    arguments = {"train": data, "val": clean_loader(), "max_epochs": 1}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer, logger = fit(diverged(), [every_diagnostic(every_n_steps=1)[index]], **arguments)
    found = [str(warning.message) for warning in caught if issubclass(warning.category, DiagnosticWarning)]
    assert len(found) == 1
    assert "found NaN" in found[0]
    assert logger.rows == []
    assert trainer.global_step == 3


def test_few_labels_and_top_k_beyond_the_data_are_left_out():
    callback = probe(few_labels=[2, 500], top_k=[2, 3, 50])
    fit(any_batch(), [callback], val=batches(IMAGES, LABELS))
    assert set(callback.values) == {
        f"probe/backbone/{key}"
        for key in ("ridge_top1", "ridge_top2", "logistic_top1", "logistic_top1_2_labels")
    }


def on_each_rank(rank, world_size):
    bad = rank == world_size - 1
    images, labels = toy_images(12, seed=rank)
    pairs, bare = ([images, images + 1], labels), (images, labels)
    broken = {
        "nan views": ([images * math.nan, images], labels),
        "no labels": images,
        "class": (images, labels + 1),
        "nan images": (images * math.nan, labels),
    }
    fits = TensorDataset(
        torch.cat([images, images]), torch.cat([labels, torch.full_like(labels, 7) if bad else labels])
    )
    cases = {
        "nan views": (lambda **k: CovarianceOperators(**STEPPING, **k), pairs),
        "no labels": (lambda **k: NeuronSelectivity(["backbone"], num_classes=3, **STEPPING, **k), bare),
        "class": (lambda **k: NeuronSelectivity(["backbone"], num_classes=3, **STEPPING, **k), bare),
        "nan images": (lambda **k: CollapseMonitor(**STEPPING, **k), bare),
        "fit": (
            lambda **k: probe(fit_loader=DataLoader(fits, 4), score_loader=clean_loader(), **STEPPING, **k),
            bare,
        ),
    }
    arguments = {"strategy": "ddp", "devices": world_size, "max_epochs": 1}
    found = {}
    for name, (build, good) in cases.items():
        train = DataLoader([broken.get(name, good) if bad else good, good], batch_size=None, sampler=Two())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DiagnosticWarning)
            trainer, logger = fit(AnyBatch(), [build()], train=train, **arguments)
        ours = [str(w.message) for w in caught if issubclass(w.category, DiagnosticWarning)]
        found[name] = (ours, [step for step, _ in logger.rows], trainer.global_step)
        if name in STRICT:
            with pytest.raises(ValueError, match="Expected") as error:
                fit(AnyBatch(), [build(strict=True)], train=train, **arguments)
            found[f"strict {name}"] = str(error.value)
    return found


STRICT = ("nan views", "fit")


class Two(torch.utils.data.DistributedSampler):
    """Both batches on every rank, whatever Lightning thinks of it."""

    def __init__(self):
        super().__init__(range(2), num_replicas=1, rank=0, shuffle=False)


@pytest.mark.ddp
def test_one_rank_fails_for_all():
    first, second = run_ranks(on_each_rank, 2, init=False)
    sentences = {
        "nan views": "Expected finite images in the batch",
        "no labels": "Expected labels in the batch, found none",
        "class": "Expected `targets` in 0..2, got 1 to 3",
        "nan images": "Expected finite features at layer 'output'",
        "fit": "Expected `targets` in 0..2, got 0 to 7",
    }
    for name, sentence in sentences.items():
        warned, steps, last = first[name]
        assert len(warned) == 1
        assert sentence in warned[0]
        # the first batch, seen untrained and after its step, is left out on both ranks; the second is not
        assert steps == ([] if name == "fit" else [2])
        assert last == 2
        assert second[name] == ([], steps, last)
        if name in STRICT:
            assert first[f"strict {name}"].startswith(sentence)
            assert second[f"strict {name}"] == first[f"strict {name}"]
