"""Contrastive learning of masked views against clean negatives, as a LightningModule."""

from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lightning_ssl_theory.checks import check_instance
from lightning_ssl_theory.data.batch import read_images, read_views
from lightning_ssl_theory.losses.stop_gradient_info_nce import StopGradientInfoNCELoss
from lightning_ssl_theory.modules.optimization import Optimization
from lightning_ssl_theory.modules.training_loss import logged_loss


def gradient_descent(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Plain gradient descent at rate 1 with weight decay 1e-3, lambda of the term lambda/2 ||W||^2 in the objective.

    Args:
        parameters: What is trained.

    Returns:
        The optimiser.
    """
    return torch.optim.SGD(parameters, lr=1.0, weight_decay=1e-3)


class FeatureDecouplingSSL(LightningModule):
    r"""A network trained to know a view by the other one among clean samples.

    .. math:: \mathcal{L} = \ell\big(f(x_+), f(x_{++}), f(x)\big)

    The views x+ and x++ are the first two of a batch in any format of :mod:`lightning_ssl_theory.data.batch`; the
    negatives x are its clean images where it holds some beside the views, as those of `SparseCodingDataModule`
    do, else the first views. Logs `train/loss`, `train/alignment` and `train/regularization`.

    Args:
        network: inputs (N, \*) to features (N, D).
        loss: module with `parts(z1, z2, negatives)`, scalars that sum to the loss; by default
            `StopGradientInfoNCELoss()`. No hyperparameter: pass it to `load_from_checkpoint` again.
        optimizer: parameters to optimiser; the theory's is gradient descent with weight decay.

    References:
        Z. Wen, Y. Li, "Toward Understanding the Feature Learning Process of Self-supervised Contrastive
        Learning", 2021, section 2.2.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module | None = None,
        *,
        optimizer: OptimizerCallable = gradient_descent,
    ) -> None:
        super().__init__()
        check_instance(network, "network", nn.Module)
        check_instance(loss, "loss", nn.Module, or_none=True)
        self._optimization = Optimization(optimizer)
        self.save_hyperparameters(ignore=["network", "loss", "optimizer"])
        self.network = network
        self.loss = StopGradientInfoNCELoss() if loss is None else loss

    def forward(self, images: Tensor) -> Tensor:
        """Returns the features: (N, *) to (N, D)."""
        return self.network(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the loss of the first two views of a batch."""
        first, second = (self(view) for view in read_views(batch)[:2])
        negatives = self(read_images(batch))
        return logged_loss(self, self.loss.parts(first, second, negatives))  # type: ignore[operator]

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Send the clean images through the network, so that hooks on its layers fire."""
        self(read_images(batch))

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """The same as in validation."""
        self(read_images(batch))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Returns the features of the clean images of a batch, as `forward` does."""
        return self(read_images(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns the optimiser of all parameters that are not frozen."""
        return self._optimization.configured(self)
