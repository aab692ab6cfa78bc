r"""W-MSE: the distance of two views after each is whitened, so that nothing can collapse."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError, check_instance, check_integer, check_number
from lightning_ssl_theory.distributed import RowPlaces, all_sum_with_grad, from_first_rank, row_places
from lightning_ssl_theory.losses.batch_moments import check_two, check_variance, two_views
from lightning_ssl_theory.losses.sample_rows import unit_rows


class WMSELoss(nn.Module):
    r"""Mean squared distance of two views that are whitened and divided by their lengths.

    .. math::
        L = \mathrm{mean}_n \left\| \frac{w_{1n}}{\|w_{1n}\|} - \frac{w_{2n}}{\|w_{2n}\|} \right\|^2, \qquad
        w_{vn} = R_v^{-1} (z_{vn} - \bar z_v), \quad R_v R_v^\top = (1 - \epsilon)\, \mathrm{Cov}(z_v) + \epsilon I

    with the Cholesky factor R of the covariance, divided by N - 1, of each view. Whitened features have unit variance
    and are uncorrelated whatever the network puts out, so that pulling views together is all that is left to do.

    With `whitening_size` the batch is divided at random into sub-batches that are whitened alone, the same for both
    views: N // `whitening_size` of them, of sizes that differ by one at most; a batch that is smaller stays whole. The
    loss is averaged over `num_iterations` such divisions. The paper takes sub-batches of about 2D samples: covariances
    differ between them, so that the network cannot fit itself to one.

    The sub-batches are of the samples of all ranks, as the first rank draws them: the value is equal on each, and the
    parameters' gradients, once DistributedDataParallel has averaged them, are those of one process on the concatenated
    batch. Half precision is computed in float32. NaN stays NaN, so that a gradient scaler can skip the step.

    Cost: O(n_r D^2 + G D^3) time and O(G D^2 + n_r D) memory a rank and iteration, G the number of sub-batches, with
    one exchange of 2 G D^2 numbers.

    Args:
        whitening_size: Least number of samples of a sub-batch, above D; None whitens the whole batch.
        num_iterations: How many random divisions the loss is averaged over.
        eps: Share :math:`\epsilon` of the identity in what is factored, in [0, 1).

    Raises:
        InputError: If an argument is out of its range.

    References:
        Ermolov, Siarohin, Sangineto, Sebe, "Whitening for Self-Supervised Representation Learning", 2021, sec. 3 (the
        whitened and normalized mean squared error, and batch slicing).

    Example:
        >>> z1 = torch.tensor([[1.0], [-1.0], [2.0], [-2.0]])  # one feature: only its sign is left
        >>> WMSELoss()(z1, 5 * z1).item(), WMSELoss()(z1, z1[[0, 1, 3, 2]]).item()  # two of four turned around: 4 / 2
        (0.0, 2.0)
    """

    def __init__(
        self, whitening_size: int | None = None, num_iterations: int = 1, *, eps: float = 0.0
    ) -> None:
        super().__init__()
        check_integer(whitening_size, "whitening_size", at_least=2, or_none=True)
        check_integer(num_iterations, "num_iterations")
        check_number(eps, "eps", "[0, 1)", advice="it is the share of the identity")
        self.whitening_size = whitening_size
        self.num_iterations = num_iterations
        self.eps = eps

    def forward(self, z1: Tensor, z2: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Value of the loss.

        Args:
            z1: First views of the n_r samples of this rank, shape (n_r, D).
            z2: Second views of the same samples, shape (n_r, D).
            generator: Draws the sub-batches, on the CPU; None is torch's own. Not used where there is one sub-batch.

        Returns:
            Scalar, a function of the samples of all ranks.

        Raises:
            InputError: If shapes differ, a sub-batch has no more than D samples, or a feature has no variance or is a
                combination of the others; the last two only where `eps` is 0.
        """
        rows = torch.stack(two_views(z1, z2))
        check_instance(generator, "generator", torch.Generator, or_none=True)
        places = row_places(rows[0])
        sizes = self._sizes(places.total, rows.shape[2])
        with torch.autocast(rows.device.type, enabled=False):
            distances = [
                self._distance(rows, _own_groups(sizes, places, rows.shape[1], generator), sizes)
                for _ in range(1 if len(sizes) == 1 else self.num_iterations)
            ]
            return all_sum_with_grad(torch.stack(distances).mean()) / places.total

    def parts(self, z1: Tensor, z2: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The distance, and nothing: whitening is a constraint, not a term; together they are the loss.

        Args:
            z1: As in `forward`.
            z2: As in `forward`.
            generator: As in `forward`.

        Returns:
            "alignment", zero for identical views, and "regularization", zero.

        Raises:
            InputError: As in `forward`.
        """
        loss = self(z1, z2, generator=generator)
        return {"alignment": loss, "regularization": torch.zeros_like(loss)}

    def _sizes(self, num_samples: int, width: int) -> list[int]:
        # of the sub-batches
        check_two(num_samples)
        num_groups = max(1, num_samples // (self.whitening_size or num_samples))
        smallest, num_larger = divmod(num_samples, num_groups)
        if self.eps == 0 and smallest <= width:
            raise InputError(
                f"Expected more samples over all ranks in what is whitened together than `z1` has features, got "
                f"{smallest} and {width}: their covariance is singular; take larger batches or a larger "
                "`whitening_size`, a narrower projector, or eps=1e-3."
            )
        return [smallest + 1] * num_larger + [smallest] * (num_groups - num_larger)

    def _distance(self, rows: Tensor, groups: Tensor, sizes: Sequence[int]) -> Tensor:
        # summed over the samples of this rank
        groups = groups.to(rows.device)
        members = [rows[:, groups == group] for group in range(len(sizes))]
        counts = rows.new_tensor(sizes)[:, None]
        mean = all_sum_with_grad(torch.stack([part.sum(1) for part in members], 1)) / counts  # (2, G, D)
        members = [part - mean[:, [group]] for group, part in enumerate(members)]
        covariance = all_sum_with_grad(torch.stack([part.mT @ part for part in members], 1))
        covariance = covariance / (counts[..., None] - 1)
        factors = self._factors(mean, covariance)
        total = rows.new_zeros(())
        for group, part in enumerate(members):
            whitened = torch.linalg.solve_triangular(factors[:, group], part.mT, upper=False)
            first, second = unit_rows(whitened.mT).unbind()
            total = total + (first - second).square().sum()
        return total

    def _factors(self, mean: Tensor, covariance: Tensor) -> Tensor:
        # Cholesky, (2, G, D, D); covariances are equal on every rank, so that all of them leave together
        width = covariance.shape[-1]
        identity = torch.eye(width, dtype=covariance.dtype, device=covariance.device)
        shrunk = (1 - self.eps) * covariance + self.eps * identity
        if self.eps == 0:
            check_variance(mean, covariance.diagonal(dim1=-2, dim2=-1), "pass eps=1e-3")
        factors, info = torch.linalg.cholesky_ex(shrunk)
        rest, variance = (matrix.diagonal(dim1=-2, dim2=-1).detach() for matrix in (factors, shrunk))
        is_rounding = rest.square() <= width * torch.finfo(shrunk.dtype).eps * variance
        if (is_rounding.any() or info.any()) and shrunk.isfinite().all():
            raise InputError(
                "Expected features of `z1` and `z2` of which none is a combination of the others, got a covariance "
                "that is singular in the precision at hand; look for a collapse to fewer dimensions, or pass eps=1e-3."
            )
        return factors


def _own_groups(
    sizes: Sequence[int], places: RowPlaces, num_own: int, generator: torch.Generator | None
) -> Tensor:
    # the sub-batch of each sample of this rank, (n_r,), from a permutation of those of all ranks
    groups = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    if len(sizes) > 1:
        permutation = from_first_rank(torch.randperm(places.total, generator=generator))
        groups = torch.empty_like(groups).scatter_(0, permutation, groups)
    return groups[places.first : places.first + num_own]
