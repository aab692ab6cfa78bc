"""What the weight of a normalisation layer multiplies: the layer's input, normalised."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from lightning_ssl_theory.tracing.frozen_call import BatchStatistics


def normalized_inputs(name: str, layer: nn.Module, inputs: Tensor, statistics: BatchStatistics) -> Tensor:
    """The factor that a layer's weight multiplies, output = weight * factor + bias.

    Args:
        name: The layer's path.
        layer: Any layer.
        inputs: Its input, (S, ...).
        statistics: Statistics that BatchNorm layers in training mode use in this pass.

    Returns:
        (S, ...): the input normalised as the layer does it in this pass; of other layers the input itself.
    """
    if isinstance(layer, _BatchNorm):
        mean, variance = statistics.get((name, 0), (layer.running_mean, layer.running_var))
        return F.batch_norm(inputs, mean, variance, eps=layer.eps)
    if isinstance(layer, _InstanceNorm):
        own = layer.running_mean is None
        return F.instance_norm(
            inputs, layer.running_mean, layer.running_var, use_input_stats=own, eps=layer.eps
        )
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(inputs, layer.num_groups, eps=layer.eps)
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    if isinstance(layer, nn.RMSNorm):
        return F.rms_norm(inputs, layer.normalized_shape, eps=layer.eps)
    return inputs
