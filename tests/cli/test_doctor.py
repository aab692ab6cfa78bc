"""What `doctor` says of a machine, by itself and as it is printed."""

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lightning_ssl_theory.cli import doctor, main
from lightning_ssl_theory.data.image_sets import IMAGE_SETS


@pytest.fixture(autouse=True)
def _nobody_logged_in(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_ENTITY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def found(section, name):
    (finding,) = (
        one
        for one in doctor.examine(Path("data"), Path("runs"))
        if (one.section, one.name) == (section, name)
    )
    return finding.state, finding.text


def test_data_is_found_whole_packed_and_in_part():
    folder = Path("data/MNIST/raw")
    assert found("Data", "mnist") == ("note", f"not in {folder}; --data.download true fetches it")
    folder.mkdir(parents=True)
    first, *others = IMAGE_SETS["mnist"].files
    for file in others:
        (folder / f"{file}.gz").touch()
    assert found("Data", "mnist") == ("note", f"{folder} lacks {first}")
    (folder / first).touch()
    assert found("Data", "mnist") == ("ok", str(folder))


def test_weights_and_biases(monkeypatch):
    section = "Weights & Biases"
    assert found(section, "login") == (
        "note",
        "none; runs stay in files until `wandb login` and `wandb sync`",
    )
    monkeypatch.setenv("WANDB_API_KEY", "x")
    monkeypatch.setenv("WANDB_ENTITY", "us")
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    Path("runs/a/wandb/offline-run-1-b").mkdir(parents=True)
    assert found(section, "login") == ("ok", "found")
    assert found(section, "project") == ("ok", "us/ours")
    assert found(section, "mode")[1].startswith("offline")
    assert (
        found(section, "offline runs")[1]
        == "1 under runs; `wandb sync runs/a/wandb/offline-run-1-b` sends one"
    )
    monkeypatch.setenv("WANDB_MODE", "perhaps")
    assert found(section, "mode")[1].startswith(
        "Expected WANDB_MODE to be online, offline or disabled, got 'perhaps';"
    )


def test_devices(monkeypatch):
    facts = SimpleNamespace(name="H200", total_memory=2**37)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: facts)
    assert found("Devices", "cuda:0") == ("ok", "H200, 128 GiB")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert found("Devices", "GPU") == ("note", "none found; a Trainer uses the CPU")


def test_a_package_that_is_missing_or_too_old_is_named_and_ends_in_code_1(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "requires", lambda _: ["torch>=99", "nowhere>=1", "lightly; extra == 'test'"])
    assert found("Versions", "nowhere") == ("missing", "pip install 'nowhere>=1'")
    assert found("Versions", "torch")[1].endswith("does not fit >=99: pip install 'torch>=99'")
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 1
    assert capsys.readouterr().out.endswith("Missing: torch, nowhere.\n")


@pytest.mark.parametrize("columns", ["80", "120"])
def test_what_is_printed_is_plain_where_nobody_watches(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(doctor, "requires", refuse)
    main(["doctor"])
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= int(columns)
    assert text.endswith("Nothing that is needed is missing.\n")
    for part in ("Versions", "Devices", "Data", "Weights & Biases", "Extras", "timm"):
        assert part in text


def refuse(name):
    raise importlib.metadata.PackageNotFoundError(name)
