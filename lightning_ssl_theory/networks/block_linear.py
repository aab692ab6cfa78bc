"""Many small linear maps side by side, as one batched matrix product."""

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_variadic

from lightning_ssl_theory.checks import check_flag, check_integer, check_shape


class BlockLinear(nn.Conv1d):
    r"""M independent linear maps, the m-th from block m of the input to block m of the output.

    .. math:: y_m = W_m x_m + b_m, \quad m = 1, …, M

    It is a convolution of kernel size 1 in M groups on (N, M F) in place of (N, M F, 1): covariance operators and
    every other diagnostic of grouped convolutions take it as it is. One batched product replaces a loop over
    blocks. Weights are initialised as those of M linear layers `nn.Linear(F, O)`.

    Args:
        num_blocks: M.
        in_features: F, numbers of an input block.
        out_features: O, numbers of an output block.
        bias: Whether there are biases.

    Attributes:
        weight: (M O, F, 1), the rows of W_1 first.
        bias: (M O,), or None.

    Raises:
        InputError: If a number is not positive.

    Example:
        >>> import torch
        >>> layer = BlockLinear(2, 1, 1, bias=False)
        >>> _ = nn.init.constant_(layer.weight[1], 3.0), nn.init.constant_(layer.weight[0], 2.0)
        >>> layer(torch.tensor([[1.0, 1.0]])).tolist()
        [[2.0, 3.0]]
    """

    def __init__(self, num_blocks: int, in_features: int, out_features: int, bias: bool = True) -> None:
        check_integer(num_blocks, "num_blocks")
        check_integer(in_features, "in_features")
        check_integer(out_features, "out_features")
        check_flag(bias, "bias")
        super().__init__(num_blocks * in_features, num_blocks * out_features, 1, groups=num_blocks, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """The maps of all blocks.

        Args:
            input: (N, M F).

        Returns:
            (N, M O). Time O(N M F O).

        Raises:
            InputError: If the input has another shape.
        """
        check_shape(input, "input", f"N {self.in_channels}")
        return block_linear(input, self.weight, self.bias, groups=self.groups)


def block_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, groups: int = 1) -> Tensor:
    """A convolution of kernel size 1 in groups on (N, C) in place of (N, C, 1), as one batched matrix product.

    Args:
        input: (N, M F).
        weight: (M O, F, 1).
        bias: (M O,), or `None`.
        groups: M.

    Returns:
        (N, M O).
    """
    if has_torch_function_variadic(
        input, weight
    ):  # what looks at a network sees it as one of torch's functions
        return handle_torch_function(block_linear, (input, weight), input, weight, bias, groups=groups)
    blocks = input.unflatten(1, (groups, -1)).transpose(0, 1)  # (M, N, F)
    maps = weight.reshape(groups, -1, weight.shape[1]).mT  # (M, F, O)
    if bias is None:
        return torch.bmm(blocks, maps).transpose(0, 1).flatten(1)
    return torch.baddbmm(bias.reshape(groups, 1, -1), blocks, maps).transpose(0, 1).flatten(1)


block_linear.same_map_as = nn.functional.conv1d  # type: ignore[attr-defined]
