"""Weights & Biases without questions at the terminal, and without losing a run when its server is away."""

import netrc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

WandbMode = Literal["online", "offline", "off"]

_PROJECT = "lightning-ssl-theory"
_SECONDS_TO_CONNECT = 20


def wandb_logger(mode: Literal["online", "offline"], *, name: str, save_dir: Path) -> WandbLogger:
    """A logger of a new Weights & Biases run, which keeps its files in `save_dir/wandb`.

    The environment of the process stays as it is.

    Args:
        mode: "online" falls back to "offline", with one printed sentence, when nobody is logged in or the server
            does not answer.
        name: The run's display name.
        save_dir: An existing folder.

    Returns:
        The logger; on all processes but the first one it does nothing.
    """
    run = _start(mode, name, save_dir) if getattr(rank_zero_only, "rank", 0) == 0 else None
    return WandbLogger(name, save_dir=save_dir, project=_PROJECT, experiment=run)


def _start(mode: Literal["online", "offline"], name: str, save_dir: Path) -> "Run":
    import wandb

    if mode == "online":
        reason = "nobody is logged in (`wandb login`)"
        if _has_credentials():
            try:
                return _init("online", name, save_dir)
            except (wandb.errors.Error, OSError) as error:
                reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        print(
            f"Weights & Biases is not online: {reason}; the run is kept in {save_dir / 'wandb'}, "
            "`wandb sync` sends it later."
        )
    return _init("offline", name, save_dir)


def _init(mode: Literal["online", "offline"], name: str, save_dir: Path) -> "Run":
    import wandb

    # `mode` here and not WandbLogger(offline=True), which sets WANDB_MODE for the whole process
    settings = wandb.Settings(silent=True, console="off", init_timeout=_SECONDS_TO_CONNECT, finish_timeout=60)
    run = wandb.init(project=_PROJECT, name=name, dir=save_dir, mode=mode, settings=settings)
    # WandbLogger does the same for the runs it starts itself
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return run


# Whether wandb would log in without asking: it must not wait for an answer at a terminal.
def _has_credentials() -> bool:
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
