"""Names at Weights & Biases: announced once with axis and summary, and no more of them than a run bears."""

from types import SimpleNamespace

import pytest

from lightning_ssl_theory.callbacks import monitors
from lightning_ssl_theory.callbacks.metric_names import MAX_NAMES, MetricNames


class Online:
    """Like the logger of Weights & Biases: its run defines metrics."""

    def __init__(self):
        self.defined, self.logged = {}, {}
        self.experiment = SimpleNamespace(define_metric=self.note)

    def note(self, name, *, step_metric, summary):
        assert step_metric == "trainer/global_step"
        assert name not in self.defined
        self.defined[name] = summary

    def log_table(self, *args, **kwargs):
        raise AssertionError

    def log_metrics(self, values, step):
        self.logged |= values


class Local:
    """Like the logger of metrics.csv."""

    def __init__(self):
        self.logged = {}

    def log_metrics(self, values, step):
        self.logged |= values


def test_each_name_is_announced_once_with_what_its_summary_keeps():
    logger, names = Online(), MetricNames({"rankme": "min"})
    for _ in range(2):
        names.announce([logger, Local()], ["collapse/a.b/rankme", "collapse/a.b/mean_std"], [])
    # a dot that is not escaped would lead into a nested value
    assert logger.defined == {r"collapse/a\.b/rankme": "min,last", r"collapse/a\.b/mean_std": None}
    names.forget()
    other = Online()
    names.announce([other], ["collapse/a.b/rankme"], [])
    assert list(other.defined) == [r"collapse/a\.b/rankme"]


def logged(num_layers, others=()):
    """What two loggers get of a callback with six quantities a layer, in a run with other names."""
    quantities = ("trace", "trace_error95", "trace_stderr", "eigenvalue_1", "eigenvalue_2", "residual")
    values = {f"covariance/{k}/{name}": 1.0 for k in range(num_layers) for name in quantities}
    names, loggers = MetricNames({}), [Online(), Local()]
    trainer = SimpleNamespace(
        loggers=loggers,
        callbacks=[SimpleNamespace(metric_names=names), *others],
        logged_metrics={"train/loss": 1.0, **dict.fromkeys(values, 1.0)},
        callback_metrics={},
        state=SimpleNamespace(fn="fit"),
        lr_scheduler_configs=[],
        global_step=3,
    )
    trainer.logged_metrics = {"train/loss": 1.0}
    for _ in range(2):  # the second look decides nothing anew
        monitors.log(trainer, None, values, names)
    assert loggers[1].logged == values
    return set(loggers[0].logged), names


def test_what_a_run_cannot_bear_is_left_out_in_the_order_of_what_it_tells():
    sent, names = logged(1000)  # 6,000 names
    assert len(sent) == MAX_NAMES - 1  # the module's loss is one
    assert len(names.left_out) == 1001
    assert {name.split("/")[-1] for name in names.left_out} == {"trace_error95", "trace_stderr"}
    with_errors, names = logged(3000)
    assert {name.split("/")[-1] for name in with_errors} == {"trace", "residual"}
    assert "covariance/2499/trace" in with_errors  # whole layers from the first on
    assert "covariance/2500/trace" not in with_errors
    assert names.sentence("CovarianceOperators").startswith(
        "Expected at most 5,000 metric names in a run at Weights & Biases, CovarianceOperators brings more: 13,001 of "
        "them are left out there, such as 'covariance/0/eigenvalue_1', "
    )
    assert logged(10)[1].sentence("CovarianceOperators") is None


def test_names_of_other_callbacks_count_but_not_those_that_they_left_out():
    other = MetricNames({})
    other.sent, other.left_out = {f"a/{k}" for k in range(4000)}, {f"b/{k}" for k in range(3000)}
    sent, names = logged(200, [SimpleNamespace(metric_names=other)])
    assert len(sent) == MAX_NAMES - 4000 - 1
    assert len(names.left_out) == 1200 - len(sent)


@pytest.mark.parametrize("loggers", [[], [Local()]], ids=["none", "local"])
def test_without_weights_and_biases_nothing_is_left_out(loggers):
    names = MetricNames({})
    names.announce(loggers, [f"a/{k}" for k in range(2 * MAX_NAMES)], [])
    assert not names.left_out
