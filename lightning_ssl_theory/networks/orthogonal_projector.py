"""A projection head of two layers with orthonormal weights, for any backbone, loss and optimizer."""

from typing import Literal

from torch import nn
from torch.nn.utils import parametrizations

from lightning_ssl_theory.checks import check_word
from lightning_ssl_theory.manifolds import OrthonormalLinear
from lightning_ssl_theory.networks.activations import ActivationName
from lightning_ssl_theory.networks.two_layer import TwoLayerNetwork

ProjectorConstraint = Literal["grassmann", "stiefel", "polar", "parametrization"]
"""Who keeps the weights: the optimizer's steps in one of three ways, or torch's orthogonal parametrisation."""


class OrthogonalProjector(TwoLayerNetwork):
    r"""Two bias-free layers whose weights stay orthonormal: the constraint of `OrthogonalSSL` on any backbone.

    .. math:: p(h) = W_2^\top \varphi(W_1 h), \qquad W_1^\top W_1 = I, \quad W_2^\top W_2 = I

    `hidden.weight` is W_1 (H, D), `output.weight` is W_2^T (Z, H). Our modules keep them so under whatever optimizer
    they are given; in a module of one's own, one line after the optimizer is made does:
    `manifolds.keep_orthonormal(optimizer, self)`. With "parametrization" nothing is needed; a pass costs O(H^3) more,
    and covariance operators do not cover the layers. Weights whose moving average is taken (a target network's) are
    averages of orthonormal matrices, which are not orthonormal; with "parametrization" they are.

    Args:
        in_features: D, features of the backbone.
        hidden_features: H, at least D and Z.
        out_features: Z.
        constraint: "grassmann", "stiefel" or "polar", see `manifolds.orthonormal_steps`, or "parametrization" (Cayley's
            map).
        activation: phi.

    Attributes:
        num_features: Z, number of outputs.

    Raises:
        InputError: If a width is not positive, H is too small, or the constraint or activation is unknown.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023, eq. 8.

    Example:
        >>> import torch
        >>> projector = OrthogonalProjector(3, 4, 3)  # H = 4: the lengths of inputs are kept by W_1
        >>> round(float(projector.hidden(torch.tensor([[3.0, 4.0, 0.0]])).detach().norm()), 4)
        5.0
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int,
        constraint: ProjectorConstraint = "stiefel",
        *,
        activation: ActivationName = "identity",
    ) -> None:
        check_word(constraint, "constraint", ProjectorConstraint)
        super().__init__(in_features, hidden_features, out_features, activation)
        if constraint == "parametrization":
            for layer in (self.hidden, self.output):
                parametrizations.orthogonal(layer, orthogonal_map="cayley")
        else:
            self.hidden: nn.Linear = OrthonormalLinear(in_features, hidden_features, constraint)
            self.output: nn.Linear = OrthonormalLinear(hidden_features, out_features, constraint)
