"""Residual networks without their classifier, with a first layer for small or for large images."""

from collections import OrderedDict
from typing import Literal

import torchvision
from torch import nn

from lightning_ssl_theory.checks import check_integer, check_word

ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
Stem = Literal["cifar", "imagenet"]


class ResNet(nn.Sequential):
    r"""Residual network: images (N, C, H, W) to the features (N, D) that would enter the classifier.

    The body, its initialisation and its names (`conv1`, `bn1`, `relu`, `maxpool`, `layer1`, ..., `layer4`,
    `avgpool`) are torchvision's.

    Args:
        name: the depth; D = 512 for "resnet18" and "resnet34", else 2048.
        stem: "imagenet" for torchvision's 7 x 7 convolution of stride 2 and max pooling; "cifar" for a 3 x 3
            convolution of stride 1 without pooling, for images of about 32 pixels.
        in_channels: number of channels C of the images.

    Attributes:
        num_features: number of features D.

    Raises:
        InputError: an unknown name or stem, or a number of channels that is not positive.

    Example:
        >>> import torch
        >>> ResNet("resnet18", in_channels=1)(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 512])

    References:
        K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image Recognition, 2016.
        T. Chen, S. Kornblith, M. Norouzi, G. Hinton, A Simple Framework for Contrastive Learning of Visual
        Representations, 2020, appendix B.9 (the stem for small images).
    """

    def __init__(
        self,
        name: ResNetName = "resnet18",
        *,
        stem: Stem = "cifar",
        in_channels: int = 3,
    ) -> None:
        _check(name, stem, in_channels)
        body = torchvision.models.get_model(name, weights=None)
        layers: OrderedDict[str, nn.Module] = OrderedDict(body.named_children())
        num_features = layers.pop("fc").in_features
        if stem == "cifar":
            layers["conv1"] = _convolution(in_channels, 3, stride=1)
            layers["maxpool"] = nn.Identity()
        elif in_channels != 3:
            layers["conv1"] = _convolution(in_channels, 7, stride=2)
        super().__init__(OrderedDict(layers, flatten=nn.Flatten()))
        self.num_features = num_features


# The first layer, with the initialisation that torchvision gives every convolution of a residual network.
def _convolution(in_channels: int, kernel_size: int, *, stride: int) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, 64, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def _check(name: str, stem: str, in_channels: int) -> None:
    check_word(name, "name", ResNetName)
    check_word(stem, "stem", Stem)
    check_integer(in_channels, "in_channels", advice="pass the images' number of channels")
