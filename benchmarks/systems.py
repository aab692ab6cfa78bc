"""Systems trained from their YAML files: is the representation better than the untrained network's, and not collapsed?

Every file of examples/configs that reads a folder of images is trained by the command line, for several seeds, without
its callbacks, which change nothing. Before and after, `validate` measures the features of the backbone on held-out
images: their effective rank, and a logistic probe on 10 labels a class. Differences are paired by seed, with 95 %
intervals of Student's t.

    python benchmarks/systems.py --data-dir DIR [--num-seeds 3] [--only simsiam byol] [--jobs 2]

DIR holds train/<class>/* and test/<class>/*, such as CIFAR-10 as JPEGs. A training takes about a minute of one core.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lightning_ssl_theory.report import seed_mean

CONFIGS = Path(__file__).parents[1] / "examples" / "configs"
NUM_LABELS = 10  # of each class
MEASURES = {
    "effective rank": "collapse/backbone/effective_rank",
    "10-label probe": f"probe/backbone/logistic_top1_{NUM_LABELS}_labels",
}
MEASURING = [
    {"class_path": "CollapseMonitor", "init_args": {"layers": ["backbone"], "num_samples": None}},
    {"class_path": "LinearProbe", "init_args": {"layer": "backbone", "few_labels": [NUM_LABELS]}},
]


def command(*arguments: str) -> None:
    """Run the command line in a process of its own; its output is shown where it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "lightning_ssl_theory", *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def measured(folder: Path, name: str, options: list[str]) -> dict[str, float]:
    """What `validate` logs of the backbone's features."""
    command("validate", *options, "--name", name, "--trainer.callbacks", json.dumps(MEASURING))
    with (folder / name / "metrics.csv").open() as file:
        row = {key: value for line in csv.DictReader(file) for key, value in line.items() if value}
    return {measure: float(row[key]) for measure, key in MEASURES.items()}


def trial(config: Path, seed: int, data_dir: str) -> dict[str, Any]:
    """Measures before and after one training."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--config", str(config), "--data.data_dir", data_dir, "--seed_everything", str(seed)]
        options += ["--output_dir", folder, "--wandb", "off", "--trainer.enable_progress_bar", "false"]
        before = measured(Path(folder), "before", options)
        start = time.perf_counter()
        command(
            "fit", *options, "--name", "fit", "--trainer.callbacks", "[]", "--trainer.limit_val_batches", "0"
        )
        seconds = time.perf_counter() - start
        (checkpoint,) = (Path(folder) / "fit" / "checkpoints").glob("last.ckpt")
        after = measured(Path(folder), "after", [*options, "--ckpt_path", str(checkpoint)])
    print(config.stem, seed, before, after, f"{seconds:.0f} s", file=sys.stderr, flush=True)
    return {"before": before, "after": after, "seconds": seconds}


def main(*, data_dir: str, num_seeds: int, only: list[str] | None, jobs: int) -> None:
    """Train all, and print a table."""
    files = sorted(CONFIGS.glob("*_cifar10_folder.yaml"))
    files = [file for file in files if only is None or file.stem.removesuffix("_cifar10_folder") in only]
    trials = [(file, seed, data_dir) for file in files for seed in range(num_seeds)]
    print(
        f"{'system':24}{'measure':16}{'untrained':>10}{'trained':>9}{'difference, 95 % interval':>30}{'s':>6}"
    )
    with ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(lambda one: trial(*one), trials))
    for file in files:
        mine = [result for (of, *_), result in zip(trials, found, strict=True) if of == file]
        for measure in MEASURES:
            before, after = ([result[when][measure] for result in mine] for when in ("before", "after"))
            gain = seed_mean(b - a for a, b in zip(before, after, strict=True))
            low, high = gain.value - gain.half_width(), gain.value + gain.half_width()
            seconds = sum(result["seconds"] for result in mine) / len(mine)
            print(
                f"{file.stem.removesuffix('_cifar10_folder'):24}{measure:16}{sum(before) / len(mine):10.3f}"
                f"{sum(after) / len(mine):9.3f}{'':8}[{low:+8.3f}, {high:+8.3f}]  {seconds:6.0f}"
                f"{'' if low > 0 else '   not shown'}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--num-seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=None, help="systems, by the names of their files")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    main(**vars(parser.parse_args()))
