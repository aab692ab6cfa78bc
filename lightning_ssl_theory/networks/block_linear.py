"""Many small linear maps side by side, as one batched matrix product."""

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import check_shape


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
        ValueError: If a number is not positive.

    Example:
        >>> import torch
        >>> layer = BlockLinear(2, 1, 1, bias=False)
        >>> _ = nn.init.constant_(layer.weight[1], 3.0), nn.init.constant_(layer.weight[0], 2.0)
        >>> layer(torch.tensor([[1.0, 1.0]])).tolist()
        [[2.0, 3.0]]
    """

    def __init__(self, num_blocks: int, in_features: int, out_features: int, bias: bool = True) -> None:
        if min(num_blocks, in_features, out_features) < 1:
            raise ValueError(
                "Expected `num_blocks`, `in_features` and `out_features` >= 1, "
                f"got {num_blocks}, {in_features} and {out_features}."
            )
        super().__init__(num_blocks * in_features, num_blocks * out_features, 1, groups=num_blocks, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """The maps of all blocks.

        Args:
            input: (N, M F).

        Returns:
            (N, M O). Time O(N M F O).

        Raises:
            ValueError: If the input has another shape.
        """
        check_shape(input, "input", f"N {self.in_channels}")
        return self._conv_forward(input, self.weight, self.bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        blocks = input.unflatten(1, (self.groups, -1)).transpose(0, 1)  # (M, N, F)
        maps = weight.reshape(self.groups, -1, weight.shape[1]).mT  # (M, F, O)
        outputs = (
            torch.bmm(blocks, maps)
            if bias is None
            else torch.baddbmm(bias.reshape(self.groups, 1, -1), blocks, maps)
        )
        return outputs.transpose(0, 1).flatten(1)
