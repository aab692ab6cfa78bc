"""A small convolutional backbone for images of 8 to 32 pixels."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from lightning_ssl_theory.checks import check_flag, check_integer, check_sequence
from lightning_ssl_theory.networks.activations import ActivationName, activation_layer


class SmallConvNet(nn.Sequential):
    r"""Convolutional network of 3 x 3 layers with average pooling: images (N, C, H, W) to features (N, D).

    Between two layers the image is halved by 2 x 2 average pooling; after the last one the mean over all
    positions is the feature. With `bias=False`, `batch_norm=False` and a (leaky) ReLU the output is
    homogeneous in every layer's weight, and :math:`K_l^T \mathrm{vec}(W_l) = f_L`. The children are named
    `conv_1`, `norm_1`, `activation_1`, `pool_1`, `conv_2`, ..., `global_pool`, `flatten`.

    Args:
        in_channels: number of channels C of the images.
        widths: channels layer by layer; the last one is D. Heights and widths of the images >= 2^(L-1).
        bias: whether the convolutions have biases.
        activation: the function after every convolution.
        batch_norm: whether a BatchNorm stands between each convolution and its activation.

    Attributes:
        num_features: number of features D.

    Raises:
        InputError: `widths` is empty or has a number that is not positive.

    Example:
        >>> import torch
        >>> SmallConvNet(1, [8, 16])(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        in_channels: int = 1,
        widths: Sequence[int] = (32, 64, 128),
        *,
        bias: bool = True,
        activation: ActivationName = "relu",
        batch_norm: bool = False,
    ) -> None:
        check_integer(in_channels, "in_channels")
        check_sequence(widths, "widths")
        for width in widths:
            check_integer(width, "widths", advice="pass for example [32, 64]")
        check_flag(bias, "bias")
        check_flag(batch_norm, "batch_norm")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for depth, num_outputs in enumerate(widths, start=1):
            num_inputs = in_channels if depth == 1 else widths[depth - 2]
            layers[f"conv_{depth}"] = nn.Conv2d(num_inputs, num_outputs, 3, padding=1, bias=bias)
            if batch_norm:
                layers[f"norm_{depth}"] = nn.BatchNorm2d(num_outputs)
            layers[f"activation_{depth}"] = activation_layer(activation)
            if depth < len(widths):
                layers[f"pool_{depth}"] = nn.AvgPool2d(2)
        layers["global_pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        super().__init__(layers)
        self.num_features = widths[-1]
