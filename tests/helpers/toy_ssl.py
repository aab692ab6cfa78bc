"""A small contrastive LightningModule, and data, that a careless look would disturb."""

import random
from collections import OrderedDict

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_ssl_theory.losses import InfoNCELoss

NUM_CLASSES = 3
QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "logger": False,
}


class ToySSL(LightningModule):
    """Two views through convolution, BatchNorm, dropout and a head; noise from torch, NumPy and Python."""

    def __init__(
        self, *, lr: float = 0.05, momentum: float = 0.1, is_manual: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        self.automatic_optimization = not is_manual
        self.lr = lr
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(1, 4, 3, padding=1),
                    norm=nn.BatchNorm2d(4, momentum=momentum),
                    relu=nn.ReLU(inplace=True),
                    drop=nn.Dropout(0.2),
                    pool=nn.AvgPool2d(2),
                    flat=nn.Flatten(),
                )
            )
            self.projector = nn.Sequential(
                OrderedDict(
                    hidden=nn.Linear(16, 6),
                    norm=nn.BatchNorm1d(6, momentum=momentum),
                    relu=nn.ReLU(),
                    out=nn.Linear(6, 3),
                )
            )
        self.loss = InfoNCELoss()

    def embed(self, images: Tensor) -> Tensor:
        return self.projector(self.backbone(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images)

    def training_step(self, batch, batch_idx):
        views = [
            view + 0.05 * (torch.randn_like(view) + np.random.rand() + random.random())
            for view in batch[0][:2]
        ]
        loss = self.loss(*[self.embed(view) for view in views])
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def validation_step(self, batch, batch_idx):
        self.embed(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class Views(Dataset):
    """Items ([view, view], label)."""

    def __init__(self, images: Tensor, labels: Tensor, *, strength: float = 0.3) -> None:
        generator = torch.Generator().manual_seed(1)
        self.views = [images + strength * torch.randn(images.shape, generator=generator) for _ in range(2)]
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index):
        return [view[index] for view in self.views], self.labels[index]


class CleanFirst(Dataset):
    """Items ([clean, view, view], label), the same at every look."""

    def __init__(self, images, labels, *, strength=0.3, num_views=3):
        generator = torch.Generator().manual_seed(1)
        noise = [strength * torch.randn(images.shape, generator=generator) for _ in range(num_views - 1)]
        self.views, self.labels = [images, *(images + one for one in noise)], labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return [view[index] for view in self.views], self.labels[index]


def toy_images(num_samples: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 4, 4) around one pattern a class, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_samples) % NUM_CLASSES
    patterns = torch.randn(NUM_CLASSES, 1, 4, 4, generator=torch.Generator().manual_seed(7))
    return patterns[labels] + 1.5 * torch.randn(num_samples, 1, 4, 4, generator=generator), labels


def view_loader(num_samples: int = 40, batch_size: int = 8, **arguments) -> DataLoader:
    """Shuffled pairs of views."""
    return DataLoader(Views(*toy_images(num_samples)), batch_size, **({"shuffle": True} | arguments))


def clean_loader(num_samples: int = 13, batch_size: int = 4, *, seed: int = 2) -> DataLoader:
    """Clean images and labels, in order."""
    return DataLoader(TensorDataset(*toy_images(num_samples, seed=seed)), batch_size)


class MemoryLogger(Logger):
    """Keeps what is logged, on every rank: rows of (step, values)."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "memory"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args, **kwargs) -> None:
        pass

    def log_metrics(self, metrics, step=None) -> None:
        self.rows.append((step, dict(metrics)))

    def looks(self, prefix: str) -> list[tuple[int, dict[str, float]]]:
        """The rows with keys that start so, without the timings."""
        return [
            (step, {k: v for k, v in values.items() if not k.startswith("overhead/")})
            for step, values in self.rows
            if any(key.startswith(prefix) for key in values)
        ]


def seed_all(seed: int = 0) -> None:
    """Torch's, NumPy's and Python's generators."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def fit(
    module: LightningModule, callbacks=(), *, train=None, val=None, ckpt_path=None, **arguments
) -> tuple[Trainer, MemoryLogger]:
    """Train quietly; the trainer, and what was logged."""
    logger = MemoryLogger()
    trainer = Trainer(
        **(QUIET | {"max_epochs": 1} | arguments | {"logger": logger, "callbacks": list(callbacks)})
    )
    trainer.fit(module, view_loader() if train is None else train, val, ckpt_path=ckpt_path)
    return trainer, logger
