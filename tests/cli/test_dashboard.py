"""Dashboards from a real offline run: every pattern finds a key, every key has a chart, and all is stable."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
import wandb_workspaces.workspaces as ws
from report.synthetic_run import write_run

from cli.command_line import WITHOUT_ADVICE, changed_config, failure
from lightning_ssl_theory.callbacks.pictures import CURVE_COLUMNS
from lightning_ssl_theory.cli import dashboard, main
from lightning_ssl_theory.cli.logged_names import LoggedNames, names_in_folder, names_in_project
from lightning_ssl_theory.report.dashboard import MAX_LAYERS, board_sections, headlines

pytestmark = WITHOUT_ADVICE
SETTINGS = ("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC")
CALLBACKS = {
    "CovarianceOperators": {"every_n_steps": 4, "num_samples": 16, "spectra_layers": ["network.hidden"], "num_eigenvalues": 3},
    "NeuronSelectivity": {"layers": ["network.hidden", "network.output"]},
    "FeatureNormMonitor": {"layers": ["network.hidden"]},
    "LinearProbe": {"layer": "network.output", "few_labels": [2]},
    "CollapseMonitor": {"name": "second"},
    "OrthogonalityMonitor": {"layers": ["network.hidden", "network.output"]},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nobody_logged_in(monkeypatch, tmp_path):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of an offline run at Weights & Biases, and the records in its file."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("run"))
    try:
        callbacks = [{"class_path": name, "init_args": given} for name, given in CALLBACKS.items()]
        config = changed_config(trainer__callbacks=callbacks, trainer__max_epochs=2)
        options = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
        main(["fit", "--config", config, "--name", "run", "--wandb", "offline", *options])
        (place,) = Path("runs/run/wandb").glob("offline-run-*")
        command = ["wandb", "leet", "inspect", "--json", str(place)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        folder = Path("runs/run").resolve()
    finally:
        os.chdir(before)
    records = [json.loads(line) for line in told.splitlines()]
    return SimpleNamespace(folder=folder, records=records)


def history(run) -> set[str]:
    """Every scalar of the run's file; of a picture the file lists the parts, `KEY.width` and so on."""
    media = tuple(f"{key}." for key in names_in_folder(run.folder).media)
    items = [record["history"]["item"] for record in run.records if record["type"] == "history"]
    return {
        key
        for item in items
        for key, value in item.items()
        if isinstance(value, int | float) and key[0] != "_" and not key.startswith(media)
    }


def test_every_metric_is_announced_with_its_axis_and_what_the_summary_keeps(run):
    metrics = [record["metric"] for record in run.records if record["type"] == "metric"]
    axes = {metric.get("name", ""): metric.get("step_metric") for metric in metrics}
    own = {key for key in history(run) if key.split("/")[0] not in {"train", "trainer", "epoch"}}
    assert len(own) > 60
    missing = {key for key in own if axes.get(key.replace(".", r"\.")) != "trainer/global_step"}
    assert not missing
    kept = {metric.get("name"): sorted(metric.get("summary", {})) for metric in metrics}
    assert kept[r"probe/network\.output/ridge_top1"] == ["last", "max"]
    assert kept["collapse/second/output/effective_rank"] == ["last", "min"]
    assert kept["train/loss"] == ["last", "min"]
    assert kept[r"covariance/network\.hidden/trace"] == []


def test_every_pattern_finds_a_key_and_every_key_has_a_chart(run):
    keys = history(run)
    names = names_in_folder(run.folder)
    assert names.scalars == keys - {"trainer/global_step"}
    charts = [chart for section in board_sections(names.scalars) for chart in section.charts]
    for chart in charts:
        re.compile(chart.pattern)
        assert any(map(chart.shows, keys)), chart
    assert not [key for key in names.scalars if not any(chart.shows(key) for chart in charts)]
    saved = [
        panel.metric_regex
        for section in view(run).sections
        for panel in section.panels
        if hasattr(panel, "metric_regex")
    ]
    assert set(saved) == {chart.pattern for chart in charts}
    assert all(section.panels[0].markdown for section in view(run).sections)


def test_spectra_filters_and_classes_are_shown(run):
    media = names_in_folder(run.folder).media
    assert media >= {
        "covariance/network.hidden/spectrum_table",
        "covariance/network.hidden/eigenvectors",
        "feature_norms/network.hidden/filters",
        "selectivity/network.output/classes",
    }
    panels = [panel for section in view(run).sections for panel in section.panels]
    shown = {panel.media_keys[0] for panel in panels if hasattr(panel, "media_keys")}
    (curve,) = (panel for panel in panels if hasattr(panel, "chart_fields"))
    assert shown | {curve.query["summaryTable"]["tableKey"]} == media
    assert tuple(curve.chart_fields.values()) == CURVE_COLUMNS


def view(run) -> ws.Workspace:
    return dashboard.workspace(names_in_folder(run.folder), "me", "mine")


def test_the_json_is_stable_and_its_signature_follows_the_layout(run):
    first, second = view(run), view(run)
    assert dashboard.stable_spec(first) == dashboard.stable_spec(second)
    assert first.name == f"Why it learns ({dashboard.signature(first)})"
    again = ws.Workspace._from_model(first._to_model())
    assert dashboard.signature(again) == dashboard.signature(first)
    more = LoggedNames(names_in_folder(run.folder).scalars | {"val/acc"}, frozenset())
    assert dashboard.workspace(more, "me", "mine").name != first.name


def test_a_dry_run_prints_json_and_honours_the_environment(run, capsys, monkeypatch):
    main(["dashboard", str(run.folder), "--dry-run"])
    printed = json.loads(capsys.readouterr().out)
    assert (printed["entity"], printed["project"]) == ("", "lightning-ssl-theory")
    assert [section["name"] for section in printed["spec"]["section"]["panelBankConfig"]["sections"]][:3] == [
        "Overview",
        "Training",
        "Probe accuracy",
    ]
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_ENTITY", "me")
    main(["dashboard", str(run.folder), "--dry-run"])
    again = json.loads(capsys.readouterr().out)
    assert (again["entity"], again["project"], again["spec"]) == ("me", "mine", printed["spec"])
    main(["dashboard", str(run.folder), "--dry-run", "--entity", "us", "--project", "ours"])
    assert json.loads(capsys.readouterr().out)["entity"] == "us"


def test_a_run_without_metrics_csv_is_read_from_its_offline_file(run):
    whole = names_in_folder(run.folder)
    assert names_in_folder(run.folder / "wandb") == names_in_folder(
        next((run.folder / "wandb").glob("offline-run-*"))
    )
    assert names_in_folder(run.folder / "wandb").media == whole.media
    assert names_in_folder(run.folder / "wandb").scalars - {"trainer/global_step"} == whole.scalars


class Service:
    """Weights & Biases as far as a dashboard needs it."""

    default_entity, app_url = "me", "https://wandb.example"

    def __init__(self, runs=()):
        self.views, self.asked, self._service_api, self._runs = {}, [], self, runs

    def runs(self, path):
        self.asked.append(path)
        return self._runs

    def execute_graphql(self, query, variables):
        if "upsertView" in query:
            self.views[variables["name"]] = variables["displayName"]
            return {"upsertView": {"view": {"id": "1", "name": variables["name"]}, "inserted": True}}
        if variables["project"] == "nowhere":
            return {"project": None}
        nodes = [{"node": {"name": name, "displayName": shown}} for name, shown in self.views.items()]
        return {"project": {"allViews": {"edges": nodes}}}


def test_saving_twice_changes_nothing_and_a_new_layout_makes_a_new_view(monkeypatch, capsys):
    service = Service()
    monkeypatch.setattr(wandb, "Api", lambda: service)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    folder = write_run(Path("run"), num_looks=2)
    for word in ("Saved", "Unchanged"):
        main(["dashboard", str(folder), "--project", "mine"])
        *_, last = capsys.readouterr().out.strip().splitlines()
        (name,) = service.views
        assert last == f"{word}: https://wandb.example/me/mine?nw={name[3:-2]}"
    service._runs = [SimpleNamespace(summary={"val/acc": 1.0, "a": {"_type": "image-file"}, "_step": 3})]
    main(["dashboard", "--entity", "us", "--project", "mine"])
    assert service.asked == ["us/mine"]
    assert len(service.views) == 2
    assert "Expected Weights & Biases to take a dashboard of `nowhere`, it said: no such project;" in failure(
        capsys, "dashboard", str(folder), "--project", "nowhere"
    )


def test_names_of_a_project():
    runs = [SimpleNamespace(summary={"a/b": 1, "c": {"_type": "table-file"}, "d": {"min": 1}, "_step": 2})]
    assert names_in_project(runs) == (frozenset({"a/b", "d"}), frozenset({"c"}))


def test_what_is_missing_is_said_in_a_sentence(capsys, monkeypatch):
    folder = str(write_run(Path("run"), num_looks=2))
    assert "Expected a login at Weights & Biases for a dashboard, found none; run `wandb login`" in failure(
        capsys, "dashboard", folder
    )
    Path("empty").mkdir()
    assert (
        "Expected `empty` to hold a metrics.csv or an offline run of Weights & Biases with values, found none;"
        in (failure(capsys, "dashboard", "empty", "--dry-run"))
    )
    assert "Expected a run folder at `nowhere`, found nothing;" in failure(
        capsys, "dashboard", "nowhere", "--dry-run"
    )
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert (
        "Expected the package wandb-workspaces for a dashboard, found none; run `pip install "
        "'lightning-ssl-theory[dashboard]'`." in failure(capsys, "dashboard", folder, "--dry-run")
    )


def test_spectra_of_many_layers_share_a_chart_and_odd_names_are_literal():
    few = [f"covariance/{k}/eigenvalue_{j}" for k in range(MAX_LAYERS) for j in (1, 2)]
    (section,) = board_sections(few)
    assert [chart.title for chart in section.charts] == [f"Spectrum of {k}" for k in range(MAX_LAYERS)]
    (section,) = board_sections([*few, "covariance/last/eigenvalue_1"])
    assert len(section.charts) == 1
    odd = [
        "covariance/a+(b)[0]|c/trace",
        "train/a b$",
        "lr-Adam/pg.1",
        "x^",
        "/y",
        *(f"{k}/z" for k in range(50)),
    ]
    charts = [chart for part in board_sections(odd) for chart in part.charts]
    assert all(any(chart.shows(key) for chart in charts) for key in odd)
    (section,) = board_sections(["covariance/a.b/eigenvalue_1"])
    assert not section.charts[0].shows("covariance/axb/eigenvalue_1")


def test_headlines_compare_layers_where_there_are_several():
    shown = headlines(
        ["covariance/a/residual", "covariance/b/residual", "train/loss", "collapse/a/effective_rank"]
    )
    assert [line.chart.title for line in shown] == ["Effective rank", "Residual of the prediction", "Loss"]
    assert [line.bars for line in shown] == [(), ("covariance/a/residual", "covariance/b/residual"), ()]
