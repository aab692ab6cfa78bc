"""Contrastive learning as a LightningModule: a backbone, a projection head and a loss on pairs of views."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_ssl_theory.checks import check_instance
from lightning_ssl_theory.data.batch import read_images, read_views
from lightning_ssl_theory.modules.in_turn import in_turn
from lightning_ssl_theory.modules.optimization import Optimization, SchedulerInterval
from lightning_ssl_theory.modules.training_loss import logged_loss
from lightning_ssl_theory.modules.view_pairs import (
    full_size_views,
    labels_along,
    mean_parts,
    of_every_view,
    unordered_pairs,
)


class ContrastiveSSL(LightningModule):
    r"""Backbone h = b(x) and projection z = p(h), trained by a loss on pairs of views.

    .. math:: \mathcal{L} = \mathrm{mean}_{a < b}\, \ell(z_a, z_b)

    over the pairs of the A >= 2 views of a training batch, which may be in any format of
    :mod:`lightning_ssl_theory.data.batch`; where views differ in size, as with multi-crop, over the pairs in which one
    view at least has the most pixels. Every view is a forward pass of its own, so that BatchNorm sees
    one view at a time and views may differ in size. Logs `train/loss`, and `train/alignment` and
    `train/regularization` where the loss has `parts`. Validation only sends the images through the network,
    for the callbacks that look at its layers.

    Args:
        backbone: images (N, C, H, W) to features (N, D); what people deploy.
        projector: features (N, D) to what enters the loss (N, E).
        loss: module `loss(z1, z2) -> scalar`; with a method `parts(z1, z2) -> dict of scalars` that sum to
            the loss, these are logged too. A loss with an attribute `takes_labels = True` is also given the class
            labels of the batch, `loss(z1, z2, labels)`.
        optimizer: parameters to optimiser, for example `functools.partial(torch.optim.SGD, lr=0.03)`; in YAML
            `{class_path: torch.optim.SGD, init_args: {lr: 0.03}}`.
        scheduler: optimiser to learning rate scheduler; None keeps the rate.
        scheduler_interval: whether the scheduler counts epochs or steps.
        decay_norms_and_biases: False keeps the optimiser's weight decay from biases, and from the parameters of
            normalisation layers; see :func:`~lightning_ssl_theory.modules.optimization.parameter_groups`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        loss: nn.Module,
        *,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: SchedulerInterval = "epoch",
        decay_norms_and_biases: bool = True,
    ) -> None:
        super().__init__()
        for name, part in {"backbone": backbone, "projector": projector, "loss": loss}.items():
            check_instance(part, name, nn.Module)
        self._optimization = Optimization(optimizer, scheduler, scheduler_interval, decay_norms_and_biases)
        self.save_hyperparameters(ignore=["backbone", "projector", "loss", "optimizer", "scheduler"])
        self.backbone, self.projector, self.loss = backbone, projector, loss

    def forward(self, images: Tensor) -> Tensor:
        """Features of the backbone, which people deploy.

        Args:
            images: (N, C, H, W).

        Returns:
            Tensor (N, D).
        """
        return self.backbone(images)

    def embed(self, images: Tensor) -> Tensor:
        """What enters the loss.

        Args:
            images: (N, C, H, W).

        Returns:
            Tensor (N, E).
        """
        return in_turn(images, backbone=self.backbone, projector=self.projector)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One loss.

        Args:
            batch: a batch of A >= 2 views.
            batch_idx: not used.

        Returns:
            Scalar, the mean of the loss over the pairs of views.
        """
        views = read_views(batch)
        embeddings = list(of_every_view(self.embed, views).values())
        pairs = unordered_pairs(embeddings, full_size_views(views))
        return logged_loss(self, mean_parts(self.loss, pairs, *labels_along(self.loss, batch)))

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Send the clean images through the network, so that hooks on its layers fire."""
        self.embed(read_images(batch))

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """The same as in validation."""
        self.embed(read_images(batch))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Returns the features of the clean images of a batch, as `forward` does."""
        return self(read_images(batch))

    def configure_optimizers(self) -> Any:
        """The optimiser of all parameters that are not frozen, with its scheduler if there is one.

        Returns:
            What Lightning asks for.
        """
        return self._optimization.configured(self)
