"""Images as they are, for validation and probes, and for views that are made of a whole batch later."""

from collections.abc import Callable, Sequence, Sized
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_ssl_theory.data.batch_views import random_views
from lightning_ssl_theory.data.counted_draws import split_seeds
from lightning_ssl_theory.data.epochs import EpochDataset
from lightning_ssl_theory.data.image_sets import Strengths
from lightning_ssl_theory.data.small_crops import SmallCrops


class CleanImages(Dataset[tuple[Tensor, int]]):
    """Every image of a dataset, transformed, with its label.

    Args:
        images: samples (image, label).
        transform: of the image.
    """

    def __init__(self, images: Dataset[Any], transform: Callable[[Any], Tensor]) -> None:
        self._images, self._transform = images, transform

    def __len__(self) -> int:
        return len(cast(Sized, self._images))

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self._images[index]
        return self._transform(image), label


class SeededImages(NamedTuple):
    """Images (N, C, S, S) as they are stored, labels (N,), and the seeds (N,) of the views to be made of them."""

    images: Tensor
    labels: Tensor
    seeds: Tensor


class SeededImageDataset(EpochDataset):
    """Sample i as `SeededImages`: the image as it is stored, its label, and a seed that (seed, epoch, i) determines.

    Args:
        images: samples (image, label).
        transform: of the image; draws nothing.
        seed: any non-negative integer.
    """

    def __init__(self, images: Dataset[Any], transform: Callable[[Any], Tensor], *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self._images = CleanImages(images, transform)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> SeededImages:  # type: ignore[override]
        image, label = self._images[index]
        # 64 bits are one integer of torch's, which has a sign
        seed = np.array([self.seed_of(index)], dtype=np.uint64).view(np.int64)
        return SeededImages(image, torch.as_tensor(label), torch.from_numpy(seed)[0])


def views_of_batch(
    batch: SeededImages,
    num_views: int,
    small: SmallCrops,
    mean: Sequence[float],
    std: Sequence[float],
    strengths: Strengths,
) -> list[Tensor]:
    """Random views of a batch's images, on the device on which they are.

    Args:
        batch: images with their seeds.
        num_views: A >= 1.
        small: crops beside them.
        mean: as in `random_views`.
        std: as in `random_views`.
        strengths: of the augmentations.

    Returns:
        A views (N, C, S, S), then the small crops, float32: row i is a function of image i, its seed and the number
        of the view.
    """
    large, crop = {**strengths._asdict()}, {"scale": small.scale, "size": small.size}
    kinds = [large] * num_views + [large | crop] * small.number
    return [
        random_views(batch.images, mean, std, seeds=split_seeds(batch.seeds, view), **kind)
        for view, kind in enumerate(kinds)
    ]
