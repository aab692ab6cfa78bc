"""The boosted loss against plain least squares, its closed-form minimiser, and processes with uneven data."""

import warnings

import pytest
import torch
from helpers.ddp import run_ranks
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from lightning_ssl_theory.data import boosted_minimiser, gaussian_pretext_moments, pretext_moments
from lightning_ssl_theory.losses import BoostedLeastSquaresLoss, PredictionLoss

EXACT = {"rtol": 1e-10, "atol": 1e-12}
SHARDS = {2: (7, 13), 3: (2, 7, 11)}


def draw(count: int = 20, width: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    f = torch.randn(count, width, dtype=torch.float64, generator=generator) + 1
    z, y = (
        f @ torch.randn(width, size, dtype=torch.float64, generator=generator)
        + torch.randn(count, size, dtype=torch.float64, generator=generator)
        for size in (2, 4)
    )
    return f, z, y


def least_error(features: Tensor, targets: Tensor) -> float:
    """By a QR factorisation of the features with a column of ones."""
    design = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], 1)
    basis = torch.linalg.qr(design).Q
    residual = targets - basis @ (basis.mT @ targets)
    return sum(float(value) ** 2 for value in residual.flatten()) / len(features)


def test_oracle_by_hand() -> None:
    assert least_error(
        torch.tensor([[0.0], [1.0], [2.0]]).double(), torch.tensor([[0.0], [3.0], [0.0]]).double()
    ) == pytest.approx(2.0)


def test_value_and_parts() -> None:
    f, z, y = draw()
    is_known = torch.arange(20) % 3 > 0
    unknown = torch.where(is_known[:, None], y, torch.nan)
    loss = BoostedLeastSquaresLoss(0.3, ridge=0.0)
    parts = loss.parts(f, z, unknown, is_known)
    assert parts["downstream"].item() == pytest.approx(least_error(f[is_known], y[is_known]), rel=1e-10)
    assert parts["pretext"].item() == pytest.approx(-0.3 * least_error(f, z), rel=1e-10)
    assert_close(loss(f, z, unknown, is_known), sum(parts.values()), **EXACT)
    assert_close(loss(f, z, y), loss(f, z, y, torch.ones(20, dtype=torch.bool)), **EXACT)


def test_ridge_is_the_minimum_with_its_penalty() -> None:
    f, z, y = draw()
    centred, goals = f - f.mean(0), y - y.mean(0)
    penalty = 0.2 * centred.square().mean()
    inner = centred.mT @ centred / 20 + penalty * torch.eye(3)
    weights = torch.linalg.inv(inner) @ centred.mT @ goals / 20
    expected = (goals - centred @ weights).square().sum() / 20 + penalty * weights.square().sum()
    assert_close(BoostedLeastSquaresLoss(0.0, ridge=0.2)(f, z, y), expected, **EXACT)


def test_gradient() -> None:
    f, z, y = draw()
    is_known = torch.arange(20) < 12
    for ridge in (0.0, 0.1):
        loss = BoostedLeastSquaresLoss(0.3, ridge=ridge)
        assert gradcheck(lambda rows, loss=loss: loss(rows, z, y, is_known), (f.requires_grad_(),))


@given(seed=st.integers(0, 99), shift=st.floats(-5, 5), scale=st.floats(0.01, 100))
def test_only_the_span_of_the_features_counts(seed: int, shift: float, scale: float) -> None:
    f, z, y = draw(seed=seed)
    mixing = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q + torch.eye(3) / 10
    plain = BoostedLeastSquaresLoss(0.3, ridge=0.0)
    assert_close(plain(f @ mixing + shift, z - shift, y + shift), plain(f, z, y), rtol=1e-8, atol=1e-10)
    ridged = BoostedLeastSquaresLoss(0.3, ridge=0.1)
    assert_close(ridged(scale * f + shift, z, y), ridged(f, z, y), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("setting", ["separable", "entangled", "infeasible"])
def test_minimiser_is_spanned_by_the_leading_eigenvectors(setting: str) -> None:
    world = gaussian_pretext_moments(setting, 6, 4, 2, generator=torch.Generator().manual_seed(1))
    root = torch.linalg.cholesky(world.covariance)
    rows = torch.randn(300, len(root), dtype=torch.float64) @ root.mT
    rows = rows - rows.mean(0)
    x, z, y = rows.split([6, 4, 2], 1)  # M has full rank, so that its eigenvectors are unique
    moments = pretext_moments(rows.mT @ rows / 300, 6, 4)
    loss, processor = (
        BoostedLeastSquaresLoss(0.3, ridge=0.0),
        torch.randn(3, 6, dtype=torch.float64).requires_grad_(),
    )
    options = {"line_search_fn": "strong_wolfe", "tolerance_grad": 1e-13, "tolerance_change": 1e-16}
    optimizer = torch.optim.LBFGS([processor], max_iter=1000, history_size=30, **options)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(x @ processor.mT, z, y)
        value.backward()
        return value

    optimizer.step(closure)
    expected = boosted_minimiser(moments, 3, 0.3)
    assert_close(closure().detach(), loss(x @ expected.mT, z, y), rtol=1e-12, atol=1e-12)
    square_root = torch.linalg.cholesky(moments.xx)
    found, wanted = (torch.linalg.qr((rows @ square_root).mT).Q for rows in (processor.detach(), expected))
    assert_close(found @ found.mT, wanted @ wanted.mT, rtol=0, atol=1e-6)


def _on_rank(rank: int, world_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    f, z, y = (part.split(SHARDS[world_size])[rank] for part in draw())
    is_known = (torch.arange(20) >= SHARDS[world_size][0]).split(SHARDS[world_size])[rank]  # none on rank 0
    f = f.clone().requires_grad_()
    value = BoostedLeastSquaresLoss(0.3)(f, z, y, is_known)
    (gradient,) = torch.autograd.grad(value, f)
    prediction = PredictionLoss()(f[:, :2], z)
    (of_prediction,) = torch.autograd.grad(prediction, f)
    return value.detach(), gradient, prediction.detach(), of_prediction


@pytest.mark.ddp
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_give_the_value_and_gradient_of_the_concatenation(num_ranks: int) -> None:
    f, z, y = draw()
    f.requires_grad_()
    is_known = torch.arange(20) >= SHARDS[num_ranks][0]
    value, prediction = BoostedLeastSquaresLoss(0.3)(f, z, y, is_known), PredictionLoss()(f[:, :2], z)
    gradient, of_prediction = (torch.autograd.grad(one, f)[0] for one in (value, prediction))
    for rank, found in enumerate(run_ranks(_on_rank, num_ranks)):
        mine = [part.split(SHARDS[num_ranks])[rank] for part in (f, z, y, is_known, gradient, of_prediction)]
        for got, wanted in zip(
            found, (value, num_ranks * mine[4], prediction, num_ranks * mine[5]), strict=True
        ):
            assert_close(got, wanted.detach(), rtol=1e-9, atol=1e-12)
        if rank:
            alone = BoostedLeastSquaresLoss(0.3)(*mine[:4])
            assert not torch.isclose(alone, value, rtol=1e-2)
        assert not torch.isclose(PredictionLoss()(mine[0][:, :2], mine[1]), prediction, rtol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_computed_in_float64(dtype: torch.dtype) -> None:
    f, z, y = (part.to(dtype) for part in draw())
    found = BoostedLeastSquaresLoss(0.3, ridge=0.0)(f, z, y)
    assert found.dtype == torch.float32
    f, z, y = f.double(), z.double(), y.double()
    assert found.item() == pytest.approx(least_error(f, y) - 0.3 * least_error(f, z), rel=1e-6)


def test_few_labels_warn_once_and_name_the_theorem() -> None:
    f, z, y = draw()
    loss, few = BoostedLeastSquaresLoss(0.3), torch.arange(20) < 2
    with pytest.warns(UserWarning, match=r"n0 = 2 downstream labels .* for d_f = 3 features: by Theorem 3"):
        loss(f, z, y, few)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(f, z, y, few)
        BoostedLeastSquaresLoss(0.3)(f, z, y, torch.arange(20) < 3)


@pytest.mark.filterwarnings("ignore:The boosted loss has")
def test_sentences() -> None:
    f, z, y = draw()
    loss = BoostedLeastSquaresLoss(0.3, ridge=0.0)
    with pytest.raises(
        ValueError, match=r"a singular covariance from 3 samples with ridge=0; pass `ridge=1e-3`"
    ):
        loss(f, z, y, torch.arange(20) < 3)
    with pytest.raises(ValueError, match=r"Expected `features` whose 3 columns vary independently"):
        loss(torch.cat([f[:, :2], f[:, :1] - f[:, 1:2]], 1), z, y)
    with pytest.raises(ValueError, match="or look for features that are constant"):
        BoostedLeastSquaresLoss(0.3)(torch.ones(20, 3), z, y)
    with pytest.raises(
        ValueError, match="Expected `downstream` labels for some samples, got none on any rank"
    ):
        loss(f, z, y, torch.zeros(20, dtype=torch.bool))
    with pytest.raises(ValueError, match="Expected finite `downstream`, got 4 of 80 values"):
        loss(f, z, torch.where(torch.arange(20)[:, None] == 3, torch.nan, y))
    with pytest.raises(ValueError, match=r"Expected `pretext` of shape \(20, K\), got \(19, 2\)"):
        loss(f, z[1:], y)
    with pytest.raises(
        ValueError, match=r"Expected `is_labelled` of torch\.bool, got torch\.int64; convert it"
    ):
        loss(f, z, y, torch.ones(20, dtype=torch.int64))
    with pytest.raises(ValueError, match="Expected `lamb` >= 0, got -1"):
        BoostedLeastSquaresLoss(-1.0)
    with pytest.raises(ValueError, match="Expected `ridge` >= 0, got -1"):
        BoostedLeastSquaresLoss(ridge=-1.0)
