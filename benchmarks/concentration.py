"""Augmented distances within classes against a loop over pairs and against their matrix products alone, in one run.

10,000 images of CIFAR's size (3 x 32 x 32) with 8 views each, 10 classes: 5 million pairs of samples, 320 million of
views. The loop takes the differences of all views of one pair of samples at a time; it is timed on a small share of the
pairs and scaled. The products are those of the same views in the same blocks, and nothing else. Then the cost over the
number of samples and of views, a class at a time. Random images, or views of a folder's test images (`--data-dir`).

Every measurement runs in a process of its own on one thread, in seconds of processor time, so that what else the
machine does matters little.

    python benchmarks/concentration.py [--data-dir DIR] [--num-samples 10000] [--num-views 8]
"""

import argparse
import multiprocessing as mp
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_ssl_theory.data import ImageDataModule
from lightning_ssl_theory.metrics import augmented_distances

SHAPE, NUM_CLASSES, BUDGET, PAIRS = (3, 32, 32), 10, 256 * 1024**2, 300


class Cost(NamedTuple):
    """Seconds of processor time, MiB of peak memory above the views, and one number that says what was computed."""

    seconds: float
    mebibytes: float
    value: float


def random_views(num_samples: int, num_views: int) -> tuple[Tensor, Tensor]:
    """Normal noise around a normal image for each sample."""
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(num_samples, num_views, *SHAPE, generator=generator).mul_(0.5)
    views += torch.randn(num_samples, 1, *SHAPE, generator=generator)
    return views, torch.arange(num_samples) % NUM_CLASSES


def folder_views(data_dir: str, num_samples: int, num_views: int) -> tuple[Tensor, Tensor]:
    """Views of test images, the clean ones first."""
    data = ImageDataModule("image_folder", data_dir, 200, image_size=SHAPE[1])
    views, labels = torch.empty(num_samples, num_views, *SHAPE), torch.empty(num_samples, dtype=torch.int64)
    for start, (parts, found) in zip(
        range(0, num_samples, 200), data.views_dataloader(num_views), strict=False
    ):
        rows = slice(start, min(start + 200, num_samples))
        views[rows] = torch.stack(parts, dim=1)[: len(views[rows])]
        labels[rows] = found[: len(labels[rows])]
    return views, labels


def ours(views: Tensor, labels: Tensor) -> tuple[float, float]:
    """This library's; the mean distance of near pairs stands for the matrix."""
    found = augmented_distances(views, labels, memory_budget=BUDGET)
    same = labels == labels[0]
    return 1.0, float(found[same][:, same].mean())


def products_alone(views: Tensor, labels: Tensor) -> tuple[float, float]:
    """The products of all views of a class with those of the later ones, in blocks of the same size."""
    total = 0.0
    for label in labels.unique():
        rows = views[labels == label].flatten(2).transpose(0, 1).contiguous()  # (A, n, D)
        num_views, count, width = rows.shape
        size = BUDGET // (4 * ((num_views + 4) * count + num_views * width))
        for first in range(0, count, size):
            left = rows[:, first : first + size].flatten(0, 1)
            out = torch.empty(len(left), count - first)
            for view in rows:
                torch.mm(left, view[first:].mT, out=out)
            total += float(out[0, 0])
    return 1.0, total


def loop(views: Tensor, labels: Tensor) -> tuple[float, float]:
    """Differences of one pair of samples after the other, of a share of the pairs."""
    return _loop(views, labels, lambda a, b: (a[:, None] - b).square().sum(2).amin().sqrt())


def loop_of_cdist(views: Tensor, labels: Tensor) -> tuple[float, float]:
    """The same by torch's own distances of two sets of rows."""
    return _loop(views, labels, lambda a, b: torch.cdist(a, b).amin())


def _loop(views: Tensor, labels: Tensor, distance: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, float]:
    members = (labels == labels[0]).nonzero().flatten()
    rows = views[members].flatten(2)
    generator = torch.Generator().manual_seed(0)
    picked = torch.randint(len(rows), (PAIRS, 2), generator=generator).tolist()
    for i, j in picked:
        distance(rows[i], rows[j])
    counts = torch.bincount(labels)
    return float((counts * (counts - 1) / 2).sum()) / PAIRS, 0.0


WAYS = {way.__name__: way for way in (ours, products_alone, loop, loop_of_cdist)}


def measured(way: str, path: Path) -> Cost:
    """Cost of one way on views from a file."""
    with mp.get_context("spawn").Pool(1) as pool:
        return Cost(*pool.apply(_measured, (way, str(path))))


def _measured(way: str, path: str) -> tuple[float, float, float]:
    torch.set_num_threads(1)
    views, labels = torch.load(path)
    WAYS[way](views[:40], labels[:40])  # the libraries' own start
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _status("VmRSS"), time.process_time()
    scale, value = WAYS[way](views, labels)
    return scale * (time.process_time() - start), (_status("VmHWM") - before) / 2**10, value


def _status(key: str) -> int:
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(key))
    return int(line.split()[1])


def print_ratios(path: Path, views: Tensor, labels: Tensor) -> None:
    """What the other ways cost, in units of ours, and our memory."""
    costs = {way: measured(way, path) for way in WAYS}
    mine = costs["ours"]
    for way, cost in costs.items():
        print(f"{way:17} {cost.seconds:9.1f} s {cost.seconds / mine.seconds:8.2f} x ours", flush=True)
    print(f"ours / products alone: {mine.seconds / costs['products_alone'].seconds:.2f} (target: below 2)")
    print(f"loop / ours: {costs['loop'].seconds / mine.seconds:.1f} (target: above 20)")
    largest = int(torch.bincount(labels).max())
    parts = {
        "result": 4 * len(views) ** 2,
        "two copies of a class": 2 * 4 * largest * views[0].numel(),
        "its distances": 3 * 4 * largest**2,
        "budget": BUDGET,
    }
    text = ", ".join(f"{name} {count / 2**20:.0f}" for name, count in parts.items())
    print(f"peak memory {mine.mebibytes:.0f} MiB of {sum(parts.values()) / 2**20:.0f} ({text})")


def print_costs(folder: Path, num_samples: int, num_views: int) -> None:
    """Seconds over N and A, and for a pair of views."""
    print(f"{'N':>6} {'A':>3} {'s':>8} {'ns a pair of views':>20}")
    sizes = [(num_samples // part, num_views) for part in (10, 5, 2)]
    sizes += [(num_samples // 5, views) for views in (2, 4) if views < num_views]
    for count, views in sizes:
        path = folder / "part.pt"
        torch.save(random_views(count, views), path)
        seconds = measured("ours", path).seconds
        pairs = count**2 / NUM_CLASSES / 2 * views**2
        print(f"{count:6} {views:3} {seconds:8.2f} {1e9 * seconds / pairs:20.1f}", flush=True)


def main(*, data_dir: str | None, num_samples: int, num_views: int) -> None:
    """Print the tables."""
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        views, labels = (
            folder_views(data_dir, num_samples, num_views)
            if data_dir
            else random_views(num_samples, num_views)
        )
        path = Path(name) / "views.pt"
        torch.save((views, labels), path)
        print(f"{tuple(views.shape)} of {data_dir or 'random images'}, {NUM_CLASSES} classes", flush=True)
        print_ratios(path, views, labels)
        print_costs(Path(name), num_samples, num_views)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--num-samples", type=int, default=10_000)
    parser.add_argument("--num-views", type=int, default=8)
    main(**vars(parser.parse_args()))
