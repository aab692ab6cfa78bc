"""setup.cfg lists every package, and callbacks/ is one class tree wherever it is imported from."""

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import lightning_ssl_theory

ROOT = Path(__file__).parents[1]


def test_every_folder_is_listed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("lightning_ssl_theory", "callbacks")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert listed == {
        f"lightning_ssl_theory.{name}" if name.split(".")[0] == "callbacks" else name for name in folders
    }


def test_what_is_no_python_is_shipped_too():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    shipped = {
        file
        for package, patterns in config["options.package_data"].items()
        for pattern in patterns.split()
        for file in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    found = {
        file
        for file in (ROOT / "lightning_ssl_theory").rglob("*")
        if file.is_file() and file.suffix not in {".py", ".pyc"}
    }
    assert found == shipped


def test_a_clone_that_was_never_installed_imports(tmp_path):
    code = (
        "import lightning_ssl_theory.callbacks as callbacks;"
        "assert callbacks.LinearProbe.__module__ == 'lightning_ssl_theory.callbacks.linear_probe', callbacks"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)


def test_there_is_one_version():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["version"] == "attr: lightning_ssl_theory.__version__"
    assert f"\nversion: {lightning_ssl_theory.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_python_that_is_promised_is_tried():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    promised = re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])
    workflow = (ROOT / ".github/workflows/tests.yml").read_text()
    assert re.findall(r'"(3\.\d+)"', workflow.split("matrix:")[1].splitlines()[1]) == promised
    assert config["options"]["python_requires"] == f">={promised[0]}"
