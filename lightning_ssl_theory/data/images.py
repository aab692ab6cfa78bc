"""Photographs and handwriting as a data module: several random views of each training image."""

from collections.abc import Sized
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

from lightning_ssl_theory.checks import InputError, check_flag, check_instance, check_integer, check_word
from lightning_ssl_theory.data.clean_images import (
    CleanImages,
    SeededImageDataset,
    SeededImages,
    views_of_batch,
)
from lightning_ssl_theory.data.epochs import EpochDataset, check_seed, training_loader
from lightning_ssl_theory.data.held_views import NUM_VIEWS, check_num_views
from lightning_ssl_theory.data.image_folder import image_folder_classes
from lightning_ssl_theory.data.image_sets import (
    IMAGE_SETS,
    ImageSet,
    ImageSetName,
    Part,
    Strengths,
    open_image_set,
)
from lightning_ssl_theory.data.multi_view import MultiViewDataset
from lightning_ssl_theory.data.small_crops import small_crops_of
from lightning_ssl_theory.data.strength import Strength, strength_of
from lightning_ssl_theory.data.views import clean_image, random_view, stored_image

_LIMITS = Strengths(crop=0.99, flip=1.0, color=2.5, gray=1.0, blur=1.0)


class ImageDataModule(LightningDataModule):
    r"""Images with several random views each for training, and clean ones for probes and validation.

    ================  ==========================================  ========================================
    dataset           views of                                    what lies under `data_dir`
    ================  ==========================================  ========================================
    "mnist"           60000 images (1, 28, 28), 10 classes        MNIST/raw/train-images-idx3-ubyte, ...
    "fashion_mnist"   60000 images (1, 28, 28), 10 classes        FashionMNIST/raw/train-images-..., ...
    "cifar10"         50000 images (3, 32, 32), 10 classes        cifar-10-batches-py/data_batch_1, ...
    "cifar100"        50000 images (3, 32, 32), 100 classes       cifar-100-python/train, test, meta
    "stl10"           100000 images (3, 96, 96) without label,    stl10_binary/unlabeled_X.bin, ...
                      label -1; probes: 5000 of 10 classes
    "svhn"            73257 images (3, 32, 32), 10 classes        train_32x32.mat, test_32x32.mat
    "image_folder"    all images, in colour                       train/<class>/*, test or val/<class>/*
    ================  ==========================================  ========================================

    Validation and test are the test images. Pixels in [0, 1] are normalised by the mean and the standard
    deviation of each channel over the training images (for folders: over ImageNet's). Order and views are
    functions of `seed` and the epoch, see :class:`MultiViewDataset`.

    With `augment_on_device` the training loader gives clean images as they are stored, :class:`SeededImages`, and the
    views are made of the whole batch on the device to which Lightning brings it (`on_after_batch_transfer`; a loop of
    one's own calls it). What differs from views made by the loader: (1) a crop is taken from the image resized to
    `image_size`, its centre where it is not square, and not from the file's own pixels; (2) pixels are not rounded to
    1 / 255 between the steps; (3) other random draws, of the same law, with the same promise.

    Each strength is a number, or True for what is usual for the data set, or 0, False or None for off:
    see :func:`random_view` for what it does. Small crops, of a part of the image in fewer pixels, come after the
    views, with the same strengths, and leave their draws as they are; the modules say which pairs of views they take.

    Args:
        dataset: one of the names above.
        data_dir: folder under which the files lie.
        batch_size: N, at most the number of training images of a process.
        num_views: A >= 1 views of each image, of its full size.
        num_small_crops: number of small crops of each image beside them, >= 0.
        small_crop_size: their height and width in pixels, below `image_size`; None is 3/7 of it, 96 for 224.
        small_crop_scale: smallest and largest share of the image's area that a small crop keeps, in (0, 1].
        crop: share of the area that a crop may lose, in [0, 1). Usual: 0.8; MNIST and Fashion-MNIST 0.6.
        flip: probability in [0, 1]. Usual: 0.5; MNIST and SVHN 0.
        color: in [0, 2.5]. Usual: 0.5.
        gray: probability in [0, 1]. Usual: 0.2; MNIST and Fashion-MNIST 0.
        blur: probability in [0, 1]. Usual: 0.5 for STL-10 and folders, else 0.
        num_workers: loader processes of each loader, kept between epochs.
        download: whether torchvision may fetch missing files (not for folders).
        image_size: height and width in pixels; None is the data set's own, 224 for folders.
        num_train_samples: at most this many training images, always the same, of all classes, in
            `train_dataloader`; None is all.
        num_probe_samples: the same for `probe_dataloader`.
        augment_on_device: whether views are made of whole batches where the network is, see above.
        seed: of the order and the views, >= 0.

    Attributes:
        image_shape: (C, H, W).

    Raises:
        InputError: a strength is no number, bool or None, or an unknown name, or a number out of its range.
    """

    def __init__(
        self,
        dataset: ImageSetName,
        data_dir: str | PathLike[str],
        batch_size: int = 256,
        *,
        num_views: int = 2,
        num_small_crops: int = 0,
        small_crop_size: int | None = None,
        small_crop_scale: tuple[float, float] = (0.05, 0.14),
        crop: Strength = True,
        flip: Strength = True,
        color: Strength = True,
        gray: Strength = True,
        blur: Strength = True,
        num_workers: int = 0,
        download: bool = False,
        image_size: int | None = None,
        num_train_samples: int | None = None,
        num_probe_samples: int | None = None,
        augment_on_device: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_instance(data_dir, "data_dir", (str, PathLike))
        data_dir = str(data_dir)  # a Path among the hyperparameters would make the checkpoint unreadable
        self.save_hyperparameters()
        check_seed(seed)
        check_integer(batch_size, "batch_size")
        check_integer(num_views, "num_views")
        check_integer(num_workers, "num_workers", at_least=0)
        check_flag(download, "download")
        check_flag(augment_on_device, "augment_on_device")
        _check_counts(
            image_size=image_size,
            num_train_samples=num_train_samples,
            num_probe_samples=num_probe_samples,
        )
        self._facts = _facts_of(dataset, download=download)
        self._dataset, self._data_dir, self._download = dataset, Path(data_dir), download
        self._num_views, self._seed = num_views, seed
        self._num_workers, self._num_probe_samples = num_workers, num_probe_samples
        self._num_train_samples, self._on_device = num_train_samples, augment_on_device
        if augment_on_device:  # else a module's own hook of this name is the one that Lightning calls
            self.on_after_batch_transfer = self._with_views  # type: ignore[method-assign]
        given = {"crop": crop, "flip": flip, "color": color, "gray": gray, "blur": blur}
        usual, limits = self._facts.usual._asdict(), _LIMITS._asdict()
        self._strengths = Strengths(
            **{
                name: strength_of(value, name, usual=usual[name], maximum=limits[name])
                for name, value in given.items()
            }
        )
        size = image_size or self._facts.size
        self.image_shape = (len(self._facts.mean), size, size)
        self._small = small_crops_of(num_small_crops, small_crop_size, small_crop_scale, image_size=size)
        self._parts: dict[Part, Dataset[Any]] = {}

    @property
    def num_classes(self) -> int:
        """Number of classes.

        Returns:
            The number; for an image folder that of the folders in `train`.
        """
        return self._facts.num_classes or len(image_folder_classes(self._data_dir))

    def prepare_data(self) -> None:
        """Let torchvision fetch what is missing, where `download` is set."""
        if self._download:
            for part in self._all_parts():
                self._open(part, download=True)

    def setup(self, stage: str | None = None) -> None:
        """Open the images; says what is missing.

        Args:
            stage: in "validate" and "test" the training images are left until they are asked for.
        """
        for part in ("test",) if stage in ("validate", "test") else self._all_parts():
            self._part(part)

    def train_dataloader(self) -> DataLoader:
        """Views of the training images.

        Returns:
            Loader of batches [views, labels]: A tensors (N, C, H, W) and one for each small crop, and (N,); with
            `augment_on_device` of `SeededImages`.

        Raises:
            InputError: the batch size exceeds the number of training images of a process.
        """
        images = self._part("unlabeled" if self._dataset == "stl10" else "train")
        if self._num_train_samples is not None:
            images = _mixed(images, self._num_train_samples)
        views: EpochDataset
        if self._on_device:
            views = SeededImageDataset(images, stored_image(self.image_shape[1]), seed=self._seed)
        else:
            small = [self._random(self._small.size, self._small.scale)] * self._small.number
            views = MultiViewDataset(
                images, self._random(), num_views=self._num_views, seed=self._seed, others=small
            )
        return training_loader(
            views, self.hparams["batch_size"], seed=self._seed, num_workers=self._num_workers
        )

    def val_dataloader(self) -> DataLoader:
        """The test images, clean.

        Returns:
            Loader of batches [images, labels]: (N, C, H, W), and (N,), in a fixed order that mixes the classes.
        """
        return self._clean_loader(self._part("test"))

    def test_dataloader(self) -> DataLoader:
        """The test images, clean.

        Returns:
            The same as `val_dataloader`.
        """
        return self.val_dataloader()

    def probe_dataloader(self) -> DataLoader:
        """Labelled training images, clean, for probes.

        Returns:
            Loader of batches [images, labels]: (N, C, H, W), and (N,), in a fixed order that mixes the classes.
        """
        return self._clean_loader(self._part("train"), limit=self._num_probe_samples)

    def views_dataloader(self, num_views: int = NUM_VIEWS) -> DataLoader:
        """Views of the test images, the clean one first, the same at every pass: for `GeneralizationMonitor`.

        Args:
            num_views: A >= 2, the clean image among them.

        Returns:
            Loader of batches [views, labels]: A tensors (N, C, H, W), and (N,), in the order of `val_dataloader`.
        """
        check_num_views(num_views)
        views = MultiViewDataset(
            self._part("test"), self._random(), num_views=num_views, seed=self._seed, clean=self._clean()
        )
        return self._mixed_loader(views)

    def _random(self, size: int | None = None, scale: tuple[float, float] | None = None) -> v2.Transform:
        facts, strengths = self._facts, self._strengths._asdict()
        return random_view(size or self.image_shape[1], facts.mean, facts.std, scale=scale, **strengths)

    def _clean(self) -> v2.Transform:
        return clean_image(self.image_shape[1], self._facts.mean, self._facts.std)

    def _clean_loader(self, images: Dataset[Any], *, limit: int | None = None) -> DataLoader:
        return self._mixed_loader(CleanImages(images, self._clean()), limit=limit)

    def _mixed_loader(self, images: Dataset[Any], *, limit: int | None = None) -> DataLoader:
        return DataLoader(
            _mixed(images, limit),
            batch_size=self.hparams["batch_size"],
            num_workers=self._num_workers,
            persistent_workers=self._num_workers > 0,
        )

    def _with_views(self, batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, SeededImages):
            facts = self._facts
            views = views_of_batch(
                batch, self._num_views, self._small, facts.mean, facts.std, self._strengths
            )
            if self.trainer is not None:  # the dtype of the network's inputs, which the images had none of
                views = self.trainer.precision_plugin.convert_input(views)
            batch = [views, batch.labels]
        if self.trainer is None:
            return batch
        return self.trainer.lightning_module.on_after_batch_transfer(batch, dataloader_idx)

    def _all_parts(self) -> tuple[Part, ...]:
        return ("unlabeled", "train", "test") if self._dataset == "stl10" else ("train", "test")

    def _part(self, part: Part) -> Dataset[Any]:
        if part not in self._parts:
            self._parts[part] = self._open(part)
        return self._parts[part]

    def _open(self, part: Part, *, download: bool = False) -> Dataset[Any]:
        return open_image_set(self._dataset, self._data_dir, part, download=download)


# Always in the same way: folders come class by class, and whoever takes the first images wants all classes.
def _mixed(images: Dataset[Any], limit: int | None = None) -> Subset[Any]:
    order = torch.randperm(len(cast(Sized, images)), generator=torch.Generator().manual_seed(0))[:limit]
    return Subset(images, order.tolist())


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        check_integer(count, name, or_none=True)


def _facts_of(dataset: ImageSetName, *, download: bool) -> ImageSet:
    check_word(dataset, "dataset", ImageSetName)
    if download and dataset == "image_folder":
        raise InputError("Expected `download=False` with image_folder, got True; put the images there.")
    return IMAGE_SETS[dataset]
