import pytest
import torch
from PIL import Image

from lightning_ssl_theory.data import clean_image, random_view

OFF = {"crop": 0.0, "flip": 0.0, "color": 0.0, "gray": 0.0, "blur": 0.0}
RGB = ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
GREY = ([0.5], [0.25])


def photograph(height=12, width=12, channels=3):
    return torch.randint(0, 256, (channels, height, width), dtype=torch.uint8)


def draws(view, image, number=200):
    return torch.stack([view(image) for _ in range(number)])


def normalised(image, moments):
    mean, std = (torch.tensor(moment).reshape(-1, 1, 1) for moment in moments)
    return (image / 255 - mean) / std


def same(view, expected):
    return torch.allclose(view, expected, atol=1e-5)


@pytest.mark.parametrize(("moments", "channels"), [(RGB, 3), (GREY, 1)])
def test_everything_off_is_the_clean_normalised_image(moments, channels):
    image = photograph(channels=channels)
    expected = normalised(image, moments)
    torch.testing.assert_close(random_view(12, *moments, **OFF)(image), expected)
    torch.testing.assert_close(clean_image(12, *moments)(image), expected)


def test_clean_image_is_the_centre_of_the_resized_picture():
    picture = torch.zeros(3, 8, 16, dtype=torch.uint8)
    picture[:, :, 4:12] = 255
    assert (clean_image(8, [0.0] * 3, [1.0] * 3)(picture) == 1).all()
    assert clean_image(4, *RGB)(picture).shape == (3, 4, 4)
    assert clean_image(20, *RGB)(picture).shape == (3, 20, 20)


def test_pictures_and_tensors_give_the_same():
    image = photograph()
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    assert torch.equal(clean_image(12, *RGB)(picture), clean_image(12, *RGB)(image))
    assert type(clean_image(12, *RGB)(picture)) is torch.Tensor


def test_flip_has_its_probability():
    image = photograph()
    views = draws(random_view(12, *RGB, **OFF | {"flip": 0.25}), image)
    expected = normalised(image, RGB)
    is_flipped = torch.tensor([same(view, expected.flip(-1)) for view in views])
    is_same = torch.tensor([same(view, expected) for view in views])
    assert (is_flipped ^ is_same).all()
    # 200 draws: the standard deviation of the share is 0.031
    assert abs(is_flipped.float().mean() - 0.25) < 4 * 0.031


def test_crop_keeps_at_least_its_share():
    # a ramp: the range of a crop's values tells its width, and that of the columns its height
    ramp = torch.arange(64, dtype=torch.uint8).expand(64, 64)
    image = torch.stack([ramp, ramp.T, ramp])
    views = draws(random_view(64, [0.0] * 3, [1 / 255] * 3, **OFF | {"crop": 0.5}), image)
    width, height = (
        views[:, c].flatten(1).max(1).values - views[:, c].flatten(1).min(1).values for c in (0, 1)
    )
    share = (width + 1) * (height + 1) / 64**2
    # rounding to whole pixels moves each side by at most one pixel of at least 39
    assert share.min() > 0.5 * (1 - 2 / 39)
    assert share.min() < 0.6
    assert share.max() > 0.9


def test_color_grows_with_its_strength_and_spares_one_image_in_five():
    image = photograph()
    clean = normalised(image, RGB)
    weak, strong = (draws(random_view(12, *RGB, **OFF | {"color": c}), image) for c in (0.1, 0.8))
    assert (weak - clean).abs().mean() < (strong - clean).abs().mean()
    untouched = torch.tensor([same(view, clean) for view in strong]).float().mean()
    assert abs(untouched - 0.2) < 4 * 0.029  # standard deviation of a share of 200 draws


def test_gray_removes_colors_with_its_probability():
    views = draws(random_view(12, [0.0] * 3, [1.0] * 3, **OFF | {"gray": 0.5}), photograph())
    is_gray = (views.std(dim=1) < 1e-6).flatten(1).all(1).float().mean()
    assert abs(is_gray - 0.5) < 4 * 0.036


def test_blur_smooths_with_its_probability():
    image = photograph()
    views = draws(random_view(12, *RGB, **OFF | {"blur": 0.5}), image)
    clean = normalised(image, RGB)
    is_same = torch.tensor([same(view, clean) for view in views]).float().mean()
    assert 0.3 < is_same < 0.7
    assert (views.flatten(1).std(1) <= clean.std() + 1e-6).all()


def test_single_channel_images_lose_no_channel_and_get_none():
    image = photograph(channels=1)
    view = random_view(12, *GREY, crop=0.5, flip=0.5, color=1.0, gray=1.0, blur=1.0)
    views = draws(view, image, 20)
    assert views.shape == (20, 1, 12, 12)
    assert len({view.sum().item() for view in views}) == 20


def test_full_pipeline_on_a_picture_of_another_shape():
    view = random_view(16, *RGB)(photograph(20, 30))
    assert view.shape == (3, 16, 16)
    assert view.dtype == torch.float32
