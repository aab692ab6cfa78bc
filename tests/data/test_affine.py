import math

import pytest
import torch

from lightning_ssl_theory.data import random_affine


def bilinear(image, y, x):
    """Value at a real position of a list of rows, 0 outside."""
    value = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < len(image) and 0 <= column < len(image[0]):
                value += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row][column]
    return value


def moved(image, angle, scale, shift_x, shift_y):
    """Every pixel p from R(angle) p / scale + shift, positions from the centre, angle in degrees."""
    height, width = len(image), len(image[0])
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    result = [[0.0] * width for _ in range(height)]
    for row in range(height):
        for column in range(width):
            x, y = (column - middle_x) / scale, (row - middle_y) / scale
            source_x = cosine * x - sine * y + shift_x + middle_x
            source_y = sine * x + cosine * y + shift_y + middle_y
            result[row][column] = bilinear(image, source_y, source_x)
    return result


def test_oracle_by_hand():
    image = [[1.0, 2.0], [3.0, 4.0]]
    assert moved(image, 0, 1, 1, 0) == [[2.0, 0.0], [4.0, 0.0]]
    assert moved(image, 0, 1, 0.5, 0) == [[1.5, 1.0], [3.5, 2.0]]
    quarter = torch.tensor(moved(image, 90, 1, 0, 0))
    torch.testing.assert_close(quarter, torch.tensor([[2.0, 4.0], [1.0, 3.0]]))


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (4, 2, 5, 7)])
def test_matches_loop(shape):
    images = torch.rand(shape, dtype=torch.float64)
    strengths = {"rotation": 40.0, "shift": 1.5, "scale": 0.3}
    result = random_affine(images, **strengths, generator=torch.Generator().manual_seed(3))
    draws = torch.rand(4, shape[0], generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2 - 1
    for sample, (angle, log_scale, shift_x, shift_y) in enumerate(draws.T.tolist()):
        scale = math.exp(log_scale * math.log(1.3))
        for channel in range(shape[1]):
            image = images[sample, channel].tolist()
            expected = moved(image, 40 * angle, scale, 1.5 * shift_x, 1.5 * shift_y)
            torch.testing.assert_close(result[sample, channel], torch.tensor(expected, dtype=torch.float64))


def test_without_strength_nothing_moves():
    images = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(random_affine(images), images)


def test_every_image_has_its_own_draw():
    images = torch.rand(1, 1, 8, 8).expand(4, 1, 8, 8)
    views = random_affine(images, rotation=10.0)
    assert all((views[i] != views[j]).any() for i in range(4) for j in range(i))


def test_draws_come_from_the_generator_alone():
    images, state = torch.rand(2, 1, 4, 4), torch.get_rng_state()
    first, second = (
        random_affine(images, shift=1.0, generator=torch.Generator().manual_seed(1)) for _ in "ab"
    )
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
