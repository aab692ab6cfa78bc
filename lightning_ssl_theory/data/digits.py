"""Handwritten digits of 8 x 8 pixels that come with scikit-learn: nothing to download."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_ssl_theory.checks import check_integer
from lightning_ssl_theory.data.affine import random_affine
from lightning_ssl_theory.data.epochs import EpochDataset, check_seed, training_loader
from lightning_ssl_theory.data.held_views import NUM_VIEWS, held_views_loader
from lightning_ssl_theory.data.strength import Strength, strength_of

_MEAN, _STD = 0.3053, 0.3760  # of all pixels of all 1797 images in [0, 1]


class DigitsDataModule(LightningDataModule):
    r"""scikit-learn's 1797 digits (1, 8, 8), views of a training image by small affine maps and noise.

    A stratified third (599 images, always the same) is held out: `val_dataloader` and `test_dataloader` give
    it clean. Pixels are in [0, 1] while views are made, then normalised by the mean 0.3053 and the standard
    deviation 0.3760 of all pixels. Views are made a batch at a time, each image by its own draws, which are a
    function of `seed`, the epoch and the batch's first sample: about 4 ms for 2 x 256 images. Each strength
    is a number, or True for the usual one, or 0, False or None for off.

    Args:
        batch_size: N, at most the number of training images of a process (1198 on one).
        num_views: A >= 1 views of each image.
        rotation: largest angle in degrees, in [0, 180]. Usual: 15.
        shift: largest shift in pixels in each direction, in [0, 8]. Usual: 1.
        scale: largest enlargement minus 1; the largest reduction is its inverse. Usual: 0.2.
        noise: standard deviation of Gaussian noise on pixels in [0, 1]. Usual: 0.1.
        seed: of the order and the views, >= 0.

    Attributes:
        num_classes: 10.
        image_shape: (1, 8, 8).

    Raises:
        InputError: a strength is no number, bool or None, or a number out of its range.
    """

    num_classes = 10
    image_shape = (1, 8, 8)

    def __init__(
        self,
        batch_size: int = 256,
        *,
        num_views: int = 2,
        rotation: Strength = True,
        shift: Strength = True,
        scale: Strength = True,
        noise: Strength = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_integer(batch_size, "batch_size")
        check_integer(num_views, "num_views")
        check_seed(seed)
        self._num_views, self._seed = num_views, seed
        self._strengths = {
            "rotation": strength_of(rotation, "rotation", usual=15.0, maximum=180),
            "shift": strength_of(shift, "shift", usual=1.0, maximum=8),
            "scale": strength_of(scale, "scale", usual=0.2),
        }
        self._noise = strength_of(noise, "noise", usual=0.1)
        self._train, self._held_out = _split()

    def setup(self, stage: str | None = None) -> None:
        """Nothing: the digits are split when the data module is made.

        Args:
            stage: not used.
        """

    def train_dataloader(self) -> DataLoader:
        """Views of the training images.

        Returns:
            Loader of batches (views, labels): A tensors (N, 1, 8, 8), and (N,).

        Raises:
            InputError: the batch size exceeds the number of training images of a process.
        """
        views = _DigitViews(
            *self._train,
            num_views=self._num_views,
            noise=self._noise,
            strengths=self._strengths,
            seed=self._seed,
        )
        return training_loader(views, self.hparams["batch_size"], seed=self._seed, collate_fn=_identity)

    def val_dataloader(self) -> DataLoader:
        """The held-out third, clean.

        Returns:
            Loader of batches (images, labels): (N, 1, 8, 8), and (N,).
        """
        return _clean_loader(*self._held_out, batch_size=self.hparams["batch_size"])

    def test_dataloader(self) -> DataLoader:
        """The held-out third, clean.

        Returns:
            The same as `val_dataloader`.
        """
        return self.val_dataloader()

    def probe_dataloader(self) -> DataLoader:
        """The training images, clean, for probes.

        Returns:
            Loader of batches (images, labels): (N, 1, 8, 8), and (N,), in a fixed order.
        """
        return _clean_loader(*self._train, batch_size=self.hparams["batch_size"])

    def views_dataloader(self, num_views: int = NUM_VIEWS) -> DataLoader:
        """Views of the held-out third, the clean one first, the same at every pass: for `GeneralizationMonitor`.

        Args:
            num_views: A >= 2, the clean image among them.

        Returns:
            Loader of batches (views, labels): A tensors (N, 1, 8, 8), and (N,), in the order of `val_dataloader`.
        """
        images, labels = self._held_out
        return held_views_loader(
            _normalised(images),
            labels,
            lambda generator: _view(images, self._strengths, self._noise, generator),
            num_views=num_views,
            batch_size=self.hparams["batch_size"],
            seed=self._seed,
        )


class _DigitViews(EpochDataset):
    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        num_views: int,
        noise: float,
        strengths: dict[str, float],
        seed: int,
    ) -> None:
        super().__init__(seed=seed)
        self._images, self._labels = images, labels
        self._num_views, self._noise, self._strengths = num_views, noise, strengths

    def __len__(self) -> int:
        return len(self._labels)

    def __getitems__(self, indices: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        # an index occurs once in an epoch, so the batch's first one makes its draws its own on every process
        generator = torch.Generator().manual_seed(self.seed_of(indices[0]))
        rows = torch.as_tensor(indices)
        images = self._images[rows]
        views = [_view(images, self._strengths, self._noise, generator) for _ in range(self._num_views)]
        return views, self._labels[rows]


# A random view of each image, all from one generator.
def _view(images: Tensor, strengths: dict[str, float], noise: float, generator: torch.Generator) -> Tensor:
    moved = random_affine(images, **strengths, generator=generator)
    return _normalised(moved + noise * torch.randn(moved.shape, generator=generator))


# Training images and labels, held-out images and labels; images in [0, 1].
def _split() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    digits = load_digits()
    images = torch.from_numpy(digits.images / 16).float().unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    train, held_out = train_test_split(
        torch.arange(len(labels)), test_size=1 / 3, stratify=labels, random_state=0
    )
    return (images[train], labels[train]), (images[held_out], labels[held_out])


def _normalised(images: Tensor) -> Tensor:
    return (images - _MEAN) / _STD


def _clean_loader(images: Tensor, labels: Tensor, *, batch_size: int) -> DataLoader:
    return DataLoader(TensorDataset(_normalised(images), labels), batch_size=batch_size)


# The dataset makes whole batches already.
def _identity(batch: Any) -> Any:
    return batch
