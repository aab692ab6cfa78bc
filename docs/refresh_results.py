"""Runs the scripts of examples/reproduce and keeps of each the verdicts and the figures.

    python docs/refresh_results.py esser2023_fig1 tian2020_losses …   # those
    python docs/refresh_results.py                                    # all that docs/results holds: over an hour
    python docs/refresh_results.py teng2022_pretext quick=True        # with arguments of the script's `main`

The pages about the papers show what lies in docs/results and nothing else.
"""

import ast
import importlib.util
import inspect
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from PIL import Image

DOCS = Path(__file__).parent
RESULTS = DOCS / "results"


def load(name: str) -> ModuleType:
    """A script, by its path, as examples are no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS.parent / f"examples/reproduce/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where processes that train look for its functions
    spec.loader.exec_module(module)
    return module


def refresh(name: str, settings: dict[str, Any]) -> None:
    """Run one script, on one core, and keep what it leaves."""
    main = load(name).main
    if "num_processes" in inspect.signature(main).parameters:
        settings = {"num_processes": 1} | settings
    with TemporaryDirectory() as folder:
        main(output_dir=folder, **settings)
        keep(Path(folder) / name, settings)


def keep(folder: Path, settings: dict[str, Any]) -> None:
    """Verdicts, figures in 256 colours, and how both were made."""
    kept = RESULTS / folder.name
    kept.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("*.png")):
        image = Image.open(path).convert("RGB")
        image.thumbnail((1600, 1600))  # twice the width of a page
        image.quantize(256).save(kept / path.name, optimize=True)
    verdicts = (folder / "verdicts.csv").read_text().replace("\r\n", "\n")
    (kept / "verdicts.csv").write_text(verdicts)
    settings = {key: value for key, value in settings.items() if key != "num_processes"}
    said = ", ".join(f"{key}={value!r}" for key, value in settings.items()) or "default settings"
    made = {"command": f"python examples/reproduce/{folder.name}.py", "settings": said}
    (kept / "made.json").write_text(json.dumps(made, indent=2) + "\n")


def main() -> None:
    """Read the words of the command line."""
    words = sys.argv[1:]
    settings = {
        key: ast.literal_eval(value) for key, _, value in (w.partition("=") for w in words if "=" in w)
    }
    names = [word for word in words if "=" not in word]
    for name in names or sorted(path.name for path in RESULTS.iterdir()):
        refresh(name, settings)


if __name__ == "__main__":
    main()
