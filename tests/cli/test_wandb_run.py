"""Weights & Biases: never a question, never a lost run, nothing changed in the environment."""

import os
import re
import signal
import socket
import stat
import time
from pathlib import Path

import pytest
import torch

from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.cli import wandb_run
from lightning_ssl_theory.cli.run_folder import finish_loggers, run_loggers
from lightning_ssl_theory.report.logged_rows import read_rows


@pytest.fixture(autouse=True)
def _nobody_logged_in(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "NETRC", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_wandb_without_a_login_stays_offline_and_keeps_the_data(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    loggers = run_loggers(tmp_path / "run", "online")
    shown = capsys.readouterr().out
    assert "Weights & Biases is not online: nobody is logged in (`wandb login`); the run is kept in" in shown
    loggers[1].log_metrics({"a": 1.0}, step=0)
    finish_loggers(loggers, is_success=True)
    until = time.monotonic() + 30
    while b"trainer/global_step" not in kept_offline(tmp_path / "run"):  # wandb's own process writes it
        assert time.monotonic() < until
        time.sleep(0.1)
    assert "WANDB_MODE" not in os.environ


def kept_offline(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.glob("wandb/offline-run-*/*.wandb"))


def kill_wandb() -> None:
    for status in Path("/proc").glob("[0-9]*/stat"):
        name, _, rest = status.read_text().partition("(")[2].rpartition(")")
        if name == "wandb-core" and rest.split()[1] == str(os.getpid()):
            os.kill(int(status.parent.name), signal.SIGKILL)


def cut_wandb_off() -> None:
    """Every connection of this process to a server on this machine ends, as if the service were out of reach."""
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            if stat.S_ISSOCK(descriptor.stat().st_mode):
                with socket.socket(fileno=os.dup(int(descriptor.name))) as connection:
                    if connection.getpeername():
                        connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # it listens, or is closed already


@pytest.mark.parametrize("end_wandb", [kill_wandb, cut_wandb_off])
def test_wandb_gone_in_the_middle_of_a_run_is_one_warning(end_wandb, tmp_path, recwarn):
    loggers = run_loggers(tmp_path, "offline")
    _, wandb = loggers
    loggers[1].log_metrics({"a": 1.0}, step=0)
    end_wandb()
    step, until = 0, time.monotonic() + 30
    while not wandb.is_lost and time.monotonic() < until:
        for logger in loggers:
            logger.log_metrics({"a": 1.0}, step=step)
        step += 1
    wandb.log_image("b", [torch.zeros(4, 4).numpy()], step=step)
    finish_loggers(loggers, is_success=True)
    (warning,) = recwarn.list
    assert re.match(r"Weights & Biases has failed \(.*\); metrics.csv goes on", str(warning.message))
    assert len(read_rows(tmp_path / "metrics.csv")) == step


def test_wandb_out_of_reach_stays_offline(tmp_path, capsys, monkeypatch):
    import wandb

    def refuse(mode, *rest):
        if mode == "online":
            raise wandb.errors.CommError("no answer.\nafter 20 s")
        return "offline run"

    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr(wandb_run, "_init", refuse)
    assert wandb_run.wandb_logger("online", name="n", save_dir=tmp_path)._experiment == "offline run"
    assert "is not online: no answer; the run is kept in" in capsys.readouterr().out


def test_credentials_are_found_where_wandb_looks(tmp_path, monkeypatch):
    assert not wandb_run.has_credentials()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_run.has_credentials()
    monkeypatch.setenv("WANDB_BASE_URL", "https://elsewhere.example")
    assert not wandb_run.has_credentials()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert wandb_run.has_credentials()


@pytest.mark.parametrize(
    ("said", "meant"),
    [(None, "offline"), ("", "offline"), ("online", "online"), ("dryrun", "offline"), ("DISABLED", "off")],
)
def test_the_environment_says_what_is_usual(said, meant, monkeypatch):
    if said is not None:
        monkeypatch.setenv("WANDB_MODE", said)
    assert wandb_run.usual_mode() == meant


def test_a_mode_that_is_none(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "perhaps")
    with pytest.raises(
        InputError, match="Expected WANDB_MODE to be online, offline or disabled, got 'perhaps'; change"
    ):
        wandb_run.usual_mode()


def test_project_and_entity_of_the_environment(tmp_path, monkeypatch):
    assert wandb_run.project_name() == "lightning-ssl-theory"
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    monkeypatch.setenv("WANDB_ENTITY", "us")
    loggers = run_loggers(tmp_path, "offline")
    assert (loggers[1].experiment.project, loggers[1].experiment.entity) == ("ours", "us")
    finish_loggers(loggers, is_success=True)
