"""How often ranks exchange something in a look, and in a loss with its gradient: a change of these numbers is a decision."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COLLECTIVES = {
    "CovarianceOperators": 25,
    "NeuronSelectivity": 9,
    "FeatureNormMonitor": 9,
    "CollapseMonitor": 12,
    "KNNProbe": 17,
    "OrthogonalityMonitor": 3,
    "InfoNCELoss": 5,
    "SoftTripletLoss": 5,
    "SimpleContrastiveLoss": 5,
    "StopGradientInfoNCELoss": 4,
    "CrossCorrelationLoss": 4,
    "VICRegLoss": 4,
    "SpectralContrastiveLoss": 2,
    "NegativeCosineLoss": 2,
    "QueuedInfoNCELoss": 2,
}
SPAN = 0.3  # of what iterations decide: their number may differ between versions of scipy


def rows_of(table):
    """The cells of each row, by its name."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    return {name: cells for name, *cells in rows[2:]}


@pytest.mark.ddp
@pytest.mark.slow
def test_collectives_of_a_look_and_the_page_about_them(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import collectives

    found = collectives.count()
    assert {name: len(found[name]) for name in COLLECTIVES} == COLLECTIVES
    sums = [one.size for one in found["CovarianceOperators"] if one.name == "all_reduce"]
    weights = sum(a * b for a, b in zip(collectives.WIDTHS, collectives.WIDTHS[1:], strict=False))
    assert sum(size > 2**14 for size in sums) == 2  # the sums of all layers, and all weight gradients
    assert 4 * 7 * weights in sums  # of 4 probes, and of the three cotangents
    page = collectives.PAGE.read_text().split(collectives.BEGIN)[1].split(collectives.END)[0]
    written, counted = rows_of(page), rows_of(collectives.table(found))
    assert list(written) == list(counted)
    for name, cells in counted.items():
        if name in COLLECTIVES:
            assert written[name] == cells, "run benchmarks/collectives.py --write"
        else:
            assert [float(cell) for cell in written[name]] == pytest.approx([*map(float, cells)], rel=SPAN)


def test_seconds_by_hand():
    spec = spec_from_file_location("collectives_by_hand", ROOT / "benchmarks" / "collectives.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    alpha, beta = module.LATENCY, module.BANDWIDTH
    assert module.Sent("all_reduce", 100).seconds_over(4) == pytest.approx(4 * alpha + 150 / beta)
    assert module.Sent("all_gather", 100).seconds_over(4) == pytest.approx(3 * alpha + 300 / beta)
    assert module.Sent("broadcast", 100).seconds_over(4) == pytest.approx(2 * alpha + 100 / beta)
