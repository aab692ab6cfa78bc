r"""Layers as linear maps of their weight, and the factors of their per-sample gradients.

Without its bias a linear, convolutional or normalisation layer is linear in its weight: `z = weight_map(layer)(W, h)`
with the layer's input h, of a normalisation layer the normalised one. The gradient of `<delta, z>` for one sample is a
sum over output positions `p` of `delta_p` times the patch that `p` sees, so two factors, `delta` and the patches, hold
every per-sample gradient.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

WeightMap = Callable[[Tensor, Tensor], Tensor]

DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d)
CHANNEL_SCALES = (_BatchNorm, _InstanceNorm, nn.GroupNorm)
FEATURE_SCALES = (nn.LayerNorm, nn.RMSNorm)
SUPPORTED = (*DENSE, *CHANNEL_SCALES, *FEATURE_SCALES)


def weight_map(layer: nn.Module) -> WeightMap:
    """The map `(weight, input) -> output - bias` of a supported layer.

    Args:
        layer: A Linear, Conv1d, Conv2d or normalisation layer.

    Returns:
        The map, linear in its first argument; of a normalisation layer the input is the normalised one.

    Raises:
        TypeError: If the layer is of another type.
    """
    if isinstance(layer, nn.Linear):
        return lambda weight, inputs: F.linear(inputs, weight)
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return lambda weight, inputs: layer._conv_forward(inputs, weight, None)
    if isinstance(layer, SUPPORTED):
        return lambda weight, inputs: inputs * per_output(layer, weight, inputs.ndim)
    raise TypeError(
        f"Expected a Linear, Conv1d, Conv2d or normalisation layer, got {type(layer).__name__}; "
        "name other layers in `layers`."
    )


def per_output(layer: nn.Module, values: Tensor, ndim: int) -> Tensor:
    """One value an output feature or channel, shaped to broadcast over the layer's output of `ndim` dimensions."""
    is_trailing = isinstance(layer, (nn.Linear, *FEATURE_SCALES))
    return values if is_trailing else values.reshape(-1, *[1] * (ndim - 2))


def grouped_shape(layer: nn.Module) -> tuple[int, int, int]:
    """(G, O, F): groups, outputs of each and inputs of an output, whose product is the number of weights."""
    weight = layer.get_parameter("weight")
    if isinstance(layer, nn.Linear):
        return 1, layer.out_features, layer.in_features
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return layer.groups, layer.out_channels // layer.groups, weight[0].numel()
    return weight.numel(), 1, 1


def patches(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What each output position of the layer sees.

    Args:
        layer: A supported layer.
        inputs: The layer's input, (S, ...) with S the number of samples; of a normalisation layer the normalised one.

    Returns:
        (S, G, F, L): G groups, F = fan-in of one output, L output positions. A normalisation layer has a group for
        each of its weights, with a fan-in of 1.
    """
    if isinstance(layer, nn.Linear):
        return inputs.reshape(len(inputs), 1, -1, layer.in_features).mT
    if not isinstance(layer, nn.Conv1d | nn.Conv2d):
        return _scaled(layer, inputs)
    if any(layer._reversed_padding_repeated_twice):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        inputs = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    if isinstance(layer, nn.Conv1d):
        inputs = inputs.reshape(len(inputs), layer.in_channels, 1, -1)  # of BlockLinear: (S, C) for (S, C, 1)
        kernel, dilation, stride = (1, *kernel), (1, *dilation), (1, *stride)
    if set(kernel) == {1}:
        inputs = inputs[:, :, :: stride[0], :: stride[1]]
        return inputs.reshape(len(inputs), layer.groups, inputs.shape[1] // layer.groups, -1)
    unfolded = F.unfold(inputs, kernel, dilation=dilation, stride=stride)
    return unfolded.reshape(len(inputs), layer.groups, -1, unfolded.shape[-1])


def cotangents(layer: nn.Module, deltas: Tensor) -> Tensor:
    """Gradients with respect to the layer's output, grouped like `patches`.

    Args:
        layer: A supported layer.
        deltas: Gradients of the same shape as the layer's output, (S, ...).

    Returns:
        (S, G, O, L): O outputs of each of the G groups at L positions.
    """
    if isinstance(layer, nn.Linear):
        return deltas.reshape(len(deltas), 1, -1, layer.out_features).mT
    if not isinstance(layer, nn.Conv1d | nn.Conv2d):
        return _scaled(layer, deltas)
    return deltas.reshape(len(deltas), layer.groups, layer.out_channels // layer.groups, -1)


def sample_gradients(layer: nn.Module, inputs: Tensor, deltas: Tensor) -> Tensor:
    """Per-sample gradients of `<delta, z>` with respect to the weight, in the order of `weight.reshape(-1)`.

    Args:
        layer: A supported layer.
        inputs: The layer's input, (S, ...).
        deltas: Gradients with respect to the layer's output, (S, ...).

    Returns:
        (S, P): one row a sample. Memory O(S P).
    """
    return (cotangents(layer, deltas) @ patches(layer, inputs).mT).reshape(len(inputs), -1)


def _scaled(layer: nn.Module, values: Tensor) -> Tensor:
    # (S, P, 1, L) for the P weights of a normalisation layer
    if isinstance(layer, FEATURE_SCALES):
        size = layer.get_parameter("weight").numel()
        return values.reshape(len(values), -1, size).mT.unsqueeze(2)
    return values.reshape(len(values), values.shape[1], 1, -1)
