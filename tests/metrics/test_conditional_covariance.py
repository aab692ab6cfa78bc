"""Criterion C1: against residuals, against all permutations, and against the Gaussian closed form."""

from functools import partial
from itertools import permutations, product

import pytest
import torch
from helpers.check_metric import check_metric, check_two_ranks
from helpers.gaussian_rows import many_rows, matched_rows
from torch import Tensor

from lightning_ssl_theory.data import boosted_minimiser, conditional_moment, gaussian_pretext_moments
from lightning_ssl_theory.metrics import ConditionalCovariance, conditional_covariance

SETTINGS = ["independent", "separable", "entangled", "infeasible"]


def left_of(rows: Tensor, given: Tensor) -> Tensor:
    """Residuals of a regression with an intercept."""
    design = torch.cat([given, torch.ones(len(rows), 1, dtype=torch.float64)], 1)
    return rows - design @ torch.linalg.lstsq(design, rows, driver="gelsd").solution


def groups_of(f: Tensor, z: Tensor, y: Tensor) -> list[tuple[float, int, Tensor, Tensor]]:
    """Share, directions and residuals of each group within which f and z are compared."""
    if y.ndim == 2:
        return [(1.0, len(f) - 1 - y.shape[1], left_of(f, y), left_of(z, y))]
    classes = [y == index for index in range(int(y.max()) + 1)]
    nothing = torch.zeros(len(f), 0, dtype=torch.float64)
    return [
        (
            int(own.sum()) / len(f),
            int(own.sum()) - 1,
            left_of(f[own], nothing[own]),
            left_of(z[own], nothing[own]),
        )
        for own in classes
        if own.any()
    ]


def squared_norm(a: Tensor, b: Tensor) -> float:
    total = 0.0
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            total += (
                sum(x * y for x, y in zip(a[:, i].tolist(), b[:, j].tolist(), strict=True)) / len(a)
            ) ** 2
    return total


def oracle(batches):
    """The norms; the null is compared with permutations below."""
    f, z, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    z = torch.eye(2, dtype=torch.float64)[z] if z.ndim == 1 else z.double()
    found = groups_of(f.double(), z, y if y.ndim == 1 else y.double())
    squared = sum(share * squared_norm(a, b) for share, _, a, b in found)
    energies = [(a.square().sum() / len(a) * b.square().sum() / len(b)).item() for _, _, a, b in found]
    largest = sum(share * energy for (share, *_), energy in zip(found, energies, strict=True))
    mean = sum(share * energy / n for (share, n, *_), energy in zip(found, energies, strict=True))
    values = conditional_covariance(f, z, y)
    return {
        "frobenius_norm": squared**0.5,
        "normalized": (squared / largest) ** 0.5,
        "null": (mean / largest) ** 0.5,
        "p_value": values.p_value,
    }


def test_oracle_by_hand():
    f = torch.tensor([[0.0], [2.0], [5.0], [5.0]]).double()
    found = oracle([(f, f, torch.tensor([0, 0, 1, 1]))])  # class 0: variance 1, class 1: none
    assert found["frobenius_norm"] == pytest.approx(0.5**0.5)
    assert found["normalized"] == pytest.approx(1.0)


def shards(*, by_class: bool, sizes=(7, 13)):
    f, z = torch.randn(20, 3), torch.randint(2, (20,)) if by_class else torch.randn(20, 2)
    y = torch.arange(20) % 3 if by_class else torch.randn(20, 2) + f[:, :2]
    return list(zip(f.split(sizes), z.split(sizes), y.split(sizes), strict=True))


@pytest.mark.parametrize("by_class", [False, True])
def test_as_a_metric(by_class):
    size = 3 if by_class else 2
    check_metric(
        partial(ConditionalCovariance, 3, 2, size, by_class=by_class), shards(by_class=by_class), oracle
    )


@pytest.mark.ddp
def test_uneven_ranks_equal_one_process():
    check_two_ranks(
        {
            f"by_class={by_class}": (
                partial(ConditionalCovariance, 3, 2, 3 if by_class else 2, by_class=by_class),
                shards(by_class=by_class),
            )
            for by_class in (False, True)
        }
    )


@pytest.mark.parametrize("setting", SETTINGS)
def test_gaussian_closed_form(setting):
    moments = gaussian_pretext_moments(setting, 6, 3, 1, generator=torch.Generator().manual_seed(0))
    processor = boosted_minimiser(moments, 3, 0.5)
    closed = torch.linalg.matrix_norm(processor @ conditional_moment(moments))
    x, z, y = matched_rows(moments, 50)
    assert conditional_covariance(x @ processor.mT, z, y).frobenius_norm.item() == pytest.approx(
        closed.item(), abs=1e-9
    )


def test_gaussian_closed_form_from_many_samples():
    moments = gaussian_pretext_moments("entangled", 4, 2, 1, generator=torch.Generator().manual_seed(0))
    processor = boosted_minimiser(moments, 2, 0.5)
    closed = torch.linalg.matrix_norm(processor @ conditional_moment(moments)).item()
    metric = ConditionalCovariance(2, 2, 1)
    for x, z, y in many_rows(moments, 4_000_000):
        metric.update(x @ processor.float().mT, z, y)
    assert closed > 0.3
    assert metric.compute().frobenius_norm.item() == pytest.approx(closed, abs=1e-3)


def test_null_is_the_mean_over_all_permutations_of_stretched_residuals():
    f, z, y = torch.randn(6, 2).double(), torch.randn(6, 2).double(), torch.randn(6, 1).double()
    ((_, n, a, b),) = groups_of(f, z, y)
    b = b * (5 / n) ** 0.5
    every = [squared_norm(a, b[list(order)]) for order in permutations(range(6))]
    found = conditional_covariance(f, z, y)
    ratio = found.frobenius_norm / found.normalized
    assert (found.null * ratio).square().item() == pytest.approx(sum(every) / len(every), rel=1e-9)


def test_null_of_classes_permutes_within_each():
    f, z, y = torch.randn(7, 2).double(), torch.randn(7, 1).double(), torch.tensor([0, 0, 0, 2, 2, 2, 2])
    (first, _, a1, b1), (second, _, a2, b2) = groups_of(f, z, y)
    every = [
        first * squared_norm(a1, b1[list(p)]) + second * squared_norm(a2, b2[list(q)])
        for p, q in product(permutations(range(3)), permutations(range(4)))
    ]
    found = conditional_covariance(f, z, y)
    ratio = found.frobenius_norm / found.normalized
    assert (found.null * ratio).square().item() == pytest.approx(sum(every) / len(every), rel=1e-9)


@pytest.mark.parametrize("strength", [0.0, 0.03])
def test_p_value_is_that_of_drawn_permutations(strength):
    f, y = torch.randn(80, 3).double(), torch.randn(80, 2).double()
    z = strength * f[:, :2] + torch.rand(80, 2).double() ** 2 + y  # not Gaussian
    ((_, n, a, b),) = groups_of(f, z, y)
    b = b * (79 / n) ** 0.5
    orders = [torch.randperm(80) for _ in range(4000)]
    drawn = torch.stack([(a.mT @ b[order] / 80).square().sum() for order in orders])
    found = conditional_covariance(f, z, y)
    share = (drawn >= found.frobenius_norm.square()).double().mean().item()
    assert 0.02 < share < 0.98
    assert found.p_value.item() == pytest.approx(share, abs=0.03)


def test_invariances_and_edges():
    f, z, y = torch.randn(30, 3).double(), torch.randn(30, 2).double(), torch.randn(30, 2).double()
    found = conditional_covariance(f, z, y)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    moved = conditional_covariance(3 * f @ turn + 1, z + 2 * y + 1, torch.cat([y, y.sum(1, keepdim=True)], 1))
    torch.testing.assert_close(moved.normalized, found.normalized)
    assert moved.frobenius_norm.item() == pytest.approx(3 * found.frobenius_norm.item())
    for told in (
        y @ torch.randn(2, 3).double(),
        torch.ones(30, 3),
    ):  # y tells all of f; there is nothing in f
        values = conditional_covariance(told.float(), z, y.float().double())
        assert [float(value) for value in values] == [0.0, 0.0, 0.0, 1.0]
    cancelling = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]
    values = conditional_covariance(
        cancelling, cancelling * torch.tensor([1, 1, -1, -1])[:, None], torch.arange(4) // 2
    )
    assert values.normalized.item() == 1.0  # the mean of the two classes' covariances is zero


def test_sentences():
    f, z, y = torch.randn(4, 3), torch.randn(4, 2), torch.randn(4, 3)
    with pytest.raises(ValueError, match="Expected more than 4 samples to take residuals on `downstream`"):
        conditional_covariance(f, z, y)
    with pytest.raises(ValueError, match=r"Expected `pretext` of shape \(4, K\), got \(3, 2\)"):
        conditional_covariance(f, z[:3], y)
    with pytest.raises(ValueError, match=r"Expected `downstream` in 0\.\.1, got 0 to 2; drop unlabelled"):
        ConditionalCovariance(3, 2, 2, by_class=True).update(f, z, torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ValueError, match="Expected at least one sample, got none"):
        ConditionalCovariance(3, 2, 2).compute()
