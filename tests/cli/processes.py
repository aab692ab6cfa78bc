"""The command line in processes of its own, which may be killed. They are forked, since torch takes long to import."""

import csv
import os
import signal
import socket
import time
import traceback
from pathlib import Path

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from cli.command_line import QUIET, changed_config
from lightning_ssl_theory.cli import main

SECONDS_UNTIL_HUNG = 60
ONE_RANK = {}


def start(*arguments: str, environment: dict[str, str] = ONE_RANK) -> int:
    """A process that runs the command; its number."""
    process = os.fork()
    if process:
        return process
    os.environ.pop("WANDB_SERVICE", None)  # an earlier test's, which remembers runs that were killed
    os.environ.update(environment)
    rank_zero_only.rank = int(environment.get("RANK", 0))  # as where torch is imported in the process itself
    code = 1
    try:
        main(arguments)
        code = 0
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def start_ranks(num_ranks: int, *arguments: str) -> list[int]:
    """The processes of a run, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(num_ranks)}
    shared |= {"TORCHELASTIC_RUN_ID": "test", "LOCAL_WORLD_SIZE": str(num_ranks), "GROUP_RANK": "0"}
    options = [
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
        str(num_ranks),
        "--trainer.strategy",
        "ddp",
    ]
    return [
        start(*arguments, *options, environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(num_ranks)
    ]


def end(process: int) -> int | None:
    """The exit code, negative for a signal, or None for one that hangs; it is killed then."""
    until = time.monotonic() + SECONDS_UNTIL_HUNG
    while time.monotonic() < until:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def wait_for(path: Path, size: float = 0) -> None:
    """Until a file has more than a number of bytes."""
    until = time.monotonic() + SECONDS_UNTIL_HUNG
    while not path.exists() or path.stat().st_size <= size:
        assert time.monotonic() < until, f"nobody has written {path}"
        time.sleep(0.002)


def long_config(**changes) -> list[str]:
    """A configuration whose epochs have 9 steps, with looks at steps and at validations."""
    settings = {"data__init_args__batch_size": 128, "trainer__log_every_n_steps": 2, "trainer__max_epochs": 4}
    return ["fit", "--config", changed_config(**settings | changes), *QUIET]


def logged(folder: Path) -> list[tuple[str, str, str]]:
    """Step, key and value of everything a run has logged but the time it took."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return sorted(
        (row["step"], key, value)
        for row in rows
        for key, value in row.items()
        if value and key != "step" and not key.startswith("overhead/")
    )


def trained(folder: Path) -> dict[str, torch.Tensor]:
    """The weights at the end of a run, and the optimizer's state."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    (optimizer,) = checkpoint["optimizer_states"]
    state = {
        f"{i}.{name}": value for i, values in optimizer["state"].items() for name, value in values.items()
    }
    return checkpoint["state_dict"] | {key: value for key, value in state.items() if torch.is_tensor(value)}
