"""A run folder with every key of the table, filled with smooth made-up curves."""

import csv
import math
from pathlib import Path

LAYERS = {
    "covariance": ["backbone.0", "backbone.3", "projector.0"],
    "selectivity": ["backbone", "projector"],
    "feature_norms": ["backbone", "projector"],
    "probe": ["backbone"],
    "collapse": ["backbone", "projector"],
    "orthogonality": [],
    "generalization": ["backbone", "projector"],
    "overhead": [
        "CovarianceOperators",
        "NeuronSelectivity",
        "FeatureNormMonitor",
        "LinearProbe",
        "CollapseMonitor",
    ],
}
NUMBERS = {
    "r_epsilon_<k>": range(1, 6),
    "r_epsilon_bound_<k>": range(1, 6),
    "eigenvalue_<k>": range(1, 7),
    "knn<k>_t<tau>_top1": [20],
    "knn<k>_top1": [20],
    "ridge_top<k>": [5],
    "logistic_top1_<k>_labels": [10],
}


def curve(section: str, name: str, depth: int, t: float) -> float:
    """Value at time t in [0, 1] of one quantity at the depth-th layer."""
    rise = 1 - math.exp(-5 * t)
    wobble = 0.01 * math.sin(40 * t + depth)
    if name.startswith("eigenvalue_"):
        k = int(name.split("_")[1])
        return 3.0 * (1 + 20 * rise / k) * math.exp(-0.5 * k) * 10**-depth
    known = {
        "trace": 20 * 10**-depth * (1 + 5 * rise) + wobble * 10**-depth,
        "trace_error95": 4 * 10**-depth,
        "signal_ratio": 0.4 + 0.4 * rise - 0.1 * depth + wobble,
        "growth_rate": 0.5 * 10**-depth * (1 + rise),
        "residual": 0.05 + 0.3 * rise * (0.5 + depth / 3) + wobble,
        "cosine": 0.99 - 0.2 * rise * depth / 2,
        "logistic_top1": 0.92 + 0.07 * rise + wobble / 4,
        "logistic_top1_10_labels": 0.75 + 0.17 * rise + wobble,
        "ridge_top1": 0.90 + 0.07 * rise,
        "ridge_top5": 0.985 + 0.014 * rise,
        "seconds": (6 - depth) * t,
        "share": 0.02 * (1 + depth) / 3,
        "drift": 3e-7 * (1 + t),
        "loss": 4.5 - 2.2 * rise + 4 * wobble,
        "alignment": 0.9 - 0.6 * rise,
        "regularization": 3.6 - 1.6 * rise,
    }
    if section == "collapse" and name in {"effective_rank", "rankme"}:
        return 12 + 20 * rise - 6 * depth
    return known.get(name, 0.3 + 0.5 * rise * (1 - 0.3 * depth) + wobble)


def write_rows(folder: Path, columns: dict[str, list[float | str]], steps: list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "step", *sorted(columns)])
        writer.writeheader()
        for i, step in enumerate(steps):
            writer.writerow({"epoch": i, "step": step, **{name: cells[i] for name, cells in columns.items()}})


def write_run(folder: Path, *, num_looks: int = 40, layers: dict[str, list[str]] | None = None) -> Path:
    """metrics.csv with all keys, settings and run.json, but no checkpoint."""
    from lightning_ssl_theory.report.keys import QUANTITIES

    layers = LAYERS if layers is None else layers
    columns: dict[str, list[float | str]] = {}
    for quantity in QUANTITIES:
        names = (
            [quantity.name.replace("<k>", str(k)).replace("<tau>", "0.07") for k in NUMBERS[quantity.name]]
            if "<k>" in quantity.name
            else [quantity.name]
        )
        is_of_layer = len(quantity.pattern.split("/")) == 3
        for depth, layer in enumerate(layers.get(quantity.section, []) if is_of_layer else [""]):
            for name in names:
                key = "/".join(part for part in (quantity.section, layer, name) if part)
                columns[key] = [
                    curve(quantity.section, name, depth, i / max(1, num_looks - 1)) for i in range(num_looks)
                ]
    write_rows(folder, columns, [25 * i for i in range(num_looks)])
    (folder / "config.yaml").write_text("seed_everything: 0\nmodel:\n  class_path: ContrastiveSSL\n")
    (folder / "run.json").write_text(
        '{"status": "finished", "started": "2026-11-22 16:00", "seconds": 74.2, "parameters": 151616, '
        '"device": "cpu", "torch": "2.15.0", "lightning": "2.6.6"}'
    )
    return folder
