"""Covariance operators against the limits of the machine and against the dense matrix, in one run.

- scalars: all 21 weight layers of ResNet-18 (CIFAR stem, 128 outputs), N samples x 2 views, m = 4 probes, with the
  prediction of InfoNCE's gradient. The limit is one forward and m + 1 backward passes on the same images; memory is
  compared with a training step on them.
- growth: time over probes and over samples, which should be linear in both.
- spectra: the 8 leading eigenpairs of an early, a middle and a late layer, beside the time that a matrix product of
  as many multiplications takes (see `operators.spectrum_cost`).
- overhead: share of the training time that looks after every step take with max_overhead = 0.02.
- gradients: the scalars of all layers of ResNet-18 (32 x 32), ViT-S/16 and ConvNeXt-T (224 x 224), time as a multiple
  of one evaluation of a loss and its gradient on the same images, memory beside a training step's and the budget.
- dense: a 100 x 100 linear layer, 1024 samples, 10 outputs: the same quantities from the operator as a matrix.

Every measurement runs in a process of its own, for the sake of its peak memory; on a CPU on one thread and in seconds
of processor time, so that what else the machine does matters little.

    python benchmarks/covariance.py [scalars gradients growth spectra overhead dense] [--samples 256]
"""

import argparse
import importlib.util
import multiprocessing as mp
import resource
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.networks import MLP, ResNet, SmallConvNet
from lightning_ssl_theory.operators import covariance_scalars, covariance_spectra, spectrum_cost

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NUM_PROBES, NUM_OUTPUTS = 4, 128
SPECTRA = {"early": "0.conv1", "middle": "0.layer2.1.conv1", "late": "0.layer4.1.conv2"}


class Measured(tuple[float, float]):
    """Seconds and MiB of peak memory above the start."""

    @property
    def seconds(self) -> float:
        """Processor time on a CPU, else wall time."""
        return self[0]

    @property
    def mebibytes(self) -> float:
        """Growth of the peak."""
        return self[1]


def measured(function: Callable[..., None], *arguments: Any) -> Measured:
    """Run a function in a fresh process; it gets a `Stopwatch` first."""
    with mp.get_context("spawn").Pool(1) as pool:
        return Measured(pool.apply(_timed, (function, arguments)))


def _timed(function: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> tuple[float, float]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    call = function(*arguments)
    before, start = _peak(reset=True), _clock()
    call()
    return _clock() - start, _peak() - before


def _clock() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def _peak(*, reset: bool = False) -> float:
    if DEVICE.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def resnet() -> nn.Module:
    """ResNet-18 with the CIFAR stem and 128 outputs."""
    return nn.Sequential(ResNet("resnet18", stem="cifar"), nn.Linear(512, NUM_OUTPUTS)).to(DEVICE)


def images(num_samples: int) -> Tensor:
    """Two views of samples."""
    return torch.randn(num_samples, 2, 3, 32, 32, device=DEVICE)


def forward_pass(num_samples: int) -> Callable[[], object]:
    """A forward pass that keeps its graph."""
    model, views = resnet(), images(num_samples)
    return lambda: model(views.flatten(0, 1))


def backward_pass(num_samples: int) -> Callable[[], object]:
    """A backward pass alone."""
    model, views = resnet(), images(num_samples)
    outputs = model(views.flatten(0, 1))
    return lambda: outputs.sum().backward()


def training_step(num_samples: int) -> Callable[[], object]:
    """A forward and a backward pass of InfoNCE, and a step of SGD with momentum."""
    model, views, loss = resnet(), images(num_samples), InfoNCELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step() -> None:
        outputs = model(views.flatten(0, 1)).unflatten(0, (-1, 2))
        loss(outputs[:, 0], outputs[:, 1]).backward()
        optimizer.step()

    return step


def scalars(num_samples: int, num_probes: int = NUM_PROBES) -> Callable[[], object]:
    """Our scalars of all layers."""
    model, views = resnet(), images(num_samples)
    return lambda: covariance_scalars(model, views, num_probes=num_probes, loss=InfoNCELoss())


NETWORKS = {"ResNet-18": 32, "ResNet-18, 224": 224, "ViT-S/16": 224, "ConvNeXt-T": 224}
"""The networks of `show_gradients` and the size of their images."""


def network(name: str) -> nn.Module:
    """One of them, with 128 outputs."""
    if name == "ViT-S/16":
        import timm

        model = timm.create_model("vit_small_patch16_224", num_classes=NUM_OUTPUTS)
    elif name == "ConvNeXt-T":
        model = torchvision.models.convnext_tiny(num_classes=NUM_OUTPUTS)
    elif name == "ResNet-18":
        model = resnet()
    else:
        model = nn.Sequential(ResNet("resnet18", stem="imagenet"), nn.Linear(512, NUM_OUTPUTS))
    return model.to(DEVICE)


def network_gradient(name: str, num_samples: int) -> Callable[[], object]:
    """A loss and its gradient, with the state that SGD with momentum keeps."""
    model, loss = network(name), InfoNCELoss()
    views = torch.randn(num_samples, 2, 3, NETWORKS[name], NETWORKS[name], device=DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loss(*model(views[:2].flatten(0, 1)).unflatten(0, (-1, 2)).unbind(1))  # what libraries set up once

    def step() -> None:
        outputs = model(views.flatten(0, 1)).unflatten(0, (-1, 2))
        loss(outputs[:, 0], outputs[:, 1]).backward()
        optimizer.step()

    return step


def network_scalars(name: str, num_samples: int, memory_budget: int) -> Callable[[], object]:
    """Our scalars of all layers, with the prediction of the same loss's gradient."""
    model = network(name)
    views = torch.randn(num_samples, 2, 3, NETWORKS[name], NETWORKS[name], device=DEVICE)
    model(views[:2].flatten(0, 1))
    return lambda: covariance_scalars(
        model, views, num_probes=NUM_PROBES, loss=InfoNCELoss(), memory_budget=memory_budget
    )


def small_scalars(num_samples: int, num_probes: int) -> Callable[[], object]:
    """The same of a small network."""
    model, views = nn.Sequential(SmallConvNet(3, [32, 64]), nn.Linear(64, 32)).to(DEVICE), images(num_samples)
    covariance_scalars(model, views[:2], num_probes=2)
    return lambda: covariance_scalars(model, views, num_probes=num_probes)


def spectrum(num_samples: int, layer: str) -> Callable[[], object]:
    """Our spectrum of one layer."""
    model, views = resnet(), images(num_samples)
    return lambda: covariance_spectra(model, views, layer, num_eigenvalues=8)


def matrix_product(multiplications: float) -> Callable[[], object]:
    """As many multiplications in square matrix products."""
    size = 2048 if DEVICE.type == "cpu" else 8192
    left, right = torch.randn(2, size, size, device=DEVICE)
    _ = left @ right
    rounds = max(1, round(multiplications / size**3))
    return lambda: [left @ right for _ in range(rounds)]


def linear_network() -> tuple[nn.Module, Tensor]:
    """The layer of the dense comparison, and its views."""
    model = nn.Sequential(nn.Linear(100, 100, bias=False), nn.ReLU(), nn.Linear(100, 10, bias=False)).to(
        DEVICE
    )
    return model, torch.randn(1024, 2, 100, device=DEVICE)


def dense_operator() -> Callable[[], object]:
    """Trace, signal ratio, growth rate and Frobenius norm from the P x P matrix, formed the plain way."""
    model, views = linear_network()

    @torch.no_grad()
    def form() -> list[Tensor]:
        inputs, (first, _, last) = views.flatten(0, 1), model
        slopes = (first(inputs) > 0).float()
        jacobians = torch.einsum("si,so,ko->soik", inputs, slopes, last.weight)  # df_k / dW_oi
        connections = jacobians.reshape(1024, 2, 10_000, 10)
        means = connections.mean(1)
        centred = (means - means.mean(0)).permute(1, 0, 2).flatten(1)
        operator = centred @ centred.mT / 1024
        within = (connections - means[:, None]).square().sum() / 2048
        weight = first.weight.reshape(-1)
        trace = operator.trace()
        return [
            trace,
            trace / (trace + within),
            weight @ operator @ weight / weight.norm() ** 2,
            operator.norm(),
        ]

    return form


def our_operator(num_probes: int | None) -> Callable[[], object]:
    """The same quantities, with their errors, by our scalars."""
    model, views = linear_network()
    covariance_scalars(model, views[:2], "0", num_probes=2)
    return lambda: covariance_scalars(model, views, "0", num_probes=num_probes, memory_budget=2**24)


def show_scalars(num_samples: int) -> None:
    """Time and memory on ResNet-18."""
    forward, backward = measured(forward_pass, num_samples), measured(backward_pass, num_samples)
    ours, step = measured(scalars, num_samples), measured(training_step, num_samples)
    limit = forward.seconds + (NUM_PROBES + 1) * backward.seconds
    print(f"\nscalars: ResNet-18, 21 layers, {num_samples} x 2 views, m = {NUM_PROBES}")
    print(f"  forward {forward.seconds:.2f} s, backward {backward.seconds:.2f} s, limit {limit:.2f} s")
    print(f"  ours    {ours.seconds:.2f} s = {ours.seconds / limit:.2f} x the limit (target <= 2)")
    print(f"  memory  {ours.mebibytes:.0f} MiB = {ours.mebibytes / step.mebibytes:.2f} x a training step's "
          f"{step.mebibytes:.0f} MiB (target <= 1.5)")  # fmt: skip


def show_gradients(num_samples: int, memory_budget: int, names: Sequence[str]) -> None:
    """Time as a multiple of a gradient, and memory, on other people's networks."""
    print(f"\ngradients: {num_samples} x 2 views, m = {NUM_PROBES}, a loss, budget {memory_budget >> 20} MiB")
    for name in names:
        if name == "ViT-S/16" and importlib.util.find_spec("timm") is None:
            print(f"  {name:15} left out: timm is not installed")
            continue
        gradient = measured(network_gradient, name, num_samples)
        ours = measured(network_scalars, name, num_samples, memory_budget)
        limit = gradient.mebibytes + memory_budget / 2**20
        print(f"  {name:15} gradient {gradient.seconds:.2f} s, ours {ours.seconds:.2f} s = "
              f"{ours.seconds / gradient.seconds:.1f} gradients; memory {ours.mebibytes:.0f} MiB = "
              f"{ours.mebibytes / limit:.2f} x (budget + a training step's {gradient.mebibytes:.0f} MiB)")  # fmt: skip


def show_growth() -> None:
    """Time over probes and samples of a small network."""
    print("\ngrowth: small convolutional network, seconds, fastest of 2")
    for name, sizes in (
        ("probes", [(128, m) for m in (2, 4, 8, 16, 32)]),
        ("samples", [(n, 4) for n in (32, 64, 128, 256, 512)]),
    ):
        times = [min(measured(small_scalars, *size).seconds for _ in range(2)) for size in sizes]
        counts = [size[1] if name == "probes" else size[0] for size in sizes]
        steps = [
            (t2 - t1) / (c2 - c1)
            for (t1, t2), (c1, c2) in zip(pairwise(times), pairwise(counts), strict=True)
        ]
        row = ", ".join(f"{count}: {seconds:.3f}" for count, seconds in zip(counts, times, strict=True))
        print(
            f"  {name:8} {row}; the last step costs {steps[-1] / steps[-2]:.2f} of the one before, a unit (1 is linear)"
        )


def show_spectra(num_samples: int) -> None:
    """Time of the leading eigenpairs."""
    print(f"\nspectra: 8 leading eigenpairs, {num_samples} x 2 views")
    model, views = resnet(), images(num_samples)
    for place, layer in SPECTRA.items():
        cost = spectrum_cost(model, views, layer, num_samples, 8)
        way, multiplications = min(("gram", cost.gram), ("lanczos", cost.lanczos), key=lambda pair: pair[1])
        limit = measured(matrix_product, multiplications).seconds
        ours = measured(spectrum, num_samples, layer).seconds
        print(f"  {place:7} {layer:18} {way:8} {multiplications / 1e9:8.0f} G multiplications: {limit:.1f} s as matrix "
              f"products, ours {ours:.1f} s = {ours / limit:.1f} x")  # fmt: skip


def show_dense() -> None:
    """Time and memory against the dense operator."""
    dense = measured(dense_operator)
    print("\ndense: Linear(100, 100), 1024 samples x 2 views, 10 outputs; formed as a matrix "
          f"{dense.seconds:.2f} s, {dense.mebibytes:.0f} MiB")  # fmt: skip
    for label, num_probes in (("m = 4", NUM_PROBES), ("all unit probes", None)):
        ours = measured(our_operator, num_probes)
        faster, share = dense.seconds / ours.seconds, ours.mebibytes / dense.mebibytes
        print(f"  ours, {label}: {1e3 * ours.seconds:.1f} ms, {faster:.0f} x faster (target >= 100); "
              f"{ours.mebibytes:.1f} MiB, {share:.2%} (target < 1 %)")  # fmt: skip


def show_overhead() -> None:
    """What a bounded callback takes: a small network on digits, and ResNet-18 where there is a GPU."""
    # here, so that the processes of the other parts need not import Lightning
    from lightning.pytorch import Trainer

    from lightning_ssl_theory import ContrastiveSSL
    from lightning_ssl_theory.callbacks import CovarianceOperators
    from lightning_ssl_theory.data import DigitsDataModule

    warnings.filterwarnings("ignore")
    networks = {"small network on digits": (SmallConvNet(1, [32, 64]), 64, 300)}
    if DEVICE.type == "cuda":
        networks["ResNet-18 on digits"] = (ResNet("resnet18", stem="cifar", in_channels=1), 512, 300)
    print("\noverhead: CovarianceOperators(every_n_steps=1, max_overhead=0.02)")
    for name, (backbone, num_features, max_epochs) in networks.items():
        watch = CovarianceOperators(every_n_steps=1, max_overhead=0.02)
        module = ContrastiveSSL(backbone, MLP([num_features, 64, 32]), InfoNCELoss())
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(max_epochs=max_epochs, callbacks=[watch], limit_val_batches=0, **quiet)
        start = time.perf_counter()
        trainer.fit(module, datamodule=DigitsDataModule())
        share = watch.seconds_spent / (time.perf_counter() - start)
        print(f"  {name}: {trainer.global_step} steps, {share:.2%} of the time (target < 2 %)")


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ["scalars", "gradients", "growth", "spectra", "overhead", "dense"]
    parser.add_argument("parts", nargs="*", default=parts, choices=[*parts, []])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--spectra-samples", type=int, default=16)
    parser.add_argument("--gradient-samples", type=int, default=16)
    parser.add_argument("--budget", type=int, default=2**30, help="bytes, of the part gradients")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, {DEVICE}, seconds of {'wall' if DEVICE.type == 'cuda' else 'processor'} time"
    )
    if "dense" in arguments.parts:
        show_dense()
    if "growth" in arguments.parts:
        show_growth()
    if "overhead" in arguments.parts:
        show_overhead()
    if "scalars" in arguments.parts:
        show_scalars(arguments.samples)
    if "gradients" in arguments.parts:
        show_gradients(arguments.gradient_samples, arguments.budget, arguments.networks)
    if "spectra" in arguments.parts:
        show_spectra(arguments.spectra_samples)


if __name__ == "__main__":
    main()
