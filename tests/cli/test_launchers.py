"""Runs as schedulers and launchers start them: SLURM, simulated by its variables, and torchrun on two nodes."""

import csv
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cli.command_line import WITHOUT_ADVICE
from cli.processes import end, long_config, start, wait_for

pytestmark = [pytest.mark.ddp, *WITHOUT_ADVICE]
RANKS = ["--trainer.accelerator", "cpu", "--trainer.strategy", "ddp"]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return str(free.getsockname()[1])


def start_job(*arguments: str, restarts: int = 0) -> list[int]:
    """The two tasks of a job, as srun starts them."""
    shared = {
        "SLURM_JOB_ID": "4321",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
    }
    shared |= {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_RESTART_COUNT": str(restarts)}
    shared |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "PATH": f"{Path.cwd()}:{os.environ['PATH']}",
    }
    tasks = [{**shared, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "RANK": str(i)} for i in range(2)]
    return [start(*arguments, *RANKS, "--trainer.devices", "2", environment=task) for task in tasks]


def test_a_job_whose_time_is_up_goes_on_when_it_is_started_again():
    scheduler = Path("scontrol")
    scheduler.write_text('#!/bin/sh\necho "$@" > asked\n')
    scheduler.chmod(0o755)
    run = [*long_config(trainer__max_epochs=10_000), "--name", "run", "--wandb", "offline"]
    tasks = start_job(*run)
    wait_for(Path("runs/run/metrics.csv"), 1000)
    for task in tasks:
        os.kill(task, signal.SIGUSR1)
    wait_for(Path("asked"))
    assert Path("asked").read_text() == "requeue 4321\n"
    for task in tasks:
        os.kill(task, signal.SIGKILL)
    assert [end(task) for task in tasks] == [-signal.SIGKILL] * 2
    saved = torch.load("runs/run/hpc_ckpt_1.ckpt", weights_only=True)
    assert saved["global_step"] > 0
    again = [*run, "--ckpt_path", "last", "--trainer.max_epochs", str(saved["epoch"] + 3)]
    assert [end(task) for task in start_job(*again, restarts=1)] == [0, 0]
    assert [path.name for path in Path("runs").iterdir()] == ["run"]
    with Path("runs/run/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    drift = [int(row["step"]) for row in rows if row["orthogonality/network.hidden/drift"]]
    assert drift == sorted(set(drift))
    assert drift[-1] > saved["global_step"]
    parts = [path.name.rsplit("-", 1) for path in Path("runs/run/wandb").glob("offline-run-*")]
    assert len(parts) == 2
    assert len({run_id for _, run_id in parts}) == 1


@pytest.mark.slow
@pytest.mark.all_cases
def test_torchrun_on_two_nodes():
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free_port()}", "--rdzv-id", "test"]
    command = [*long_config(trainer__max_epochs=1), "--name", "run", *RANKS]
    command += ["--trainer.devices", "1", "--trainer.num_nodes", "2"]
    nodes = [
        subprocess.Popen(
            [*launch, "-m", "lightning_ssl_theory", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]
    told = [node.communicate(timeout=200)[0].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], told
    assert [path.name for path in Path("runs").iterdir()] == ["run"]
    assert torch.load("runs/run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
