"""Networks whose layers have names that are easy to write: backbones and projection heads."""

from lightning_ssl_theory.networks.block_linear import BlockLinear
from lightning_ssl_theory.networks.latent_tree_network import LatentTreeNetwork
from lightning_ssl_theory.networks.mlp import MLP
from lightning_ssl_theory.networks.orthogonal_projector import OrthogonalProjector
from lightning_ssl_theory.networks.resnet import ResNet
from lightning_ssl_theory.networks.small_conv_net import SmallConvNet
from lightning_ssl_theory.networks.symmetrized_relu import SymmetrizedReLU
from lightning_ssl_theory.networks.two_layer import TwoLayerNetwork

__all__ = [  # noqa: RUF022  sorted as Python sorts, which the tests ask of every package
    "BlockLinear",
    "LatentTreeNetwork",
    "MLP",
    "OrthogonalProjector",
    "ResNet",
    "SmallConvNet",
    "SymmetrizedReLU",
    "TwoLayerNetwork",
]
