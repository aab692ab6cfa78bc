"""The image data sets known by name: their facts, and reading them."""

import gzip
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch.utils.data import Dataset
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, STL10, SVHN, FashionMNIST

from lightning_ssl_theory.data.image_folder import open_image_folder

ImageSetName = Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "stl10", "svhn", "image_folder"]
Part = Literal["train", "unlabeled", "test"]


class Strengths(NamedTuple):
    """A strength for each augmentation of `random_view`."""

    crop: float = 0.8
    flip: float = 0.5
    color: float = 0.5
    gray: float = 0.2
    blur: float = 0.0


class ImageSet(NamedTuple):
    """Facts about a data set.

    `read(root, part, download)` opens a part of it, whose `files` lie in `folder` under the root; images
    are of `size` pixels squared; `mean` and `std` are those of the training images' channels, pixels in [0,
    1]. For image folders these are ImageNet's, and the number of classes stands in the folder.
    """

    read: Callable[[Path, Part, bool], Dataset[Any]]
    folder: str
    files: tuple[str, ...]
    size: int
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    usual: Strengths = Strengths()


# Functions with names, so that a data module can be pickled, as for processes that are spawned.
def _read_by_train_flag(
    kind: Callable[..., Dataset[Any]], root: Path, part: Part, download: bool
) -> Dataset[Any]:
    return kind(root, train=part == "train", download=download)


def _read_by_split(kind: Callable[..., Dataset[Any]], root: Path, part: Part, download: bool) -> Dataset[Any]:
    return kind(str(root), split=part, download=download)


def _read_folder(root: Path, part: Part, download: bool) -> Dataset[Any]:
    return open_image_folder(root, part)


_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)
_IDX = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_CIFAR10 = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
_STL10 = ("train_X.bin", "train_y.bin", "unlabeled_X.bin", "test_X.bin", "test_y.bin")

IMAGE_SETS: dict[ImageSetName, ImageSet] = {
    "mnist": ImageSet(
        partial(_read_by_train_flag, MNIST),
        folder="MNIST/raw",
        files=_IDX,
        size=28,
        num_classes=10,
        mean=(0.1307,),
        std=(0.3081,),
        usual=Strengths(crop=0.6, flip=0.0, gray=0.0),
    ),
    "fashion_mnist": ImageSet(
        partial(_read_by_train_flag, FashionMNIST),
        folder="FashionMNIST/raw",
        files=_IDX,
        size=28,
        num_classes=10,
        mean=(0.2860,),
        std=(0.3530,),
        usual=Strengths(crop=0.6, gray=0.0),
    ),
    "cifar10": ImageSet(
        partial(_read_by_train_flag, CIFAR10),
        folder="cifar-10-batches-py",
        files=_CIFAR10,
        size=32,
        num_classes=10,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    "cifar100": ImageSet(
        partial(_read_by_train_flag, CIFAR100),
        folder="cifar-100-python",
        files=("train", "test", "meta"),
        size=32,
        num_classes=100,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
    "stl10": ImageSet(
        partial(_read_by_split, STL10),
        folder="stl10_binary",
        files=_STL10,
        size=96,
        num_classes=10,
        mean=(0.4467, 0.4398, 0.4066),
        std=(0.2603, 0.2566, 0.2713),
        usual=Strengths(blur=0.5),
    ),
    "svhn": ImageSet(
        partial(_read_by_split, SVHN),
        folder="",
        files=("train_32x32.mat", "test_32x32.mat"),
        size=32,
        num_classes=10,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        usual=Strengths(flip=0.0),
    ),
    "image_folder": ImageSet(
        _read_folder,
        folder="",
        files=(),
        size=224,
        num_classes=0,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        usual=Strengths(blur=0.5),
    ),
}


def open_image_set(name: ImageSetName, data_dir: Path, part: Part, *, download: bool = False) -> Dataset[Any]:
    """One part of a named data set.

    Args:
        name: a key of `IMAGE_SETS`.
        data_dir: the folder under which the data set's own folder lies.
        part: "train", "test", and for STL-10 "unlabeled", whose labels are -1.
        download: whether torchvision may fetch what is missing.

    Returns:
        Dataset of (PIL image, label).

    Raises:
        FileNotFoundError: the files are missing or damaged, or could not be fetched.
    """
    facts = IMAGE_SETS[name]
    if name == "image_folder":
        return facts.read(data_dir, part, download)
    folder = data_dir / facts.folder
    try:
        _unpack(folder, facts.files)
        return facts.read(data_dir, part, download)
    except (*_DAMAGED, OSError, RuntimeError, ValueError, AssertionError) as error:
        failed = "download" if download else "unpacking" if isinstance(error, _DAMAGED) else None
        reason = f" ({failed} failed: {' '.join(str(error).split())})" if failed else ""
        raise FileNotFoundError(
            f"Expected the unpacked files {', '.join(facts.files)} of {name} in {folder}, "
            f"got {_contents(folder, facts.files)}{reason}; "
            "put them there, or pass download=True on a machine with a network."
        ) from error


# Files that lie in a folder packed, as MNIST's are handed out; whole ones appear at once, also for other processes.
def _unpack(folder: Path, files: Sequence[str]) -> None:
    for file in files:
        packed, unpacked = folder / f"{file}.gz", folder / file
        if unpacked.exists() or not packed.exists() or not packed.stat().st_size:
            continue
        unfinished = folder / f"{file}.{os.getpid()}.part"
        try:
            with gzip.open(packed) as source, unfinished.open("wb") as target:
                shutil.copyfileobj(source, target)
            unfinished.replace(unpacked)
        finally:
            unfinished.unlink(missing_ok=True)


# What lies in a folder instead of the expected files, in few words.
def _contents(folder: Path, files: tuple[str, ...]) -> str:
    if not folder.is_dir():
        return "no such folder"
    names = sorted(path.name for path in folder.iterdir())
    if set(files) <= set(names):
        return "files of these names that torchvision finds damaged"
    return ", ".join(names[:8]) if names else "an empty folder"
