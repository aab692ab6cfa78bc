"""Contrastive learning as a LightningModule: a backbone, a projection head and a loss on pairs of views."""

from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_ssl_theory.checks import check_callable, check_instance, check_word
from lightning_ssl_theory.data.batch import read_images, read_views
from lightning_ssl_theory.manifolds import keep_orthonormal
from lightning_ssl_theory.modules.view_pairs import mean_parts


class ContrastiveSSL(LightningModule):
    r"""Backbone h = b(x) and projection z = p(h), trained by a loss on pairs of views.

    .. math:: \mathcal{L} = \binom{A}{2}^{-1} \sum_{a < b} \ell(z_a, z_b)

    over the A >= 2 views of a training batch, which may be in any format of
    :mod:`lightning_ssl_theory.data.batch`. Every view is a forward pass of its own, so that BatchNorm sees
    one view at a time and views may differ in size. Logs `train/loss`, and `train/alignment` and
    `train/regularization` where the loss has `parts`. Validation only sends the images through the network,
    for the callbacks that look at its layers.

    Args:
        backbone: images (N, C, H, W) to features (N, D); what people deploy.
        projector: features (N, D) to what enters the loss (N, E).
        loss: module `loss(z1, z2) -> scalar`; with a method `parts(z1, z2) -> dict of scalars` that sum to
            the loss, these are logged too.
        optimizer: parameters to optimiser, for example `functools.partial(torch.optim.SGD, lr=0.03)`; in YAML
            `{class_path: torch.optim.SGD, init_args: {lr: 0.03}}`.
        scheduler: optimiser to learning rate scheduler; None keeps the rate.
        scheduler_interval: whether the scheduler counts epochs or steps.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        loss: nn.Module,
        *,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__()
        for name, part in {"backbone": backbone, "projector": projector, "loss": loss}.items():
            check_instance(part, name, nn.Module)
        check_callable(optimizer, "optimizer")
        check_callable(scheduler, "scheduler", or_none=True)
        check_word(scheduler_interval, "scheduler_interval", Literal["epoch", "step"])
        self.save_hyperparameters(ignore=["backbone", "projector", "loss", "optimizer", "scheduler"])
        self.backbone, self.projector, self.loss = backbone, projector, loss
        self._optimizer, self._scheduler = optimizer, scheduler
        self._scheduler_interval = scheduler_interval

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
        return self.projector(self.backbone(images))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One loss.

        Args:
            batch: a batch of A >= 2 views.
            batch_idx: not used.

        Returns:
            Scalar, the mean of the loss over all pairs of views.
        """
        embeddings = [self.embed(view) for view in read_views(batch)]
        parts = mean_parts(self.loss, embeddings)
        loss = torch.stack(list(parts.values())).sum()
        self.log("train/loss", loss, prog_bar=True)
        if hasattr(self.loss, "parts"):
            self.log_dict({f"train/{name}": value for name, value in parts.items()})
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Send the clean images through the network, so that hooks on its layers fire."""
        self.embed(read_images(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """The same as in validation."""
        self.embed(read_images(batch))

    def configure_optimizers(self) -> Any:
        """The optimiser of all parameters, which keeps orthonormal layers so, with its scheduler if there is one.

        Returns:
            What Lightning asks for.
        """
        optimizer = self._optimizer(self.parameters())
        keep_orthonormal(optimizer, self)
        if self._scheduler is None:
            return optimizer
        scheduler = {"scheduler": self._scheduler(optimizer), "interval": self._scheduler_interval}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}
