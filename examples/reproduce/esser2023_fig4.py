"""Esser, Mukherjee, Ghoshdastidar 2023, figure 4: a linear SVM on the trained network and on the ODE.

    python examples/reproduce/esser2023_fig4.py [--data-dir DIR] [--full]

Two classes of images, 200 of each. The accuracy of a linear SVM on the features of the trained network and on those of
the ODE, which sees neither network nor width. The text of the paper lost its settings: here z = 2, positives by
Gaussian noise 0.1, lr = 0.01 for 100 full-batch steps, a tanh network with h = 1000, 200 held-out images a class.
DIR/MNIST/raw holds MNIST as torchvision has it; without it scikit-learn's digits of 8 x 8 pixels are taken, about 120
images of a class and 60 held out. The other half of the figure, time over the width, is what benchmarks/flows.py
measures. A minute or two on two cores.
"""

# %%
from itertools import combinations
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor
from torchvision.datasets import MNIST

from lightning_ssl_theory import OrthogonalSSL
from lightning_ssl_theory.flows import eigenbasis, flow_outputs, stiefel_flow, trace_matrix
from lightning_ssl_theory.report import (
    Reproduction,
    Verdict,
    full_batch_steps,
    mean_verdict,
    missing_verdict,
    run_script,
    run_trials,
    seed_mean,
    seeded,
    values_of,
)

LEARNING_RATE, NUM_OUTPUTS, NOISE, PER_CLASS = 0.01, 2, 0.1, 200
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (3, 5), (4, 9), (1, 7), (0, 6), (2, 8))
FEATURES = {"trained": ("trained", "o"), "ode": ("ODE", "x"), "start": ("at the start", ".")}

Split = tuple[Tensor, Tensor, Tensor, Tensor]  # training images and labels, held-out images and labels


# %%
def read_images(data_dir: str) -> tuple[str, Split]:
    """MNIST, or scikit-learn's digits where there is none; pixels in [0, 1]."""
    try:
        parts = [MNIST(data_dir, train=is_train, download=False) for is_train in (True, False)]
    except RuntimeError:
        digits = load_digits()
        images, labels = torch.from_numpy(digits.data).float() / 16, torch.from_numpy(digits.target)
        return "scikit-learn's digits", (images[:1200], labels[:1200], images[1200:], labels[1200:])
    train, held_out = (part.data.flatten(1).float() / 255 for part in parts)
    return "MNIST", (train, parts[0].targets, held_out, parts[1].targets)


def two_classes(images: Split, pair: tuple[int, int]) -> Split:
    """The first images of both classes, of the training and of the test part."""
    found: list[Tensor] = []
    for inputs, labels in (images[:2], images[2:]):
        rows = torch.cat([(labels == digit).nonzero()[:PER_CLASS, 0] for digit in pair])
        found += [inputs[rows], labels[rows]]
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


def compare(split: Split, width: int, steps: int, seed: int) -> dict[str, float]:
    """Accuracy on the features of the trained tanh network, of the ODE from its start, and of that start."""
    x, labels, held_out, held_out_labels = split
    views = views_of(x, seed)
    with seeded(seed):
        model = OrthogonalSSL(x.shape[1], width, NUM_OUTPUTS, "tanh", "stiefel", lr=LEARNING_RATE)
    basis = eigenbasis(trace_matrix(*views, views[0].roll(-1, 0)))
    q0 = model.network.product().detach().double() @ basis.eigenvectors
    path = stiefel_flow(q0, basis.eigenvalues, torch.tensor([0.0, LEARNING_RATE * steps]))
    for _ in full_batch_steps(model, views, steps):
        pass
    with torch.no_grad():
        features = {"trained": (model(x), model(held_out))}
    for name, q in (("start", path[0]), ("ode", path[1])):
        features[name] = tuple(flow_outputs(q, basis.eigenvectors, images) for images in (x, held_out))
    return {
        name: round(svm_accuracy(train, labels, test, held_out_labels), 2)
        for name, (train, test) in features.items()
    }


# %%
def draw(found: Reproduction, rows: list[dict[str, Any]], images: str) -> None:
    with found.figure("fig4") as (axis,):
        for name, (label, marker) in FEATURES.items():
            axis.plot(values_of(rows, name), marker, label=label)
        axis.set_xticks(range(len(rows)), values_of(rows, "pair"), rotation=60)
        axis.set(title=f"Linear SVM on {images}", xlabel="pair of digits", ylabel="held-out accuracy, %")
        axis.legend()


def judge(rows: list[dict[str, Any]], images: str) -> list[Verdict]:
    means = ", ".join(
        f"{label} {seed_mean(values_of(rows, name)).value:.1f} %" for name, (label, _) in FEATURES.items()
    )
    return [
        missing_verdict(
            "a step of training grows with h, one of the ODE does not", "see benchmarks/flows.py"
        ),
        mean_verdict(
            "linear SVM: trained network and ODE coincide (1 point on average)",
            [abs(row["trained"] - row["ode"]) for row in rows],
            below=1,
            note=f"points between them, over {len(rows)} pairs of {images}; mean {means}",
        ),
    ]


# %%
def main(
    *,
    full: bool = False,
    data_dir: str = "data",
    svm_width: int = 1000,
    steps: int = 100,
    num_pairs: int | None = None,
    num_processes: int | None = None,
    output_dir: str = "runs/reproduce",
) -> list[Verdict]:
    """Train, solve, classify, draw and judge."""
    name, images = read_images(data_dir)
    pairs = list(combinations(range(10), 2) if full else PAIRS)[:num_pairs]
    trials = [(two_classes(images, pair), svm_width, steps, seed) for seed, pair in enumerate(pairs)]
    accuracies = run_trials(compare, trials, num_processes=num_processes)
    rows = [{"pair": f"{a}, {b}"} | accuracy for (a, b), accuracy in zip(pairs, accuracies, strict=True)]
    found = Reproduction("esser2023_fig4", output_dir)
    found.table("accuracies", rows)
    draw(found, rows, name)
    return found.verdicts(judge(rows, name))


# %%
if __name__ == "__main__":
    run_script(main, full="all 45 pairs of digits", data_dir="folder that holds MNIST/raw")
