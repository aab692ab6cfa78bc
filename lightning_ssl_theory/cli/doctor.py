"""`doctor`: versions, devices, data, the state of Weights & Biases, and what is missing for what."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.cli.wandb_run import has_credentials, project_name, usual_mode
from lightning_ssl_theory.data.image_sets import IMAGE_SETS

_DISTRIBUTION = "lightning-ssl-theory"
# what is needed at all, also where the package is not installed and does not say so itself
_NEEDED = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "wandb",
    "scikit-learn",
    "jsonargparse",
    "rich",
)
_EXTRAS = {
    "wandb-workspaces": f"`dashboard`: pip install '{_DISTRIBUTION}[dashboard]'",
    "tensorboard": "pictures in TensorBoard: pip install tensorboard",
    "lightly": f"examples with lightly's modules: pip install '{_DISTRIBUTION}[interop]'",
    "timm": f"examples with timm's networks: pip install '{_DISTRIBUTION}[interop]'",
    "transformers": f"examples with Hugging Face's networks: pip install '{_DISTRIBUTION}[interop]'",
    "ray": f"Ray Train: pip install '{_DISTRIBUTION}[ray]'",
}
State = Literal["ok", "note", "missing"]
_STYLES: dict[State, str] = {"ok": "green", "note": "yellow", "missing": "bold red"}


class Finding(NamedTuple):
    """One line of the examination.

    Attributes:
        section: Under which heading it stands.
        state: "ok", "note" for what some uses need, "missing" for what everything needs.
        name: What was looked at.
        text: What was found, and what to do.
    """

    section: str
    state: State
    name: str
    text: str


def run_doctor(data_dir: Path, output_dir: Path) -> bool:
    """Look at this machine and print what is found.

    Args:
        data_dir: Where data sets may lie.
        output_dir: Where run folders lie.

    Returns:
        Whether nothing is missing that everything needs.
    """
    findings = examine(data_dir, output_dir)
    console = Console()
    for section in dict.fromkeys(finding.section for finding in findings):
        table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
        for _, state, name, text in (finding for finding in findings if finding.section == section):
            table.add_row("", Text(state, style=_STYLES[state]), Text(name), Text(text))
        console.print(Text(section, style="bold"), table, "", sep="\n")
    missing = [finding.name for finding in findings if finding.state == "missing"]
    console.print(
        Text(f"Missing: {', '.join(missing)}." if missing else "Nothing that is needed is missing.")
    )
    return not missing


def examine(data_dir: Path, output_dir: Path) -> list[Finding]:
    """What `doctor` prints.

    Args:
        data_dir: Where data sets may lie.
        output_dir: Where run folders lie.

    Returns:
        The findings, section by section.
    """
    return [*_versions(), *_devices(), *_data(data_dir), *_wandb(output_dir), *_extras()]


def _versions() -> Iterator[Finding]:
    yield Finding(
        "Versions", "ok", "Python", f"{platform.python_version()} on {platform.platform(terse=True)}"
    )
    own = _version(_DISTRIBUTION)
    yield Finding("Versions", "ok", _DISTRIBUTION, own or "runs from a checkout that is not installed")
    for requirement in _requirements():
        found = _version(requirement.name)
        if found is None:
            yield Finding("Versions", "missing", requirement.name, f"pip install '{requirement}'")
        elif not requirement.specifier.contains(found, prereleases=True):
            text = f"{found} does not fit {requirement.specifier}: pip install '{requirement}'"
            yield Finding("Versions", "missing", requirement.name, text)
        else:
            yield Finding("Versions", "ok", requirement.name, found)


def _requirements() -> list[Requirement]:
    try:
        lines = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        lines = list(_NEEDED)
    return [found for found in map(Requirement, lines) if found.marker is None]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding(
        "Devices", "ok", "CPU", f"{num_cores} cores for this process, {torch.get_num_threads()} threads"
    )
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        yield Finding("Devices", "ok", f"cuda:{index}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        yield Finding(
            "Devices", "ok", "mps", "Apple's GPU; it has no float64, which looks then do on the CPU"
        )
    elif not torch.cuda.device_count():
        yield Finding("Devices", "note", "GPU", "none found; a Trainer uses the CPU")


def _data(data_dir: Path) -> Iterator[Finding]:
    yield Finding("Data", "ok", "digits", "comes with scikit-learn")
    for name, facts in IMAGE_SETS.items():
        if not facts.files:
            continue
        folder = data_dir / facts.folder
        lacking = [file for file in facts.files if not _is_there(folder / file)]
        if not lacking:
            yield Finding("Data", "ok", name, str(folder))
        elif len(lacking) < len(facts.files):
            yield Finding("Data", "note", name, f"{folder} lacks {', '.join(lacking)}")
        else:
            yield Finding("Data", "note", name, f"not in {folder}; --data.download true fetches it")


def _is_there(file: Path) -> bool:
    return file.exists() or file.with_name(f"{file.name}.gz").exists()


def _wandb(output_dir: Path) -> Iterator[Finding]:
    section = "Weights & Biases"
    try:
        yield Finding(section, "ok", "mode", f"{usual_mode()} (WANDB_MODE, or --wandb)")
    except InputError as error:
        yield Finding(section, "note", "mode", str(error))
    entity = os.environ.get("WANDB_ENTITY")
    yield Finding(
        section, "ok", "project", project_name() if entity is None else f"{entity}/{project_name()}"
    )
    if has_credentials():
        yield Finding(section, "ok", "login", "found")
    else:
        yield Finding(
            section, "note", "login", "none; runs stay in files until `wandb login` and `wandb sync`"
        )
    found = [
        path for pattern in ("*/wandb", "*/*/wandb") for path in output_dir.glob(f"{pattern}/offline-run-*")
    ]
    if found:
        text = f"{len(found)} under {output_dir}; `wandb sync {found[-1]}` sends one"
        yield Finding(section, "ok", "offline runs", text)


def _extras() -> Iterator[Finding]:
    for name, purpose in _EXTRAS.items():
        found = _version(name)
        if found is None:
            yield Finding("Extras", "note", name, f"not installed; for {purpose}")
        else:
            yield Finding("Extras", "ok", name, found)
