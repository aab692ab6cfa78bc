"""Criterion C2: against regressions, against all permutations, and against the Gaussian closed form."""

from functools import partial
from itertools import permutations

import pytest
import torch
from helpers.check_metric import check_metric, check_two_ranks
from helpers.gaussian_rows import many_rows, matched_rows
from torch import Tensor

from lightning_ssl_theory.data import boosted_minimiser, excess_risk_gap, gaussian_pretext_moments
from lightning_ssl_theory.metrics import ExcessRisk, excess_risk


def hat(rows: Tensor) -> Tensor:
    """Projection onto the span of the columns and a constant."""
    design = torch.cat([rows, torch.ones(len(rows), 1, dtype=torch.float64)], 1)
    return design @ torch.linalg.pinv(
        design, rtol=1e-5
    )  # float32 features may depend on one another up to rounding


def oracle(batches):
    f, y, x = (
        torch.cat(parts).double() if parts[0].is_floating_point() else torch.cat(parts)
        for parts in zip(*batches, strict=True)
    )
    y = torch.eye(2, dtype=torch.float64)[y] if y.ndim == 1 else y
    of_features, of_both = hat(f), hat(torch.cat([f, x], 1))
    count, e = len(f), y - of_features @ y
    risk, least = e.square().sum() / count, (y - of_both @ y).square().sum() / count
    directions = count - of_features.trace()
    return {
        "gap": risk - least,
        "normalized": (risk - least) / (y - y.mean(0)).square().sum() * count,
        "risk": risk,
        "least_risk": least,
        "null": (of_both - of_features).trace() * risk / directions,
        "p_value": excess_risk(f, y, x).p_value,
    }


def test_oracle_by_hand():
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    found = oracle([(x[:, :1], x.sum(1, keepdim=True), x)])
    assert [round(float(found[key]), 9) for key in ("gap", "normalized", "risk", "null")] == [
        1.0,
        0.5,
        1.0,
        0.5,
    ]


def shards(*, classes: bool, sizes=(7, 13)):
    x = torch.randint(-16, 17, (20, 4)) / 8  # so that f is exactly linear in every precision
    f = torch.cat([x[:, :2] @ torch.tensor([[1.0], [2.0]]), x[:, 2:3].relu()], 1)  # of x, and beyond it
    y = (x[:, 0] > 0).long() if classes else torch.randn(20, 2) + x[:, :2]
    return list(zip(f.split(sizes), y.split(sizes), x.split(sizes), strict=True))


@pytest.mark.parametrize("classes", [False, True])
def test_as_a_metric(classes):
    check_metric(partial(ExcessRisk, 2, 2, 4), shards(classes=classes), oracle)


@pytest.mark.ddp
def test_uneven_ranks_equal_one_process():
    check_two_ranks({"excess risk": (partial(ExcessRisk, 2, 2, 4), shards(classes=False))})


@pytest.mark.parametrize("setting", ["independent", "separable", "entangled", "infeasible"])
def test_gaussian_closed_form(setting):
    moments = gaussian_pretext_moments(setting, 6, 3, 1, generator=torch.Generator().manual_seed(0))
    processor = boosted_minimiser(moments, 2, 0.5)
    x, _, y = matched_rows(moments, 50)
    found = excess_risk(x @ processor.mT, y, x).gap.item()
    assert found == pytest.approx(excess_risk_gap(processor, moments).item(), abs=1e-9)


def test_gaussian_closed_form_from_many_samples():
    moments = gaussian_pretext_moments("entangled", 4, 2, 1, generator=torch.Generator().manual_seed(0))
    processor = boosted_minimiser(moments, 1, 0.5)
    closed = excess_risk_gap(processor, moments).item()
    metric = ExcessRisk(1, 1, 4)
    for x, _, y in many_rows(moments, 1_000_000):
        metric.update(x @ processor.float().mT, y, x)
    assert closed > 0.02
    assert metric.compute().gap.item() == pytest.approx(closed, abs=1e-3)


def test_null_is_the_mean_over_all_permutations_of_stretched_residuals():
    f, x, y = torch.randn(7, 1).double(), torch.randn(7, 2).double(), torch.randn(7, 2).double()
    of_features, added = hat(f), hat(torch.cat([f, x], 1)) - hat(f)
    e = (y - of_features @ y) * (6 / 5) ** 0.5
    every = [(added @ e[list(order)]).square().sum() / 7 for order in permutations(range(7))]
    assert excess_risk(f, y, x).null.item() == pytest.approx(sum(every).item() / len(every), rel=1e-9)


def test_p_value_is_that_of_drawn_permutations():
    f, x = torch.randn(80, 2).double(), torch.randn(80, 3).double()
    y = f + 0.03 * x[:, :2] + torch.rand(80, 2).double() ** 2
    of_features, added = hat(f), hat(torch.cat([f, x], 1)) - hat(f)
    e = (y - of_features @ y) * (79 / 77) ** 0.5
    drawn = torch.stack([(added @ e[torch.randperm(80)]).square().sum() / 80 for _ in range(4000)])
    found = excess_risk(f, y, x)
    share = (drawn >= found.gap).double().mean().item()
    assert 0.02 < share < 0.98
    assert found.p_value.item() == pytest.approx(share, abs=0.03)


def test_what_tells_as_much_as_the_inputs_reads_no_gap():
    x = torch.randn(500, 6)
    y = x[:, :2] + torch.randn(500, 2)
    mixing = torch.randn(6, 6) + 3 * torch.eye(6)
    values = excess_risk(x @ mixing + 5, y, x)
    assert values.normalized < 1e-9
    assert (values.null.item(), values.p_value.item()) == (0.0, 1.0)
    assert excess_risk(x[:, 2:], y, x).p_value < 1e-6


def test_sentences():
    f, y, x = torch.randn(5, 2), torch.randn(5, 1), torch.randn(5, 3)
    with pytest.raises(
        ValueError, match="Expected more samples than the 4 independent numbers of `features` and `inputs`"
    ):
        excess_risk(f, y, x)
    with pytest.raises(ValueError, match=r"Expected `inputs` of shape \(5, P\), got \(4, 3\)"):
        excess_risk(f, y, x[:4])
    with pytest.raises(ValueError, match="Expected finite `downstream`, got 1 of 5 values"):
        excess_risk(f, torch.tensor([0.0, 1.0, torch.nan, 0.0, 0.0])[:, None], x)
    with pytest.raises(ValueError, match="Expected at least one sample, got none"):
        ExcessRisk(2, 1, 3).compute()
