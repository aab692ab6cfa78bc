r"""What a loss says of the divergence of classes: upper bounds on products of two centres, from its regularization."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.metrics.class_centres import ClassCentres, class_centres
from lightning_ssl_theory.row_blocks import row_blocks

_MOST_FACTORS = 64  # each lies between 2/e and 2e, so that their product stays far from overflow


class PairBounds(NamedTuple):
    """The bounds for each of the P = C (C - 1) / 2 pairs of classes.

    Attributes:
        classes: The pairs k < l, (P, 2).
        products: What is bounded: the product of the two centres, relative to r^2, (P,).
        info_nce: Bound on it, (P,).
        cross_correlation: Bound on it, (P,).
        spectral: Bound on it, (P,).
        vicreg: Bound on it, (P,).
        standardized_products: Products of the standardized centres, (P,).
        barlow_twins: Bound on these, (P,).
    """

    classes: Tensor
    products: Tensor
    info_nce: Tensor
    cross_correlation: Tensor
    spectral: Tensor
    vicreg: Tensor
    standardized_products: Tensor
    barlow_twins: Tensor


class DivergenceBounds(NamedTuple):
    """Divergence and what bounds it, relative to r^2; float64 scalars but `vacuous` and `pairs`.

    Attributes:
        info_nce: Bound by the regularization of InfoNCE with one negative, at temperature r^2.
        cross_correlation: Bound by the cross-correlation of two views, neither centred nor standardized.
        spectral: Bound by the second term of the spectral contrastive loss.
        vicreg: Bound by VICReg's covariance.
        divergence: Largest product of two centres, which each of the four bounds.
        vacuous: For each of the four in this order whether it is at least 1, and says nothing, (4,).
        barlow_twins: Bound by Barlow Twins' own matrix, centred and standardized, on the next one.
        standardized_divergence: Largest product of two centres of standardized features.
        pairs: The same for each pair of classes.
    """

    info_nce: Tensor
    cross_correlation: Tensor
    spectral: Tensor
    vicreg: Tensor
    divergence: Tensor
    vacuous: Tensor
    barlow_twins: Tensor
    standardized_divergence: Tensor
    pairs: PairBounds


def divergence_bounds(features: Tensor, labels: Tensor) -> DivergenceBounds:
    r"""Upper bounds on the largest product of two class centres that the regularization of four losses implies.

    For features of norm r = 1, :math:`p_k` the share and :math:`\mu_k` the centre of class k,

    .. math::
        \sum_{k \ne l} p_k p_l (\mu_k \cdot \mu_l)^2 \le \|M\|_F^2 - \sum_k p_k^2 \|\mu_k\|^4 =: s, \qquad
        \mu_k \cdot \mu_l \le \sqrt{s / (2 p_k p_l)}

    whenever :math:`M \ge \sum_k p_k \mu_k \mu_k^\top` in the order of positive matrices. For the cross-correlation M
    is :math:`C = E f_1 f_2^\top` over all pairs of views, a view with itself included, so that it is the second moment
    of the samples' means, and :math:`\|C\|_F^2 = \|C - I\|_F^2 + 2 \mathrm{tr}\, C - D`; for the spectral loss it is
    the second moment of single views, whose squared norm is the mean of :math:`(f_1 \cdot f_-)^2`. VICReg's covariance
    bounds products of centred centres, to which :math:`\mu_k \cdot m + \mu_l \cdot m - \|m\|^2` is added, m the mean
    of all. Barlow Twins' matrix is centred and standardized, and bounds products of centres that are so, too.

    InfoNCE: with :math:`L = E \log(e^{f_1 \cdot f_2} + e^{f_1 \cdot f_-})`, :math:`a_k` the mean of
    :math:`f_1 \cdot f_2` in class k and :math:`a = \min(a_k, a_l)`, convexity gives

    .. math:: \mu_k \cdot \mu_l \le \log\big( e^{(L - L') / (2 p_k p_l)} - e^a \big)

    with L' the least that the other pairs (i, j) add, :math:`p_i p_j \log(e^{a_i} + e^0)` for i = j and
    :math:`p_i p_j \log(e^{a_i} + e^{-1})` else. It is loose, and vacuous for three classes and more even where these
    form a perfect simplex.

    Each is exact for the population of samples and views that are given, up to the root of rounding (1e-7).

    Args:
        features: Of A >= 2 views of N samples, all of one norm r, shape (N, A, D).
        labels: Classes, shape (N,), integers from 0, none of them empty.

    Returns:
        The bounds, relative to r^2. O(N^2 A^2 (D + A)) time for InfoNCE, blocks of 32 MB, O(min(N A, D)^2) memory.

    Raises:
        InputError: If features are not of one norm, there is one view or class, or a class is empty.

    References:
        Huang, Yi, Zhao, Jiang, "Towards the Generalization of Contrastive Self-Supervised Learning", 2021, section 4,
        whose bounds these replace; Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins", 2021; HaoChen, Wei, Gaidon, Ma,
        "Provable Guarantees for Self-Supervised Deep Learning with Spectral Contrastive Loss", 2021.

    Example:
        >>> features = torch.eye(4)[:, None].repeat(1, 2, 1)  # four samples at right angles, their views equal
        >>> found = divergence_bounds(features, torch.tensor([0, 0, 1, 1]))
        >>> float(found.divergence), float(found.cross_correlation)  # C = I / 4, |mu|^2 = 1/2: ((1/4 - 1/8) * 2)^1/2
        (0.0, 0.5)
        >>> found.vacuous.tolist()
        [False, False, False, False]
    """
    pairs = _pair_bounds(class_centres(features, labels), labels)
    largest = {name: values.max() for name, values in pairs._asdict().items() if name != "classes"}
    divergence, standardized = largest.pop("products"), largest.pop("standardized_products")
    own = largest.pop("barlow_twins")
    vacuous = torch.stack(list(largest.values())) >= 1
    return DivergenceBounds(
        **largest,
        divergence=divergence,
        vacuous=vacuous,
        barlow_twins=own,
        standardized_divergence=standardized,
        pairs=pairs,
    )


def _pair_bounds(population: ClassCentres, labels: Tensor) -> PairBounds:
    unit, centres = population.features, population.centres
    rows, means = unit.flatten(0, 1), unit.mean(1)
    mean = means.mean(0)
    scale = (rows - mean).square().mean(0).sqrt()
    scale = scale.masked_fill(scale <= 1e-12, torch.inf)  # a constant feature tells no classes apart
    along = centres @ mean
    classes = torch.combinations(torch.arange(len(centres), device=unit.device))
    first, second = classes.unbind(1)
    shift = along[first] + along[second] - mean @ mean
    shares = population.shares
    return PairBounds(
        classes=classes,
        products=(centres[first] * centres[second]).sum(1),
        info_nce=_info_nce_bound(population, labels.to(unit.device), classes),
        cross_correlation=_moment_bound(means, centres, shares, classes),
        spectral=_moment_bound(rows, centres, shares, classes),
        vicreg=_moment_bound(rows - mean, centres - mean, shares, classes) + shift,
        standardized_products=((centres - mean)[first] * (centres - mean)[second] / scale.square()).sum(1),
        barlow_twins=_moment_bound((means - mean) / scale, (centres - mean) / scale, shares, classes),
    )


def _moment_bound(rows: Tensor, centres: Tensor, shares: Tensor, classes: Tensor) -> Tensor:
    # From the second moment of rows, at least that of the centres, for each pair of classes, (P,).
    gram = rows.mT @ rows if rows.shape[1] <= len(rows) else rows @ rows.mT  # of one Frobenius norm
    within = (shares * centres.square().sum(1)).square().sum()
    between = ((gram / len(rows)).square().sum() - within).clamp(min=0)  # negative by rounding only
    return (between / (2 * shares[classes].prod(1))).sqrt()


def _info_nce_bound(population: ClassCentres, labels: Tensor, classes: Tensor) -> Tensor:
    shares, unit = population.shares, population.features
    alike = shares.new_zeros(len(shares)).index_add(0, labels, unit.mean(1).square().sum(1))
    alike = alike / (shares * len(unit))  # a_k, over all pairs of views
    pushed = torch.where(torch.eye(len(shares), device=shares.device, dtype=torch.bool), 0.0, -1.0)
    least = shares[:, None] * shares * torch.logaddexp(alike[:, None], pushed)
    first, second = classes.unbind(1)
    others = least.sum() - least[first, second] - least[second, first]
    largest = (_log_partition(unit) - others) / (2 * shares[first] * shares[second])
    nearer = torch.minimum(alike[first], alike[second])
    return largest + torch.log1p(-(nearer - largest).exp())


def _log_partition(unit: Tensor) -> Tensor:
    # Mean of log(e^{f1.f2} + e^{f1.f-}): a logarithm of a product for many views f2 of one sample at once.
    rows = unit.flatten(0, 1)
    own = (unit @ unit.mT).exp().flatten(0, 1)  # (N A, A)
    total = unit.new_zeros(())
    for block in row_blocks(len(rows), len(rows)):
        others = (rows[block] @ rows.mT).exp()
        for factors in own[block].split(_MOST_FACTORS, dim=1):
            product = torch.ones_like(others)
            for factor in factors.unbind(1):
                product *= others + factor[:, None]
            total += product.log().sum()
    return total / (own.numel() * len(rows))
