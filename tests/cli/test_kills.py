"""Runs that are killed at any moment go on as if nothing had happened.

`pytest tests/cli/test_kills.py --tries 25` kills 25 runs, interrupts 25 of two ranks, and races 25 pairs.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml

from cli.command_line import DIGITS, WITHOUT_ADVICE
from cli.processes import end, logged, long_config, start, start_ranks, trained, wait_for
from lightning_ssl_theory.cli.checkpoints import newest_checkpoint

USUAL_TRIES = 1
pytestmark = WITHOUT_ADVICE
EVERY_STEP = {"class_path": "ModelCheckpoint", "init_args": {"every_n_train_steps": 1, "save_last": True}}


def checkpointed(**changes) -> list[str]:
    callbacks = yaml.safe_load(Path(DIGITS).read_text())["trainer"]["callbacks"]
    return long_config(trainer__callbacks=[*callbacks, EVERY_STEP], **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert end(start(*checkpointed(), "--name", "whole")) == 0
        run = Path("runs/whole")
        return logged(run), trained(run), (run / "metrics.csv").stat().st_size
    finally:
        os.chdir(before)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(whole, attempt):
    rows, weights, size = whole
    moments = random.Random(attempt)
    run = [*checkpointed(), "--name", "run"]
    process = start(*run)
    wait_for(Path("runs/run/checkpoints/last.ckpt"))
    for share in sorted(moments.uniform(0.1, 0.95) for _ in range(2)):
        wait_for(Path("runs/run/metrics.csv"), share * size)
        time.sleep(moments.uniform(0, 0.03))
        os.kill(process, signal.SIGKILL)
        assert end(process) == -signal.SIGKILL
        process = start(*run, "--ckpt_path", "last")
    assert end(process) == 0
    assert logged(Path("runs/run")) == rows
    found = trained(Path("runs/run"))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.ddp
def test_two_ranks_end_together(attempt):
    moments = random.Random(attempt)
    signum = moments.choice([signal.SIGINT, signal.SIGTERM])
    ranks = start_ranks(2, *long_config(trainer__max_epochs=10_000), "--name", "run")
    wait_for(Path("runs/run/metrics.csv"))
    time.sleep(moments.uniform(0.5, 3))
    told = moments.choice([ranks, ranks[:1], ranks[1:]])  # a terminal tells all, a scheduler perhaps one
    for rank in told:
        os.kill(rank, signum)
    assert [end(rank) for rank in ranks] == [128 + signum] * 2
    assert newest_checkpoint(Path("runs/run"), []).step > 0


def test_runs_started_together_have_folders_of_their_own(attempt):
    runs = [start(*long_config(trainer__max_epochs=1), "--name", "run") for _ in range(2)]
    assert [end(run) for run in runs] == [0, 0]
    one, other = (logged(Path("runs", name)) for name in ("run", "run-2"))
    assert one == other
    assert len(set(one)) == len(one)
