"""Two half moons in the plane, the toy data of the orthogonality-constrained theory."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from sklearn.datasets import make_moons
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_ssl_theory.checks import check_integer, check_number
from lightning_ssl_theory.data.epochs import EpochDataset, check_seed, training_loader
from lightning_ssl_theory.data.held_views import NUM_VIEWS, held_views_loader

_CENTRE = torch.tensor([0.5, 0.25])  # mean of the moons without noise


class HalfMoonsDataModule(LightningDataModule):
    r"""Points (2,) of two interleaving half circles of radius 1, centred; positives by Gaussian noise.

    The first view of a point is the point itself, the others are :math:`x + \epsilon`,
    :math:`\epsilon \sim N(0, \sigma^2 I)`, so that `TraceLoss` sees the paper's triples: x, x^+ = x + noise, and as x^-
    another point of the data. The points are a function of `seed`, the noise one of `seed`, the epoch and the batch's
    first point.

    Args:
        batch_size: N, at most the number of training points of a process.
        num_samples: Training points; `val_dataloader` holds as many others.
        num_views: A >= 1 views of each point.
        noise: Standard deviation of the points around the half circles.
        view_noise: sigma.
        seed: Of the points, the order and the views, >= 0.

    Attributes:
        num_classes: 2, the moons.
        image_shape: (2,).

    Raises:
        InputError: If an argument is no number, or if a number is out of its range.

    References: P. Esser, S. Mukherjee, D. Ghoshdastidar, "Representation learning dynamics of self-supervised
    models", 2023, example 1.

    Example:
        >>> views, labels = next(iter(HalfMoonsDataModule(8, num_samples=20).train_dataloader()))
        >>> [view.shape for view in views], labels.shape
        ([torch.Size([8, 2]), torch.Size([8, 2])], torch.Size([8]))
    """

    num_classes = 2
    image_shape = (2,)

    def __init__(
        self,
        batch_size: int = 200,
        *,
        num_samples: int = 200,
        num_views: int = 2,
        noise: float = 0.1,
        view_noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        counts = {"batch_size": batch_size, "num_samples": num_samples, "num_views": num_views}
        for name, value in counts.items():
            check_integer(value, name)
        check_seed(seed)
        for name, deviation in {"noise": noise, "view_noise": view_noise}.items():
            check_number(deviation, name, "[0, inf)", advice="0 switches it off")
        self._num_views, self._view_noise, self._seed = num_views, view_noise, seed
        points, labels = make_moons(2 * num_samples, noise=noise, random_state=seed)  # shuffled
        images = torch.from_numpy(points).float() - _CENTRE
        self._train, self._held_out = zip(
            images.split(num_samples), torch.from_numpy(labels).split(num_samples), strict=True
        )

    def setup(self, stage: str | None = None) -> None:
        """Nothing: the points are drawn when the data module is made.

        Args:
            stage: Not used.
        """

    def train_dataloader(self) -> DataLoader:
        """Views of the training points.

        Returns:
            Loader of batches (views, labels): A tensors (N, 2), and (N,).

        Raises:
            InputError: The batch size exceeds the number of training points of a process.
        """
        views = _MoonViews(*self._train, num_views=self._num_views, noise=self._view_noise, seed=self._seed)
        return training_loader(views, self.hparams["batch_size"], seed=self._seed, collate_fn=_identity)

    def val_dataloader(self) -> DataLoader:
        """The held-out points.

        Returns:
            Loader of batches (points, labels): (N, 2), and (N,).
        """
        return DataLoader(TensorDataset(*self._held_out), batch_size=self.hparams["batch_size"])

    def test_dataloader(self) -> DataLoader:
        """The held-out points.

        Returns:
            The same as `val_dataloader`.
        """
        return self.val_dataloader()

    def probe_dataloader(self) -> DataLoader:
        """The training points without noise, for probes.

        Returns:
            Loader of batches (points, labels): (N, 2), and (N,), in a fixed order.
        """
        return DataLoader(TensorDataset(*self._train), batch_size=self.hparams["batch_size"])

    def views_dataloader(self, num_views: int = NUM_VIEWS) -> DataLoader:
        """Views of the held-out points, the point itself first, the same at every pass: for `GeneralizationMonitor`.

        Args:
            num_views: A >= 2, the point itself among them.

        Returns:
            Loader of batches (views, labels): A tensors (N, 2), and (N,), in the order of `val_dataloader`.
        """
        points, labels = self._held_out
        return held_views_loader(
            points,
            labels,
            lambda generator: points + self._view_noise * torch.randn(points.shape, generator=generator),
            num_views=num_views,
            batch_size=self.hparams["batch_size"],
            seed=self._seed,
        )


class _MoonViews(EpochDataset):
    def __init__(self, points: Tensor, labels: Tensor, *, num_views: int, noise: float, seed: int) -> None:
        super().__init__(seed=seed)
        self._points, self._labels, self._num_views, self._noise = points, labels, num_views, noise

    def __len__(self) -> int:
        return len(self._labels)

    def __getitems__(self, indices: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        generator = torch.Generator().manual_seed(self.seed_of(indices[0]))
        rows = torch.as_tensor(indices)
        points = self._points[rows]
        noisy = [
            points + self._noise * torch.randn(points.shape, generator=generator)
            for _ in range(self._num_views - 1)
        ]
        return [points, *noisy], self._labels[rows]


# The dataset makes whole batches already.
def _identity(batch: Any) -> Any:
    return batch
