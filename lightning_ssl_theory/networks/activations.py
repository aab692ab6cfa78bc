"""The activations that this library's networks know by name."""

from typing import Literal, get_args

from torch import nn

from lightning_ssl_theory.checks import check_word

ActivationName = Literal["relu", "leaky_relu", "gelu", "tanh", "sigmoid", "identity"]


def activation_layer(name: ActivationName) -> nn.Module:
    """A new layer that applies the named function to every entry.

    Args:
        name: one of "relu", "leaky_relu", "gelu", "tanh", "sigmoid", "identity".

    Returns:
        The layer, without parameters.

    Raises:
        InputError: the name is unknown.

    Example:
        >>> activation_layer("leaky_relu")
        LeakyReLU(negative_slope=0.01)
    """
    layers = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Identity)
    names = get_args(ActivationName)
    check_word(name, "activation", ActivationName)
    return layers[names.index(name)]()
