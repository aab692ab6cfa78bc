"""Any image folder: `train/<class>/*` and `test/<class>/*`, or `val/<class>/*`."""

from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

from lightning_ssl_theory.checks import InputError

_LAYOUT = (
    "put the images into train/<class>/* and test/<class>/* (or val/<class>/*) under the data folder, or pass "
    "another folder as `data_dir`"
)


def open_image_folder(data_dir: Path, part: str) -> Dataset[Any]:
    """One part of an image folder; classes are numbered in the order of the training folders' names.

    Args:
        data_dir: the folder that holds `train` and `test` or `val`.
        part: "train" or "test"; "test" reads `test`, or `val` where there is no `test`.

    Returns:
        Dataset of (PIL image in RGB, label): of any size and of 8 bits a channel, gray, palette and CMYK images
        included. An image that cannot be read raises InputError with the name of its file.

    Raises:
        FileNotFoundError: a folder is missing or has no images.
        InputError: the held-out classes are not the training classes.
    """
    folder = _held_out_folder(data_dir) if part == "test" else data_dir / "train"
    classes, expected = _class_names(folder), image_folder_classes(data_dir)
    if classes != expected:
        odd = ", ".join(sorted(set(classes) ^ set(expected))[:4])
        raise InputError(
            f"Expected the {len(expected)} classes of {data_dir / 'train'} in {folder}, "
            f"got {len(classes)} classes ({odd} on one side only); use the same folder names."
        )
    try:
        return ImageFolder(str(folder), loader=_read_image)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Expected images in every class folder of {folder}, got none in some; {_LAYOUT}."
        ) from error


def image_folder_classes(data_dir: Path) -> list[str]:
    """The class names of an image folder, in the order of their numbers.

    Args:
        data_dir: the folder that holds `train`.

    Returns:
        Names of the folders in `train`, sorted.

    Raises:
        FileNotFoundError: `train` is missing or has no folders.
    """
    return _class_names(data_dir / "train")


def _read_image(path: str) -> Image.Image:
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            image.load()
            mode, converted = image.mode, image.convert("RGBA" if "transparency" in image.info else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"Expected an image in {path}, got a file that cannot be read ({reason}); replace or remove it."
        ) from error
    if mode.startswith(("I", "F")):  # what is above 255 would come out white
        raise InputError(
            f"Expected 8 bits a channel in {path}, got an image of mode {mode}; convert it to 8 bits."
        )
    return converted.convert("RGB")


def _class_names(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not names:
        found = "no folder in it" if folder.is_dir() else "no such folder"
        raise FileNotFoundError(f"Expected one folder for each class in {folder}, got {found}; {_LAYOUT}.")
    return names


def _held_out_folder(data_dir: Path) -> Path:
    test, val = data_dir / "test", data_dir / "val"
    return val if val.is_dir() and not test.is_dir() else test
