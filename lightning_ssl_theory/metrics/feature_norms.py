r"""Norms of features or weights, split into the part inside a dictionary (sparse) and outside (dense).

With a dictionary M in R^{d1 x d} of orthonormal columns, the atoms,

.. math:: \|w\|^2 = \|M M^\top w\|^2 + \|(I - M M^\top) w\|^2.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_finite, check_shape
from lightning_ssl_theory.metrics.sum_metric import SumMetric
from lightning_ssl_theory.moments import check_any_sample, to_float64
from lightning_ssl_theory.sparse_coding import check_dictionary

_TINY = torch.finfo(torch.float64).tiny


class FeatureNormValues(NamedTuple):
    """Norms over N rows, scalars; all but the first two are None without a dictionary."""

    mean_norm: Tensor
    """Mean of ||w||."""
    mean_squared_norm: Tensor
    """Mean of ||w||^2."""
    sparse_norm: Tensor | None = None
    """Mean of ||M M^T w||^2."""
    dense_norm: Tensor | None = None
    """Mean of ||(I - M M^T) w||^2."""
    sparse_share: Tensor | None = None
    """sparse_norm / (sparse_norm + dense_norm); 0 when all rows are zero."""
    leading_atom_share: Tensor | None = None
    """Mean of max_j <w, M_j>^2 / ||w||^2; a row of zeros counts as 0."""
    singleton_share: Tensor | None = None
    """Share of rows whose leading atom holds more than half of ||w||^2."""


class DictionaryCoverage(NamedTuple):
    """How well a set of neurons covers the atoms, scalars."""

    covered_share: Tensor
    """Share of the d atoms that lead an active neuron."""
    num_active: Tensor
    """Number of active neurons, int64."""
    singleton_share: Tensor
    """Share of the active neurons whose leading atom holds more than half of ||w||^2; 0 when none is active."""


class _Sums(NamedTuple):
    num_samples: Tensor
    norm_sum: Tensor
    square_sum: Tensor
    sparse_sum: Tensor
    dense_sum: Tensor
    leading_sum: Tensor
    singleton_sum: Tensor


def feature_norms(features: Tensor, dictionary: Tensor | None = None) -> FeatureNormValues:
    r"""Norms of the rows, and their sparse and dense parts with a dictionary.

    .. math:: \text{sparse} = E\|M M^\top w\|^2, \quad \text{dense} = E\|(I - M M^\top) w\|^2

    Args:
        features: Rows w: weights of neurons, or features; shape (N, d1), any real dtype.
        dictionary: M with orthonormal columns, shape (d1, d); to 1e-4, which float32 keeps and half
            precision does not.

    Returns:
        FeatureNormValues in float64, means over N. O(N d1 d) time, O(N (d1 + d)) memory.

    References:
        Z. Wen, Y. Li, "Toward Understanding the Feature Learning Process of Self-supervised Contrastive
        Learning", 2021.

    Example:
        >>> norms = feature_norms(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0], [0.0]]))
        >>> float(norms.sparse_norm), float(norms.dense_norm), float(norms.sparse_share)
        (9.0, 16.0, 0.36)
    """
    check_shape(features, "features", "N+ D+")
    if dictionary is not None:
        check_dictionary(dictionary)
    return _compute(_update(features, dictionary), has_dictionary=dictionary is not None)


def dictionary_coverage(weights: Tensor, dictionary: Tensor) -> DictionaryCoverage:
    r"""Share of the atoms that lead an active neuron, and of the active neurons that are singletons.

    A neuron is active when its norm exceeds 10 % of the median norm; the atom with the largest
    :math:`\langle w, M_j \rangle^2` leads it, and makes it a singleton when this exceeds :math:`\|w\|^2 / 2`.

    Args:
        weights: One neuron a row, shape (m, d1), m >= 1.
        dictionary: M with orthonormal columns, shape (d1, d).

    Returns:
        DictionaryCoverage. O(m d1 d) time.

    References:
        Z. Wen, Y. Li, "Toward Understanding the Feature Learning Process of Self-supervised Contrastive
        Learning", 2021.

    Example:
        >>> coverage = dictionary_coverage(torch.tensor([[2.0, 0.0], [1.0, 0.5]]), torch.eye(2))
        >>> [float(value) for value in coverage]
        [0.5, 2.0, 1.0]
    """
    check_dictionary(dictionary)
    check_shape(weights, "weights", "N+ D")
    _check_rows(weights, "weights", dictionary)
    exact = to_float64(weights)
    check_any_sample(torch.tensor(len(exact)))
    norms = exact.norm(dim=1)
    is_active = norms > 0.1 * norms.quantile(0.5)
    active = exact[is_active]
    leading = (active @ to_float64(dictionary).to(exact.device)).square().max(1)
    is_singleton = leading.values > active.square().sum(1) / 2
    num_active = is_active.sum()
    return DictionaryCoverage(
        covered_share=norms.new_tensor(leading.indices.unique().numel() / dictionary.shape[1]),
        num_active=num_active,
        singleton_share=is_singleton.sum() / num_active.clamp(min=1).to(norms.dtype),
    )


class FeatureNorms(SumMetric):
    """Norms of rows over all batches and ranks, split by a dictionary if there is one; see `feature_norms`.

    State: 7 float64 numbers, and the dictionary.

    Args:
        dictionary: M with orthonormal columns, shape (d1, d), or None for plain norms.
        **kwargs: Passed on to `torchmetrics.Metric`.

    Example:
        >>> metric = FeatureNorms()
        >>> metric.update(torch.tensor([[3.0, 4.0]]))
        >>> metric.update(torch.tensor([[0.0, 0.0]]))
        >>> float(metric.compute().mean_norm)
        2.5
    """

    num_samples: Tensor
    norm_sum: Tensor
    square_sum: Tensor
    sparse_sum: Tensor
    dense_sum: Tensor
    leading_sum: Tensor
    singleton_sum: Tensor
    dictionary: Tensor | None

    def __init__(self, dictionary: Tensor | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dictionary is not None:
            check_dictionary(dictionary)
            dictionary = to_float64(dictionary).clone()
        self.register_buffer("dictionary", dictionary, persistent=False)
        self._declare_sums(**dict.fromkeys(_Sums._fields, ()))

    def update(self, features: Tensor) -> None:
        """Add a batch.

        Args:
            features: Shape (N, d1).
        """
        self._add_sums(_update(features, self.dictionary)._asdict())

    def compute(self) -> FeatureNormValues:
        """The values over everything that was added.

        Returns:
            FeatureNormValues in float64.
        """
        sums = _Sums(
            self.num_samples,
            self.norm_sum,
            self.square_sum,
            self.sparse_sum,
            self.dense_sum,
            self.leading_sum,
            self.singleton_sum,
        )
        return _compute(sums, has_dictionary=self.dictionary is not None)


def _check_rows(rows: Tensor, name: str, dictionary: Tensor | None) -> None:
    check_shape(rows, name, "N D" if dictionary is None else f"N {dictionary.shape[0]}")
    check_finite(rows, name)


def _update(features: Tensor, dictionary: Tensor | None) -> _Sums:
    _check_rows(features, "features", dictionary)
    exact = to_float64(features)
    squares = exact.square().sum(1)  # (N,)
    zero = squares.new_zeros(())
    sparse = dense = leading = singletons = zero
    if dictionary is not None:
        atoms = to_float64(dictionary).to(exact.device)
        coefficients = exact @ atoms  # (N, d)
        projection = coefficients @ atoms.mT
        sparse, dense = projection.square().sum(), (exact - projection).square().sum()
        shares = coefficients.square().amax(1) / squares.clamp(min=_TINY)
        leading, singletons = shares.sum(), (shares > 0.5).sum()
    return _Sums(
        num_samples=zero + len(exact),
        norm_sum=squares.sqrt().sum(),
        square_sum=squares.sum(),
        sparse_sum=sparse,
        dense_sum=dense,
        leading_sum=leading,
        singleton_sum=singletons,
    )


def _compute(sums: _Sums, *, has_dictionary: bool) -> FeatureNormValues:
    check_any_sample(sums.num_samples)
    mean_norm, mean_squared_norm = sums.norm_sum / sums.num_samples, sums.square_sum / sums.num_samples
    if not has_dictionary:
        return FeatureNormValues(mean_norm, mean_squared_norm)
    return FeatureNormValues(
        mean_norm=mean_norm,
        mean_squared_norm=mean_squared_norm,
        sparse_norm=sums.sparse_sum / sums.num_samples,
        dense_norm=sums.dense_sum / sums.num_samples,
        sparse_share=sums.sparse_sum / (sums.sparse_sum + sums.dense_sum).clamp(min=_TINY),
        leading_atom_share=sums.leading_sum / sums.num_samples,
        singleton_share=sums.singleton_sum / sums.num_samples,
    )
