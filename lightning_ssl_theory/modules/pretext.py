"""Pretext learning as a LightningModule: predict what is known of every sample, or let downstream labels boost it."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lightning_ssl_theory.checks import (
    InputError,
    check_callable,
    check_instance,
    check_integer,
    check_word,
)
from lightning_ssl_theory.data.batch import read_images
from lightning_ssl_theory.data.four_rotations import four_rotations
from lightning_ssl_theory.data.pretext_targets import read_downstream, read_pretext
from lightning_ssl_theory.losses.boosted_least_squares import BoostedLeastSquaresLoss
from lightning_ssl_theory.losses.prediction import PredictionLoss
from lightning_ssl_theory.modules.in_turn import in_turn
from lightning_ssl_theory.modules.optimization import Optimization, SchedulerInterval
from lightning_ssl_theory.modules.training_loss import logged_loss

Pretext = Literal["rotation", "target"]
"""Which pretext: the quarter turn of an image, or what a batch brings along as "pretext"."""


class PretextSSL(LightningModule):
    r"""Backbone h = b(x) and head p(h), trained to predict a pretext target z, or as a processor f = p(b(x)).

    With `pretext="rotation"` every image comes in four rotations, and z is which; with "target", z is what a batch
    holds under "pretext": numbers (N, K), or classes (N,). By default the head predicts z by `PredictionLoss`:
    cross-entropy for classes, squares for numbers; its width is the number of classes, or K. With a
    `BoostedLeastSquaresLoss` what the head puts out is f, of any width, and downstream targets enter as well: a
    batch's "downstream" numbers, or its class labels; samples without one (NaN, -1) will do. Of turned images only
    the upright ones have a downstream target, so that n0 counts samples.

    Logs `train/loss`, and with the boosted loss its parts `train/downstream` and `train/pretext`, means over the ranks.
    Validation only sends the images through the network, for the callbacks that look at its layers.

    Args:
        backbone: Inputs (N, \*) to features (N, D); what people deploy.
        head: Features (N, D) to predictions of z, or to the processor's outputs.
        loss: Module `loss(predictions, z) -> scalar`, or a `BoostedLeastSquaresLoss`; by default
            `PredictionLoss()`. No hyperparameter: pass it to `load_from_checkpoint` again.
        pretext: "rotation" or "target".
        num_classes: Of the downstream labels, for the boosted loss; None where the batch has downstream numbers.
        read_batch: Turns a batch of another format into one of `data.batch`, here with "pretext" and "downstream".
        optimizer: Parameters to optimiser.
        scheduler: Optimiser to learning rate scheduler; None keeps the rate.
        scheduler_interval: Whether the scheduler counts epochs or steps.
        decay_norms_and_biases: False keeps the optimiser's weight decay from biases, and from the parameters of
            normalisation layers; see :func:`~lightning_ssl_theory.modules.optimization.parameter_groups`.

    Raises:
        InputError: If an argument is of another kind; in training, if a batch has no target, or the head's width does
            not fit.

    References: J. Teng, W. Huang, H. He, "Can pretext-based self-supervised learning be boosted by downstream data? A
    theoretical analysis", AISTATS 2022.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        loss: nn.Module | None = None,
        *,
        pretext: Pretext = "rotation",
        num_classes: int | None = None,
        read_batch: Callable[[Any], Any] | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: SchedulerInterval = "epoch",
        decay_norms_and_biases: bool = True,
    ) -> None:
        super().__init__()
        check_instance(backbone, "backbone", nn.Module)
        check_instance(head, "head", nn.Module)
        check_instance(loss, "loss", nn.Module, or_none=True)
        check_word(pretext, "pretext", Pretext)
        check_integer(num_classes, "num_classes", or_none=True)
        check_callable(read_batch, "read_batch", or_none=True)
        self._optimization = Optimization(optimizer, scheduler, scheduler_interval, decay_norms_and_biases)
        self.save_hyperparameters(ignore=["backbone", "head", "loss", "read_batch", "optimizer", "scheduler"])
        self.backbone, self.head = backbone, head
        self.loss = PredictionLoss() if loss is None else loss
        self._read_batch = read_batch

    def forward(self, images: Tensor) -> Tensor:
        """Returns the features of the backbone, which people deploy: (N, *) to (N, D)."""
        return self.backbone(images)

    def embed(self, images: Tensor) -> Tensor:
        """Returns what enters the loss, predictions of z or the processor's outputs: (N, *) to (N, E)."""
        return in_turn(images, backbone=self.backbone, head=self.head)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One loss.

        Args:
            batch: A batch with images, and with the targets that the loss needs.
            batch_idx: Not used.

        Returns:
            Scalar.
        """
        batch = self._usual(batch)
        images, targets = _with_pretext(batch, self.hparams["pretext"])
        outputs = self.embed(images)
        if isinstance(self.loss, BoostedLeastSquaresLoss):
            downstream, is_labelled = read_downstream(batch, self.hparams["num_classes"])
            codes, *known = _as_rows(targets, downstream, is_labelled)
            return logged_loss(self, self.loss.parts(outputs, codes, *known))
        return logged_loss(self, {"loss": self.loss(outputs, targets)})

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Send the clean images through the network, so that hooks on its layers fire."""
        self.embed(read_images(self._usual(batch)))

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """The same as in validation."""
        self.embed(read_images(self._usual(batch)))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Returns the features of the clean images of a batch, as `forward` does."""
        return self(read_images(self._usual(batch)))

    def configure_optimizers(self) -> Any:
        """The optimiser of all parameters that are not frozen, with its scheduler if there is one.

        Returns:
            What Lightning asks for.
        """
        return self._optimization.configured(self)

    def _usual(self, batch: Any) -> Any:
        return batch if self._read_batch is None else self._read_batch(batch)


# Inputs, and the pretext's targets (N,) or (N, K) of each.
def _with_pretext(batch: Any, pretext: Pretext) -> tuple[Tensor, Tensor]:
    if pretext == "rotation":
        return four_rotations(read_images(batch))
    return read_images(batch), read_pretext(batch)


# The three targets of the boosted loss, a row for each input; turned images come after the upright ones.
def _as_rows(targets: Tensor, downstream: Tensor, is_labelled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    num_more = len(targets) - len(downstream)
    if num_more:
        codes = one_hot(targets, 4).to(downstream.dtype)
        return (
            codes,
            torch.cat([downstream, downstream.new_zeros(num_more, downstream.shape[1])]),
            torch.cat([is_labelled, is_labelled.new_zeros(num_more)]),
        )
    if targets.ndim == 1:
        raise InputError(
            'Expected "pretext" numbers (N, K) for the boosted loss, got classes (N,); pass them as one-hot rows.'
        )
    return targets, downstream, is_labelled
