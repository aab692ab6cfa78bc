"""The two-layer network of the orthogonality-constrained theory."""

from torch import Tensor, nn
from torch.nn.utils import parametrize

from lightning_ssl_theory.checks import InputError, check_integer, check_shape
from lightning_ssl_theory.manifolds.orthonormal_steps import check_constrained
from lightning_ssl_theory.networks.activations import ActivationName, activation_layer


class TwoLayerNetwork(nn.Module):
    r"""Two bias-free layers with orthonormal weights at initialisation.

    .. math:: f(x) = W_2^\top \varphi(W_1 x), \qquad W_1^\top W_1 = I, \quad W_2^\top W_2 = I

    `hidden.weight` is W_1 (H, D) with orthonormal columns, `output.weight` is W_2^T (Z, H) with orthonormal
    rows; both are uniformly distributed.

    Args:
        in_features: D, numbers of an input.
        hidden_features: H, at least D and Z.
        out_features: Z.
        activation: The function phi, entry by entry.

    Attributes:
        num_features: Z, number of outputs.

    Raises:
        InputError: If a width is not positive, H is too small, or the activation is unknown.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023, eq. 8.

    Example:
        >>> import torch
        >>> network = TwoLayerNetwork(4, 6, 2)
        >>> network(torch.zeros(3, 1, 2, 2)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int,
        activation: ActivationName = "identity",
    ) -> None:
        super().__init__()
        _check_widths(in_features, hidden_features, out_features)
        self.hidden = nn.Linear(in_features, hidden_features, bias=False)
        self.activation = activation_layer(activation)
        self.output = nn.Linear(hidden_features, out_features, bias=False)
        for layer in (self.hidden, self.output):
            nn.init.orthogonal_(layer.weight)
        self.num_features = out_features

    def forward(self, inputs: Tensor) -> Tensor:
        r"""Representations of inputs, each flattened.

        Args:
            inputs: Shape (N, \*) with D numbers a sample: vectors or images.

        Returns:
            Shape (N, Z).

        Raises:
            InputError: If a sample does not have D numbers, or weights that a parametrisation computes are in half
                precision.
        """
        self._check_precision()
        check_shape(inputs, "inputs", "*")
        width = inputs.shape[1:].numel() if inputs.ndim > 1 else None
        if width != self.hidden.in_features:
            raise InputError(
                f"Expected `inputs` of shape (N, *) with {self.hidden.in_features} numbers a sample, "
                f"got {tuple(inputs.shape)}; set in_features to the number of values of one sample."
            )
        return self.output(self.activation(self.hidden(inputs.flatten(1))))

    # neither Cayley's map nor the exponential exists in half precision
    def _check_precision(self) -> None:
        for layer in (self.hidden, self.output):
            if parametrize.is_parametrized(layer, "weight"):
                check_constrained(layer.parametrizations.weight.original)  # type: ignore[union-attr,arg-type]

    def product(self) -> Tensor:
        """The linear map W_2^T W_1 of both layers, shape (Z, D): with the identity as activation, the network."""
        return self.output.weight @ self.hidden.weight


def _check_widths(in_features: int, hidden_features: int, out_features: int) -> None:
    check_integer(in_features, "in_features")
    check_integer(hidden_features, "hidden_features")
    check_integer(out_features, "out_features")
    for name, width in (("in_features", in_features), ("out_features", out_features)):
        if hidden_features < width:
            raise InputError(
                f"Expected `hidden_features` >= `{name}` = {width}, got {hidden_features}; "
                "orthonormal columns need at least as many rows."
            )
