"""Fully connected networks, among them the projection heads of contrastive learning."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from lightning_ssl_theory.checks import check_flag, check_integer, check_sequence, check_word
from lightning_ssl_theory.networks.activations import ActivationName, activation_layer


class MLP(nn.Sequential):
    r"""Fully connected network x -> W_L phi(W_{L-1} ... phi(W_1 x)), the last layer linear.

    The children are named `flatten`, `linear_1`, `norm_1`, `activation_1`, `linear_2`, ..., `linear_L`.

    Args:
        widths: number of inputs, of hidden neurons layer by layer, and of outputs; L + 1 >= 2 numbers.
        bias: whether the linear layers have biases.
        activation: phi, after every layer but the last.
        batch_norm: whether a BatchNorm stands between each hidden linear layer and its activation.
        output_norm: whether a BatchNorm ends the network, as in the projector of SimSiam.

    Attributes:
        num_features: number of outputs.

    Raises:
        InputError: `widths` has fewer than two numbers, or one that is not positive.

    Example:
        >>> import torch
        >>> head = MLP([64, 32, 16], bias=False)
        >>> [name for name, _ in head.named_parameters()], head(torch.zeros(2, 1, 8, 8)).shape
        (['linear_1.weight', 'linear_2.weight'], torch.Size([2, 16]))
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        bias: bool = True,
        activation: ActivationName = "relu",
        batch_norm: bool = False,
        output_norm: bool = False,
    ) -> None:
        check_sequence(widths, "widths", at_least=2)
        for width in widths:
            check_integer(width, "widths", advice="pass [inputs, hidden..., outputs]")
        check_flag(bias, "bias")
        check_flag(batch_norm, "batch_norm")
        check_flag(output_norm, "output_norm")
        check_word(activation, "activation", ActivationName)
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for depth, (num_inputs, num_outputs) in enumerate(pairwise(widths), start=1):
            layers[f"linear_{depth}"] = nn.Linear(num_inputs, num_outputs, bias=bias)
            is_output = depth == len(widths) - 1
            if output_norm if is_output else batch_norm:
                layers[f"norm_{depth}"] = nn.BatchNorm1d(num_outputs)
            if not is_output:
                layers[f"activation_{depth}"] = activation_layer(activation)
        super().__init__(layers)
        self.num_features = widths[-1]
