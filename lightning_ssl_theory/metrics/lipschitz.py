r"""Two estimates of a network's Lipschitz constant: the largest ratio that was seen, and a product of spectral norms.

The first is too small for inputs that were not seen; the second is far too large for deep networks, but certain.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import (
    InputError,
    check_finite,
    check_instance,
    check_sequence,
    check_shape,
)
from lightning_ssl_theory.metrics.augmented_distances import NearestViews

_PAIRS_AT_ONCE = 2**25  # numbers in a block of differences
_FREQUENCIES = 16  # of each dimension; at least 4 (k - 1) for a kernel of k
_WIDE = 128  # channels beyond which it is left at that
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardtanh, nn.Softsign, nn.LogSigmoid)
_STILL = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_MEANS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_GLOBAL_MEANS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def observed_lipschitz(features: Tensor, nearest: NearestViews) -> Tensor:
    r"""Largest observed ratio of a distance of features and one of samples, at the nearest views of two samples.

    .. math::
        \max_{i \ne j} \lVert f(x_{ia}) - f(x_{jb}) \rVert / \lVert x_{ia} - x_{jb} \rVert

    over the pairs of samples whose distance is known, at the views a and b that attain it. The error bound uses the
    Lipschitz constant at these views only, so that with this number it is exact for the samples and views at hand. Of
    the constant itself it is a lower bound. Views that coincide are left out.

    Args:
        features: Of A views of N samples, shape (N, A, D).
        nearest: Distances of the samples and their nearest views; see `nearest_views`.

    Returns:
        float64 scalar, 0 without pairs. O(N^2 D) time for all pairs, in blocks of bounded memory.

    Raises:
        InputError: If the features are not finite, or the distances belong to another number of samples.

    Example:
        >>> from lightning_ssl_theory.metrics import nearest_views
        >>> samples = torch.tensor([[[0.0], [4.0]], [[5.0], [9.0]]])
        >>> observed_lipschitz(3 * samples, nearest_views(samples))
        tensor(3., dtype=torch.float64)
    """
    check_shape(features, "features", "N+ A+ D+")
    check_finite(features, "features")
    check_instance(nearest, "nearest", NearestViews)
    if nearest.view.shape != (len(features), len(features)):
        raise InputError(
            f"Expected `nearest` of {len(features)} samples, got {tuple(nearest.view.shape)}; "
            "use `nearest_views` of the samples that the features belong to."
        )
    known = (nearest.distances.isfinite() & (nearest.distances > 0)).triu(1).nonzero()
    largest = torch.zeros((), dtype=torch.float64, device=features.device)
    for one, other in (pairs.mT for pairs in known.split(max(1, _PAIRS_AT_ONCE // features.shape[2]))):
        views = nearest.view[one, other].long(), nearest.view[other, one].long()
        gaps = (features[one, views[0]].double() - features[other, views[1]].double()).norm(dim=1)
        ratios = gaps / nearest.distances[one, other].double()
        largest = torch.cat([largest[None], ratios]).max()  # there may be no pair
    return largest


@torch.no_grad()
def spectral_norm_product(layers: Sequence[nn.Module]) -> float | None:
    r"""Upper bound of the Lipschitz constant of layers that run one after another, in evaluation mode.

    The product of spectral norms: of a linear layer the largest singular value of its weight; of a convolution with
    zeros or a circle around the image the largest one of its kernel's Fourier transform, on a grid of frequencies and
    with the factor by which it can be larger in between; of BatchNorm the largest scale; of mean pooling
    :math:`k^{-1/2}` for k positions. Activations whose slope is at most 1, maximum pooling without overlap, dropout and
    Flatten count 1.

    Args:
        layers: At least one, in any order.

    Returns:
        The product, `None` where a layer is none of these. O(16^d) singular value decompositions for a kernel of d
        dimensions.

    Raises:
        InputError: If there is no layer, or something else than one.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> layer.weight.data = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
        >>> round(spectral_norm_product([layer, nn.ReLU(), layer]), 6)
        9.0
    """
    check_sequence(layers, "layers")
    product = 1.0
    for layer in layers:
        check_instance(layer, "layers", nn.Module)
        norm = _spectral_norm(layer)
        if norm is None:
            return None
        product *= norm
    return product


def _spectral_norm(layer: nn.Module) -> float | None:
    if type(layer) is nn.Linear:
        return float(torch.linalg.matrix_norm(layer.weight.double(), 2))
    if type(layer) in _CONVOLUTIONS and layer.padding_mode in ("zeros", "circular"):
        return _convolution_norm(layer.weight.detach(), layer.groups)  # type: ignore[operator, arg-type]
    if isinstance(layer, _NORMALISATIONS) and isinstance(layer.running_var, Tensor):
        scale = (layer.running_var.double() + layer.eps).rsqrt()
        return float((scale if layer.weight is None else scale * layer.weight.double()).abs().max())
    if type(layer) in (*_MEANS, *_MAXIMA) and _is_without_overlap(layer):
        kernel = layer.kernel_size
        sizes = kernel if isinstance(kernel, tuple) else [kernel] * int(type(layer).__name__[-2])
        return math.prod(sizes) ** -0.5 if type(layer) in _MEANS else 1.0
    is_flat = isinstance(layer, nn.LeakyReLU) and abs(layer.negative_slope) <= 1
    is_flat = is_flat or (isinstance(layer, nn.ELU) and 0 <= layer.alpha <= 1)
    is_global = isinstance(layer, _GLOBAL_MEANS) and layer.output_size in (1, (1,), (1, 1), (1, 1, 1))
    return 1.0 if type(layer) in (*_ACTIVATIONS, *_STILL) or is_flat or is_global else None


def _is_without_overlap(layer: nn.Module) -> bool:
    def every(value: object) -> tuple[int, ...]:
        return value if isinstance(value, tuple) else (value,) * 3

    padding, dilation = every(layer.padding), every(getattr(layer, "dilation", 1))
    steps = zip(every(layer.stride), every(layer.kernel_size), strict=False)
    return not any(padding) and set(dilation) == {1} and all(stride >= size for stride, size in steps)


def _convolution_norm(weight: Tensor, groups: int) -> float:
    # A convolution of an image with zeros around it, strided or dilated, is a part of one on all of Z^d, which the
    # Fourier transform makes block diagonal. A transform of degree k in each of d dimensions, |W(t) u|^2, exceeds its
    # largest value on M > 2 k points by 1 / cos(pi k / M) at most in each.
    sizes = weight.shape[2:]
    fewest = _FREQUENCIES if min(weight.shape[:2]) <= _WIDE else 1
    points = [max(fewest, 4 * (size - 1)) for size in sizes]
    kernels = weight.unflatten(0, (groups, -1))  # (groups, out, in, *sizes)
    waves = torch.fft.rfftn(kernels, s=points, dim=list(range(3, kernels.ndim)))
    waves = waves.movedim((1, 2), (-2, -1))
    waves = waves if waves.shape[-2] <= waves.shape[-1] else waves.mH
    largest = torch.linalg.eigvalsh(waves @ waves.mH).max().clamp(min=0).sqrt()
    slack = math.prod(
        math.cos(math.pi * (size - 1) / count) for size, count in zip(sizes, points, strict=True)
    )
    return float(largest) * slack**-0.5
