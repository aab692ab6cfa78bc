"""What each diagnostic and each loss sends over ranks in a look, counted on two gloo processes.

Every function of torch.distributed that communicates is wrapped and counted. Bytes are what one rank puts in.

The columns for more ranks are arithmetic, not measured: the model of `Sent.seconds_over`, whose latency and bandwidth
are assumptions. Each rank is taken to hold as many samples as here; where `num_samples` bounds a look over all ranks,
what is gathered falls as 1 / W instead.

    python benchmarks/collectives.py            # print the table of docs/scaling.md
    python benchmarks/collectives.py --write    # put it there
"""

import argparse
import contextlib
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    Diagnostic,
    FeatureNormMonitor,
    KNNProbe,
    LinearProbe,
    NeuronSelectivity,
    OrthogonalityMonitor,
)
from lightning_ssl_theory.losses import (
    CrossCorrelationLoss,
    InfoNCELoss,
    NegativeCosineLoss,
    QueuedInfoNCELoss,
    SimpleContrastiveLoss,
    SoftTripletLoss,
    SpectralContrastiveLoss,
    StopGradientInfoNCELoss,
    SupervisedContrastiveLoss,
    VICRegLoss,
    WMSELoss,
)
from lightning_ssl_theory.networks import MLP

COLLECTIVES = ("all_reduce", "all_gather", "broadcast", "barrier", "all_gather_object")
LATENCY, BANDWIDTH = 10e-6, 25e9  # seconds a step, bytes a second and rank: assumptions
NUM_RANKS, BATCH, WIDTHS = 2, 16, [64, 128, 32]
NUM_CLASSES, SIZES = 10, (8, 64, 1024)
PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
BEGIN, END = "<!-- counted by benchmarks/collectives.py -->", "<!-- end -->"


class Sent(NamedTuple):
    """One collective: its name, and the bytes that this rank puts in."""

    name: str
    size: int

    def seconds_over(self, num_ranks: int) -> float:
        """How long it takes on W ranks, by latency and bandwidth.

        Sums and broadcasts go down a tree, in pieces, sums up it before; a gather goes once around a ring.
        """
        depth, others = math.ceil(math.log2(num_ranks)), num_ranks - 1
        steps, sizes = {
            "all_reduce": (2 * depth, 2 * others / num_ranks),
            "broadcast": (depth, 1.0),
            "barrier": (2 * depth, 0.0),
        }.get(self.name, (others, others))
        return steps * LATENCY + sizes * self.size / BANDWIDTH


@contextlib.contextmanager
def counted() -> Iterator[list[Sent]]:
    """Every collective that starts inside, in order."""
    sent: list[Sent] = []
    own = {name: getattr(dist, name) for name in COLLECTIVES}
    inner = False

    def wrapped(name: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal inner
        if inner:
            return own[name](*args, **kwargs)
        tensor = {"all_gather": 1, "all_gather_object": 1}.get(name, 0)
        given = args[tensor] if len(args) > tensor else None
        size = given.nbytes if isinstance(given, Tensor) else 0
        sent.append(Sent(name, size))
        inner = True
        try:
            return own[name](*args, **kwargs)
        finally:
            inner = False

    for name in own:
        setattr(dist, name, partial(wrapped, name))
    try:
        yield sent
    finally:
        for name, function in own.items():
            setattr(dist, name, function)


def data(num_samples: int) -> TensorDataset:
    """Random samples with labels."""
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(
        torch.randn(num_samples, WIDTHS[0], generator=generator), torch.arange(num_samples) % NUM_CLASSES
    )


class TwoViews(ContrastiveSSL):
    """An MLP on two noisy copies of a sample."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(MLP(WIDTHS), nn.Identity(), InfoNCELoss())


def diagnostics() -> dict[str, Callable[[], Diagnostic]]:
    """The callbacks, each on both layers where it takes names."""
    look = {"every_n_steps": 1}
    layers = [name for name, layer in MLP(WIDTHS).named_modules() if isinstance(layer, nn.Linear)]
    paths = [f"backbone.{name}" for name in layers]
    loader = DataLoader(data(64), BATCH)
    return {
        "CovarianceOperators": lambda: CovarianceOperators(**look),
        "CovarianceOperators, a spectrum": lambda: CovarianceOperators(
            spectra_layers=paths[-1], num_eigenvalues=2, **look
        ),
        "NeuronSelectivity": lambda: NeuronSelectivity(paths, num_classes=NUM_CLASSES, **look),
        "FeatureNormMonitor": lambda: FeatureNormMonitor(paths, **look),
        "CollapseMonitor": lambda: CollapseMonitor(paths, **look),
        "KNNProbe": lambda: KNNProbe(num_classes=NUM_CLASSES, fit_loader=loader, score_loader=loader, **look),
        "LinearProbe": lambda: LinearProbe(
            num_classes=NUM_CLASSES, fit_loader=loader, score_loader=loader, **look
        ),
        "OrthogonalityMonitor": lambda: OrthogonalityMonitor(paths, **look),
    }


class Queued(nn.Module):
    """MoCo's loss, with a queue of as many keys as queries."""

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Its value."""
        return QueuedInfoNCELoss()(queries, keys, keys)


LOSSES = {
    "InfoNCELoss": InfoNCELoss,
    "SoftTripletLoss": SoftTripletLoss,
    "SimpleContrastiveLoss": SimpleContrastiveLoss,
    "StopGradientInfoNCELoss": StopGradientInfoNCELoss,
    "CrossCorrelationLoss": CrossCorrelationLoss,
    "VICRegLoss": VICRegLoss,
    "SpectralContrastiveLoss": SpectralContrastiveLoss,
    "WMSELoss": lambda: WMSELoss(eps=1e-3),
    "SupervisedContrastiveLoss": SupervisedContrastiveLoss,
    "NegativeCosineLoss": NegativeCosineLoss,
    "QueuedInfoNCELoss": Queued,
}


class Step(Callback):
    """Opens and closes the count around the callbacks between two of them."""

    def __init__(self, enter: Callable[[], None]) -> None:
        self._enter = enter

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """The second batch: the first look may build what stays."""
        if trainer.global_step == 2:
            self._enter()


def look(watch: Diagnostic) -> list[Sent]:
    """What one look of a diagnostic sends, with what it logs."""
    stack = contextlib.ExitStack()
    found: list[Sent] = []

    def start() -> None:
        nonlocal found
        found = stack.enter_context(counted())

    views = data(2 * NUM_RANKS * BATCH)
    x, y = views.tensors
    loader = DataLoader(list(zip(zip(x, x + 0.1 * x.flip(0), strict=True), y, strict=True)), BATCH)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(
        accelerator="cpu",
        devices=NUM_RANKS,
        strategy="ddp",
        max_steps=2,
        callbacks=[Step(start), watch, Step(stack.close)],
        **quiet,
    )
    trainer.fit(TwoViews(), loader)
    return found


def loss_and_gradient(build: Callable[[], nn.Module]) -> list[Sent]:
    """What a loss and its gradient send."""
    z1, z2 = torch.randn(2, BATCH, WIDTHS[-1])
    leaf, loss = z1.requires_grad_(), build()
    labels = [torch.arange(BATCH) % NUM_CLASSES] if getattr(loss, "takes_labels", False) else []
    with counted() as sent:
        loss(leaf, z2, *labels).backward()
    return sent


def _rank(index: int, store: str, answer: Any) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    os.environ.update(RANK=str(index), LOCAL_RANK=str(index), WORLD_SIZE=str(NUM_RANKS), GROUP_RANK="0")
    os.environ.update(LOCAL_WORLD_SIZE=str(NUM_RANKS), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    os.environ.update(TORCHELASTIC_RUN_ID="benchmark")
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=index, world_size=NUM_RANKS)
    found = {name: loss_and_gradient(build) for name, build in LOSSES.items()}
    found = {name: look(build()) for name, build in diagnostics().items()} | found
    if index == 0:
        answer.put({name: [tuple(one) for one in sent] for name, sent in found.items()})


def count() -> dict[str, list[Sent]]:
    """What each diagnostic and each loss sends, on two processes."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["lightning_ssl_theory.callbacks"])  # once for both
    answer = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        ranks = mp.start_processes(
            _rank, (os.path.join(folder, "store"), answer), NUM_RANKS, join=False, start_method="forkserver"
        )
        found = answer.get(timeout=200)
        ranks.join()
    return {name: [Sent(*one) for one in sent] for name, sent in found.items()}


def table(found: dict[str, list[Sent]]) -> str:
    """The counts as a Markdown table, with the seconds over more ranks."""
    over = " | ".join(f"ms, W = {size}" for size in SIZES)
    lines = [f"| a look, or a loss | collectives | KiB put in | {over} |", "|---" * (3 + len(SIZES)) + "|"]
    for name, sent in found.items():
        seconds = [sum(one.seconds_over(size) for one in sent) for size in SIZES]
        times = " | ".join(f"{1e3 * value:.2g}" for value in seconds)
        lines.append(f"| {name} | {len(sent)} | {sum(one.size for one in sent) / 2**10:.1f} | {times} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or put it into the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    found = table(count())
    print(found)
    if parser.parse_args().write:
        page = PAGE.read_text()
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{found}\n{END}{after}")


if __name__ == "__main__":
    main()
