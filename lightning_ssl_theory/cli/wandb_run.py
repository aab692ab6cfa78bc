"""Weights & Biases without questions at the terminal, and without losing a run when its server is away."""

import contextlib
import functools
import netrc
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.warnings import DiagnosticWarning

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

WandbMode = Literal["online", "offline", "off"]

_PROJECT = "lightning-ssl-theory"
_SECONDS_TO_CONNECT = 20
# what WANDB_MODE may say, also in the words of older versions
_MODES: dict[str, WandbMode] = {
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "off",
}


def usual_mode() -> WandbMode:
    """Whether Weights & Biases gets a run where nothing is said of it: as WANDB_MODE says, else in files.

    Returns:
        The mode.

    Raises:
        InputError: If WANDB_MODE is none of wandb's words.
    """
    found = os.environ.get("WANDB_MODE") or "offline"
    if found.lower() not in _MODES:
        raise InputError(
            f"Expected WANDB_MODE to be online, offline or disabled, got {found!r}; change it, or pass --wandb."
        )
    return _MODES[found.lower()]


def project_name() -> str:
    """The project of runs and dashboards: WANDB_PROJECT, else one named after this library."""
    return os.environ.get("WANDB_PROJECT") or _PROJECT


def _as_long_as_it_lives(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded(self: "RunWandbLogger", *args: Any, **kwargs: Any) -> Any:
        if self.is_lost:
            return None
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # wandb's process may be gone, its disk full, its service out of reach
            self.give_up(error)
            return None

    return guarded


class RunWandbLogger(WandbLogger):
    """A WandbLogger whose loss is one warning, and not the end of training.

    Attributes:
        is_lost: Whether Weights & Biases has failed; nothing is sent from then on.
    """

    is_lost = False

    log_metrics = _as_long_as_it_lives(WandbLogger.log_metrics)
    log_hyperparams = _as_long_as_it_lives(WandbLogger.log_hyperparams)
    log_image = _as_long_as_it_lives(WandbLogger.log_image)
    log_table = _as_long_as_it_lives(WandbLogger.log_table)
    watch = _as_long_as_it_lives(WandbLogger.watch)
    finalize = _as_long_as_it_lives(WandbLogger.finalize)

    @_as_long_as_it_lives
    def define_metric(self, name: str, *, step_metric: str, summary: str | None = None) -> None:
        """Say over what a metric is drawn, and what the run's summary keeps of it.

        Args:
            name: The metric, with its dots escaped.
            step_metric: Another one.
            summary: "last", "min" or "max", several with commas between them.
        """
        self.experiment.define_metric(name, step_metric=step_metric, summary=summary)

    @_as_long_as_it_lives
    def finish(self, *, is_success: bool) -> None:
        """Close the run, so that its files are whole and the next run gets one of its own.

        Args:
            is_success: What it is marked as.
        """
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(not is_success))

    def give_up(self, error: Exception) -> None:
        """Go on without Weights & Biases.

        Args:
            error: What it raised.
        """
        import wandb

        self.is_lost = True
        warnings.warn(
            f"Weights & Biases has failed ({type(error).__name__}: {error}); metrics.csv goes on without it.",
            DiagnosticWarning,
            stacklevel=4,
        )
        with contextlib.suppress(Exception):
            wandb.teardown(exit_code=1)  # or it would print a traceback when the process ends


def wandb_logger(
    mode: Literal["online", "offline"], *, name: str, save_dir: Path, is_continued: bool = False
) -> RunWandbLogger:
    """A logger of a Weights & Biases run, which keeps its files in `save_dir/wandb`.

    The environment of the process stays as it is.

    Args:
        mode: "online" falls back to "offline", with one printed sentence, when nobody is logged in or the server
            does not answer.
        name: The run's display name.
        save_dir: An existing folder.
        is_continued: Whether it goes on with the run whose files are there, if there are any.

    Returns:
        The logger; on all processes but the first one it does nothing.
    """
    run_id = _newest_id(save_dir) if is_continued else None
    run = _start(mode, name, save_dir, run_id) if getattr(rank_zero_only, "rank", 0) == 0 else None
    return RunWandbLogger(name, save_dir=save_dir, project=project_name(), experiment=run)


def _newest_id(save_dir: Path) -> str | None:
    # folders are called run-TIME-ID or offline-run-TIME-ID
    times = {path: path.name.split("run-")[-1].split("-", 1) for path in save_dir.glob("wandb/*run-*-*")}
    return max(times.values(), default=[None])[-1]


def _start(mode: Literal["online", "offline"], name: str, save_dir: Path, run_id: str | None) -> "Run":
    import wandb

    if mode == "online":
        reason = "nobody is logged in (`wandb login`)"
        if has_credentials():
            try:
                return _init("online", name, save_dir, run_id)
            except (wandb.errors.Error, OSError) as error:
                reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        print(
            f"Weights & Biases is not online: {reason}; the run is kept in {save_dir / 'wandb'}, "
            "`wandb sync` sends it later."
        )
    return _init("offline", name, save_dir, run_id)


def _init(mode: Literal["online", "offline"], name: str, save_dir: Path, run_id: str | None) -> "Run":
    import wandb

    # `mode` here and not WandbLogger(offline=True), which sets WANDB_MODE for the whole process
    settings = wandb.Settings(silent=True, console="off", init_timeout=_SECONDS_TO_CONNECT, finish_timeout=60)
    run = wandb.init(
        project=project_name(),
        name=name,
        dir=save_dir,
        mode=mode,
        settings=settings,
        id=run_id,
        resume="allow" if run_id and mode == "online" else None,
    )
    # WandbLogger does the same for the runs it starts itself
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    run.define_metric("train/loss", step_metric="trainer/global_step", summary="min,last")
    return run


def has_credentials() -> bool:
    """Whether wandb would log in without asking, as it must where nobody answers at a terminal."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if path and netrc.netrc(os.path.expanduser(path)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
