"""Images of the first layer's filters, read from the newest checkpoint of a run."""

from __future__ import annotations

import base64
import io
import math
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

MAX_FILTERS = 64
# positive weights orange, negative ones blue; opacity is size, so that the page's own background is zero
_POSITIVE, _NEGATIVE = (221, 119, 34), (46, 112, 196)


class Filters(NamedTuple):
    """Pictures of the first layer.

    Attributes:
        images: One PNG a filter, as data URIs; empty where the layer cannot be drawn.
        sentence: Which weight is shown, or why none is.
        is_colour: Whether the filters see red, green and blue.
    """

    images: tuple[str, ...]
    sentence: str
    is_colour: bool = False


def first_layer_filters(folder: Path) -> Filters:
    """The filters of the first convolution or linear layer in the newest checkpoint under `checkpoints/`.

    Args:
        folder: The run folder.

    Returns:
        At most `MAX_FILTERS` pictures, each divided by its own largest weight, or a sentence that says what
        is missing.
    """
    paths = sorted((folder / "checkpoints").glob("**/*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not paths:
        return Filters(
            (), "There is no checkpoint under checkpoints/, so the first layer's filters are not shown."
        )
    import torch

    try:
        state = torch.load(paths[-1], map_location="cpu", weights_only=True)["state_dict"]
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError):
        return Filters(
            (), f"The checkpoint {paths[-1].name} cannot be read, so the first layer's filters are not shown."
        )
    for name, weight in state.items():
        if isinstance(weight, torch.Tensor) and weight.is_floating_point() and weight.ndim in {2, 4}:
            return _pictures(name, weight.float(), paths[-1].name)
    return Filters(
        (), f"The checkpoint {paths[-1].name} holds neither a convolution nor a linear layer to draw."
    )


def _pictures(name: str, weight: Tensor, checkpoint: str) -> Filters:
    shape = "×".join(str(size) for size in weight.shape)
    pixels = _as_images(weight)
    if pixels is None:
        return Filters(
            (), f"The first layer, {name} ({shape}), does not look at image pixels and cannot be drawn."
        )
    if not pixels.isfinite().all():
        return Filters(
            (), f"The first layer, {name} ({shape}), holds weights that are not finite and cannot be drawn."
        )
    shown = pixels[:MAX_FILTERS]
    count = f"{len(shown)} of {len(pixels)}" if len(shown) < len(pixels) else f"all {len(pixels)}"
    sentence = (
        f"{name} ({shape}), {count} filters, from {checkpoint}; each is scaled to its own largest weight."
    )
    return Filters(tuple(_data_uri(image) for image in shown), sentence, is_colour=pixels.shape[1] == 3)


# (filters, channels, height, width) with one or three channels, or None.
def _as_images(weight: Tensor) -> Tensor | None:
    if weight.ndim == 4:
        if weight.shape[1] not in {1, 3}:
            weight = weight.mean(dim=1, keepdim=True)
        return weight if weight.shape[-1] > 1 else None
    for channels in (1, 3):
        side = math.isqrt(weight.shape[1] // channels)
        if side >= 3 and channels * side * side == weight.shape[1]:
            return weight.reshape(-1, channels, side, side)
    return None


def _data_uri(image: Tensor) -> str:
    from PIL import Image

    scaled = image / image.abs().max().clamp_min(1e-30)  # (channels, height, width) in [-1, 1]
    if len(scaled) == 3:
        picture = Image.fromarray(
            (127.5 + 127.5 * scaled).byte().permute(1, 2, 0).contiguous().numpy(), "RGB"
        )
    else:
        picture = Image.new("RGBA", (scaled.shape[2], scaled.shape[1]))
        values = scaled.flatten().tolist()
        picture.putdata([(*(_POSITIVE if v > 0 else _NEGATIVE), round(255 * abs(v))) for v in values])
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
