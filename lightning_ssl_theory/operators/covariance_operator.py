r"""A covariance operator OP = K M K^T of one layer, applied without being formed.

Column u of the connection K for a view s is the gradient of <u, f_L(x_s)> with respect to the layer's weight. It is
held as what the layer saw and what came back, never as a vector of P weights.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Definition 1, Theorems 3 and 4.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_integer, check_shape
from lightning_ssl_theory.moments import effective_rank
from lightning_ssl_theory.operators.standard_errors import mean_error
from lightning_ssl_theory.tracing.layer_trace import LayerTrace

MAX_EXACT_SIZE = 8192


class Connections:
    """K u_1, …, K u_m of S views, as a linear map with its transpose.

    Args:
        seen: What the layer saw of S views.
        deltas: For each of m probes the gradients of <u_c, f_L> with respect to the layer's output.
        num_views: S.
    """

    def __init__(self, seen: LayerTrace, deltas: Sequence[Tensor], num_views: int) -> None:
        self._seen, self._deltas = seen, list(deltas)
        self.num_probes, self.num_views = len(deltas), num_views
        self.num_weights = seen.weight.numel()

    def scores(self, vector: Tensor) -> Tensor:
        """<K_s u_c, v> for every view s and probe c: (P,) -> (S, m). Cost of m products with the output."""
        change = self._seen.change(vector.reshape(self._seen.weight.shape))
        return torch.stack([self._seen.sample_products(delta, change) for delta in self._deltas], dim=1)

    def combine(self, coefficients: Tensor) -> Tensor:
        """sum_sc coefficients_sc K_s u_c: (S, m) -> (P,). Cost of m gradients of the layer's weight."""
        weighted = (
            self._seen.weighted(delta, column)
            for delta, column in zip(self._deltas, coefficients.unbind(1), strict=True)
        )
        return self._seen.weight_gradient(sum(weighted, torch.zeros(()).to(coefficients))).reshape(-1)

    def factors(self) -> list[Tensor]:
        """What the layer saw, and what came back for each probe."""
        return [self._seen.inputs, *self._deltas]

    def rows(self) -> Iterator[Tensor]:
        """For each probe c the gradients K_s u_c of all views, (S, P)."""
        for delta in self._deltas:
            yield self._seen.sample_gradients(delta)


class CovarianceOperator:
    r"""OP = K M K^T, symmetric, of shape (P, P) for the P weights of a layer in the order of `weight.reshape(-1)`.

    Args:
        connections: K, its probes either all n_L unit vectors (exact) or m random ones.
        coefficients: M, (S, S), symmetric.
        is_exact: Whether the probes are all unit vectors. Random probes estimate: products and the trace without
            bias, the Frobenius norm from pairs of different probes; a spectrum is refused, since few probes
            overstate eigenvalues many times.
    """

    def __init__(self, connections: Connections, coefficients: Tensor, *, is_exact: bool) -> None:
        self._connections, self._coefficients, self._is_exact = connections, coefficients, is_exact
        self._scale = 1.0 if is_exact else 1.0 / connections.num_probes

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return self._connections.num_weights, self._connections.num_weights

    def __matmul__(self, vector: Tensor) -> Tensor:
        """OP v for v of shape (P,) or (P, k). Cost of one product with the layer and one weight gradient a column."""
        check_shape(vector, "vector", "P *")
        if vector.shape[:1] != self.shape[:1] or vector.ndim > 2:
            raise InputError(
                f"Expected `vector` of shape ({self.shape[0]},) or ({self.shape[0]}, k), got {tuple(vector.shape)}; "
                "use `weight.reshape(-1)`."
            )
        if vector.ndim == 2:
            return torch.stack([self @ column for column in vector.unbind(1)], dim=1)
        return self._scale * self._connections.combine(self._coefficients @ self._connections.scores(vector))

    def trace(self) -> Tensor:
        """The trace, a scalar: exact, or unbiased from random probes. Time O(m S^2 P), memory O(S P)."""
        return self._scale * self._probe_traces().sum()

    def trace_error95(self) -> Tensor:
        """Half-width that covers 95 % of the traces over random probes; 0 if exact, NaN for a single probe."""
        if self._is_exact:
            return self._coefficients.new_zeros(())
        return mean_error(self._probe_traces())

    def frobenius_norm(self) -> Tensor:
        """The Frobenius norm, a scalar; from pairs of different probes where the probes are random.

        Returns:
            The norm. Exact: time O(min(P, S m)^2 max(P, S m)); random probes: O(m^2 S^2 P).

        Raises:
            InputError: If there is one random probe only.
        """
        if self._is_exact:
            return torch.linalg.vector_norm(self._spectrum())
        if self._connections.num_probes < 2:
            raise InputError(
                "Expected at least 2 random probes for a Frobenius norm, got 1; raise `num_probes` or leave it None."
            )
        rows = list(self._connections.rows())
        products = []
        for i, left in enumerate(rows):
            for right in rows[:i]:
                half = self._coefficients @ (left @ right.mT)
                products.append((half * (self._coefficients @ (right @ left.mT)).mT).sum())
        return torch.stack(products).mean().clamp(min=0).sqrt()

    def eigenvalues(self, k: int | None = None) -> Tensor:
        """The k largest eigenvalues, in falling order, (k,).

        Args:
            k: How many; all that can differ from zero by default.

        Returns:
            (k,), the unit of the squared gradient. Time O(min(P, S m)^2 max(P, S m)).

        Raises:
            InputError: If the probes are random, k exceeds what the rank can be, or the operator is too large for a
                dense solver.
        """
        check_integer(k, "k", or_none=True)
        spectrum = self._spectrum()
        if k is not None and not 1 <= k <= len(spectrum):
            raise InputError(
                f"Expected `k` between 1 and {len(spectrum)}, the largest rank possible, got {k}."
            )
        return spectrum[:k]

    def effective_rank(self) -> Tensor:
        """exp(entropy of the eigenvalue shares), a scalar >= 1; negative ones of an unbiased operator count 0."""
        return effective_rank(self._spectrum())

    def to_dense(self) -> Tensor:
        """The matrix itself, (P, P), for small layers and tests. Time O(m S P (S + P)), memory O(P^2)."""
        dense = self._coefficients.new_zeros(self.shape)
        for rows in self._connections.rows():
            dense.addmm_(rows.mT, self._coefficients @ rows)
        return self._scale * dense

    def _probe_traces(self) -> Tensor:
        traces = [((self._coefficients @ rows) * rows).sum() for rows in self._connections.rows()]
        return torch.stack(traces)

    def _spectrum(self) -> Tensor:
        if not self._is_exact:
            raise InputError(
                f"Expected all unit probes for a spectrum, got {self._connections.num_probes} random ones, which "
                "overstate eigenvalues; leave `num_probes` at None."
            )
        num_weights, num_rows = self.shape[0], self._connections.num_views * self._connections.num_probes
        if min(num_weights, num_rows) > MAX_EXACT_SIZE:
            raise InputError(
                f"Expected a layer with at most {MAX_EXACT_SIZE} weights, or as few views times outputs, for a "
                f"spectrum, got {num_weights} weights and {num_rows}; name a smaller layer or pass fewer samples."
            )
        if num_weights <= num_rows:
            return torch.linalg.eigvalsh(self.to_dense()).flip(0)
        # K M K^T and V^T V (M x I) V^T V share their non-zero eigenvalues; V from K^T K = V^T V keeps it symmetric.
        rows = torch.stack(list(self._connections.rows()), dim=1).flatten(0, 1)
        triangle = torch.linalg.qr(rows.mT, mode="r").R.unflatten(1, (-1, self._connections.num_probes))
        return torch.linalg.eigvalsh(
            torch.einsum("kam,ab,lbm->kl", triangle, self._coefficients, triangle)
        ).flip(0)
