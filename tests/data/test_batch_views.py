"""Views of a whole batch: each step against torchvision's on single images, and the law as a whole."""

import math

import pytest
import torch
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as F

from lightning_ssl_theory.data import batch_views, random_view, random_views

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
OFF = {"crop": 0.0, "flip": 0.0, "color": 0.0, "gray": 0.0, "blur": 0.0}


def photographs(count: int = 6, channels: int = 3, size: int = 12) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))


class Fixed:
    """Draws that are given."""

    def __init__(self, **draws):
        self.draws = draws

    def coins(self, probability):
        return self.draws["coins"].reshape(-1, 1, 1, 1)


STEPS = {
    "brightness": (F.adjust_brightness, [0.2, 0.9, 1.0, 1.4, 1.8, 0.0]),
    "contrast": (F.adjust_contrast, [0.2, 0.9, 1.0, 1.4, 1.8, 0.0]),
    "saturation": (F.adjust_saturation, [0.2, 0.9, 1.0, 1.4, 1.8, 0.0]),
    "hue": (F.adjust_hue, [-0.5, -0.13, 0.0, 0.07, 0.2, 0.5]),
}


@pytest.mark.parametrize("step", STEPS)
def test_colour_of_single_images(step) -> None:
    function, factors = STEPS[step]
    images = photographs()
    images[1] = images[1, :1]  # gray has no hue
    found = batch_views._adjusted(images, step, torch.tensor(factors).reshape(-1, 1, 1, 1))
    for image, factor, expected in zip(images, factors, found, strict=True):
        assert_close(expected, function(image, factor), rtol=0, atol=2e-4)


@pytest.mark.parametrize("size", [12, 5, 3, 1, 20])
def test_boxes_of_single_images(monkeypatch, size) -> None:
    images = photographs()
    boxes = [torch.tensor(values)[:, None] for values in ([0, 3, 5, 0, 11, 2], [0, 1, 4, 6, 11, 0])]
    boxes += [torch.tensor(values)[:, None] for values in ([12, 5, 7, 9, 1, 8], [12, 9, 6, 6, 1, 12])]
    monkeypatch.setattr(batch_views, "_boxes", lambda *_: tuple(one.float() for one in boxes))
    is_flipped = torch.tensor([False, True, False, True, False, True])
    found = batch_views._cropped(images, Fixed(coins=is_flipped), (0.5, 1.0), 0.5, size)
    assert found.is_contiguous()
    for i, image in enumerate(images):
        box = [int(one[i]) for one in boxes]
        expected = F.resized_crop(image, *box, [size, size], antialias=True)
        assert_close(found[i], F.horizontal_flip(expected) if is_flipped[i] else expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [12, 64])
def test_blur_of_single_images(size) -> None:
    images, deviations = photographs(3, size=size), torch.tensor([0.1, 0.7, 2.0])
    found = batch_views._blurred(images, deviations)
    kernel = max(3, size // 20 * 2 + 1)
    for image, deviation, expected in zip(images, deviations.tolist(), found, strict=True):
        assert_close(expected, F.gaussian_blur(image, [kernel, kernel], [deviation]), rtol=0, atol=1e-5)


SETTINGS = {
    "crop": {"crop": 0.8},
    "flip": {"flip": 0.3},
    "color": {"color": 0.5},
    "strong-color": {"color": 1.5},
    "gray": {"gray": 0.3},
    "blur": {"blur": 0.5},
    "small": {"scale": (0.1, 0.4), "size": 5, "flip": 0.3},
    "small-all": {"scale": (0.05, 0.14), "size": 4, "flip": 0.5, "color": 0.4, "gray": 0.2, "blur": 0.5},
    "shrunk": {"size": 3, "flip": 0.3},
    "all": {"crop": 0.9, "flip": 0.5, "color": 0.4, "gray": 0.2, "blur": 0.5},
}


LAWS = [(name, False) for name in SETTINGS] + [("all", True), ("gray", True), ("small", True)]
LAWS += [pytest.param(name, True, marks=pytest.mark.all_cases) for name in ("crop", "color", "blur")]


@pytest.mark.parametrize(("name", "is_seeded"), LAWS)
def test_the_law_is_that_of_single_views(name, is_seeded) -> None:
    # means of pixels and of products of two pixels over many views, compared in their standard errors
    strengths, count, size = OFF | SETTINGS[name], 600, 8
    image = photographs(1, size=size)[0]
    single = random_view(**{"size": size} | strengths, mean=MEAN, std=STD)
    views = torch.stack([single(image) for _ in range(count)])
    seeds = torch.arange(4 * count) if is_seeded else None
    many = random_views(image.expand(4 * count, -1, -1, -1), MEAN, STD, seeds=seeds, **strengths)
    for moment in (
        lambda x: x,
        lambda x: x * x.roll(1, dims=1),
        lambda x: x * x.roll(3, dims=1),
        lambda x: x**2,
    ):
        ours, theirs = moment(many.flatten(1)), moment(views.flatten(1))
        error = (ours.var(0) / len(ours) + theirs.var(0) / count).sqrt() + 1e-3
        scores = (ours.mean(0) - theirs.mean(0)) / error
        assert scores.abs().max() < 4.8, name  # of 192 numbers, correlated


def test_one_channel_and_bytes() -> None:
    images = (photographs(4, 1) * 255).to(torch.uint8)
    generator = torch.Generator().manual_seed(3)
    found = random_views(images, [0.5], [0.25], generator=generator)
    assert found.shape == images.shape
    assert found.dtype == torch.float32
    assert_close(random_views(images, [0.0], [1.0], **OFF), images / 255)
    again = random_views(images, [0.5], [0.25], generator=torch.Generator().manual_seed(3))
    assert torch.equal(found, again)


def test_draws_are_each_images_own_and_the_generators() -> None:
    images = photographs(1).expand(8, -1, -1, -1)
    state = torch.get_rng_state()
    found = random_views(images, MEAN, STD, generator=torch.Generator().manual_seed(0))
    assert torch.equal(state, torch.get_rng_state())
    assert len({view.sum().item() for view in found}) == 8


@pytest.mark.parametrize("kind", [{}, {"scale": (0.1, 0.4), "size": 5}], ids=["large", "small"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_seeded_view_is_a_function_of_its_image_and_seed(channels, kind) -> None:
    images, moments = (photographs(9, channels) * 255).to(torch.uint8), (MEAN[:channels], STD[:channels])
    seeds = torch.arange(9) - 4
    whole = random_views(images, *moments, **kind, seeds=seeds)
    order = torch.tensor([5, 2, 8])
    assert torch.equal(random_views(images[order], *moments, **kind, seeds=seeds[order]), whole[order])
    assert torch.equal(random_views(images[3:4], *moments, **kind, seeds=seeds[3:4]), whole[3:4])
    assert not torch.equal(random_views(images, *moments, **kind, seeds=seeds + 1), whole)
    state = torch.get_rng_state()
    random_views(images, *moments, **kind, seeds=seeds)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": torch.rand(2, 3, 8, 6)}, "Expected `images` of shape"),
        ({"mean": [0.5]}, "Expected `images` of 1 or 3 channels, as many as `mean` has, got 3 and 1"),
        ({"crop": 1.0}, r"Expected `crop` in \[0, 1\), got 1.0"),
        (
            {"scale": (0.5, 0.2)},
            r"Expected `scale` to be the smallest and the largest share .*, got \[0.5, 0.2\]",
        ),
        (
            {"scale": (0.1, 0.2, 0.3)},
            r"the smallest and the largest share .*, got \[0.1, 0.2, 0.3\]; pass two",
        ),
        ({"scale": (0.0, 0.2)}, r"Expected `scale` in \(0, 1\], got 0.0; it is a share of the area"),
        ({"scale": [0.2]}, "Expected `scale` of at least 2 elements, got 1"),
        ({"size": 0}, "Expected `size` of at least 1, got 0"),
        ({"color": 3.0}, r"Expected `color` in \[0, 2.5\], got 3.0"),
        ({"std": [0.0, 1.0, 1.0]}, "Expected `std` > 0, got 0.0"),
        ({"gray": math.nan}, r"Expected `gray` in \[0, 1\], got nan"),
        ({"seeds": torch.arange(5)}, r"Expected `seeds` of shape \(6,\), got \(5,\)"),
        ({"seeds": torch.zeros(6)}, "Expected `seeds` of torch.int64, got torch.float32"),
        (
            {"seeds": torch.arange(6), "generator": torch.Generator()},
            "Expected a `generator` or `seeds`, got both; pass one of them",
        ),
    ],
)
def test_rejects(changed, message) -> None:
    with pytest.raises(ValueError, match=message):
        random_views(**{"images": photographs(), "mean": MEAN, "std": STD} | changed)
