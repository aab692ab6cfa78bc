r"""Every kind of layer as a linear map of its weight, known by the torch function that the weight enters.

Without its bias, what `F.linear`, a convolution or a normalisation puts out is linear in its weight, with h what it
saw, of a normalisation the normalised input: `z = kind.apply(W, h)`. The gradient of `<delta, z>` for one sample is a
sum over output positions `p` of `delta_p` times the patch that `p` sees, so two factors, `delta` and the patches, hold
every per-sample gradient.

A function of one's own joins by torch's override protocol (`torch.overrides.handle_torch_function`) and an attribute
`same_map_as` that names the function of torch whose map it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class LayerKind(ABC):
    """A linear map of a weight.

    Attributes:
        shape: Of the weight.
    """

    shape: torch.Size
    is_dense = True
    """Whether the weight mixes features, rather than scaling each."""

    @property
    @abstractmethod
    def feature_axis(self) -> int:
        """Which axis of the output holds features."""

    @property
    @abstractmethod
    def grouped_shape(self) -> tuple[int, int, int]:
        """(G, O, F): groups, outputs of each and inputs of an output, whose product is the number of weights."""

    @abstractmethod
    def apply(self, weight: Tensor, inputs: Tensor) -> Tensor:
        """The output without a bias."""

    @abstractmethod
    def patches(self, inputs: Tensor) -> Tensor:
        """What each output position sees: (R, ...) -> (R, G, F, L), R rows, L output positions of each."""

    def flat(self, gradients: Tensor) -> Tensor:
        """Gradients by groups, (..., G, O, F), in the order of `weight.reshape(-1)`, (..., P)."""
        return gradients.flatten(-3)

    @abstractmethod
    def cotangents(self, deltas: Tensor) -> Tensor:
        """Gradients with respect to the output, grouped like `patches`: (R, ...) -> (R, G, O, L)."""

    def per_output(self, values: Tensor, ndim: int) -> Tensor:
        """One value a feature, shaped to broadcast over an output of `ndim` dimensions."""
        axis = self.feature_axis % ndim
        return values.reshape(*values.shape, *[1] * (ndim - axis - values.ndim)) if axis else values


@dataclass(frozen=True)
class Dense(LayerKind):
    """`F.linear`, or a product with a weight (F, O) from the right: features last, other dimensions are positions."""

    is_right: bool = False
    feature_axis = -1

    @property
    def grouped_shape(self) -> tuple[int, int, int]:
        """(1, O, F)."""
        fan_out, fan_in = reversed(self.shape) if self.is_right else self.shape
        return 1, fan_out, fan_in

    def apply(self, weight: Tensor, inputs: Tensor) -> Tensor:
        """W h, or h W."""
        return inputs @ weight if self.is_right else F.linear(inputs, weight)

    def patches(self, inputs: Tensor) -> Tensor:
        """(R, ..., F) -> (R, 1, F, L)."""
        return inputs.reshape(len(inputs), 1, -1, self.grouped_shape[2]).mT

    def cotangents(self, deltas: Tensor) -> Tensor:
        """(R, ..., O) -> (R, 1, O, L)."""
        return deltas.reshape(len(deltas), 1, -1, self.grouped_shape[1]).mT

    def flat(self, gradients: Tensor) -> Tensor:
        """(..., 1, O, F) -> (..., P)."""
        return (gradients.mT if self.is_right else gradients).flatten(-3)


@dataclass(frozen=True)
class Convolution(LayerKind):
    """`F.conv1d` and `F.conv2d`: features second, the dimensions after them positions."""

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    feature_axis = 1

    @property
    def grouped_shape(self) -> tuple[int, int, int]:
        """(G, O, F) with F the channels of a group times the positions of the kernel."""
        return self.groups, self.shape[0] // self.groups, self.shape[1:].numel()

    def apply(self, weight: Tensor, inputs: Tensor) -> Tensor:
        """The convolution; (R, C) stands for (R, C, 1)."""
        function: Any = F.conv2d if len(self.shape) == 4 else F.conv1d
        is_flat = inputs.ndim == 2 and len(self.shape) == 3
        seen = inputs.unsqueeze(2) if is_flat else inputs
        found = function(seen, weight, None, self.stride, self.padding, self.dilation, self.groups)
        return found.squeeze(2) if is_flat else found

    def patches(self, inputs: Tensor) -> Tensor:
        """(R, C, ...) -> (R, G, F, L)."""
        kernel, dilation, stride = tuple(self.shape[2:]), self.dilation, self.stride
        inputs = F.pad(inputs, self._pads()) if any(self._pads()) else inputs
        if len(kernel) == 1:
            inputs = inputs.reshape(len(inputs), self.shape[1] * self.groups, 1, -1)
            kernel, dilation, stride = (1, *kernel), (1, *dilation), (1, *stride)
        if set(kernel) == {1}:
            inputs = inputs[:, :, :: stride[0], :: stride[1]]
            return inputs.reshape(len(inputs), self.groups, self.shape[1], -1)
        unfolded = F.unfold(inputs, kernel, dilation=dilation, stride=stride)
        return unfolded.reshape(len(inputs), self.groups, -1, unfolded.shape[-1])

    def cotangents(self, deltas: Tensor) -> Tensor:
        """(R, C, ...) -> (R, G, O, L)."""
        return deltas.reshape(len(deltas), self.groups, self.shape[0] // self.groups, -1)

    def _pads(self) -> list[int]:
        # before and after, the last dimension first, as F.pad has it
        pads: list[int] = []
        for axis in reversed(range(len(self.shape) - 2)):
            if self.padding == "same":
                total = self.dilation[axis] * (self.shape[2 + axis] - 1)
                pads += [total // 2, total - total // 2]
            else:
                pads += [0, 0] if isinstance(self.padding, str) else [self.padding[axis]] * 2
        return pads


@dataclass(frozen=True)
class Scale(LayerKind):
    """A normalisation's weight: one factor a channel (second), or one for each of the last dimensions' entries."""

    is_trailing: bool
    is_dense = False

    @property
    def feature_axis(self) -> int:
        """1 for channels; the first of the last dimensions that the weight spans otherwise."""
        return -len(self.shape) if self.is_trailing else 1

    @property
    def grouped_shape(self) -> tuple[int, int, int]:
        """(P, 1, 1): every weight is a group of its own."""
        return self.shape.numel(), 1, 1

    def apply(self, weight: Tensor, inputs: Tensor) -> Tensor:
        """Each normalised feature times its weight."""
        return inputs * self.per_output(weight, inputs.ndim)

    def patches(self, inputs: Tensor) -> Tensor:
        """(R, ...) -> (R, P, 1, L)."""
        if self.is_trailing:
            return inputs.reshape(len(inputs), -1, self.shape.numel()).mT.unsqueeze(2)
        return inputs.reshape(len(inputs), inputs.shape[1], 1, -1)

    def cotangents(self, deltas: Tensor) -> Tensor:
        """(R, ...) -> (R, P, 1, L)."""
        return self.patches(deltas)


class WeightUse(NamedTuple):
    """One call of a function that a weight enters.

    Attributes:
        weight: The weight.
        bias: What is added, or `None`.
        inputs: What the weight multiplies, detached: the input, of a normalisation the normalised one.
        kind: The linear map.
    """

    weight: Tensor
    bias: Tensor | None
    inputs: Tensor
    kind: LayerKind


def weight_use(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], among: Container[int]
) -> WeightUse | None:
    """How a call of one of torch's functions uses a weight.

    Args:
        function: What is called.
        args: Its arguments.
        kwargs: Its arguments by name.
        among: The `id` of each weight that is of interest.

    Returns:
        The use; `None` where the function is none of `F.linear`, matrix products, `F.conv1d`, `F.conv2d` and the
        normalisations, or its weight is not of interest. A normalisation is computed once more, without its weight.
    """
    names = _ARGUMENTS.get(getattr(function, "same_map_as", function))
    if names is None:
        return None
    bound = dict(zip(names, args, strict=False)) | dict(kwargs)
    weight, inputs = bound.get("weight"), bound.get("input")
    if not isinstance(weight, Tensor) or not isinstance(inputs, Tensor) or id(weight) not in among:
        return None
    if "eps" in names:
        with torch.no_grad():
            inputs = function(**(bound | {"weight": None} | ({"bias": None} if "bias" in names else {})))
        kind: LayerKind = Scale(weight.shape, "normalized_shape" in names)
    elif "stride" in names:
        kind = _convolution(weight, bound)
    elif weight.ndim == 2 and bound.get("alpha", 1) == bound.get("beta", 1) == 1:
        kind = Dense(weight.shape, is_right=names != _ARGUMENTS[F.linear])
    else:
        return None
    return WeightUse(weight, bound.get("bias"), inputs.detach(), kind)


def takes_batch_statistics(module: nn.Module) -> bool:
    """Whether a module normalises over the samples of a batch where it is in training mode."""
    return isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)


def _convolution(weight: Tensor, bound: Mapping[str, Any]) -> Convolution:
    size = weight.ndim - 2

    def each(value: Any) -> Any:
        values = (value,) if isinstance(value, int) else value
        return value if isinstance(value, str) else tuple(values) * (size if len(values) == 1 else 1)

    return Convolution(
        weight.shape,
        stride=each(bound.get("stride", 1)),
        padding=each(bound.get("padding", 0)),
        dilation=each(bound.get("dilation", 1)),
        groups=bound.get("groups", 1),
    )


_CONVOLVED = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_ADDED = ("bias", "input", "weight")
_MULTIPLIED = ("input", "weight")
_ARGUMENTS: dict[Any, tuple[str, ...]] = {
    F.linear: ("input", "weight", "bias"),
    torch.addmm: _ADDED,
    Tensor.addmm: _ADDED,
    torch.matmul: _MULTIPLIED,
    Tensor.matmul: _MULTIPLIED,
    Tensor.__matmul__: _MULTIPLIED,
    torch.mm: _MULTIPLIED,
    Tensor.mm: _MULTIPLIED,
    F.conv1d: _CONVOLVED,
    F.conv2d: _CONVOLVED,
    F.batch_norm: ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    F.instance_norm: (
        "input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps",
    ),
    F.group_norm: ("input", "num_groups", "weight", "bias", "eps"),
    F.layer_norm: ("input", "normalized_shape", "weight", "bias", "eps"),
    F.rms_norm: ("input", "normalized_shape", "weight", "eps"),
}  # fmt: skip
