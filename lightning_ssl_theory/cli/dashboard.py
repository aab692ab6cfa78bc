"""`dashboard`: a saved view of a project at Weights & Biases, made of what runs have logged."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.cli.logged_names import LoggedNames, names_in_folder, names_in_project
from lightning_ssl_theory.cli.wandb_run import has_credentials, project_name
from lightning_ssl_theory.report.dashboard import (
    BoardSection,
    Chart,
    Headline,
    board_sections,
    headlines,
)

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

_STEP = "trainer/global_step"
_CURVE = "_table"
_NAME = "Why it learns"
_VIEWS = """
query Views($entity: String, $project: String) {
  project(name: $project, entityName: $entity) {
    allViews(viewType: "project-view", first: 500) { edges { node { name displayName } } }
  }
}"""


def run_dashboard(
    folder: Path | None, *, entity: str | None = None, project: str | None = None, is_dry_run: bool = False
) -> None:
    """Save a view of a project, unless it has this very view already; or print what would be saved.

    Args:
        folder: The run folder whose names are shown; `None` for those of the project's newest runs.
        entity: User or team; WANDB_ENTITY, else the one that is logged in.
        project: WANDB_PROJECT, else that of the command line's runs.
        is_dry_run: Whether the view's JSON is printed, which needs neither a login nor a network.

    Raises:
        InputError: If the extra `dashboard` is missing, nobody is logged in, or Weights & Biases refuses.
    """
    _check_extra()
    entity, project = entity or os.environ.get("WANDB_ENTITY"), project or project_name()
    if is_dry_run and folder is not None:
        view = workspace(names_in_folder(folder), entity or "", project)
        print(json.dumps(stable_spec(view), indent=1, ensure_ascii=False))
        return
    names = None if folder is None else names_in_folder(folder)
    if not has_credentials():
        raise InputError(
            "Expected a login at Weights & Biases for a dashboard, found none; run `wandb login` first, or pass a run "
            "folder and --dry-run to see what would be saved."
        )
    try:
        _save(names, entity, project, is_dry_run=is_dry_run)
    except _refusals() as error:
        place = f"{entity}/{project}" if entity else project
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"Expected Weights & Biases to take a dashboard of `{place}`, it said: {told}; "
            "check --entity, --project and the network, and sync a run first."
        ) from error


def workspace(names: LoggedNames, entity: str, project: str) -> Workspace:
    """The view for what was logged, not saved yet.

    Args:
        names: Of scalars and pictures.
        entity: User or team.
        project: Of the runs.

    Returns:
        The view; its name ends in the signature of its layout.
    """
    from wandb_workspaces import workspaces as ws

    sections = [_overview(headlines(names.scalars))]
    sections += [_section(section) for section in board_sections(names.scalars, names.media)]
    view = ws.Workspace(
        entity=entity,
        project=project,
        name=_NAME,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=_STEP),
        auto_generate_panels=False,
    )
    view.name = f"{_NAME} ({signature(view)})"
    return view


def signature(view: Workspace) -> str:
    """Eight hexadecimal digits that are equal where two views show the same in the same order."""
    text = json.dumps(stable_spec(view)["spec"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def stable_spec(view: Workspace) -> dict[str, Any]:
    """What is saved of a view, with its random marks replaced by numbers.

    Args:
        view: That is to be saved.

    Returns:
        Name, entity, project and specification, of plain JSON types.
    """
    model = view._to_model()
    spec = _numbered(json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True)), count(1))
    return {"name": view.name, "entity": view.entity, "project": view.project, "spec": spec}


def _check_extra() -> None:
    try:
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError as error:
        raise InputError(
            "Expected the package wandb-workspaces for a dashboard, found none; "
            "run `pip install 'lightning-ssl-theory[dashboard]'`."
        ) from error


def _refusals() -> tuple[type[Exception], ...]:
    import wandb

    return (wandb.errors.Error, OSError, ValueError)


def _save(names: LoggedNames | None, entity: str | None, project: str, *, is_dry_run: bool) -> None:
    import wandb
    from wandb_workspaces._graphql import execute_graphql, get_app_url

    api = wandb.Api()
    entity = entity or str(api.default_entity)
    view = workspace(names or names_in_project(api.runs(f"{entity}/{project}")), entity, project)
    if is_dry_run:
        print(json.dumps(stable_spec(view), indent=1, ensure_ascii=False))
        return
    asked = {"entity": entity, "project": project}
    saved, word = find_view(execute_graphql(api, _VIEWS, asked), view.name), "Unchanged"
    if saved is None:
        with contextlib.redirect_stderr(io.StringIO()):  # it says the same in words of its own
            view.save()
        saved, word = find_view(execute_graphql(api, _VIEWS, asked), view.name), "Saved"
    mark = "" if saved is None else f"?nw={saved.removeprefix('nw-').removesuffix('-v')}"
    _show(view, f"{word}: {get_app_url(api)}/{entity}/{project}{mark}")


def find_view(known: dict[str, Any], name: str) -> str | None:
    """The internal name of the saved view with a displayed name.

    Args:
        known: The answer to the question for a project's views.
        name: That is displayed.

    Returns:
        The internal name; `None` where there is no such view.

    Raises:
        ValueError: If there is no such project.
    """
    if known.get("project") is None:
        raise ValueError("no such project")
    nodes = (edge["node"] for edge in known["project"]["allViews"]["edges"])
    return next((str(node["name"]) for node in nodes if node["displayName"] == name), None)


def _show(view: Workspace, end: str) -> None:
    console = Console()
    console.print(f"[bold]{view.name}[/]", highlight=False)
    for section in view.sections:
        console.print(f"  {section.name}: {len(section.panels)} panels", highlight=False)
    console.print(end, soft_wrap=True, highlight=False)


def _numbered(value: Any, numbers: Iterator[int]) -> Any:
    if isinstance(value, list):
        return [_numbered(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: f"{next(numbers):04}"
        if key in {"id", "__id__"} and isinstance(item, str)
        else _numbered(item, numbers)
        for key, item in value.items()
    }


def _overview(shown: tuple[Headline, ...]) -> Section:
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr

    text = (
        "### Why it learns what it learns\nEach section below opens with how to read it. The axis is the number of "
        "optimiser steps. Bars compare the last values of layers; the table at the end compares the settings of runs."
    )
    bars = [wr.BarPlot(title=line.chart.title, metrics=list(line.bars)) for line in shown if line.bars]
    curves = [_line_plot(line.chart) for line in shown]
    panels = [wr.MarkdownPanel(markdown=text), *curves, *bars, wr.RunComparer(diff_only="split")]
    return ws.Section(name="Overview", panels=panels, is_open=True, pinned=True, panel_settings=_axis())


def _section(section: BoardSection) -> Section:
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr

    panels = [wr.MarkdownPanel(markdown=section.how_to_read), *map(_line_plot, section.charts)]
    panels += map(_medium, section.media)
    return ws.Section(name=section.title, panels=panels, is_open=True, panel_settings=_axis())


def _medium(key: str) -> Any:
    from wandb_workspaces.reports import v2 as wr

    title = key.partition("/")[2] or key
    if not key.endswith(_CURVE):
        return wr.MediaBrowser(title=title, media_keys=[key])
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": key}},
        chart_name="wandb/line/v0",
        chart_fields={"x": "k", "y": "value"},
        chart_strings={"title": title.removesuffix(_CURVE)},
    )


def _axis() -> Any:
    from wandb_workspaces import workspaces as ws

    return ws.SectionPanelSettings(x_axis=_STEP)


def _line_plot(chart: Chart) -> Any:
    from wandb_workspaces.reports import v2 as wr

    is_share = chart.scale == "share"
    return wr.LinePlot(
        title=chart.title,
        x=_STEP,
        metric_regex=chart.pattern,
        title_x="optimiser steps",
        title_y=chart.unit or None,
        log_y=True if chart.scale == "log" else None,
        range_y=(0, 1) if is_share else (None, None),
    )
