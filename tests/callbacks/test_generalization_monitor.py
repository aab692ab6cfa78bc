"""GeneralizationMonitor: its numbers against loops over views, and what it says where it cannot look."""

import itertools
import math
import warnings

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.toy_ssl import NUM_CLASSES, QUIET, CleanFirst, ToySSL, clean_loader, fit, toy_images, view_loader
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from lightning_ssl_theory.callbacks import GeneralizationMonitor
from lightning_ssl_theory.warnings import DiagnosticWarning


def views_loader(num_samples=18, batch_size=5, **options):
    return DataLoader(CleanFirst(*toy_images(num_samples, seed=5), **options), batch_size)


class Linear(LightningModule):
    """One layer, so that every number can be had by hand."""

    def __init__(self, weight):
        super().__init__()
        self.layer = nn.Sequential(nn.Flatten(), nn.Linear(16, len(weight), bias=False))
        self.layer[1].weight.data = weight

    def forward(self, images):
        return self.layer(images)

    def validation_step(self, batch, batch_idx):
        pass


class Scaled(ToySSL):
    """Its output is a layer's, but for a factor."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def embed(self, images):
        return self.scale * super().embed(images)


def validated(module, monitor, **options):
    trainer = Trainer(**(QUIET | {"callbacks": [monitor]} | options))
    trainer.validate(module, clean_loader(6), verbose=False)
    return {key.removeprefix("generalization/"): value for key, value in monitor.values.items()}


def oracle(dataset, weight, deltas, epsilons):
    """From single views in loops, cliques by trying all sets."""
    rows = [[view.flatten().double() for view in dataset[i][0]] for i in range(len(dataset))]
    labels = dataset.labels.tolist()
    raw = [[weight.double() @ view for view in sample] for sample in rows]
    f = [[view / view.norm() for view in sample] for sample in raw]
    num, num_views = len(rows), len(rows[0])
    distance, ratio = {}, 0.0
    for i, j in itertools.combinations(range(num), 2):
        if labels[i] == labels[j]:
            d, a, b = min(
                (math.dist(rows[i][a], rows[j][b]), a, b) for a in range(num_views) for b in range(num_views)
            )
            distance[i, j] = d
            ratio = max(ratio, math.dist(f[i][a], f[j][b]) / d)
    classes = sorted(set(labels))
    members = {k: [i for i in range(num) if labels[i] == k] for k in classes}

    def clique(k, delta):
        for size in range(len(members[k]), 0, -1):
            for part in itertools.combinations(members[k], size):
                if all(distance[pair] <= delta for pair in itertools.combinations(part, 2)):
                    return size
        return 0

    sigma = [min(clique(k, delta) / len(members[k]) for k in classes) for delta in deltas]
    spread = [max(math.dist(a, b) for a in sample for b in sample) for sample in f]
    tried = [*epsilons, *spread]
    r_eps = [sum(s > eps for s in spread) / num for eps in tried]
    mu = {k: sum(view for i in members[k] for view in f[i]) / (len(members[k]) * num_views) for k in classes}
    divergence = max(float(mu[k] @ mu[m]) for k, m in itertools.combinations(classes, 2))
    delta_mu = 1 - min(float(mu[k] @ mu[k]) for k in classes)
    smallest = min(len(members[k]) for k in classes) / num
    cells = []
    for (s, delta), (r, eps) in itertools.product(
        zip(sigma, deltas, strict=True), zip(r_eps, tried, strict=True)
    ):
        rho = 2 * (1 - s) + r / smallest + s * (ratio * delta + 2 * eps)
        threshold = 1 - rho - math.sqrt(2 * rho) - delta_mu / 2
        cells.append(
            {"threshold": threshold, "rho_max": rho, "bound": 1 - s + r, "sigma_lower": s, "r_epsilon": r}
        )
    holding = [cell for cell in cells if divergence < cell["threshold"]]
    best = min(holding, key=lambda c: c["bound"]) if holding else max(cells, key=lambda c: c["threshold"])
    pairs = [(a, b) for a in range(num_views) for b in range(num_views) if a != b]
    nearest = [min(classes, key=lambda k: math.dist(sample[0], mu[k])) for sample in f]
    found = best | {
        "alignment": sum(math.dist(s[a], s[b]) ** 2 for s in f for a, b in pairs) / (num * len(pairs)),
        "divergence": divergence,
        "delta_mu": delta_mu,
        "lipschitz_observed": ratio,
        "lipschitz_product": float(
            torch.linalg.svdvals(weight.double())[0] / min(v.norm() for s in raw for v in s)
        ),
        "error": sum(a != b for a, b in zip(nearest, labels, strict=True)) / num,
        "holds": float(bool(holding)),
        "vacuous": float(not holding),
        "rho_alignment": min(r / smallest + 2 * eps for r, eps in zip(r_eps, tried, strict=True)),
        "rho_concentration": min(2 * (1 - s) + s * ratio * d for s, d in zip(sigma, deltas, strict=True)),
    }
    found["bound"] = found["bound"] if holding else 1.0
    squares = found["alignment"] * len(pairs) / 2
    found |= {f"r_epsilon_bound_{k}": min(1, squares / eps**2) for k, eps in enumerate(epsilons, start=1)}
    return found | {f"r_epsilon_{k}": r for k, r in zip((1, 2, 3), r_eps, strict=False)}


def patterns():
    """The part of an image that its class decides, so that classes are told apart."""
    return torch.randn(NUM_CLASSES, 16, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(
    ("scale", "strength", "holds"), [(1.5, 0.3, 0.0), (0.002, 0.001, 1.0)], ids=["vacuous", "holds"]
)
def test_equals_loops_over_single_views(scale, strength, holds) -> None:
    images, labels = toy_images(18, seed=5)
    centres = patterns()[labels].reshape(-1, 1, 4, 4)
    dataset = CleanFirst(centres + scale / 1.5 * (images - centres), labels, strength=strength)
    weight = torch.linalg.pinv(patterns().T - patterns().mean(0)[:, None])
    weight = weight - weight.mean(0)
    weight = torch.cat([weight, 0.01 * torch.randn(1, 16, generator=torch.Generator().manual_seed(3))])
    deltas, epsilons = [0.01, 0.02, 3.0, 5.0, 20.0], [0.005, 0.03, 0.4]
    loader = DataLoader(dataset, 4, shuffle=True)  # the order has no part in it
    found = validated(
        Linear(weight), GeneralizationMonitor(views_loader=loader, deltas=deltas, epsilons=epsilons)
    )
    expected = oracle(dataset, weight, deltas, epsilons)
    assert expected["holds"] == holds
    for key, value in expected.items():
        assert found[f"output/{key}"] == pytest.approx(value, rel=2e-4, abs=1e-6), key
    assert found["output/lipschitz_observed"] <= found["output/lipschitz_product"]
    assert found["output/divergence"] <= found["output/divergence_bound_cross_correlation"] + 1e-7
    assert found["output/sigma_lower"] <= found["output/sigma_upper"]
    assert 0 <= found["output/sigma_standard_error"] < 0.5


def test_only_plain_chains_have_a_product_of_norms() -> None:
    module = ToySSL()
    monitor = GeneralizationMonitor(["backbone.conv", "output"], views_loader=views_loader())
    found = validated(module, monitor)
    assert found["backbone.conv/lipschitz_product"] > 0
    assert found["output/lipschitz_product"] > 0  # BatchNorm in evaluation mode is a scale
    found = validated(Scaled(scale=2.0), GeneralizationMonitor(views_loader=views_loader()))
    assert found["output/lipschitz_observed"] > 0
    assert "output/lipschitz_product" not in found


class Counting(GeneralizationMonitor):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.known = []

    def measure(self, trainer, pl_module):
        found = super().measure(trainer, pl_module)
        self.known.append(self._inputs)
        return found


def test_distances_of_inputs_are_computed_once_and_again_for_other_views() -> None:
    monitor = Counting(views_loader=views_loader(), every_n_epochs=1)
    fit(ToySSL(), [monitor], val=clean_loader(6), max_epochs=3)
    assert len({id(known) for known in monitor.known}) == 1
    assert monitor.known[0].nearest.distances.device.type == "cpu"
    monitor._views_loader = views_loader(strength=0.4)
    fit(ToySSL(), [monitor], val=clean_loader(6), max_epochs=1)
    assert monitor.known[-1] is not monitor.known[0]


class Views(LightningDataModule):
    num_classes = NUM_CLASSES

    def train_dataloader(self):
        return view_loader()

    def val_dataloader(self):
        return clean_loader(6)

    def views_dataloader(self):
        return views_loader(22, 4)


def test_views_of_the_datamodule() -> None:
    monitor = GeneralizationMonitor()
    Trainer(**QUIET, callbacks=[monitor]).validate(ToySSL(), datamodule=Views(), verbose=False)
    assert monitor.values["generalization/output/error"] >= 0


def warned(monitor, module=None) -> str:
    """The one sentence, training having gone on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DiagnosticWarning)
        trainer, _ = fit(module or ToySSL(), [monitor], val=clean_loader(6), max_epochs=2)
    assert trainer.global_step == 10
    assert not monitor.values
    (sentence,) = {str(one.message) for one in caught if issubclass(one.category, DiagnosticWarning)}
    return sentence


def relabelled(change):
    images, labels = toy_images(18)
    return DataLoader(CleanFirst(images, change(labels)), 5)


SENTENCES = {
    "one view": (
        lambda: DataLoader(CleanFirst(*toy_images(18), num_views=1), 5),
        "Expected at least 2 views of every sample in the batch, got 1",
    ),
    "one class": (
        lambda: relabelled(lambda labels: labels * 0),
        "Expected samples of at least two classes, got only class 0",
    ),
    "an empty class": (
        lambda: relabelled(lambda labels: labels * 2),
        "Expected samples of every class in 0..4, found none of class 1; number the classes of `labels` without gaps",
    ),
    "no label": (
        lambda: relabelled(lambda labels: labels * 0 - 1),
        "Expected labels in the batches of a look, found none but -1",
    ),
    "no samples": (lambda: views_loader(0), "Expected at least one batch of views, found none"),
    "several shapes": (
        lambda: [([torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 2, 2)], torch.arange(3))],
        "Expected views of one shape, as tensors, for the distances between them, got",
    ),
    "not finite": (
        lambda: DataLoader(CleanFirst(toy_images(18)[0] * math.nan, toy_images(18)[1]), 5),
        "Expected finite features at layer 'output', found NaN or infinity",
    ),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_views_that_cannot_be_used_leave_training_running(name) -> None:
    build, message = SENTENCES[name]
    assert message in warned(GeneralizationMonitor(views_loader=build()))
    with pytest.raises(ValueError, match=message.split(",")[0].replace("..", r"\.\.")):
        fit(ToySSL(), [GeneralizationMonitor(views_loader=build(), strict=True)], val=clean_loader(6))


def test_labels_beyond_the_classes_of_the_datamodule() -> None:
    data = Views()
    data.num_classes = 2
    monitor = GeneralizationMonitor(strict=True)
    with pytest.raises(ValueError, match=r"Expected `labels` in 0\.\.1, got 0 to 2"):
        Trainer(**QUIET, callbacks=[monitor]).validate(ToySSL(), datamodule=data, verbose=False)


def test_features_without_a_norm_and_views_beyond_the_budget() -> None:
    message = "Expected features of a norm at layer 'output', found 54 of 54 that are zero"
    assert message in warned(GeneralizationMonitor(views_loader=views_loader()), Scaled(scale=0.0))
    tight = GeneralizationMonitor(views_loader=views_loader(), memory_budget=1000)
    assert "to fit into `memory_budget` = 1000 bytes, found 6912; raise it, or lower `num_samples`" in warned(
        tight
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"deltas": [0.1, -1.0]}, "Expected `deltas` >= 0, got -1.0; they are distances"),
        ({"epsilons": [-0.1]}, "Expected `epsilons` >= 0, got -0.1; they are distances"),
        ({"epsilons": []}, "Expected `epsilons` of at least 1 elements, got 0"),
        (
            {"views_loader": CleanFirst(*toy_images(4))},
            "Expected `views_loader` to be a loader of batches, got",
        ),
        ({"memory_budget": 0}, "Expected `memory_budget` of at least 1, got 0"),
    ],
)
def test_rejects_before_anything_runs(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        GeneralizationMonitor(**arguments)


def test_says_where_views_come_from() -> None:
    message = r"found neither `views_loader` nor a datamodule with `views_dataloader\(\)`; pass GeneralizationMonitor"
    with pytest.raises(ValueError, match=message):
        fit(ToySSL(), [GeneralizationMonitor()], val=clean_loader(6))
    with pytest.raises(ValueError, match=r"Expected the path of a layer of ToySSL, got 'backbone\.con'"):
        fit(
            ToySSL(),
            [GeneralizationMonitor(["backbone.con"], views_loader=views_loader())],
            val=clean_loader(6),
        )


def values_of_rank(rank, world_size, num_samples):
    strategy = {"strategy": "ddp", "devices": world_size} if world_size > 1 else {}
    monitor = GeneralizationMonitor(
        ["backbone", "output"], views_loader=views_loader(num_samples), epsilons=[0.3, 1.0]
    )
    return validated(ToySSL(), monitor, **strategy)


@pytest.mark.ddp
@pytest.mark.parametrize(("world_size", "num_samples"), [(2, 19), (3, 10)])
def test_ranks_agree_with_one_process(world_size, num_samples) -> None:
    one = values_of_rank(0, 1, num_samples)
    first, *others = run_ranks(values_of_rank, world_size, num_samples, init=False)
    assert all(other == first for other in others)  # bitwise
    assert first.keys() == one.keys()
    for key, value in one.items():
        assert first[key] == pytest.approx(value, rel=1e-5, abs=1e-7), key
    alone = validated(ToySSL(), GeneralizationMonitor(views_loader=views_loader(num_samples // world_size)))
    assert abs(alone["output/divergence"] - one["output/divergence"]) > 1e-3
