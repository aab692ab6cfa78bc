r"""Random views of a whole batch of images at once: the law of `random_view`, without a step for each image."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from lightning_ssl_theory.checks import (
    InputError,
    check_dtype,
    check_finite,
    check_instance,
    check_integer,
    check_shape,
)
from lightning_ssl_theory.data.counted_draws import counted_uniforms
from lightning_ssl_theory.data.view_arguments import (
    check_crop_scale,
    check_normalisation,
    check_view_strengths,
)

_TRIES = 10
_RATIO = math.log(4 / 3)
_LUMA = (0.2989, 0.587, 0.114)  # torchvision's


def random_views(
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    crop: float = 0.8,
    flip: float = 0.5,
    color: float = 0.5,
    gray: float = 0.2,
    blur: float = 0.5,
    scale: tuple[float, float] | None = None,
    size: int | None = None,
    generator: torch.Generator | None = None,
    seeds: Tensor | None = None,
) -> Tensor:
    r"""One random view of each image of a batch, by the law of `random_view` for images of their own size.

    Every image has its own draws. Departures from :func:`random_view`: (1) pixels are not rounded to 1 / 255 between
    the steps; (2) the draws are those of `generator` or `seeds`, not of torch's global one.

    Args:
        images: (N, C, S, S), uint8 or floating in [0, 1]; C is the length of `mean`, 1 or 3.
        mean: Of each channel of pixels in [0, 1], which is subtracted.
        std: Of each channel, by which the difference is divided.
        crop: Strength in [0, 1); see `random_view` for what each does.
        flip: In [0, 1].
        color: In [0, 2.5].
        gray: In [0, 1].
        blur: In [0, 1].
        scale: Smallest and largest share of the area that a crop keeps, in (0, 1], in place of `crop`.
        size: Height and width R of the views; S by default.
        generator: On the CPU; torch's global one by default.
        seeds: (N,) int64, in place of a generator: the view of an image is then a function of the image and its
            seed, whatever else is in the batch.

    Returns:
        (N, C, R, R) float32, on the device of the images. O(N C S^2) time: some 0.2 ms for an image of CIFAR's size
        on a CPU.

    Raises:
        InputError: If images are not square, have another number of channels, a strength is out of its range, or
            there are a generator and seeds.

    Example:
        >>> images = torch.full((4, 3, 8, 8), 255, dtype=torch.uint8)
        >>> random_views(images, [0.5] * 3, [0.5] * 3, color=0.0, gray=0.0, blur=0.0).unique()
        tensor([1.])
    """
    _check(images, mean, std)
    check_view_strengths(crop=crop, flip=flip, color=color, gray=gray, blur=blur)
    check_crop_scale(scale, or_none=True)
    check_integer(size, "size", at_most=2**20, or_none=True)
    draw = _Draws(len(images), images.device, generator, seeds)
    views = images.float().clone() if images.is_floating_point() else images.float() / 255
    has_color = len(mean) > 1
    size = size or images.shape[-1]
    if crop or flip or scale or size != images.shape[-1]:
        views = _cropped(views, draw, scale or (1 - crop, 1.0), flip, size)
    if color:
        views = _jittered(views, draw, color, has_color=has_color)
    if gray and has_color:
        views = torch.where(draw.coins(gray), _luma(views), views)
    if blur and size > 1:
        chosen, deviations = draw.coins(blur).flatten(), draw.uniform(0.1, 2.0)
        views[chosen] = _blurred(views[chosen], deviations[chosen])
    shift, unit = (
        torch.tensor(list(values), device=views.device).reshape(-1, 1, 1) for values in (mean, std)
    )
    return (views - shift) / unit


class _Draws:
    """Independent draws for each image, shaped (N, 1, 1, 1)."""

    def __init__(
        self, count: int, device: torch.device, generator: torch.Generator | None, seeds: Tensor | None
    ) -> None:
        check_instance(generator, "generator", torch.Generator, or_none=True)
        if seeds is not None:
            check_shape(seeds, "seeds", str(count))
            check_dtype(seeds, "seeds", torch.int64)
            if generator is not None:
                raise InputError("Expected a `generator` or `seeds`, got both; pass one of them.")
        self._count, self._device, self._generator = count, device, generator
        self._seeds, self._num_drawn = None if seeds is None else seeds.to(device), 0

    def rows(self, width: int) -> Tensor:
        """Uniform in [0, 1), (N, width)."""
        if self._seeds is None:
            return torch.rand(self._count, width, generator=self._generator).to(self._device)
        self._num_drawn += width
        return counted_uniforms(self._seeds, self._num_drawn - width, width)

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * self.rows(1).reshape(-1, 1, 1, 1)

    def coins(self, probability: float) -> Tensor:
        return self.rows(1).reshape(-1, 1, 1, 1) < probability


def _cropped(images: Tensor, draw: _Draws, scale: tuple[float, float], flip: float, size: int) -> Tensor:
    top, left, height, width = _boxes(images.shape[-1], draw, scale)
    if size != images.shape[-1]:
        views = _resampled(_resampled(images, top, height, size).mT, left, width, size).mT
        return torch.where(draw.coins(flip), views.flip(3), views).contiguous()
    places = (torch.arange(size, device=images.device) + 0.5) / size  # of the view's pixels, in the box
    columns = torch.where(draw.coins(flip).reshape(-1, 1), places.flip(0), places)
    grid = torch.stack(
        [
            _within(columns, left, width)[:, None].expand(-1, size, -1),
            _within(places, top, height)[:, :, None].expand(-1, -1, size),
        ],
        dim=3,
    )
    return grid_sample(images, 2 * grid / size - 1, mode="bilinear", align_corners=False)


def _boxes(size: int, draw: _Draws, scale: tuple[float, float]) -> tuple[Tensor, ...]:
    # the first of ten boxes that fits, or the whole image; (N, 1) each
    least, most = scale
    area = (least + (most - least) * draw.rows(_TRIES)) * size**2
    ratio = (_RATIO * (2 * draw.rows(_TRIES) - 1)).exp()
    widths, heights = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round())
    fits = (widths > 0) & (widths <= size) & (heights > 0) & (heights <= size) & (least < 1)
    chosen = fits.byte().argmax(1, keepdim=True)
    fits_any = fits.any(1, keepdim=True)
    whole = widths.new_tensor(size)
    width, height = (torch.where(fits_any, one.gather(1, chosen), whole) for one in (widths, heights))
    top, left = ((draw.rows(1) * (size - side + 1)).floor() for side in (height, width))
    return top, left, height, width


def _within(places: Tensor, first: Tensor, length: Tensor) -> Tensor:
    # centres of pixels outside a box do not count: its border is repeated, as where the box is cut out
    return first + (places * length).clamp(min=0.5).minimum(length - 0.5)


def _resampled(images: Tensor, first: Tensor, length: Tensor, size: int) -> Tensor:
    # Rows `first` to `first + length` of each image as `size` rows: means of the pixels of the box within reach,
    # weighted by a triangle, which is as wide as a row where rows get fewer. No matrix product, whose rounding could
    # depend on the other images of the batch.
    stretch, count = length / size, images.shape[2]
    centres = first + (torch.arange(size, device=images.device) + 0.5) * stretch  # (N, size)
    reach = stretch.clamp(min=1)
    start = (centres - reach).floor()
    found, total = images.new_zeros(*images.shape[:2], size, images.shape[3]), torch.zeros_like(centres)
    for tap in range(2 * math.ceil(max(count / size, 1)) + 1):
        row = start + tap
        weight = (1 - (row + 0.5 - centres).abs() / reach).clamp(min=0) * (
            (row >= first) & (row < first + length)
        )
        index = row.clamp(0, count - 1).long()[:, None, :, None].expand_as(found)
        found.addcmul_(weight[:, None, :, None], images.gather(2, index))
        total += weight
    return found / total[:, None, :, None]


def _jittered(images: Tensor, draw: _Draws, color: float, *, has_color: bool) -> Tensor:
    spread = 0.8 * color
    steps = ["brightness", "contrast", "saturation", "hue"][: 4 if has_color else 2]
    factors = [draw.uniform(max(0.0, 1 - spread), 1 + spread) for _ in steps[:3]]
    if has_color:
        factors.append(draw.uniform(-0.2 * color, 0.2 * color))
    order = draw.rows(len(steps)).argsort(1)  # of each image
    is_jittered = draw.coins(0.8).flatten()
    found = images.clone()
    for turn in range(len(steps)):
        for index, step in enumerate(steps):
            rows = (is_jittered & (order[:, turn] == index)).nonzero().flatten()
            if len(rows):
                found[rows] = _adjusted(found[rows], step, factors[index][rows])
    return found


def _adjusted(images: Tensor, step: str, factor: Tensor) -> Tensor:
    if step == "hue":
        return _turned(images, factor)
    if step == "brightness":
        return (factor * images).clamp(0, 1)
    other = _luma(images) if images.shape[1] > 1 else images
    if step == "contrast":
        other = other.mean((1, 2, 3), keepdim=True)
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def _luma(images: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, device=images.device).reshape(3, 1, 1)
    return (weights * images).sum(1, keepdim=True)


def _turned(images: Tensor, turns: Tensor) -> Tensor:
    # through hue, saturation and value
    value, largest = images.max(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    # hue in sixths of a turn, from the largest channel and the two that follow it
    after, before = (images.gather(1, (largest + shift) % 3) for shift in (1, 2))
    hue = 2 * largest + (after - before) / chroma.clamp(min=1e-12)
    hue = hue + 6 * turns
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device).reshape(3, 1, 1)
    place = (offsets + hue) % 6
    return value - chroma * torch.minimum(place, 4 - place).clamp(0, 1)


def _blurred(images: Tensor, deviations: Tensor) -> Tensor:
    reach = max(3, images.shape[-1] // 20 * 2 + 1) // 2
    steps = torch.arange(-reach, reach + 1, device=images.device)
    weights = (-0.5 * (steps / deviations.reshape(-1, 1)).square()).exp()
    weights = weights / weights.sum(1, keepdim=True)  # (N, taps)
    for dim in (2, 3):
        sides = (0, 0, reach, reach) if dim == 2 else (reach, reach, 0, 0)
        padded, size = pad(images, sides, mode="reflect"), images.shape[dim]
        images = torch.zeros_like(images)
        for index, weight in enumerate(weights.unbind(1)):
            images.addcmul_(weight[:, None, None, None], padded.narrow(dim, index, size))
    return images


def _check(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
    check_shape(images, "images", "N+ C+ H+ H+")
    check_finite(images, "images")
    check_normalisation(mean, std)
    if len(mean) != images.shape[1] or len(mean) not in (1, 3):
        raise InputError(
            f"Expected `images` of 1 or 3 channels, as many as `mean` has, got {images.shape[1]} and {len(mean)}; "
            "pass one number a channel."
        )
