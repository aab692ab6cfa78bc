"""Images of the first layer's filters, read from the newest checkpoint of a run."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

MAX_FILTERS = 64
FILTERS_A_ROW = 16
# positive weights orange, negative ones blue; opacity is size, so that the page's own background is zero
_POSITIVE, _NEGATIVE = (221, 119, 34), (46, 112, 196)


class Filters(NamedTuple):
    """Pictures of the first layer.

    Attributes:
        images: One PNG a filter, as data URIs; empty where the layer cannot be drawn.
        sentence: Which weight is shown, or why none is.
        is_colour: Whether the filters see red, green and blue.
        num_a_row: Pictures in a row, where rows mean something.
    """

    images: tuple[str, ...]
    sentence: str
    is_colour: bool = False
    num_a_row: int | None = None


def first_layer_filters(folder: Path) -> Filters:
    """The filters of the first convolution or linear layer in the newest checkpoint under `checkpoints/`.

    Args:
        folder: The run folder.

    Returns:
        At most `MAX_FILTERS` pictures, each divided by its own largest weight, or a sentence that says what
        is missing.
    """
    return _drawn(folder, _filters)


def _filters(checkpoint: _Checkpoint) -> Filters:
    import torch

    for name, weight in checkpoint.state["state_dict"].items():
        if isinstance(weight, torch.Tensor) and weight.is_floating_point() and weight.ndim in {2, 4}:
            return _pictures(name, weight.float(), checkpoint.name)
    return Filters(
        (), f"The checkpoint {checkpoint.name} holds neither a convolution nor a linear layer to draw."
    )


def first_layer_eigenvectors(folder: Path) -> Filters:
    """The leading eigenvectors that CovarianceOperators left in the newest checkpoint, drawn as filters.

    Args:
        folder: The run folder.

    Returns:
        The first filters of every eigenvector of the first layer that can be drawn; no picture where there is none.
    """
    return _drawn(folder, _eigenvectors)


def _eigenvectors(checkpoint: _Checkpoint) -> Filters:
    from lightning_ssl_theory.tracing.filter_images import filter_images

    for state in checkpoint.state.get("callbacks", {}).values():
        for layer, vectors in (state.get("eigenvectors", {}) if isinstance(state, dict) else {}).items():
            rows = [filter_images(vector.float()) for vector in vectors]
            shown = [
                row[:FILTERS_A_ROW] / row.abs().max().clamp_min(1e-30) for row in rows if row is not None
            ]
            if shown:
                sentence = (
                    f"{layer}, the {len(shown)} leading eigenvectors in falling order, the first {len(shown[0])} "
                    f"filters of each, from {checkpoint.name}; each is scaled to its eigenvector's largest entry."
                )
                images = tuple(_data_uri(image, scale=1.0) for row in shown for image in row)
                return Filters(images, sentence, shown[0].shape[1] == 3, num_a_row=len(shown[0]))
    return Filters((), f"The checkpoint {checkpoint.name} holds no eigenvectors")


def _drawn(folder: Path, draw: Callable[[_Checkpoint], Filters]) -> Filters:
    checkpoint = _newest_checkpoint(folder)
    if isinstance(checkpoint, str):
        return Filters((), f"{checkpoint}, so the first layer's filters are not shown.")
    try:
        return draw(checkpoint)
    except Exception:  # another program's checkpoint may hold anything under these names
        return Filters((), f"The checkpoint {checkpoint.name} holds something else than weights to draw.")


class _Checkpoint(NamedTuple):
    name: str
    state: dict[str, Any]


def _newest_checkpoint(folder: Path) -> _Checkpoint | str:
    # the checkpoint, or why there is none
    found = (path for path in (folder / "checkpoints").glob("**/*.ckpt") if path.is_file())  # no broken links
    paths = sorted(found, key=lambda path: path.stat().st_mtime)
    if not paths:
        return "There is no checkpoint under checkpoints/"
    import torch

    try:
        state = torch.load(paths[-1], map_location="cpu", weights_only=True)
        state["state_dict"].items()
    except Exception:  # whatever lies there: a report needs no checkpoint
        return f"The checkpoint {paths[-1].name} cannot be read"
    return _Checkpoint(paths[-1].name, state)


def _pictures(name: str, weight: Tensor, checkpoint: str) -> Filters:
    from lightning_ssl_theory.tracing.filter_images import filter_images

    shape = "×".join(str(size) for size in weight.shape)
    pixels = filter_images(weight)
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


def _data_uri(image: Tensor, *, scale: float | None = None) -> str:
    from PIL import Image

    scaled = image / (scale or image.abs().max().clamp_min(1e-30))  # (channels, height, width) in [-1, 1]
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
