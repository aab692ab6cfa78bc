r"""The error bound of contrastive learning, and what it is made of: alignment, divergence and concentration."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_number
from lightning_ssl_theory.metrics.class_centres import class_centres


class GeneralizationBound(NamedTuple):
    r"""The bound and its parts; those that depend on them have the shape of sigma, delta and epsilon together.

    Attributes:
        r_epsilon: Share of samples two of whose views are further apart than epsilon.
        rho_max: How far, relative to r^2, a class may be from its centre.
        delta_mu: 1 minus the smallest squared norm of a centre, relative to r^2; a scalar.
        divergence: Largest product of two centres, relative to r^2; a scalar.
        threshold: What it must stay below, relative to r^2; positive only for rho_max < 0.268.
        holds: Whether it does.
        bound: Largest error of the nearest-centre classifier that theory allows; NaN where the condition does not hold.
        error: That classifier's error on the clean samples; a scalar.
    """

    r_epsilon: Tensor
    rho_max: Tensor
    delta_mu: Tensor
    divergence: Tensor
    threshold: Tensor
    holds: Tensor
    bound: Tensor
    error: Tensor


def generalization_bound(
    features: Tensor,
    labels: Tensor,
    *,
    sigma: Tensor | float,
    delta: Tensor | float,
    epsilon: Tensor | float,
    lipschitz: Tensor | float,
) -> GeneralizationBound:
    r"""Error bound of the nearest-centre classifier on features of one norm r.

    With :math:`\mu_k` the mean over samples and views of class k, :math:`p_k` its share and :math:`R_\epsilon` the
    share of samples two of whose views differ by more than epsilon,

    .. math::
        \rho = 2(1 - \sigma) + R_\epsilon / \min_k p_k + \sigma (L \delta + 2 \epsilon) / r

    If :math:`\mu_k \cdot \mu_l < r^2 (1 - \rho - \sqrt{2 \rho} - \Delta_\mu / 2)` for all pairs of classes, the
    classifier errs on at most :math:`(1 - \sigma) + R_\epsilon` of the samples. Beyond rho = 0.764 the condition
    cannot hold, and the bound says nothing. It is exact for the population of samples and views that are given; as a
    statement on others it is an estimate, since few views underestimate R and sigma.

    Args:
        features: Of A views of N samples, all of one norm, shape (N, A, D); the first view is the clean sample.
        labels: Classes, shape (N,), integers from 0, none of them empty.
        sigma: Concentration of the augmented samples, in [0, 1]; see `augmentation_concentration`.
        delta: The distance that it belongs to, not negative.
        epsilon: Largest distance of two views of a sample that counts as aligned, not negative.
        lipschitz: L, Lipschitz constant of the features with respect to the samples.

    Returns:
        float64 values; `sigma`, `delta`, `epsilon` and `lipschitz` are broadcast. O(N A^2 D) time.

    Raises:
        InputError: If features are not of one norm, there is one view or class, a class is empty, or a number lies
            outside its range.

    References:
        Huang, Yi, Zhao, Jiang, "Towards the Generalization of Contrastive Self-Supervised Learning", 2021, theorem 1.

    Example:
        >>> features = torch.tensor([[[1.0, 0.0]] * 2, [[0.0, 1.0]] * 2])
        >>> found = generalization_bound(
        ...     features, torch.tensor([0, 1]), sigma=1.0, delta=0.0, epsilon=0.0, lipschitz=1.0
        ... )
        >>> bool(found.holds), float(found.bound), float(found.error)
        (True, 0.0, 0.0)
    """
    features, radius, shares, centres = class_centres(features, labels)
    labels = labels.to(features.device)
    sigma = _within(sigma, "sigma", largest=1.0, like=features)
    delta, epsilon, lipschitz = (
        _within(value, name, like=features)
        for value, name in ((delta, "delta"), (epsilon, "epsilon"), (lipschitz, "lipschitz"))
    )
    products = centres @ centres.mT
    r_epsilon = (view_spreads(features) * radius > epsilon[..., None]).double().mean(-1)
    rho = spread_of_classes(sigma, lipschitz * delta / radius, epsilon / radius, r_epsilon / shares.min())
    delta_mu = 1 - products.diagonal().min()
    threshold = 1 - rho - (2 * rho).sqrt() - delta_mu / 2
    divergence = products.fill_diagonal_(-torch.inf).max()
    holds = divergence < threshold
    bound = torch.where(holds, (1 - sigma) + r_epsilon, torch.nan)
    nearest = torch.cdist(features[:, 0], centres).argmin(1)
    error = (nearest != labels).double().mean()
    return GeneralizationBound(r_epsilon, rho, delta_mu, divergence, threshold, holds, bound, error)


def view_spreads(features: Tensor) -> Tensor:
    """Largest distance between two views of each sample.

    Args:
        features: Of A views of N samples, shape (N, A, D).

    Returns:
        Shape (N,). Not by products, which read identical views as 1e-8 apart. O(N A^2 D) time.
    """
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.flatten(1).amax(1)


def spread_of_classes(sigma: Any, reach: Any, epsilon: Any, share: Any) -> Any:
    r"""The bound's rho_max, of numbers or tensors that broadcast.

    Args:
        sigma: Concentration.
        reach: :math:`L \delta / r`.
        epsilon: :math:`\epsilon / r`.
        share: :math:`R_\epsilon / \min_k p_k`.

    Returns:
        rho_max.
    """
    return 2 * (1 - sigma) + share + sigma * (reach + 2 * epsilon)


def _within(value: Tensor | float, name: str, *, like: Tensor, largest: float = torch.inf) -> Tensor:
    if not isinstance(value, Tensor):
        check_number(value, name)
    numbers = torch.as_tensor(value, dtype=torch.float64, device=like.device)
    if not bool(((numbers >= 0) & (numbers <= largest)).all()):
        span = "of at least 0" if largest == torch.inf else f"in [0, {largest:g}]"
        raise InputError(
            f"Expected `{name}` {span}, got {numbers.flatten().tolist()[:3]}; pass such numbers."
        )
    return numbers
