r"""Sparse and dense parts of weights in the linear stage of learning a sparse coding model, without training.

While weights are small the learner is linear and the softmax of the loss even. A neuron then follows
:math:`w' = (C - \lambda) w` with

.. math:: C = E[x_+ x_{++}^\top] = p\, (M M^\top - \mathrm{diag}\, M M^\top) \text{ with masks}, \qquad
    C = p\, M M^\top + \sigma^2 I \text{ without},

plus the noise of mini-batches, whose variance each step adds to both parts. Everything here takes
:math:`\mathrm{diag}\, M M^\top` for its mean, d / d1.

References:
    Z. Wen, Y. Li, "Toward Understanding the Feature Learning Process of Self-supervised Contrastive Learning",
    2021, appendices A.2, A.5 and C; the mini-batch noise is worked out here.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_flag, check_integer, check_number, check_positive
from lightning_ssl_theory.sparse_coding.law import check_law

_LARGEST_EXPONENT = 709.0


class GrowthRates(NamedTuple):
    """Rates d ln||.|| / dt of the two parts of a neuron, t = steps times learning rate."""

    sparse: float
    """Of M M^T w."""
    dense: float
    """Of (I - M M^T) w."""


def growth_rates(
    num_features: int, num_atoms: int, *, probability: float, noise_std: float, masks: bool
) -> GrowthRates:
    r"""Rates at which the sparse and the dense part of a neuron grow, over the population.

    With masks :math:`p (1 - d / d_1)` and :math:`-p\, d / d_1`; without :math:`p + \sigma^2` and
    :math:`\sigma^2`. Weight decay lambda is subtracted from both.

    Args:
        num_features: d1 > d.
        num_atoms: d >= 1.
        probability: p > 0.
        noise_std: sigma.
        masks: Whether the two views are masked.

    Returns:
        GrowthRates.

    Raises:
        InputError: If not 1 <= d < d1, or p is not positive.

    Example:
        >>> growth_rates(4, 1, probability=0.2, noise_std=1.0, masks=True)
        GrowthRates(sparse=0.15000000000000002, dense=-0.05)
        >>> growth_rates(4, 1, probability=0.2, noise_std=1.0, masks=False)
        GrowthRates(sparse=1.2, dense=1.0)
    """
    _check_model(num_features, num_atoms, probability, noise_std)
    check_flag(masks, "masks")
    spread = num_atoms / num_features
    if masks:
        return GrowthRates(probability * (1 - spread), -probability * spread)
    return GrowthRates(probability + noise_std**2, noise_std**2)


def minibatch_floor(
    num_features: int,
    num_atoms: int,
    *,
    probability: float,
    noise_std: float,
    batch_size: int,
    learning_rate: float,
) -> float:
    r"""Ratio dense / sparse, of squared norms, at which masks stop to help on mini-batches.

    .. math:: \frac{\eta Q}{2 B \gamma}, \qquad \gamma = p (1 - d / d_1), \quad
        Q = (p (1 + d / d_1) + 2 \sigma^2) \, (2 \sigma^2 (d_1 - d) + p\, d (1 - d / d_1))

    Each step adds a dense part of variance :math:`\eta^2 Q / B` to a sparse neuron, which grows meanwhile.

    Args:
        num_features: d1 > d.
        num_atoms: d >= 1.
        probability: p > 0.
        noise_std: sigma.
        batch_size: B.
        learning_rate: eta.

    Returns:
        The ratio, for small learning rates and without weight decay, on which it hardly depends.

    Raises:
        InputError: If not 1 <= d < d1, or p, B or eta is not positive.

    Example:
        >>> law = {"probability": 0.5, "noise_std": 0.5, "learning_rate": 1.0}
        >>> minibatch_floor(4, 2, batch_size=10, **law), minibatch_floor(4, 2, batch_size=20, **law)
        (0.375, 0.1875)
    """
    _check_model(num_features, num_atoms, probability, noise_std)
    check_integer(batch_size, "batch_size")
    check_positive(learning_rate, "learning_rate")
    noise = _view_variance(num_features, num_atoms, probability=probability, noise_std=noise_std, masks=True)
    quotient = noise[0] * noise[1] * (num_features - num_atoms)
    return learning_rate * quotient / (2 * batch_size * probability * (1 - num_atoms / num_features))


def stage_one_norms(
    num_steps: int,
    *,
    num_features: int,
    num_atoms: int,
    probability: float,
    noise_std: float,
    masks: bool,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    init_std: float = 1.0,
) -> Tensor:
    r"""Expected squared norms of the sparse and the dense part of a neuron at each step of the linear stage.

    .. math:: S \leftarrow (1 + \eta r_S)^2 S + \tfrac{\eta^2}{B} (v_S S + v_D D)\, d\, v_S, \qquad
        D \leftarrow (1 + \eta r_D)^2 D + \tfrac{\eta^2}{B} (v_S S + v_D D)\, (d_1 - d)\, v_D

    with r the rates less the weight decay and v the variance of a view along a sparse and a dense direction.
    From a Gaussian start S = d s^2, D = (d1 - d) s^2. It ends where the loss begins to fall.

    Args:
        num_steps: T.
        num_features: d1 > d.
        num_atoms: d >= 1.
        probability: p > 0.
        noise_std: sigma.
        masks: Whether the two views are masked.
        batch_size: B.
        learning_rate: eta.
        weight_decay: lambda.
        init_std: s, standard deviation of the weights at the start.

    Returns:
        Shape (T + 1, 2), float64: S and D after 0..T steps. O(T) time.

    Raises:
        InputError: If not 1 <= d < d1, p or B is not positive, or the norms overflow.

    Example:
        >>> norms = stage_one_norms(
        ...     1, num_features=2, num_atoms=1, probability=1.0, noise_std=0.0, masks=False, batch_size=1,
        ...     learning_rate=1.0,
        ... )
        >>> norms.tolist()  # S = 1, then 2^2 + 1: noise of a single sample as large as its mean
        [[1.0, 1.0], [5.0, 1.0]]
    """
    _check_model(num_features, num_atoms, probability, noise_std)
    check_integer(num_steps, "num_steps", at_least=0, at_most=10**8)
    check_integer(batch_size, "batch_size")
    check_number(learning_rate, "learning_rate", "[0, inf)")
    check_number(weight_decay, "weight_decay", "[0, inf)")
    check_number(init_std, "init_std", "[0, inf)")
    law: dict[str, Any] = {"probability": probability, "noise_std": noise_std, "masks": masks}
    rates = torch.tensor(growth_rates(num_features, num_atoms, **law), dtype=torch.float64) - weight_decay
    variances = torch.tensor(_view_variance(num_features, num_atoms, **law), dtype=torch.float64)
    sizes = torch.tensor([num_atoms, num_features - num_atoms], dtype=torch.float64)
    noise = torch.outer(sizes * variances, variances) * learning_rate**2 / batch_size
    step = torch.diag((1 + learning_rate * rates).square()) + noise
    norms = [init_std**2 * sizes]
    for _ in range(num_steps):
        norms.append(step @ norms[-1])
    path = torch.stack(norms)
    if not bool(path.isfinite().all()):
        raise InputError(
            f"Expected norms that stay finite over `num_steps` = {num_steps}, got an overflow; the linear stage ends "
            "where the loss begins to fall: take fewer steps or lower `learning_rate`."
        )
    return path


def largest_dense_growth(num_features: int, num_atoms: int, *, probability: float, noise_std: float) -> float:
    r"""Factor by which dense norms may grow without masks before sparse ones overtake them.

    .. math:: G = \Big( \frac{d_1 - d}{d} \Big)^{\sigma^2 / (2 p)}

    Without masks both parts grow, sparse ones faster, from ||dense||^2 / ||sparse||^2 = (d1 - d) / d. Dense
    features win in the end only if the weights start so large that the loss is fitted before this factor.

    Args:
        num_features: d1 > d.
        num_atoms: d >= 1.
        probability: p > 0.
        noise_std: sigma.

    Returns:
        G, of ||dense||, not squared; infinite where it is no float.

    Raises:
        InputError: If not 1 <= d < d1, or p is not positive.

    Example:
        >>> largest_dense_growth(5, 1, probability=0.5, noise_std=1.0)
        4.0
    """
    _check_model(num_features, num_atoms, probability, noise_std)
    log_growth = math.log((num_features - num_atoms) / num_atoms) * noise_std**2 / (2 * probability)
    return math.exp(log_growth) if log_growth < _LARGEST_EXPONENT else math.inf


def dense_start_std(
    num_features: int,
    num_atoms: int,
    *,
    probability: float,
    noise_std: float,
    num_neurons: int,
    batch_size: int,
    margin: float = 1.5,
) -> float:
    r"""Standard deviation of first weights from which, without masks, the dense part stays ahead of the sparse one.

    .. math:: s = \frac{a}{G} \sqrt{\frac{\log B}{m\, \sigma^2 (d_1 - d)}}

    with G of `largest_dense_growth`. Learning is linear until the similarity :math:`m \sigma^2 \|dense\|^2` of a
    sample with itself reaches log B, which fits the loss. From here the dense part grows a times less than G until
    then.

    Args:
        num_features: d1 > d.
        num_atoms: d >= 1.
        probability: p > 0.
        noise_std: sigma > 0.
        num_neurons: m.
        batch_size: B >= 2.
        margin: a; below 1 the sparse part overtakes.

    Returns:
        s; 0 where the dense part stays ahead for longer than a float can tell.

    Raises:
        InputError: If not 1 <= d < d1, B is less than 2, or another number is not positive.

    Example:
        >>> law = {"probability": 0.5, "noise_std": 1.0}
        >>> std = dense_start_std(5, 1, **law, num_neurons=2, batch_size=8, margin=1.0)
        >>> round(2 * 4 * (4 * std) ** 2 - math.log(8), 12)  # m (d1 - d) (G s)^2 = log B, G = 4
        0.0
    """
    growth = largest_dense_growth(num_features, num_atoms, probability=probability, noise_std=noise_std)
    check_positive(noise_std, "noise_std")
    check_positive(margin, "margin")
    check_integer(num_neurons, "num_neurons")
    check_integer(batch_size, "batch_size", at_least=2, advice="a single sample has no negatives")
    fitted = math.log(batch_size) / (num_neurons * noise_std**2)
    return math.sqrt(fitted / (num_features - num_atoms)) / (growth / margin)


def _check_model(num_features: int, num_atoms: int, probability: float, noise_std: float) -> None:
    check_integer(num_features, "num_features")
    check_integer(
        num_atoms,
        "num_atoms",
        at_most=num_features - 1,
        advice="a dictionary has fewer atoms than `num_features`",
    )
    check_law(probability, noise_std)


# Variance of the second view along one sparse and one dense direction.
def _view_variance(
    num_features: int, num_atoms: int, *, probability: float, noise_std: float, masks: bool
) -> tuple[float, float]:
    noise = noise_std**2
    if not masks:
        return probability + noise, noise
    spread = probability * num_atoms / num_features
    return probability + spread + 2 * noise, spread + 2 * noise
