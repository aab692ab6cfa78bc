r"""Layers as linear maps of their weight, and the factors of their per-sample gradients.

Without its bias a linear or convolutional layer is linear in its weight: `z = weight_map(layer)(W, h)`. The
gradient of `<delta, z>` for one sample is a sum over output positions `p` of `delta_p` times the patch that `p`
sees, so two factors, `delta` and the patches, hold every per-sample gradient.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WeightMap = Callable[[Tensor, Tensor], Tensor]

SUPPORTED = (nn.Linear, nn.Conv1d, nn.Conv2d)


def weight_map(layer: nn.Module) -> WeightMap:
    """The map `(weight, input) -> output - bias` of a supported layer.

    Args:
        layer: An `nn.Linear`, `nn.Conv1d` or `nn.Conv2d`.

    Returns:
        The map, linear in its first argument.

    Raises:
        TypeError: If the layer is of another type.
    """
    if isinstance(layer, nn.Linear):
        return lambda weight, inputs: F.linear(inputs, weight)
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return lambda weight, inputs: layer._conv_forward(inputs, weight, None)
    raise TypeError(
        f"Expected a layer of type Linear, Conv1d or Conv2d, got {type(layer).__name__}; "
        "name other layers in `layers`."
    )


def patches(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What each output position of the layer sees.

    Args:
        layer: A supported layer.
        inputs: The layer's input, (S, ...) with S the number of samples.

    Returns:
        (S, G, F, L): G groups, F = fan-in of one output, L output positions.
    """
    if isinstance(layer, nn.Linear):
        return inputs.reshape(len(inputs), 1, -1, layer.in_features).mT
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    if any(layer._reversed_padding_repeated_twice):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        inputs = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    if isinstance(layer, nn.Conv1d):
        # a layer of kernel size 1 may see vectors: one position
        inputs = inputs.reshape(len(inputs), layer.in_channels, 1, -1)
        kernel, dilation, stride = (1, *kernel), (1, *dilation), (1, *stride)
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
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
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


def view_gram(
    layer: nn.Module, inputs: Tensor, deltas: Tensor, num_views: int, *, max_entries: int = 2**24
) -> Tensor:
    r"""Inner products of the per-sample gradients of the views of each sample.

    .. math:: G_{i,ab} = \langle g_{ia}, g_{ib}\rangle = \sum_{pq} (\delta_{iap}\cdot\delta_{ibq})(h_{iap}\cdot h_{ibq})

    The sum over positions ("ghost") and the product of materialised gradients give the same numbers; the cheaper
    one in multiplications is taken, over chunks of samples.

    Args:
        layer: A supported layer.
        inputs: The layer's input, (N A, ...), the views of a sample next to each other.
        deltas: Gradients with respect to the layer's output, (N A, ...).
        num_views: A.
        max_entries: Numbers held at once in one intermediate tensor.

    Returns:
        (N, A, A). Time O(N A L min(A L (O + F), O F)) for L positions, O outputs and F inputs of an output.
    """
    seen = patches(layer, inputs[:1])
    groups, fan_in, positions = seen.shape[1:]
    fan_out = cotangents(layer, deltas[:1]).shape[2]
    size = num_views * positions
    use_ghost = size * (fan_in + fan_out) < fan_in * fan_out
    entries = groups * (max(size * size, size * fan_in) if use_ghost else num_views * fan_in * fan_out)
    step = max(1, max_entries // max(entries, groups * size * fan_in))
    chunks = [
        _view_gram_chunk(layer, h, d, num_views, use_ghost)
        for h, d in zip(inputs.split(step * num_views), deltas.split(step * num_views), strict=True)
    ]
    return torch.cat(chunks)


def _view_gram_chunk(
    layer: nn.Module, inputs: Tensor, deltas: Tensor, num_views: int, use_ghost: bool
) -> Tensor:
    seen, sent = patches(layer, inputs), cotangents(layer, deltas)
    num_samples = len(inputs) // num_views
    if not use_ghost:
        rows = (sent @ seen.mT).reshape(num_samples, num_views, -1)
        return rows @ rows.mT
    groups, positions = seen.shape[1], seen.shape[3]

    def kernel(factor: Tensor) -> Tensor:
        joined = factor.reshape(num_samples, num_views, groups, -1, positions).permute(0, 2, 3, 1, 4)
        joined = joined.reshape(num_samples, groups, -1, num_views * positions)
        return joined.mT @ joined

    product = (kernel(seen) * kernel(sent)).sum(1)
    return product.reshape(num_samples, num_views, positions, num_views, positions).sum((2, 4))
