"""What is compared on 1, 2 and 3 ranks: for each public name a function of the part of the samples that a rank has."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from callbacks.test_latent_tree_monitor import _rank_values
from callbacks.test_same_numbers import NUM_VALIDATION, ROWS, logged
from helpers.toy_ssl import ToySSL, fit, seed_all, toy_images, view_loader
from lightning.pytorch import LightningModule
from losses.test_pairwise import step
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_ssl_theory import losses, metrics, modules, networks
from lightning_ssl_theory.callbacks import BiasSchedule
from lightning_ssl_theory.distributed import all_sum, world_size

SIZES = {2: (6, 3), 3: (4, 3, 2)}
NUM_SAMPLES = 9


class Share(NamedTuple):
    """Samples of one process, as consecutive parts (first, end): one of a rank, all of one process that has all."""

    parts: tuple[tuple[int, int], ...]

    @property
    def slices(self) -> list[slice]:
        """Each part."""
        return [slice(*part) for part in self.parts]

    @property
    def rows(self) -> slice:
        """All of them."""
        return slice(self.parts[0][0], self.parts[-1][1])


def share_of_all(num_ranks: int) -> Share:
    """The parts of all ranks."""
    return Share(tuple(pairwise(accumulate(SIZES[num_ranks], initial=0))))


Values = dict[str, Tensor]


class Row(NamedTuple):
    """One comparison.

    Attributes:
        run: The values of a process from its share, the same on every rank.
        same_alone: Why a rank alone has the values of all, where it does.
        is_quick: Whether it needs no Trainer.
    """

    run: Callable[[Share], Values]
    same_alone: str = ""
    is_quick: bool = True


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


FEATURES = draw(NUM_SAMPLES, 4)

# ------------------------------------------------------------------ losses


def loss_and_gradient(share: Share, loss: nn.Module) -> Values:
    """Value, parts, and the parameters' gradients averaged as DistributedDataParallel does."""
    layer = nn.Linear(4, 3, dtype=torch.float64)
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = draw(*parameter.shape, seed=index)
    value, parts, gradients = step(layer, loss, draw(NUM_SAMPLES, 2, 4, seed=5)[share.rows])
    gradient = torch.cat(
        [one.flatten() for one in gradients]
    )  # that of the bias alone may be rounding of zero
    return {"value": value, **parts, "gradient": all_sum(gradient) / world_size()}


PRETEXT, DOWNSTREAM = draw(NUM_SAMPLES, 3, seed=11), draw(NUM_SAMPLES, 2, seed=12)
FEW = torch.arange(NUM_SAMPLES) % 4 != 1


def of_targets(share: Share, loss: Callable[..., Tensor], targets: tuple[Tensor, ...]) -> Values:
    """The same for a loss of one output and of targets."""
    layer = nn.Linear(4, 3, dtype=torch.float64)
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = draw(*parameter.shape, seed=index)
    value = loss(layer(FEATURES[share.rows]), *(target[share.rows] for target in targets))
    value.backward()
    return {"value": value.detach(), "gradient": all_sum(layer.weight.grad) / world_size()}


class WithLabels(nn.Module):
    """A loss of views and labels with the labels of a share."""

    def __init__(self, loss: nn.Module, labels: Tensor) -> None:
        super().__init__()
        self.loss, self.labels = loss, labels

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        return self.loss(z1, z2, self.labels)

    def parts(self, z1: Tensor, z2: Tensor) -> dict[str, Tensor]:
        return self.loss.parts(z1, z2, self.labels)


def supervised(share: Share) -> Values:
    """Value, parts and gradients of supervised contrast, two samples without label."""
    labels = torch.tensor([0, 1, -1, 0, 1, 1, 2, -1, 2])[share.rows]
    return loss_and_gradient(share, WithLabels(losses.SupervisedContrastiveLoss(), labels))


OF_TARGETS = {
    "BoostedLeastSquaresLoss": (losses.BoostedLeastSquaresLoss(), (PRETEXT, DOWNSTREAM, FEW)),
    "NegativeCosineLoss": (losses.NegativeCosineLoss(), (PRETEXT,)),
    "QueuedInfoNCELoss": (
        partial(losses.QueuedInfoNCELoss(), queue=draw(5, 3, seed=13)),
        (PRETEXT,),
    ),
    "PredictionLoss": (losses.PredictionLoss(), (PRETEXT,)),
    "PredictionLoss, classes": (losses.PredictionLoss(), (torch.arange(NUM_SAMPLES) % 3,)),
}
LOSSES = {
    "CrossCorrelationLoss": losses.CrossCorrelationLoss(),
    "CrossCorrelationLoss, not standardized": losses.CrossCorrelationLoss(standardize=False),
    "InfoNCELoss": losses.InfoNCELoss(),
    "InfoNCELoss, squared": losses.InfoNCELoss(distance="squared", beta=0.3),
    "InfoNCELoss, one negative": losses.InfoNCELoss(num_negatives=1),
    "SimpleContrastiveLoss": losses.SimpleContrastiveLoss(),
    "SoftTripletLoss": losses.SoftTripletLoss(),
    "SpectralContrastiveLoss": losses.SpectralContrastiveLoss(),
    "StopGradientInfoNCELoss": losses.StopGradientInfoNCELoss(),
    "TraceLoss": losses.TraceLoss(),
    "TraceLoss, without contrast": losses.TraceLoss(contrastive=False),
    "VICRegLoss": losses.VICRegLoss(),
    "WMSELoss": losses.WMSELoss(),
}

# ------------------------------------------------------------------ metrics


def metric_values(share: Share, build: Callable[[], Any], inputs: tuple[Tensor, ...]) -> Values:
    """What a metric computes from an update a part."""
    metric = build()
    for part in share.slices:
        metric.update(*(one[part] for one in inputs))
    found = metric.compute()
    fields = {"value": found} if isinstance(found, Tensor) else found._asdict()
    return {name: value for name, value in fields.items() if value is not None}


LATENTS = (draw(NUM_SAMPLES, 2, seed=4) > 0).to(torch.uint8)
GROUPS = draw(NUM_SAMPLES, 2, 3, seed=2)
METRICS: dict[str, tuple[Callable[[], Any], tuple[Tensor, ...]]] = {
    "ActivationSparsity": (partial(metrics.ActivationSparsity, 4), (FEATURES.relu(),)),
    "Alignment": (metrics.Alignment, (FEATURES, draw(NUM_SAMPLES, 4, seed=1))),
    "ConditionalCovariance": (
        partial(metrics.ConditionalCovariance, 4, 3, 2),
        (FEATURES, PRETEXT, DOWNSTREAM),
    ),
    "EffectiveRank": (partial(metrics.EffectiveRank, 4), (FEATURES,)),
    "ExcessRisk": (partial(metrics.ExcessRisk, 1, 2, 1), (FEATURES[:, :1], DOWNSTREAM, PRETEXT[:, :1])),
    "FeatureNorms": (partial(metrics.FeatureNorms, torch.eye(4)[:, :2]), (FEATURES,)),
    "LatentSelectivity": (partial(metrics.LatentSelectivity, 2, 3), (GROUPS, LATENTS)),
    "RankOne": (partial(metrics.RankOne, 2, 3), (GROUPS, draw(NUM_SAMPLES, 2, 3, seed=3), LATENTS)),
    "Selectivity": (partial(metrics.Selectivity, 4, 3), (FEATURES, torch.arange(NUM_SAMPLES) % 3)),
    "Uniformity": (metrics.Uniformity, (FEATURES,)),
}

# ------------------------------------------------------------------ modules


class Views(IterableDataset):
    """A process's part of three batches of two views."""

    def __init__(self, share: Share) -> None:
        self.share = share

    def __iter__(self) -> Iterator[tuple[list[Tensor], Tensor]]:
        for seed in (7, 8, 9):
            images = draw(NUM_SAMPLES, 6, seed=seed, dtype=torch.float32)
            views = [images + 0.5 * draw(*images.shape, seed=seed + k, dtype=torch.float32) for k in (3, 6)]
            yield [view[self.share.rows] for view in views], torch.arange(NUM_SAMPLES)[self.share.rows]


def over_ranks() -> dict[str, Any]:
    """What the Trainer is told."""
    return {"strategy": "ddp", "devices": world_size()} if dist.is_initialized() else {}


def trained(share: Share, build: Callable[[], LightningModule], callbacks: Any = ()) -> Values:
    """Weights after three steps, and the losses logged on the way."""
    seed_all()
    module = build()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    own = [build_callback() for build_callback in callbacks]
    _, logger = fit(
        module, own, train=DataLoader(Views(share), batch_size=None), log_every_n_steps=1, **over_ranks()
    )
    assert any(not torch.equal(before[name], value) for name, value in module.state_dict().items())
    found = {name: value.detach().clone() for name, value in module.state_dict().items()}
    for index, (_, row) in enumerate(logger.looks("train/loss")):
        found |= {f"{key}, step {index}": torch.tensor(value) for key, value in row.items() if key != "epoch"}
    return found


def contrastive() -> LightningModule:
    optimizer = partial(torch.optim.SGD, lr=0.1)
    return modules.ContrastiveSSL(
        networks.MLP([6, 5, 4]), nn.Linear(4, 3), losses.VICRegLoss(1.0, 1.0, 1.0), optimizer=optimizer
    )


def predictor(ema: float | None) -> LightningModule:
    optimizer = partial(torch.optim.SGD, lr=0.1)
    return modules.PredictorSSL(
        networks.MLP([6, 5, 4]), nn.Linear(4, 3), nn.Linear(3, 3), ema=ema, optimizer=optimizer
    )


def momentum_contrast() -> LightningModule:
    optimizer = partial(torch.optim.SGD, lr=0.1)
    return modules.MomentumContrastSSL(
        networks.MLP([6, 5, 4]), nn.Linear(4, 3), queue_size=36, optimizer=optimizer
    )


def with_newest_keys(share: Share) -> Values:
    """Weights, losses, and as many of the queued keys as the smallest rank has seen."""
    found = trained(share, momentum_contrast)
    return found | {"queue._extra_state": found["queue._extra_state"][-12:]}


def read_sums(batch: Any) -> dict[str, Tensor]:
    """The targets of a pretext, for `PretextSSL`."""
    (first, _), _ = batch
    return {"image": first, "pretext": first[:, :3].cumsum(1)}


def pretext() -> LightningModule:
    return modules.PretextSSL(
        networks.MLP([6, 5, 4]),
        nn.Linear(4, 3),
        pretext="target",
        read_batch=read_sums,
        optimizer=partial(torch.optim.SGD, lr=0.1),
    )


def decoupling() -> LightningModule:
    return modules.FeatureDecouplingSSL(networks.SymmetrizedReLU(6, 5, init_std=0.2))


def orthogonal(constraint: Any) -> LightningModule:
    return modules.OrthogonalSSL(6, 9, 2, constraint=constraint, lr=0.05)


CONSTRAINTS = ("grassmann", "stiefel", "polar", "parametrization", "scaled_loss", "frobenius", "none")
MODULES: dict[str, Callable[[], LightningModule]] = {
    "ContrastiveSSL": contrastive,
    "FeatureDecouplingSSL": decoupling,
    "PredictorSSL, SimSiam": partial(predictor, None),
    "PredictorSSL, BYOL": partial(predictor, 0.9),
    "PretextSSL": pretext,
    **{f"OrthogonalSSL, {word}": partial(orthogonal, word) for word in CONSTRAINTS},
}

# ------------------------------------------------------------------ callbacks

SECTIONS = {
    "CollapseMonitor": "collapse/",
    "CovarianceOperators": "covariance/",
    "FeatureNormMonitor": "feature_norms/",
    "GeneralizationMonitor": "generalization/",
    "KNNProbe": "probe/backbone/knn",
    "LinearProbe": "probe/",
    "NeuronSelectivity": "selectivity/",
    "OrthogonalityMonitor": "orthogonality/",
}


SAME_ALONE = {
    "orthogonality/": "weights are equal on every rank",
    "generalization/": "its views come from a loader of its own, the whole of which a process alone has too",
}


@cache
def weights() -> Values:
    """Of a network that was trained in one process, so that BatchNorm's running statistics mean something."""
    assert not dist.is_initialized()
    seed_all()
    module = ToySSL()
    fit(module, train=view_loader(), max_epochs=4)
    return module.state_dict()


@cache
def looks(share: Share) -> list[tuple[int, dict[str, Any]]]:
    """What all diagnostics log in one run: of a rank, of one process with all samples, or of the first rank alone."""
    images, labels = toy_images(NUM_VALIDATION, seed=2)
    if dist.is_initialized():
        return logged(dist.get_rank(), world_size(), weights(), ROWS[world_size()], (images, labels))
    if len(share.parts) > 1:
        return logged(0, 1, weights(), ROWS[1], (images, labels))
    num_ranks = next(count for count, sizes in SIZES.items() if sizes[0] == share.rows.stop)
    own = slice(NUM_VALIDATION // num_ranks)
    return logged(0, 1, weights(), ROWS[num_ranks], (images[own], labels[own]))


def logged_in(share: Share, section: str) -> Values:
    """The part of the looks that a diagnostic logs."""
    rows = [values for _, values in looks(share) if any(key.startswith(section) for key in values)]
    return {
        f"{key}, row {index}": torch.tensor(value)
        for index, values in enumerate(rows)
        for key, value in values.items()
        if key.startswith(section)
    }


def latent_tree(share: Share) -> Values:
    """All values of the monitor of a tree; the first rank alone has the running statistics of its own."""
    is_whole = not dist.is_initialized() and len(share.parts) > 1
    rank = dist.get_rank() if dist.is_initialized() else int(not is_whole)
    values, levels = _rank_values(rank, world_size())
    found = {name: torch.tensor(value) for name, value in values.items()}
    return found | {f"{level} {k}": part for level, parts in levels.items() for k, part in enumerate(parts)}


def scheduled(share: Share) -> Values:
    """Weights and biases of neurons whose biases follow a schedule."""
    schedule = partial(BiasSchedule, ["network"], start_step=1, initial=0.3, growth=0.1)
    return trained(share, decoupling, [schedule])


ROWS_OF = {
    **{f"losses.{name}": Row(partial(loss_and_gradient, loss=loss)) for name, loss in LOSSES.items()},
    **{
        f"losses.{name}": Row(partial(of_targets, loss=loss, targets=targets))
        for name, (loss, targets) in OF_TARGETS.items()
    },
    "losses.SupervisedContrastiveLoss": Row(supervised),
    **{
        f"metrics.{name}": Row(partial(metric_values, build=build, inputs=inputs))
        for name, (build, inputs) in METRICS.items()
    },
    **{
        f"modules.{name}": Row(partial(trained, build=build), is_quick=False)
        for name, build in MODULES.items()
    },
    "modules.MomentumContrastSSL": Row(with_newest_keys, is_quick=False),
    **{
        f"callbacks.{name}": Row(
            partial(logged_in, section=section),
            same_alone=SAME_ALONE.get(section, ""),
            is_quick=False,
        )
        for name, section in SECTIONS.items()
    },
    "callbacks.LatentTreeMonitor": Row(latent_tree, is_quick=False),
    "callbacks.BiasSchedule": Row(scheduled, is_quick=False),
}

# public names without a row; records that calls return, and functions that know of no ranks, need no reason
REASONS = {
    "losses.PairwiseLoss": "what three losses share",
    "metrics.SumMetric": "what the metrics share",
    "metrics.feature_effective_rank": "of given rows; its file also holds the metric",
    "callbacks.Diagnostic": "what the callbacks share",
    "callbacks.FeatureProbe": "what the probes share",
}
