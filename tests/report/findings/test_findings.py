"""All rules together: the order, one finding for many layers, where each points, and every rule written down."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_ssl_theory.report import read_run
from lightning_ssl_theory.report.findings import RULES, Severity, findings, rules_as_markdown
from lightning_ssl_theory.report.keys import SECTIONS
from lightning_ssl_theory.report.logged_run import Run, Series, parse_key

from ..synthetic_run import write_rows

DOCS = Path(__file__).parents[3] / "docs" / "findings.md"


def run_of(columns, facts=None):
    series = {
        name: Series(name, parse_key(name), tuple(range(len(values))), tuple(values))
        for name, values in columns.items()
    }
    return Run(Path("run"), series=series, facts=facts or {})


def test_worst_news_first_and_one_sentence_for_many_layers():
    columns = {f"feature_norms/layer{k}/dead_share": [0.3 + 0.02 * k] for k in range(6)}
    columns |= {"collapse/out/effective_rank": [1.0], "selectivity/out/selective_share": [1.0]}
    found = findings(run_of(columns))
    assert [one.severity for one in found] == [Severity.BROKEN, Severity.WATCH, Severity.GOOD]
    dead = found[1]
    assert dead.sentence == "40 % of layer5's neurons are zero on every sample."
    assert dead.also == "The rule speaks of layer4, layer3, layer2 and 2 more too."
    assert (dead.section, dead.name) == ("feature_norms", "dead_share")


@pytest.mark.parametrize(
    ("others", "text"), [((), ""), (("a",), "a"), (("a", "b"), "a and b"), (("a", "b", "c"), "a, b and c")]
)
def test_others_are_named(others, text):
    found = findings(run_of({f"feature_norms/{name}/dead_share": [0.4] for name in ("x", *others)}))[0]
    assert found.also == (f"The rule speaks of {text} too." if text else "")


def test_every_section_has_a_rule(tmp_path):
    # of a run in which everything goes wrong
    bad = {
        "train/loss": [*[float(v) for v in range(20, 10, -1)], "nan"],
        "probe/net/ridge_top1": [*[0.9] * 5, *[0.5] * 6],
        "covariance/net/residual": [0.9] * 11,
        "selectivity/net/selective_share": [0.1] * 11,
        "feature_norms/net/dead_share": [0.9] * 11,
        "collapse/net/effective_rank": [1.0] * 11,
        "orthogonality/net/drift": [*[1e-7] * 5, *[0.5] * 6],
        "generalization/net/error": [*[0.1] * 5, *[0.5] * 6],
        "overhead/A/share": [0.9] * 11,
    }
    write_rows(tmp_path, bad, list(range(11)))
    found = {one.section for one in findings(read_run(tmp_path)) if one.severity > Severity.GOOD}
    assert found == {section.name for section in SECTIONS}


def test_one_probe_of_a_layer_is_judged():
    falling = [*[0.9] * 5, *[0.5] * 6]
    columns = {
        "probe/a/logistic_top1_10_labels": falling,
        "probe/a/ridge_top1": falling,
        "probe/b/knn20_top1": falling,
    }
    (found,) = findings(run_of(columns | {"probe/a/logistic_top1": [0.5 + 0.04 * k for k in range(11)]}))[:1]
    assert found.sentence.startswith("The probe on b fell from 90.0 % to 50.0 %")
    assert (found.name, found.others) == ("knn20_top1", ())


def test_layers_left_out_and_ends_are_read_from_run_json():
    facts = {
        "status": "failed: MemoryError: x",
        "left_out": {"LinearProbe": {"head": "it is empty."}, "B": 3},
    }
    texts = [one.sentence for one in findings(run_of({"train/loss": [1.0]}, facts))]
    assert texts == [
        "Training ended with an error after step 0: MemoryError: x",
        "LinearProbe left out head: it is empty.",
    ]


@pytest.mark.parametrize("name", ["train_loss", "loss", "train/loss_step", "train_loss_epoch"])
def test_the_loss_of_a_module_of_ones_own_is_judged(name, tmp_path):
    falling = [5.0 - 0.1 * k for k in range(20)]
    write_rows(tmp_path, {name: falling, "other/loss": falling}, list(range(20)))
    (found,) = findings(read_run(tmp_path))
    assert (found.rule.name, found.section, found.name) == ("falling loss", "train", "loss")
    write_rows(tmp_path, {name: [*falling[:-1], "nan"]}, list(range(20)))
    assert findings(read_run(tmp_path))[0].sentence == "The loss has not been a finite number since step 19."
    write_rows(tmp_path, {name: ["nan"] * 20, "a/b/c": falling}, list(range(20)))
    assert findings(read_run(tmp_path))[0].sentence == "The loss was never a finite number."


def test_one_loss_of_a_run_is_judged(tmp_path):
    falling = [5.0 - 0.1 * k for k in range(20)]
    write_rows(tmp_path, {"train/loss": falling, "loss": falling[::-1]}, list(range(20)))
    assert [one.column for one in read_run(tmp_path).quantity("train", "loss")] == ["train/loss"]


def test_a_healthy_run_has_good_news_only():
    rising = [0.5 + 0.02 * k for k in range(20)]
    columns = {
        "train/loss": [5.0 - 0.1 * k for k in range(20)],
        "probe/net/logistic_top1": rising,
        "covariance/net/residual": [0.05] * 20,
        "covariance/net/signal_ratio": [0.8] * 20,
        "covariance/net/signal_ratio_error95": [0.05] * 20,
        "selectivity/net/selective_share": [0.95] * 20,
        "feature_norms/net/dead_share": [0.02] * 20,
        "collapse/net/effective_rank": [80.0] * 20,
        "collapse/net/num_features": [128.0] * 20,
        "orthogonality/net/drift": [1e-7] * 20,
        "overhead/A/share": [0.02] * 20,
    }
    found = findings(run_of(columns))
    assert {one.severity for one in found} == {Severity.GOOD}
    assert {one.section for one in found} == {
        "train",
        "probe",
        "covariance",
        "selectivity",
        "collapse",
        "orthogonality",
    }


@settings(max_examples=40)
@given(st.lists(st.floats(-1e299, 1e299), min_size=1, max_size=12), st.sampled_from(["", "a"]))
def test_any_values_are_judged(values, layer):
    names = ["effective_rank", "num_features", "num_samples", "min_std", "mean_std"]
    columns = {f"collapse/{layer}/{name}": values for name in names} | {"train/loss": values}
    columns |= {f"covariance/{layer}/{name}": values for name in ("trace", "trace_error95", "residual")}
    columns |= {
        f"feature_norms/{layer}/{name}": values for name in ("mean_norm", "dead_share", "sparse_share")
    }
    columns |= {"probe/x/ridge_top1": values, "orthogonality/x/drift": values, "overhead/x/share": values}
    for one in findings(run_of(columns)):
        assert "nan" not in one.sentence


def test_rules_are_written_down():
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.condition.endswith(".")
        assert rule.advice.endswith(".")
    table = DOCS.read_text().split("<!-- rules:begin -->")[1].split("<!-- rules:end -->")[0]
    assert table.strip() == rules_as_markdown(), "run: python -m lightning_ssl_theory.report.findings.rules"
