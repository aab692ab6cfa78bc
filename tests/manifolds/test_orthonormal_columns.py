"""Laws of the tangent projection and the retractions, and oracles that use other decompositions."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lightning_ssl_theory.manifolds import (
    canonical_tangent,
    grassmann_tangent,
    orthogonality_drift,
    polar_retraction,
    qr_retraction,
    stiefel_tangent,
)

SHAPES = [
    pytest.param((7, 3), id="tall"),
    pytest.param((4, 4), id="square"),
    pytest.param((5, 1), id="one-column"),
    pytest.param((2, 3, 6, 2), id="batch"),
]
RETRACTIONS = [qr_retraction, polar_retraction]
EXACT = {"rtol": 0.0, "atol": 1e-13}


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def orthonormal(*shape: int) -> Tensor:
    left, _, right = torch.linalg.svd(draw(*shape), full_matrices=False)
    return left @ right


def eye(matrix: Tensor) -> Tensor:
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype).expand(*matrix.shape[:-2], -1, -1)


@pytest.mark.parametrize("shape", SHAPES)
def test_tangent_is_the_orthogonal_projection(shape: tuple[int, ...]) -> None:
    weight, gradient, other = orthonormal(*shape), draw(*shape), draw(*shape)
    tangent, direction = stiefel_tangent(weight, gradient), stiefel_tangent(weight, other)
    product = weight.mT @ tangent
    assert_close(product, -product.mT, **EXACT)  # tangency
    assert_close(stiefel_tangent(weight, tangent), tangent, **EXACT)  # idempotence
    assert_close(((gradient - tangent) * direction).sum(), draw().mul(0), **EXACT)  # the rest is normal
    # The same space, parametrised: W times a skew matrix, plus what is orthogonal to W's columns.
    skew = (weight.mT @ gradient - gradient.mT @ weight) / 2
    assert_close(tangent, weight @ skew + gradient - weight @ (weight.mT @ gradient), **EXACT)


@pytest.mark.parametrize("shape", SHAPES)
def test_grassmann_tangent_is_the_orthogonal_projection(shape: tuple[int, ...]) -> None:
    weight, gradient, other = orthonormal(*shape), draw(*shape), draw(*shape)
    tangent, direction = grassmann_tangent(weight, gradient), grassmann_tangent(weight, other)
    assert_close(weight.mT @ tangent, eye(tangent) * 0, **EXACT)  # horizontal
    assert_close(grassmann_tangent(weight, tangent), tangent, **EXACT)  # idempotence
    assert_close(((gradient - tangent) * direction).sum(), draw().mul(0), **EXACT)  # the rest is vertical
    assert_close(stiefel_tangent(weight, tangent), tangent, **EXACT)  # a Stiefel tangent too


@pytest.mark.parametrize("shape", SHAPES)
def test_canonical_tangent_is_the_gradient_in_the_canonical_metric(shape: tuple[int, ...]) -> None:
    weight, gradient, other = orthonormal(*shape), draw(*shape), draw(*shape)
    tangent, direction = canonical_tangent(weight, gradient), stiefel_tangent(weight, other)
    product = weight.mT @ tangent
    assert_close(product, -product.mT, **EXACT)
    # <xi, D>_c = tr(xi^T (I - W W^T / 2) D) = tr(G^T D) for every tangent D
    metric = (tangent * (direction - weight @ (weight.mT @ direction) / 2)).sum()
    assert_close(metric, (gradient * direction).sum(), **EXACT)


def test_tangent_by_hand() -> None:
    weight, gradient = torch.eye(2), torch.tensor([[1.0, 2.0], [6.0, 5.0]])
    assert_close(stiefel_tangent(weight, gradient), torch.tensor([[0.0, -2.0], [2.0, 0.0]]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("retraction", RETRACTIONS)
def test_retractions_give_orthonormal_columns_and_keep_them(retraction, shape: tuple[int, ...]) -> None:
    retracted = retraction(draw(*shape))
    assert_close(retracted.mT @ retracted, eye(retracted), **EXACT)
    assert_close(retraction(retracted), retracted, **EXACT)


@pytest.mark.parametrize("retraction", RETRACTIONS)
def test_retractions_agree_with_a_tangent_step_to_first_order(retraction) -> None:
    weight = orthonormal(6, 3)
    tangent = stiefel_tangent(weight, draw(6, 3))
    errors = [torch.dist(retraction(weight + s * tangent), weight + s * tangent) for s in (1e-3, 5e-4)]
    assert 3.9 < errors[0] / errors[1] < 4.1  # second order


@pytest.mark.parametrize("retraction", RETRACTIONS)
def test_a_batch_is_its_matrices_one_by_one(retraction) -> None:
    batch = draw(3, 5, 2)
    assert_close(retraction(batch), torch.stack([retraction(matrix) for matrix in batch]), **EXACT)


def test_qr_retraction_spans_the_same_flag_with_positive_signs() -> None:
    matrix = draw(4, 6, 3)
    triangular = qr_retraction(matrix).mT @ matrix
    assert (triangular.diagonal(dim1=-2, dim2=-1) > 0).all()
    assert_close(triangular, triangular.triu(), **EXACT)


@pytest.mark.parametrize("shape", SHAPES)
def test_polar_retraction_is_the_nearest_orthonormal_matrix(shape: tuple[int, ...]) -> None:
    matrix = draw(*shape)
    nearest = polar_retraction(matrix)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert_close(nearest, left @ right, rtol=0.0, atol=1e-12)
    for size in (1e-3, 0.1, 1.0, 10.0):
        other = qr_retraction(nearest + size * draw(*shape))
        distances = torch.linalg.matrix_norm(matrix - torch.stack([nearest, other]))
        assert (distances[0] <= distances[1] + 1e-12).all()


def test_polar_retraction_commutes_with_rotations() -> None:
    matrix, rotation, mixing = draw(6, 3), orthonormal(6, 6), orthonormal(3, 3)
    rotated = polar_retraction(3.0 * rotation @ matrix @ mixing)
    assert_close(rotated, rotation @ polar_retraction(matrix) @ mixing, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("retraction", RETRACTIONS)
def test_float32_is_orthonormal_to_its_rounding(retraction) -> None:
    matrix = torch.randn(200, 120) * torch.logspace(-1, 1, 120)
    retracted = retraction(matrix)
    assert retracted.dtype == torch.float32
    assert orthogonality_drift(retracted) < 2e-6  # far below the worst case of 120 eps = 1.4e-5


def test_polar_retraction_is_orthonormal_up_to_its_largest_condition_number() -> None:
    left, _, right = torch.linalg.svd(draw(200, 120), full_matrices=False)
    matrix = left * torch.logspace(0, -4.99, 120, dtype=torch.float64) @ right
    assert orthogonality_drift(polar_retraction(matrix)) < 1e-5


def test_drift_by_hand() -> None:
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 0.0]])
    assert orthogonality_drift(weight).item() == 0.75
    assert orthogonality_drift(weight.mT).item() == 0.75  # the rows of a wide matrix count
    assert orthogonality_drift(torch.stack([weight, 2 * weight])).tolist() == [0.75, 3.0]


@pytest.mark.parametrize(
    "function", [*RETRACTIONS, lambda w: stiefel_tangent(w, w), lambda w: grassmann_tangent(w, w)]
)
def test_rejects_wide_matrices(function) -> None:
    with pytest.raises(ValueError, match=r"of shape \(\*, H, D\) with H >= D, got \(2, 3\); pass matrices"):
        function(torch.ones(2, 3))


def test_rejects_vectors() -> None:
    with pytest.raises(ValueError, match=r"Expected `weight` of shape \(\*, H, D\), got \(3,\)"):
        orthogonality_drift(torch.ones(3))


def test_rejects_a_gradient_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"of the weight's shape \(3, 2\), got \(3, 1\); pass the gradient"):
        stiefel_tangent(torch.ones(3, 2), torch.ones(3, 1))


@pytest.mark.parametrize("matrix", [torch.ones(3, 2), torch.zeros(3, 2)])
def test_rejects_dependent_columns(matrix: Tensor) -> None:
    with pytest.raises(
        ValueError, match="linearly independent columns, got a condition number above 100000; take"
    ):
        polar_retraction(torch.stack([torch.eye(3, 2), matrix]))
