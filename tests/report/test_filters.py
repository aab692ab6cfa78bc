"""Pictures of the first layer, or the reason why there are none."""

import base64
import io

import pytest
import torch
from PIL import Image

from lightning_ssl_theory.report.filters import (
    FILTERS_A_ROW,
    MAX_FILTERS,
    Filters,
    first_layer_eigenvectors,
    first_layer_filters,
)


def checkpoint(folder, state, name="last.ckpt"):
    (folder / "checkpoints").mkdir(exist_ok=True)
    torch.save({"state_dict": state}, folder / "checkpoints" / name)


def picture(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


@pytest.mark.parametrize(
    ("shape", "size", "mode"),
    [
        ((4, 1, 3, 5), (5, 3), "RGBA"),
        ((4, 3, 7, 7), (7, 7), "RGB"),
        ((4, 2, 3, 3), (3, 3), "RGBA"),
        ((4, 64), (8, 8), "RGBA"),
        ((4, 3 * 16), (4, 4), "RGB"),
    ],
    ids=str,
)
def test_weights_become_pictures(tmp_path, shape, size, mode):
    checkpoint(tmp_path, {"step": torch.tensor(3), "bias": torch.ones(4), "first.weight": torch.ones(shape)})
    filters = first_layer_filters(tmp_path)
    assert len(filters.images) == 4
    assert picture(filters.images[0]).size == size
    assert picture(filters.images[0]).mode == mode
    assert filters.sentence.startswith("first.weight")


def test_sign_is_the_hue_and_size_the_opacity(tmp_path):
    checkpoint(tmp_path, {"w": torch.tensor([[[[4.0, -2.0], [0.0, 1.0]]]])})
    pixels = picture(first_layer_filters(tmp_path).images[0])
    red, _, blue, opacity = pixels.getpixel((0, 0))
    assert red > blue
    assert opacity == 255
    red, _, blue, opacity = pixels.getpixel((1, 0))
    assert blue > red
    assert opacity == 128
    assert pixels.getpixel((0, 1))[3] == 0


def test_newest_checkpoint_wins_and_many_filters_are_cut(tmp_path):
    checkpoint(tmp_path, {"old": torch.ones(2, 9)}, "a.ckpt")
    checkpoint(tmp_path, {"new": torch.ones(100, 9)}, "b.ckpt")
    filters = first_layer_filters(tmp_path)
    assert len(filters.images) == MAX_FILTERS
    assert f"new (100×9), {MAX_FILTERS} of 100 filters, from b.ckpt" in filters.sentence


def test_zero_weights_are_blank(tmp_path):
    checkpoint(tmp_path, {"w": torch.zeros(1, 9)})
    assert picture(first_layer_filters(tmp_path).images[0]).getextrema()[3] == (0, 0)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"bias": torch.ones(3)}, "neither a convolution nor a linear layer"),
        ({"w": torch.ones(3, 10)}, "does not look at image pixels"),
        ({"w": torch.ones(3, 8, 1, 1)}, "does not look at image pixels"),
        ({"w": torch.full((3, 9), torch.nan)}, "not finite"),
    ],
)
def test_layers_that_cannot_be_drawn(tmp_path, state, sentence):
    checkpoint(tmp_path, state)
    filters = first_layer_filters(tmp_path)
    assert filters.images == ()
    assert sentence in filters.sentence


def test_missing_broken_and_unsafe_checkpoints(tmp_path):
    assert "no checkpoint" in first_layer_filters(tmp_path).sentence
    checkpoint(tmp_path, {"w": torch.ones(3, 9)})
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"PK\x03\x04")
    assert "cannot be read" in first_layer_filters(tmp_path).sentence
    checkpoint(tmp_path, {"w": print})
    assert "cannot be read" in first_layer_filters(tmp_path).sentence


def test_eigenvectors_that_a_callback_left_are_drawn(tmp_path):
    assert "no checkpoint" in first_layer_eigenvectors(tmp_path).sentence
    vectors = torch.randn(3, 20, 1, 5, 5)
    states = {"Other": {"values": {}}, "CovarianceOperators": {"eigenvectors": {"backbone.conv": vectors}}}
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": {}, "callbacks": states}, path)
    found = first_layer_eigenvectors(tmp_path)
    assert len(found.images) == 3 * FILTERS_A_ROW
    assert picture(found.images[0]).size == (5, 5)
    assert "backbone.conv, the 3 leading eigenvectors" in found.sentence
    torch.save({"state_dict": {}, "callbacks": {"Other": {}}}, path)
    assert first_layer_eigenvectors(tmp_path) == Filters((), "The checkpoint last.ckpt holds no eigenvectors")
