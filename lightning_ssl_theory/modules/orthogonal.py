"""Orthogonality-constrained self-supervised learning as a LightningModule."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lightning_ssl_theory.checks import check_instance, check_number, check_positive, check_word
from lightning_ssl_theory.data.batch import read_images, read_views
from lightning_ssl_theory.losses.trace import TraceLoss
from lightning_ssl_theory.manifolds import ConstrainedSGD
from lightning_ssl_theory.modules.orthogonal_constraint import (
    OrthogonalConstraint,
    OrthogonalMap,
    optimizer_constraint,
    parametrize_orthogonal,
    spectral_scale,
)
from lightning_ssl_theory.modules.training_loss import logged_loss
from lightning_ssl_theory.modules.view_pairs import labels_along, mean_parts, of_every_view, unordered_pairs
from lightning_ssl_theory.networks.activations import ActivationName
from lightning_ssl_theory.networks.two_layer import TwoLayerNetwork


class OrthogonalSSL(LightningModule):
    r"""Two layers f(x) = W_2^T phi(W_1 x), trained by gradient descent under a constraint on its weights.

    The loss is the mean over all pairs of views of a batch in any format of
    :mod:`lightning_ssl_theory.data.batch`; images are flattened, so that views must have one size. A flow's time is
    the sum of the learning rates. The layers are `network.hidden` and `network.output`. Logs `train/loss`,
    `train/alignment` and `train/regularization`.

    With `constraint="none"` the trace loss has no lower bound: the outputs turn to one direction and grow.
    Training then stops at the step at which the norm of all weights together reaches `max_norm`, and they are
    scaled back to it, so that nothing later, validation or a resumed run, meets infinite numbers.

    Args:
        in_features: D, numbers of an image.
        hidden_features: H, at least D and Z.
        out_features: Z.
        activation: phi.
        constraint: "grassmann", "stiefel", "polar" or "parametrization", which keep the weights orthonormal,
            "scaled_loss", "frobenius" or "none"; see `modules.orthogonal_constraint`.
        loss: Module with `parts(z1, z2)`, scalars that sum to the loss; by default `TraceLoss()`. No
            hyperparameter: pass it to `load_from_checkpoint` again.
        lr: Learning rate of plain gradient descent.
        max_norm: Where an unconstrained run stops; at the start the norm is sqrt(D + Z).
        orthogonal_map: "cayley" or "matrix_exp", for "parametrization".
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int,
        activation: ActivationName = "identity",
        constraint: OrthogonalConstraint = "stiefel",
        *,
        loss: nn.Module | None = None,
        lr: float = 0.1,
        max_norm: float = 1e3,
        orthogonal_map: OrthogonalMap = "cayley",
    ) -> None:
        super().__init__()
        optimizer_constraint(constraint)  # a wrong name is to be known now
        check_positive(lr, "lr")
        check_number(max_norm, "max_norm", "(0, inf]")
        check_instance(loss, "loss", nn.Module, or_none=True)
        check_word(orthogonal_map, "orthogonal_map", OrthogonalMap)
        self.save_hyperparameters(ignore=["loss"])
        self.network = TwoLayerNetwork(in_features, hidden_features, out_features, activation)
        if constraint == "parametrization":
            parametrize_orthogonal(self.network, orthogonal_map)
        self.loss = TraceLoss() if loss is None else loss

    def forward(self, images: Tensor) -> Tensor:
        """Returns the representations: (N, *) to (N, Z)."""
        return self.network(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the mean of the loss over all pairs of views."""
        with parametrize.cached():  # the weights are computed once for all views
            views = list(of_every_view(self, read_views(batch)).values())
            parts = mean_parts(self.loss, unordered_pairs(views), *labels_along(self.loss, batch))
            if self.hparams["constraint"] == "scaled_loss":
                scale = spectral_scale(self.network.product())
                parts = {name: scale * value for name, value in parts.items()}
        return logged_loss(self, parts)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Send the clean images through the network, so that hooks on its layers fire."""
        self(read_images(batch))

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """The same as in validation."""
        self(read_images(batch))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Returns the features of the clean images of a batch, as `forward` does."""
        return self(read_images(batch))

    def configure_optimizers(self) -> ConstrainedSGD:
        """Returns gradient descent under the constraint."""
        constraint = optimizer_constraint(self.hparams["constraint"])
        return ConstrainedSGD(self.network.parameters(), self.hparams["lr"], constraint=constraint)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step; without a constraint, the last one once the weights have reached `max_norm`."""
        super().optimizer_step(*args, **kwargs)
        if self.hparams["constraint"] == "none" and _shrink_to_norm(self.network, self.hparams["max_norm"]):
            if not self.trainer.should_stop:
                rank_zero_warn(
                    f"Stopped at step {self.global_step + 1}: the norm of the unconstrained weights reached "
                    f'max_norm={self.hparams["max_norm"]:g}; take constraint="stiefel" or "polar" to bound it.'
                )
            self.trainer.should_stop = True


# Whether the norm of all parameters has reached `max_norm`; if so, they are scaled back to it.
@torch.no_grad()
def _shrink_to_norm(module: nn.Module, max_norm: float) -> bool:
    parameters = list(module.parameters())
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p) for p in parameters]))
    has_reached = bool(norm >= max_norm)
    if has_reached:
        for parameter in parameters:
            parameter.mul_(max_norm / norm)
    return has_reached
