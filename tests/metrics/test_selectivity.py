import math
from collections.abc import Sequence
from functools import partial
from itertools import permutations

import hypothesis.strategies as st
import pytest
import torch
from helpers.check_metric import Batch, check_metric, joined
from hypothesis import given, settings
from scipy.stats import norm
from torch.testing import assert_close

from lightning_ssl_theory.metrics import Selectivity, selectivity


def make_batches(sizes: Sequence[int], num_features: int, num_classes: int) -> list[Batch]:
    features = torch.randn(sum(sizes), num_features, dtype=torch.float64)
    targets = torch.arange(sum(sizes)) % num_classes
    features[:, 0] += 3 * (targets == 0)
    return list(zip(features.split(list(sizes)), targets.split(list(sizes)), strict=True))


def selectivity_loop(
    rows: list[list[float]], labels: list[int], num_classes: int, alpha: float = 0.05
) -> dict:
    n, width = len(rows), len(rows[0])
    values, z_scores = [], []
    for k in range(num_classes):
        inside = [row for row, label in zip(rows, labels, strict=True) if label == k]
        outside = [row for row, label in zip(rows, labels, strict=True) if label != k]
        values.append([])
        z_scores.append([])
        for j in range(width):
            if not inside:
                values[k].append(math.nan)
                z_scores[k].append(math.nan)
                continue
            v = 0.5 * (sum(r[j] for r in inside) / len(inside) - sum(r[j] for r in outside) / len(outside))
            mean = sum(row[j] for row in rows) / n
            s2 = sum((row[j] - mean) ** 2 for row in rows) / (n - 1)
            variance = s2 * n / (4 * len(inside) * len(outside))
            values[k].append(v)
            z_scores[k].append(v / math.sqrt(variance) if variance > 0 else 0.0)
    present = sorted(set(labels))
    threshold = norm.isf(alpha / (2 * len(present) * width))
    strongest = [max(abs(values[k][j]) for k in present) for j in range(width)]
    strongest_z = [max(abs(z_scores[k][j]) for k in present) for j in range(width)]
    selective = [z > threshold for z in strongest_z]
    return {
        "values": values,
        "z_scores": z_scores,
        "is_selective": selective,
        "selective_share": sum(selective) / width,
        "mean": sum(strongest) / width,
        "max": max(strongest),
        "max_z": max(strongest_z),
        "z_threshold": threshold,
    }


def oracle(num_classes: int, batches: Sequence[Batch]) -> dict:
    features, targets = joined(batches)
    return selectivity_loop(features.tolist(), targets.tolist(), num_classes)


def test_oracle_by_hand() -> None:
    # Class means 1 and 5, so v = -+2; S^2 = 20/3, null variance 20/3 * 4 / (4 * 2 * 2) = 5/3.
    result = selectivity_loop([[0.0], [2.0], [4.0], [6.0]], [0, 0, 1, 1], 2)
    assert result["values"] == [[-2.0], [2.0]]
    assert result["z_scores"][1][0] == pytest.approx(2 / math.sqrt(5 / 3))


@pytest.mark.parametrize(
    ("sizes", "num_features", "num_classes", "num_used"),
    [
        pytest.param((5, 8), 3, 2, 2, id="two classes"),
        pytest.param((9, 2, 6), 4, 5, 5, id="five classes"),
        pytest.param((4, 7), 3, 6, 4, id="absent classes"),
    ],
)
def test_metric(sizes: tuple[int, ...], num_features: int, num_classes: int, num_used: int) -> None:
    # Every batch alone holds two classes too: forward computes its value.
    batches = make_batches(sizes, num_features, num_used)
    check_metric(partial(Selectivity, num_features, num_classes), batches, partial(oracle, num_classes))


@pytest.mark.parametrize("labels", [(0, 0, 1, 1, 2, 2), (0, 1, 1, 2, 2, 2)])
def test_null_variance_over_all_permutations(labels: tuple[int, ...]) -> None:
    features = torch.tensor([[0.0, 1.0], [0.0, 2.0], [3.0, 4.0], [7.0, 8.0], [0.0, -1.0], [1.0, 0.5]])
    draws = [selectivity(features, torch.tensor(drawn), 3).values for drawn in set(permutations(labels))]
    values = torch.stack(draws)
    result = selectivity(features, torch.tensor(labels), 3)
    assert_close(values.mean(0), torch.zeros(3, 2, dtype=torch.float64), rtol=0, atol=1e-12)
    assert_close(values.square().mean(0).sqrt(), result.values / result.z_scores, rtol=1e-12, atol=0)


def test_random_labels_are_rarely_selective() -> None:
    features = torch.randn(400, 50)
    shares = torch.stack(
        [selectivity(features, torch.randint(5, (400,)), 5, alpha=0.05).selective_share for _ in range(200)]
    )
    # Any claim among all neurons and classes: 5 %, three standard deviations of 200 draws above it.
    assert (shares > 0).double().mean() < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert shares.mean() < 0.05 / 50 * 2


def test_a_class_detector_is_selective_and_noise_is_not() -> None:
    targets = torch.arange(300) % 3
    features = torch.stack([(targets == 1).double(), torch.randn(300).double()], 1)
    result = selectivity(features, targets, 3)
    assert result.is_selective.tolist() == [True, False]
    assert result.values[1, 0] == pytest.approx(0.5)
    assert result.selective_share == 0.5


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3), shift=st.floats(-1e4, 1e4))
def test_order_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    targets = torch.arange(20) % 4
    base = selectivity(features, targets, 4)
    order = torch.randperm(20, generator=generator)
    assert_close(selectivity(features[order], targets[order], 4), base, rtol=1e-12, atol=1e-12)
    moved = selectivity(scale * features + shift, targets, 4)
    # Cancellation: N eps (shift / scale)^2, at most 20 * 2e-16 * 1e14.
    tolerance = 1e-9 + 20 * 2.3e-16 * (shift / scale) ** 2
    if tolerance < 1e-3:
        assert_close(moved.values / scale, base.values, rtol=0, atol=tolerance)
        assert_close(moved.z_scores, base.z_scores, rtol=tolerance, atol=tolerance)
    assert base.max_z <= math.sqrt(19) + 1e-9  # at most a perfect detector


def test_two_classes_mirror_each_other() -> None:
    result = selectivity(torch.randn(9, 4), torch.arange(9) % 2, 2)
    assert_close(result.values[0], -result.values[1])
    assert_close(result.z_scores[0], -result.z_scores[1])


def test_large_offset_of_float32_features() -> None:
    targets = torch.arange(1000) % 2
    features = (torch.randn(1000, 4) + 1e4).float()
    centred = features.double() - features.double().mean(0)
    assert_close(
        selectivity(features, targets, 2).z_scores,
        selectivity(centred, targets, 2).z_scores,
        rtol=1e-6,
        atol=1e-6,
    )


def test_constant_neurons_have_z_zero() -> None:
    metric = Selectivity(2, 3)
    for start in range(200):
        features = torch.stack([torch.full((7,), 0.1), torch.arange(7.0)], 1)
        metric.update(features, (start + torch.arange(7)) % 3)
    result = metric.compute()
    assert result.z_scores[:, 0].tolist() == [0.0, 0.0, 0.0]
    assert not result.is_selective[0]


def test_absent_class_is_left_out() -> None:
    features, targets = torch.randn(12, 3), torch.arange(12) % 2
    with_absent, without = selectivity(features, 2 * targets, 4), selectivity(features, targets, 2)
    assert with_absent.values[[1, 3]].isnan().all()
    assert with_absent.z_scores[[1, 3]].isnan().all()
    assert_close(with_absent.values[[0, 2]], without.values)
    assert_close(with_absent[2:], without[2:])


def test_single_samples_of_two_classes() -> None:
    result = selectivity(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]), 2)
    assert result.values.tolist() == [[-1.0], [1.0]]
    assert_close(result.max_z, torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("features", "targets", "error", "message"),
    [
        (
            torch.zeros(3),
            torch.zeros(3).long(),
            ValueError,
            r"Expected `features` of shape \(N, 2\), got \(3,\)",
        ),
        (torch.zeros(3, 5), torch.zeros(3).long(), ValueError, r"of shape \(N, 2\), got \(3, 5\)"),
        (
            torch.zeros(3, 2),
            torch.zeros(4).long(),
            ValueError,
            r"Expected `targets` of shape \(3,\), got \(4,\)",
        ),
        (
            torch.zeros(3, 2),
            None,
            TypeError,
            "Expected `targets` to be a tensor of class indices, got NoneType",
        ),
        (torch.zeros(3, 2), torch.zeros(3), TypeError, "of an integer dtype, got torch.float32; pass class"),
        (torch.zeros(3, 2), torch.tensor([0, -1, 2]), ValueError, r"`targets` in 0..2, got -1 to 2; drop"),
        (torch.zeros(3, 2), torch.tensor([0, 1, 3]), ValueError, r"`targets` in 0..2, got 0 to 3; drop"),
        (torch.full((3, 2), math.nan), torch.arange(3), ValueError, "Expected finite `features`, got 6 of 6"),
    ],
)
def test_rejects_bad_batches(
    features: torch.Tensor, targets: torch.Tensor, error: type[Exception], message: str
) -> None:
    metric = Selectivity(2, 3)
    with pytest.raises(error, match=message):
        metric.update(features, targets)


@pytest.mark.parametrize("targets", [[1, 1, 1], [1]])
def test_rejects_one_class(targets: list[int]) -> None:
    metric = Selectivity(2, 3)
    metric.update(torch.randn(len(targets), 2), torch.tensor(targets))
    with pytest.raises(ValueError, match="samples of at least two classes, got only class 1; pass more"):
        metric.compute()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_rejects_no_samples() -> None:
    with pytest.raises(ValueError, match="samples of at least two classes, got no samples"):
        Selectivity(2, 3).compute()


def test_rejects_bad_settings() -> None:
    with pytest.raises(ValueError, match=r"Expected `alpha` in \(0, 1\), got 1\.5"):
        Selectivity(2, 3, alpha=1.5)
    with pytest.raises(ValueError, match="`num_features` of at least 1, got 0; pass a whole number"):
        Selectivity(0, 3)
    with pytest.raises(ValueError, match=r"`num_classes` to be an integer, got 2\.5"):
        Selectivity(2, 2.5)
