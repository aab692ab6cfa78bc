"""Centres of classes on the sphere: what bounds on contrastive learning are stated in."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import (
    InputError,
    check_finite,
    check_shape,
    check_targets,
    check_two_classes,
)
from lightning_ssl_theory.moments import to_float64


class ClassCentres(NamedTuple):
    """Views of samples, and the means of their classes, relative to the norm r of all of them.

    Attributes:
        features: Divided by r, float64, (N, A, D).
        radius: r.
        shares: Share of the samples in each class, (C,).
        centres: Mean over samples and views of each class, divided by r, (C, D).
    """

    features: Tensor
    radius: float
    shares: Tensor
    centres: Tensor


def class_centres(features: Tensor, labels: Tensor) -> ClassCentres:
    """Centres of the classes of features of one norm.

    Args:
        features: Of A >= 2 views of N samples, all of one norm, shape (N, A, D).
        labels: Classes, shape (N,), integers from 0, none of them empty.

    Returns:
        float64 values. O(N A D) time.

    Raises:
        InputError: If features are not of one norm, there is one view or class, or a class is empty.

    Example:
        >>> found = class_centres(torch.tensor([[[2.0, 0.0]] * 2, [[0.0, 2.0]] * 2]), torch.tensor([0, 1]))
        >>> found.radius, found.centres.tolist()
        (2.0, [[1.0, 0.0], [0.0, 1.0]])
    """
    radius = _check_features(features)
    check_targets(labels, len(features), None, "labels")
    class_count = torch.bincount(labels)
    check_two_classes(class_count)
    if not class_count.all():
        raise InputError(
            f"Expected samples of every class in 0..{len(class_count) - 1}, found none of class "
            f"{int(class_count.argmin())}; number the classes of `labels` without gaps."
        )
    unit = to_float64(features) / radius
    labels, class_count = labels.to(unit.device), class_count.to(unit.device, unit.dtype)
    centres = unit.new_zeros(len(class_count), unit.shape[2])
    centres = centres.index_add(0, labels, unit.mean(1)) / class_count[:, None]
    return ClassCentres(unit, radius, class_count / len(unit), centres)


def _check_features(features: Tensor) -> float:
    check_shape(features, "features", "N+ A+ D+")
    check_finite(features, "features")
    if features.shape[1] < 2:
        raise InputError(
            "Expected `features` of at least two views, got one; pass (N, A, D), the clean sample first."
        )
    norms = to_float64(features).norm(dim=2)
    radius = float(norms.mean())
    tolerance = 1e3 * torch.finfo(features.dtype if features.is_floating_point() else torch.float32).eps
    if not float((norms - radius).abs().max()) <= tolerance * radius or radius == 0:
        raise InputError(
            f"Expected `features` of one norm, got {float(norms.min()):.4g} to {float(norms.max()):.4g}; "
            "normalize them."
        )
    return radius
