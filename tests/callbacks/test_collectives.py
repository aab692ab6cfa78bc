"""How often ranks exchange something in a look, and in a loss with its gradient: a change of these numbers is a decision."""

from itertools import pairwise
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PAYLOADS = {
    "CovarianceOperators": 22,
    "NeuronSelectivity": 9,
    "FeatureNormMonitor": 9,
    "CollapseMonitor": 32,
    "OrthogonalityMonitor": 3,
    "InfoNCELoss": 5,
    "SoftTripletLoss": 5,
    "SimpleContrastiveLoss": 5,
    "StopGradientInfoNCELoss": 4,
}


@pytest.mark.ddp
@pytest.mark.slow
def test_collectives_of_a_look(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import collectives

    found = collectives.count()
    payloads = {name: [one for one in sent if not one.is_status] for name, sent in found.items()}
    assert {name: len(payloads[name]) for name in PAYLOADS} == PAYLOADS
    sums = [one.size for one in payloads["CovarianceOperators"] if one.name == "all_reduce"]
    weights = sum(a * b for a, b in pairwise(collectives.WIDTHS))
    assert sum(size > 2**14 for size in sums) == 2  # the sums of all layers, and all weight gradients
    assert 4 * 7 * weights in sums  # of 4 probes, and of the three cotangents


def test_bytes_on_a_ring_by_hand():
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("collectives_by_hand", BENCHMARKS / "collectives.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.Sent("all_reduce", 100, False).bytes_over(4) == 150
    assert module.Sent("all_gather", 100, False).bytes_over(4) == 300
    assert module.Sent("broadcast", 100, False).bytes_over(4) == 100
