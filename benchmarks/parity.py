"""SimCLR, Barlow Twins and BYOL of this library beside lightly's: same images, views, networks, weights and seeds.

Ours are `ContrastiveSSL` and `PredictorSSL` with our losses; lightly's are its losses, and for BYOL its momentum
update, in plain LightningModules as its examples write them. The heads are lightly's in both. Trainings of a pair take
turns in one process, so that what else the machine does matters little; the time of an epoch is processor time (on a
GPU the clock's), the best epoch's, without validations. The same callbacks watch both: while they train, at the default
cadence in --full, and on all images at the end.

    python benchmarks/parity.py --data-dir DIR --num-seeds 3 [--systems simclr]  # SmallConvNet, 5000 images, 6 epochs
    python benchmarks/parity.py --data-dir DIR --full --device cuda                # ResNet-18, CIFAR-10, 100 epochs

DIR holds train/<class>/* and test/<class>/*, such as CIFAR-10 as JPEGs.
"""

import argparse
import copy
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules import (
    BarlowTwinsProjectionHead,
    BYOLPredictionHead,
    BYOLProjectionHead,
    SimCLRProjectionHead,
)
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn

from lightning_ssl_theory import ContrastiveSSL, PredictorSSL
from lightning_ssl_theory.callbacks import CollapseMonitor, Diagnostic, KNNProbe, LinearProbe
from lightning_ssl_theory.data import ImageDataModule
from lightning_ssl_theory.losses import CrossCorrelationLoss, InfoNCELoss
from lightning_ssl_theory.networks import ResNet, SmallConvNet
from lightning_ssl_theory.report import paired_differences, quiet_trainer, seed_mean, seeded

TEMPERATURE, LAMB, EMA = 0.5, 5e-3, 0.99
PUBLISHED = (
    84.8  # lightly's documentation: SimCLR, CIFAR-10, ResNet-18, B = 512, kNN k = 200, best of 200 epochs
)


class Sizes(NamedTuple):
    """What --full changes."""

    num_train: int | None = 5000
    num_epochs: int = 6
    batch_size: int = 250
    num_scored: int | None = 2000
    num_fitted: int | None = 5000  # at the end
    hidden: int = 256
    look_every: int = 6  # epochs between validations
    num_workers: int = 0

    def backbone(self) -> nn.Module:
        return SmallConvNet(3, (32, 64, 128), batch_norm=True)

    def optimization(self) -> dict[str, Any]:
        return {"optimizer": partial(torch.optim.Adam, lr=2e-3)}


class FullSizes(Sizes):
    """100 epochs of CIFAR-10, with the rates of lightly's benchmark of CIFAR-10."""

    def backbone(self) -> nn.Module:
        return ResNet("resnet18", stem="cifar")

    def optimization(self) -> dict[str, Any]:
        sgd = partial(torch.optim.SGD, lr=0.06 * self.batch_size / 128, momentum=0.9, weight_decay=5e-4)
        cosine = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=self.num_epochs)
        return {"optimizer": sgd, "scheduler": cosine}


FULL = FullSizes(None, 100, 512, None, None, 2048, 1, 8)


class Plain(LightningModule):
    """What the three plain modules share: the features, and the optimiser."""

    def __init__(self, backbone: nn.Module, optimizer: Any, scheduler: Any = None) -> None:
        super().__init__()
        self.backbone, self._optimizer, self._scheduler = backbone, optimizer, scheduler

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch[0])

    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer([one for one in self.parameters() if one.requires_grad])
        return [optimizer], [self._scheduler(optimizer)] if self._scheduler else []


class PlainPair(Plain):
    """SimCLR and Barlow Twins with a loss of lightly's on the outputs of two views."""

    def __init__(self, backbone: nn.Module, head: nn.Module, loss: nn.Module, **optimization: Any) -> None:
        super().__init__(backbone, **optimization)
        self.head, self.loss = head, loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        first, second = (self.head(self.backbone(view)) for view in batch[0])
        loss = self.loss(first, second)
        self.log("train/loss", loss)
        return loss


class PlainBYOL(Plain):
    """BYOL with lightly's momentum update before the forward passes."""

    def __init__(
        self, backbone: nn.Module, head: nn.Module, predictor: nn.Module, **optimization: Any
    ) -> None:
        super().__init__(backbone, **optimization)
        self.head, self.predictor, self.loss = head, predictor, NegativeCosineSimilarity()
        self.target_backbone, self.target_head = copy.deepcopy(backbone), copy.deepcopy(head)
        for part in (self.target_backbone, self.target_head):
            deactivate_requires_grad(part)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        update_momentum(self.backbone, self.target_backbone, m=EMA)
        update_momentum(self.head, self.target_head, m=EMA)
        views = batch[0]
        predicted = [self.predictor(self.head(self.backbone(view))) for view in views]
        with torch.no_grad():
            targets = [self.target_head(self.target_backbone(view)) for view in views]
        loss = 0.5 * (self.loss(predicted[0], targets[1]) + self.loss(predicted[1], targets[0]))
        self.log("train/loss", loss)
        return loss


# our module and lightly's, from the same networks
Pair = tuple[LightningModule, LightningModule]


def simclr(backbone: nn.Module, sizes: Sizes, width: int) -> Pair:
    """NT-Xent."""
    head, options = SimCLRProjectionHead(width, sizes.hidden, 128), sizes.optimization()
    ours = ContrastiveSSL(*copies(backbone, head), InfoNCELoss(TEMPERATURE), **options)
    return ours, PlainPair(backbone, head, NTXentLoss(TEMPERATURE), **options)


def barlow(backbone: nn.Module, sizes: Sizes, width: int) -> Pair:
    """Barlow Twins."""
    head, options = BarlowTwinsProjectionHead(width, sizes.hidden, sizes.hidden), sizes.optimization()
    ours = ContrastiveSSL(*copies(backbone, head), CrossCorrelationLoss(LAMB), **options)
    return ours, PlainPair(backbone, head, BarlowTwinsLoss(LAMB), **options)


def byol(backbone: nn.Module, sizes: Sizes, width: int) -> Pair:
    """BYOL."""
    head, predictor = BYOLProjectionHead(width, sizes.hidden, 128), BYOLPredictionHead(128, sizes.hidden, 128)
    options = sizes.optimization()
    ours = PredictorSSL(*copies(backbone, head, predictor), ema=EMA, **options)
    return ours, PlainBYOL(backbone, head, predictor, **options)


SYSTEMS: dict[str, Callable[[nn.Module, Sizes, int], Pair]] = {
    "simclr": simclr,
    "barlow": barlow,
    "byol": byol,
}


def copies(*parts: nn.Module) -> list[nn.Module]:
    """Networks of the same weights."""
    return [copy.deepcopy(part) for part in parts]


# ------------------------------------------------------------------ a training


class Clock(Callback):
    """Seconds of each epoch's training steps with their batches; validations are left out."""

    def __init__(self, is_on_gpu: bool) -> None:
        self.now = time.perf_counter if is_on_gpu else time.process_time
        self.is_on_gpu, self.epochs, self._start, self._paused = is_on_gpu, [], 0.0, 0.0

    def read(self) -> float:
        if self.is_on_gpu:
            torch.cuda.synchronize()
        return self.now()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._start, self._paused = self.read(), 0.0

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._pause = self.read()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._paused += self.read() - self._pause

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.epochs.append(self.read() - self._start - self._paused)


def trained(
    module: LightningModule, sizes: Sizes, seed: int, arguments: argparse.Namespace
) -> dict[str, float]:
    """Scores of the last epoch, seconds an epoch, and the share of the time that looks took."""
    data = ImageDataModule(
        "image_folder",
        arguments.data_dir,
        sizes.batch_size,
        image_size=32,
        blur=False,
        num_train_samples=sizes.num_train,
        num_probe_samples=sizes.num_fitted,
        num_workers=sizes.num_workers,
        augment_on_device=True,
        seed=seed,
    )
    watches = diagnostics(num_samples=sizes.num_scored)
    clock = Clock(arguments.device == "cuda")
    device = {"accelerator": "gpu" if arguments.device == "cuda" else arguments.device, "devices": 1}
    every = min(sizes.look_every, sizes.num_epochs)
    trainer = quiet_trainer(
        clock, *watches, max_epochs=sizes.num_epochs, check_val_every_n_epoch=every, **device
    )
    start = time.perf_counter()
    with seeded(seed):
        trainer.fit(module, datamodule=data)
    total = time.perf_counter() - start
    final = diagnostics(num_samples=sizes.num_scored, num_fit_samples=sizes.num_fitted)
    quiet_trainer(*final, **device).validate(module, datamodule=data, verbose=False)
    values = {key: value for watch in final for key, value in watch.values.items()}
    return {
        "10 labels": 100 * values["probe/backbone/logistic_top1_10_labels"],
        "all labels": 100 * values["probe/backbone/logistic_top1"],
        "200-NN": 100 * values["probe/backbone/knn200_t0.1_top1"],
        "20-NN": 100 * values["probe/backbone/knn20_t0.1_top1"],
        "rank": values["collapse/backbone/effective_rank"],
        "seconds": min(clock.epochs),
        "looks": 100 * sum(watch.seconds_spent for watch in watches) / total,
    }


def diagnostics(num_samples: int | None, **probes: Any) -> list[Diagnostic]:
    """What watches ours and lightly's."""
    options = {"num_samples": num_samples, "strict": True}
    return [
        CollapseMonitor(["backbone"], **options),
        KNNProbe("backbone", k=(20, 200), temperature=0.1, **options, **probes),
        LinearProbe("backbone", few_labels=(10,), **options, **probes),
    ]


def compared(name: str, sizes: Sizes, arguments: argparse.Namespace) -> None:
    """Print the rows of a system: ours, lightly's, and the difference with its interval over the seeds."""
    rows: list[list[dict[str, float]]] = [[], []]
    for seed in range(arguments.num_seeds):
        with seeded(seed):
            backbone = sizes.backbone()
            pair = SYSTEMS[name](backbone, sizes, backbone.num_features)
        for side in (0, 1) if seed % 2 == 0 else (1, 0):  # who comes first takes turns
            rows[side].append(trained(pair[side], sizes, seed, arguments))
            print(f"{name} seed {seed} {('ours', 'lightly')[side]:8}{rows[side][-1]}", flush=True)
    for key in rows[0][0]:
        ours, theirs = ([row[key] for row in side] for side in rows)
        compare = paired_differences(theirs, ours)
        if key == "seconds":
            compare = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        found = seed_mean(compare)
        error = f"± {found.half_width():.2f}" if found.num_seeds > 1 else ""
        means = f"{seed_mean(ours).value:10.2f}{seed_mean(theirs).value:10.2f}"
        print(f"{name:8}{key:12}{means}{found.value:10.2f} {error}")
    if isinstance(sizes, FullSizes) and name == "simclr":
        print(
            f"lightly publishes {PUBLISHED} for 200-NN, the best of 200 epochs; here is the last of {sizes.num_epochs}"
        )


def main() -> None:
    """Compare the systems asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--num-seeds", type=int, default=3)
    parser.add_argument("--num-epochs", type=int)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    sizes = FULL if arguments.full else Sizes()
    sizes = sizes._replace(num_epochs=arguments.num_epochs or sizes.num_epochs)
    print(f"load {os.getloadavg()[0]:.1f}; {sizes}")
    print(
        f"{'':20}{'ours':>10}{'lightly':>10}  difference, or ratio of seconds, with its 95 % interval over seeds"
    )
    for name in arguments.systems:
        compared(name, sizes, arguments)


if __name__ == "__main__":
    main()
