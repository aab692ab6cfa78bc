import math
from collections.abc import Sequence
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from helpers.check_metric import Batch, check_metric, joined
from hypothesis import given, settings
from torch import Tensor
from torch.testing import assert_close

from lightning_ssl_theory.metrics import FeatureNorms, dictionary_coverage, feature_norms


def orthonormal(num_rows: int, num_columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(
        torch.randn(num_rows, num_columns, generator=generator, dtype=torch.float64), mode="reduced"
    ).Q


def norms_loop(rows: list[list[float]], atoms: list[list[float]] | None) -> dict:
    n = len(rows)
    norms = [math.sqrt(sum(x * x for x in row)) for row in rows]
    result = {"mean_norm": sum(norms) / n, "mean_squared_norm": sum(norm**2 for norm in norms) / n}
    if atoms is None:
        return result
    sparse, dense, leading = [], [], []
    for row, norm in zip(rows, norms, strict=True):
        products = [sum(x * a for x, a in zip(row, atom, strict=True)) for atom in atoms]
        projection = [
            sum(product * atom[i] for product, atom in zip(products, atoms, strict=True))
            for i in range(len(row))
        ]
        sparse.append(sum(x * x for x in projection))
        dense.append(sum((x - p) ** 2 for x, p in zip(row, projection, strict=True)))
        leading.append(max(product**2 for product in products) / norm**2 if norm else 0.0)
    return result | {
        "sparse_norm": sum(sparse) / n,
        "dense_norm": sum(dense) / n,
        "sparse_share": sum(sparse) / (sum(sparse) + sum(dense)),
        "leading_atom_share": sum(leading) / n,
        "singleton_share": sum(share > 0.5 for share in leading) / n,
    }


def oracle(atoms: list[list[float]] | None, batches: Sequence[Batch]) -> dict:
    (features,) = joined(batches)
    return norms_loop(features.tolist(), atoms)


def make_batches(dictionary: Tensor) -> list[Batch]:
    # Rows near one atom, spread rows, and a row of zeros.
    noise = torch.randn(11, len(dictionary), dtype=torch.float64)
    near = 4 * dictionary[:, torch.arange(11) % dictionary.shape[1]].mT
    features = torch.cat([near + 0.3 * noise, noise, torch.zeros(1, len(dictionary))])
    return [(part,) for part in features.split([15, 3, 5])]


def test_oracle_by_hand() -> None:
    result = norms_loop([[3.0, 4.0]], [[1.0, 0.0]])
    assert (result["sparse_norm"], result["dense_norm"], result["sparse_share"]) == (9.0, 16.0, 0.36)
    assert (result["leading_atom_share"], result["singleton_share"]) == (0.36, 0.0)
    assert (result["mean_norm"], result["mean_squared_norm"]) == (5.0, 25.0)


@pytest.mark.parametrize("num_atoms", [1, 4, 9])
def test_metric_with_dictionary(num_atoms: int) -> None:
    dictionary = orthonormal(9, num_atoms)
    check_metric(
        partial(FeatureNorms, dictionary), make_batches(dictionary), partial(oracle, dictionary.mT.tolist())
    )


def test_metric_without_dictionary() -> None:
    check_metric(FeatureNorms, make_batches(orthonormal(5, 5)), partial(oracle, None))
    assert feature_norms(torch.ones(2, 3)).sparse_norm is None


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), num_rows=st.integers(1, 12), num_atoms=st.integers(1, 6))
def test_parts_add_up_and_do_not_depend_on_the_basis(seed: int, num_rows: int, num_atoms: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_rows, 6, generator=generator, dtype=torch.float64)
    dictionary = orthonormal(6, num_atoms, seed)
    values = feature_norms(features, dictionary)
    assert_close(values.sparse_norm + values.dense_norm, values.mean_squared_norm, rtol=1e-12, atol=0)
    if num_rows == 1:
        assert 0 <= values.leading_atom_share <= values.sparse_share + 1e-12
    rotation = orthonormal(6, 6, seed + 1)
    rotated = feature_norms(features @ rotation.mT, rotation @ dictionary)
    assert_close(rotated, values, rtol=1e-10, atol=1e-12)


def test_inside_and_outside_the_dictionary() -> None:
    dictionary = orthonormal(6, 2)
    inside = feature_norms(3 * dictionary.mT, dictionary)
    assert inside.sparse_share == pytest.approx(1.0)
    assert inside.singleton_share == 1.0
    assert inside.leading_atom_share == pytest.approx(1.0)
    outside = torch.randn(4, 6, dtype=torch.float64)
    outside -= outside @ dictionary @ dictionary.mT
    assert feature_norms(outside, dictionary).sparse_share == pytest.approx(0.0, abs=1e-30)


def test_rows_of_zeros_are_finite() -> None:
    values = feature_norms(torch.zeros(2, 3), torch.eye(3))
    assert [float(value) for value in values] == [0.0] * 7


def coverage_loop(weights: list[list[float]], atoms: list[list[float]]) -> tuple[float, int, float]:
    norms = [math.sqrt(sum(x * x for x in w)) for w in weights]
    ordered, m = sorted(norms), len(norms)
    median = (ordered[(m - 1) // 2] + ordered[m // 2]) / 2
    leaders, num_singletons = [], 0
    for w, norm in zip(weights, norms, strict=True):
        if norm > 0.1 * median:
            products = [abs(sum(x * a for x, a in zip(w, atom, strict=True))) for atom in atoms]
            leaders.append(products.index(max(products)))
            num_singletons += max(products) ** 2 > norm**2 / 2
    return len(set(leaders)) / len(atoms), len(leaders), num_singletons / max(len(leaders), 1)


def test_coverage() -> None:
    # Three neurons near atom 0, one near atom 2 and one of small norm near atom 1: 2 of 4 atoms, 4 active.
    # All of these lean on one atom but the third, whose coordinates are alike.
    weights = torch.tensor(
        [
            [2.0, 0.1, 0.0, 0.0],
            [-3.0, 0.0, 0.5, 0.0],
            [1.0, 0.9, 0.9, 0.2],
            [0.0, 0.0, -2.0, 1.0],
            [0.0, 0.1, 0.0, 0.0],
        ]
    )
    assert coverage_loop(weights.tolist(), torch.eye(4).tolist()) == (0.5, 4, 0.75)
    coverage = dictionary_coverage(weights, torch.eye(4))
    assert tuple(map(float, coverage)) == (0.5, 4.0, 0.75)

    dictionary, weights = orthonormal(8, 6), torch.randn(10, 8, dtype=torch.float64)
    weights[::3] *= 1e-3
    weights[1::3] += 3 * dictionary[:, :3].mT
    expected = coverage_loop(weights.tolist(), dictionary.mT.tolist())
    assert 0 < expected[2] < 1
    assert tuple(map(float, dictionary_coverage(weights, dictionary))) == pytest.approx(expected)
    assert tuple(dictionary_coverage(torch.zeros(2, 8), dictionary)) == (0.0, 0, 0.0)


@pytest.mark.parametrize(
    ("dictionary", "message"),
    [
        (torch.ones(3, 2), r"orthonormal columns, got max \|M\^T M - I\| = 3; pass torch.linalg.qr"),
        (torch.eye(3)[0], r"Expected `dictionary` of shape \(d1, d\), got \(3,\); pass a matrix"),
        (torch.zeros(3, 0), "`dictionary` with at least one column, got none; pass atoms"),
        (torch.full((3, 2), math.inf), "Expected finite `dictionary`, got 6 of 6"),
    ],
)
def test_rejects_bad_dictionaries(dictionary: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureNorms(dictionary)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_rejects_bad_batches() -> None:
    metric = FeatureNorms(torch.eye(3))
    with pytest.raises(ValueError, match=r"Expected `features` of shape \(N, 3\), got \(2, 4\)"):
        metric.update(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="Expected finite `features`, got 1 of 3"):
        metric.update(torch.tensor([[0.0, math.nan, 0.0]]))
    with pytest.raises(ValueError, match="Expected at least one sample, got none; call `update`"):
        metric.compute()
    with pytest.raises(ValueError, match=r"Expected `weights` of shape \(N, 3\), got \(2, 4\)"):
        dictionary_coverage(torch.zeros(2, 4), torch.eye(3))
    with pytest.raises(ValueError, match=r"Expected `weights` of shape \(N, D\) with N >= 1, got \(0, 3\)"):
        dictionary_coverage(torch.zeros(0, 3), torch.eye(3))
