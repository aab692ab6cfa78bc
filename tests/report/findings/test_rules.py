"""Every rule at its edges: what it says, and that it is silent where the numbers do not support it."""

import pytest

from lightning_ssl_theory.report.findings import Severity
from lightning_ssl_theory.report.findings.collapse import (
    constant_features,
    narrow_representation,
    wide_representation,
)
from lightning_ssl_theory.report.findings.covariance import (
    differing_views,
    explained_gradient,
    undriven_layer,
    unexplained_gradient,
)
from lightning_ssl_theory.report.findings.looks import costly_looks, left_out_layer, silent_diagnostic
from lightning_ssl_theory.report.findings.neurons import (
    dead_neurons,
    given_up_noise,
    growing_features,
    lost_selectivity,
    selective_neurons,
    unselective_neurons,
)
from lightning_ssl_theory.report.findings.probe import falling_probe, probe_without_gain, rising_probe
from lightning_ssl_theory.report.findings.theory import (
    distant_flow,
    kept_orthogonality,
    lost_orthogonality,
    rising_error,
)
from lightning_ssl_theory.report.findings.training import (
    broken_off,
    falling_loss,
    lost_number,
    never_a_number,
    resting_loss,
    rising_loss,
    runaway_loss,
)
from lightning_ssl_theory.report.findings.trend import Curve


def curve(*values, half=None):
    return Curve(range(0, 100 * len(values), 100), values, () if half is None else [half] * len(values))


def steps(before, after, half=None):
    return curve(*[before] * 10, *[after] * 10, half=half)


FALLING, RISING = curve(*range(40, 20, -1)), curve(*range(20, 40))
SMALL_FALL = (steps(0.80, 0.79), steps(0.80, 0.77))
# which rule, its curves, how bad the news, and the start of the sentence; None where it is silent
CASES = [
    (narrow_representation, [curve(1.09), None, None], 4, "a has collapsed: its effective rank is 1.09, so all"),
    (narrow_representation, [curve(6.0, 1.0), curve(8.0), curve(99.0)], 4,
     "a has collapsed: its effective rank is 1.00 of 8, so all samples lie on one line; at step 0 it was 6.00."),
    (narrow_representation, [curve(1.11), None, None], None, ""),
    (narrow_representation, [curve(1.0), curve(1.0), None], None, ""),  # one dimension cannot collapse
    (narrow_representation, [curve(12.7), curve(128.0), curve(999.0)], 2, "a uses 12.7 of 128 directions."),
    (narrow_representation, [curve(12.9), curve(128.0), curve(999.0)], None, ""),
    (narrow_representation, [curve(12.7), None, None], None, ""),  # of how many is not known
    (narrow_representation, [curve(6.0), curve(128.0), curve(65.0)], 2,
     "a uses 6.00 of the 64 that 65 samples can show directions."),
    (narrow_representation, [steps(60.0, 12.0), curve(128.0), None], 3,
     "a uses 12.0 of 128 directions and fell from 60.0 since step 900."),
    (narrow_representation, [steps(60.0, 40.0), None, None], 2, "a uses 40.0 directions and fell from 60.0 since"),
    (narrow_representation, [steps(60.0, 49.0), None, None], None, ""),
    (wide_representation, [curve(65.0), curve(128.0), None], 0, "a uses 65.0 of 128 directions."),
    (wide_representation, [curve(64.0), curve(128.0), None], None, ""),
    (wide_representation, [curve(65.0), None, None], None, ""),
    (wide_representation, [steps(128.0, 90.0), curve(128.0), None], None, ""),
    (constant_features, [curve(0.0009), curve(1.0)], 1, "At least one feature of a is constant over the samples"),
    (constant_features, [curve(0.001), curve(1.0)], None, ""),
    (constant_features, [curve(0.0), curve(0.0)], None, ""),
    (unexplained_gradient, [curve(0.96)], 2, "a's gradient is explained to 4 %: theory's prediction misses it by 0.960"),
    (unexplained_gradient, [curve(1.4)], 2, "a's gradient is explained not at all:"),
    (unexplained_gradient, [curve(0.5)], None, ""),
    (unexplained_gradient, [curve(*[0.2, 0.9] * 10)], None, ""),  # its scatter reaches below a half
    (explained_gradient, [curve(0.04)], 0, "a's gradient is explained to 96 %."),
    (explained_gradient, [curve(0.2)], None, ""),
    (differing_views, [curve(0.3, half=0.1)], 2, "At a two views of one sample differ more than two samples do: the"),
    (differing_views, [curve(0.3, half=0.2)], None, ""),
    (differing_views, [curve(0.3)], None, ""),  # without its error nothing is claimed
    (undriven_layer, [curve(10.0, 0.09, half=0.0)], 1, "Contrast hardly moves a any more: the trace of its operator is "
     "111 times smaller than at step 0."),
    (undriven_layer, [curve(10.0, 0.1, half=0.0)], None, ""),
    (undriven_layer, [curve(10.0, 0.09, half=2.0)], None, ""),
    (undriven_layer, [curve(10.0, 0.0)], None, ""),
    (undriven_layer, [curve(10.0, 0.0, half=0.0)], 1, "Contrast hardly moves a any more: the trace of its operator is "
     "more than a million times smaller"),
    (unselective_neurons, [curve(0.5)], 2, "Half of a's neurons tell classes apart no better than shuffled labels do."),
    (unselective_neurons, [curve(0.04)], 3, "96 % of a's neurons tell classes apart no better"),
    (unselective_neurons, [curve(0.51)], None, ""),
    (selective_neurons, [curve(1.0)], 0, "All of a's neurons tell classes apart, though"),
    (selective_neurons, [curve(0.89)], None, ""),
    (lost_selectivity, [steps(0.9, 0.79)], 2, "Fewer of a's neurons tell classes apart: 79.0 %, down from 90.0 % at step"),
    (lost_selectivity, [steps(0.9, 0.81)], None, ""),
    (dead_neurons, [curve(0.21)], 2, "21 % of a's neurons are zero on every sample."),
    (dead_neurons, [curve(0.51)], 3, "51 % of"),
    (dead_neurons, [curve(0.2)], None, ""),
    (growing_features, [steps(1.0, 9.9)], None, ""),
    (growing_features, [curve(*[1.3**k for k in range(20)])], 1, "Features of a have grown: their mean length went "
     "from 1.55 to 103, means of its first and its last 4 values."),
    (growing_features, [curve(*[1.3**-k for k in range(20)])], 1, "Features of a have shrunk"),
    (growing_features, [curve(*[1.05**k for k in range(20)])], None, ""),
    (given_up_noise, [RISING._replace(values=[v / 40 for v in RISING.values])], 0, "a gives up the dense noise: its"),
    (given_up_noise, [FALLING._replace(values=[v / 40 for v in FALLING.values])], 2, "a turns to the noise: its sparse"),
    (given_up_noise, [steps(0.5, 0.59)], None, ""),
    (falling_probe, [SMALL_FALL[0], None], None, ""),
    (falling_probe, [SMALL_FALL[1], None], 3, "The probe on a fell from 80.0 % to 77.0 % since step 900."),
    (falling_probe, [SMALL_FALL[1], FALLING], 3, "The probe on a fell from 80.0 % to 77.0 % since step 900, while the loss "
     "went on falling"),
    (falling_probe, [SMALL_FALL[1], RISING], 3, "The probe on a fell from 80.0 % to 77.0 % since step 900."),
    (falling_probe, [curve(*[0.7, 0.8] * 10), FALLING], None, ""),
    (probe_without_gain, [curve(*[0.7] * 8)], 2, "The probe on a is no better than at its first looks: 70.0 % then, 70.0 % "
     "now, means of its first and its last 2 values."),
    (probe_without_gain, [curve(*[0.7] * 7)], None, ""),
    (probe_without_gain, [SMALL_FALL[1]], None, ""),  # the fall is said already
    (probe_without_gain, [steps(0.7, 0.8)], None, ""),
    (rising_probe, [steps(0.7, 0.8)], 0, "The probe on a rose from 70.0 % to 80.0 %, means of its first and its last 4 values."),
    (rising_probe, [curve(0.7, 0.8)], None, ""),
    (rising_probe, [curve(*[0.5] * 8, *[0.9] * 8, *[0.7] * 8)], None, ""),
    (lost_orthogonality, [curve(3e-7, 0.02)], 2, "The weights of a have left orthonormal columns: the drift went from 3.00e-7"),
    (lost_orthogonality, [curve(3e-7, 0.001)], None, ""),
    (lost_orthogonality, [curve(0.5, 0.9)], None, ""),  # never orthonormal
    (kept_orthogonality, [curve(3e-7, 1e-6)], 0, "The weights of a stayed orthonormal, up to 1.00e-6."),
    (kept_orthogonality, [curve(3e-7)], None, ""),
    (kept_orthogonality, [curve(3e-7, 1.1e-5)], None, ""),
    (distant_flow, [curve(0.11)], 1, "The outputs of a are 11.0 % of their size away from what the ODE predicts."),
    (distant_flow, [curve(0.1)], None, ""),
    (rising_error, [steps(0.1, 0.13)], 2, "The nearest class centre at a errs more: 13.0 %, up from 10.0 % at step 900."),
    (rising_error, [steps(0.1, 0.11)], None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "curves", "severity", "start"), CASES)
def test_rules_of_layers(rule, curves, severity, start):
    said = rule("a", *curves)
    if severity is None:
        assert said is None
    else:
        assert said.sentence.startswith(start)
        assert said.sentence.endswith(".")
        assert said.severity == severity


LOSSES = [
    (rising_loss, curve(*range(20, 0, -2), *range(0, 10)), 3, "The loss has risen from 1.25 to 7.50 since step 1,200."),
    (rising_loss, curve(*range(40, 4, -2), 4, 5, 6), None, ""),  # back by less than a quarter
    (rising_loss, FALLING, None, ""),
    (runaway_loss, curve(-0.9, -1001.0), 3, "The loss has run away: from -0.900 to -1,001."),
    (runaway_loss, curve(-0.9, -1000.0), None, ""),
    (runaway_loss, curve(5.0, 4999.0), None, ""),
    (resting_loss, curve(*[4.0, 4.2] * 10), 2, "The loss is where it was at the start, up to its noise: 4.10 then, 4.10 now, "
     "means of its first and its last 4 values."),
    (resting_loss, curve(*[4.0, 4.2] * 9), None, ""),  # too few values
    (resting_loss, FALLING, None, ""),
    (falling_loss, FALLING, 0, "The loss fell from 38.5 to 22.5, means of its first and its last 4 values."),
    (falling_loss, curve(*[4.0, 4.2] * 10), None, ""),
    (falling_loss, curve(3.0, 1.0), None, ""),
    (falling_loss, curve(*[-(5.0**k) for k in range(20)]), None, ""),  # it has run away
]  # fmt: skip


@pytest.mark.parametrize(("rule", "loss", "severity", "start"), LOSSES)
def test_rules_of_the_loss(rule, loss, severity, start):
    said = rule(loss)
    if severity is None:
        assert said is None
    else:
        assert said.sentence.startswith(start)
        assert said.severity == severity


def test_ends_of_a_run():
    said = broken_off("failed: RuntimeError: <script>\nsecond line", 120)
    assert said == (
        Severity.BROKEN,
        "Training ended with an error after step 120: RuntimeError: <script>",
        0.0,
    )
    assert broken_off("interrupted", None).sentence == "Training was interrupted."
    assert broken_off("finished", 120) is None
    assert broken_off("", None) is None


def test_values_that_are_no_numbers():
    said = lost_number("train/loss", (0, 10), (5, 20, 30))
    assert said[:2] == (Severity.BROKEN, "The loss has not been a finite number since step 20.")
    assert lost_number("a/b", (0,), (10,)).severity == Severity.PROBLEM
    assert lost_number("train/loss", (0, 10), (5,)) is None  # it came back
    assert never_a_number("train/loss").severity == Severity.BROKEN
    assert never_a_number("a/b").sentence == "a/b was never a finite number."


def test_diagnostics_that_fell_silent():
    said = silent_diagnostic("collapse/a", (0, 100, 200), 501)
    assert said.sentence == (
        "collapse/a was looked at for the last time at step 200, though the run went on to step 501."
    )
    assert silent_diagnostic("collapse/a", (0, 100, 200), 500) is None
    assert silent_diagnostic("collapse/a", (0, 200), 5000) is None


def test_costs_and_layers_left_out():
    assert costly_looks({"A": 0.06, "B": 0.04}) is None
    assert costly_looks({}) is None
    said = costly_looks({"A": 0.08, "B": 0.04})
    assert said[:2] == (
        Severity.NOTE,
        "The diagnostics took 12.0 % of the run's time, A the largest part (8.0 %).",
    )
    assert costly_looks({"A": 0.51}).severity == Severity.WATCH
    assert left_out_layer("Probe", "x.y", "has no output. ").sentence == "Probe left out x.y: has no output."
