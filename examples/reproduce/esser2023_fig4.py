"""Esser, Mukherjee, Ghoshdastidar 2023, figure 4: time per step over the width, and a linear SVM on top.

    python examples/reproduce/esser2023_fig4.py --data-dir DIR [--full]

Two MNIST classes with 200 images each. A step of the reduced ODE against a step of constrained training, as
benchmarks/flows.py measures them; then the accuracy of a linear SVM on the features of the trained network and on
those of the ODE, which sees neither network nor width. The text of the paper lost its settings: here z = 2, positives
by Gaussian noise 0.1, lr = 0.01 for 100 full-batch steps, a tanh network with h = 1000, 200 held-out images a class.
DIR/MNIST/raw holds MNIST as torchvision has it; without it the SVM part is left out. About four minutes on two cores.
"""

# %%
import argparse
import runpy
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor
from torchvision.datasets import MNIST

from lightning_ssl_theory import OrthogonalSSL
from lightning_ssl_theory.flows import eigenbasis, flow_outputs, stiefel_flow, trace_matrix
from lightning_ssl_theory.report import Reproduction, Verdict

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "flows.py"
LEARNING_RATE, NUM_OUTPUTS, NOISE, PER_CLASS = 0.01, 2, 0.1, 200
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (3, 5), (4, 9), (1, 7), (0, 6), (2, 8))

Split = tuple[Tensor, Tensor, Tensor, Tensor]  # training images and labels, held-out images and labels


# %%
def read_mnist(data_dir: str) -> tuple[Tensor, Tensor, Tensor, Tensor] | str:
    """Images in [0, 1] and labels of both parts, or why there are none."""
    try:
        parts = [MNIST(data_dir, train=is_train, download=False) for is_train in (True, False)]
    except RuntimeError:
        return f"no MNIST under {data_dir}; pass --data-dir"
    images = [part.data.flatten(1).float() / 255 for part in parts]
    return images[0], parts[0].targets, images[1], parts[1].targets


def two_classes(mnist: Split, pair: tuple[int, int]) -> Split:
    """The first images of both classes, of the training and of the test part."""
    found: list[Tensor] = []
    for images, labels in (mnist[:2], mnist[2:]):
        rows = torch.cat([(labels == digit).nonzero()[:PER_CLASS, 0] for digit in pair])
        found += [images[rows], labels[rows]]
    return found[0], found[1], found[2], found[3]


def views_of(x: Tensor, seed: int) -> list[Tensor]:
    """Images in random order, so that negatives are of both classes, and noisy positives."""
    generator = torch.Generator().manual_seed(seed)
    x = x[torch.randperm(len(x), generator=generator)]
    return [x, x + NOISE * torch.randn(x.shape, generator=generator)]


def svm_accuracy(features: Tensor, labels: Tensor, held_out: Tensor, held_out_labels: Tensor) -> float:
    """Of a linear SVM on standardised features, in percent."""
    svm = make_pipeline(StandardScaler(), LinearSVC())
    svm.fit(features.numpy(), labels.numpy())
    return 100 * float(svm.score(held_out.numpy(), held_out_labels.numpy()))


def compare(split: Split, width: int, steps: int, seed: int) -> dict[str, Any]:
    """Accuracy on the features of the trained tanh network, of the ODE from its start, and of that start."""
    x, labels, held_out, held_out_labels = split
    views = views_of(x, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = OrthogonalSSL(x.shape[1], width, NUM_OUTPUTS, "tanh", "stiefel", lr=LEARNING_RATE)
    basis = eigenbasis(trace_matrix(*views, views[0].roll(-1, 0)))
    q0 = model.network.product().detach().double() @ basis.eigenvectors
    path = stiefel_flow(q0, basis.eigenvalues, torch.tensor([0.0, LEARNING_RATE * steps]))
    optimizer = model.configure_optimizers()
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(*map(model, views)).backward()
        optimizer.step()
    with torch.no_grad():
        features = {"trained": (model(x), model(held_out))}
    for name, q in (("start", path[0]), ("ode", path[1])):
        features[name] = tuple(flow_outputs(q, basis.eigenvectors, images) for images in (x, held_out))
    return {
        name: round(svm_accuracy(train, labels, test, held_out_labels), 2)
        for name, (train, test) in features.items()
    }


# %%
def draw(reproduction: Reproduction, times: list[dict[str, float]], accuracies: list[dict[str, Any]]) -> None:
    with reproduction.figure("fig4", num_columns=2) as (left, right):
        widths = [row["h"] for row in times]
        for name, label in (
            ("qr", "training, tangent + QR"),
            ("polar", "training, projection"),
            ("flow", "ODE"),
        ):
            left.plot(widths, [row[name] for row in times], marker="o", markersize=3, label=label)
        left.set(xscale="log", yscale="log", xlabel="hidden width h", title="processor milliseconds a step")
        left.set_xticks(widths, [f"{h:g}" for h in widths])
        left.minorticks_off()
        left.legend(loc="center")
        for name, marker, label in (
            ("trained", "o", "trained"),
            ("ode", "x", "ODE"),
            ("start", ".", "at the start"),
        ):
            right.plot([row[name] for row in accuracies], marker, label=label)
        right.set_xticks(range(len(accuracies)), [row["pair"] for row in accuracies], rotation=60)
        right.set(title="held-out accuracy of a linear SVM, %")
        if accuracies:
            right.legend()


def judge(times: list[dict[str, float]], accuracies: list[dict[str, Any]], reason: str) -> list[Verdict]:
    first, last = times[0], times[-1]
    widths = last["h"] / first["h"]
    growth, flat = (
        last["polar"] / first["polar"],
        max(r["flow"] for r in times) / min(r["flow"] for r in times),
    )
    ratio = min(last["qr"], last["polar"]) / last["flow"]
    verdicts = [
        Verdict(
            "a step of training grows linearly with h",
            "in words",
            f"{growth:.1f} times from h = {first['h']:g} to {last['h']:g}",
            0.5 < growth / widths < 2,
        ),
        Verdict(
            "a step of the ODE does not depend on h", "in words", f"largest / smallest {flat:.2f}", flat < 1.5
        ),
        Verdict(
            "a step of the ODE is faster", "in words", f"{ratio:.0f} times at h = {last['h']:g}", ratio > 1
        ),
    ]
    claim = "linear SVM: trained network and ODE coincide (1 point on average)"
    if not accuracies:
        return [*verdicts, Verdict(claim, "in words", reason, None)]
    gaps = [abs(row["trained"] - row["ode"]) for row in accuracies]
    means = {
        name: sum(row[name] for row in accuracies) / len(accuracies) for name in ("trained", "ode", "start")
    }
    here = (
        f"{sum(gaps) / len(gaps):.2f} points over {len(gaps)} pairs, largest {max(gaps):.2f}; mean "
        + ", ".join(f"{name} {value:.1f} %" for name, value in means.items())
    )
    return [*verdicts, Verdict(claim, "in words", here, sum(gaps) / len(gaps) <= 1)]


# %%
def main(
    *,
    full: bool = False,
    data_dir: str = "data",
    widths: tuple[int, ...] = (1000, 2000, 5000, 10000),
    svm_width: int = 1000,
    steps: int = 100,
    repeats: int = 3,
    output_dir: str = "runs/reproduce",
) -> list[Verdict]:
    """Measure, draw and judge."""
    torch.set_num_threads(1)
    mnist, benchmark = read_mnist(data_dir), runpy.run_path(str(BENCHMARK))
    images = None if isinstance(mnist, str) else two_classes(mnist, PAIRS[0])[0]
    timing_views = benchmark["smooth_views"]() if images is None else views_of(images, 0)
    times = benchmark["step_times"](timing_views, widths, num_outputs=NUM_OUTPUTS, repeats=repeats)
    accuracies = []
    if not isinstance(mnist, str):
        for seed, pair in enumerate(tuple(combinations(range(10), 2)) if full else PAIRS):
            accuracies.append(
                {"pair": f"{pair[0]}, {pair[1]}"} | compare(two_classes(mnist, pair), svm_width, steps, seed)
            )
    reproduction = Reproduction("esser2023_fig4", output_dir)
    reproduction.table("times", times)
    if accuracies:
        reproduction.table("accuracies", accuracies)
    draw(reproduction, times, accuracies)
    verdicts = judge(times, accuracies, mnist if isinstance(mnist, str) else "")
    reproduction.verdicts(verdicts)
    return verdicts


# %%
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all 45 pairs of digits")
    parser.add_argument("--data-dir", default="data", help="folder that holds MNIST/raw")
    parser.add_argument("--output-dir", default="runs/reproduce")
    arguments = parser.parse_args()
    main(full=arguments.full, data_dir=arguments.data_dir, output_dir=arguments.output_dir)
