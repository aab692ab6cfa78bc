import numpy as np
import pytest
from PIL import Image

from lightning_ssl_theory.data.image_folder import image_folder_classes, open_image_folder


def fill(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(folder / name / "1.png")


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_classes_are_the_folders(tmp_path, held_out):
    fill(tmp_path / "train", "cat", "ant")
    fill(tmp_path / held_out, "ant", "cat")
    assert image_folder_classes(tmp_path) == ["ant", "cat"]
    assert [label for _, label in open_image_folder(tmp_path, "train")] == [0, 1]
    assert len(open_image_folder(tmp_path, "test")) == 2


def test_test_is_preferred_to_val(tmp_path):
    fill(tmp_path / "train", "ant")
    fill(tmp_path / "val", "ant")
    fill(tmp_path / "test", "ant")
    assert open_image_folder(tmp_path, "test").root == str(tmp_path / "test")


def test_rejects_missing_folders(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"Expected one folder .* in .*train, got no such folder; put the images .* as `data_dir`",
    ):
        open_image_folder(tmp_path, "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"in .*train, got no folder in it; put .* train/<class>/\* and test"
    ):
        image_folder_classes(tmp_path)
    fill(tmp_path / "train", "ant")
    with pytest.raises(
        FileNotFoundError, match=r"Expected one folder for each class in .*test, got no such folder"
    ):
        open_image_folder(tmp_path, "test")


def test_rejects_class_folders_without_images(tmp_path):
    (tmp_path / "train" / "ant").mkdir(parents=True)
    with pytest.raises(
        FileNotFoundError, match=r"Expected images in every class folder of .*train, got none in some"
    ):
        open_image_folder(tmp_path, "train")


def test_rejects_other_held_out_classes(tmp_path):
    fill(tmp_path / "train", "ant", "cat")
    fill(tmp_path / "test", "ant")
    with pytest.raises(
        ValueError, match=r"Expected the 2 classes of .* got 1 classes \(cat on one side only\)"
    ):
        open_image_folder(tmp_path, "test")


def save(folder, name, image, **options):
    for part in ("train", "test"):
        (folder / part / "ant").mkdir(parents=True, exist_ok=True)
        image.save(folder / part / "ant" / name, **options)


@pytest.mark.filterwarnings("error")
def test_every_8_bit_kind_of_image_comes_out_in_colour(tmp_path):
    colour = Image.new("RGB", (7, 5), (200, 40, 90))
    save(tmp_path, "0.png", colour)
    save(tmp_path, "1.png", Image.new("L", (3, 9), 77))
    save(tmp_path, "2.png", colour.quantize(4))
    save(tmp_path, "3.png", colour.quantize(4), transparency=bytes([9, 255]))
    save(tmp_path, "4.jpg", Image.new("CMYK", (4, 4), (0, 255, 255, 0)), quality=100)
    save(tmp_path, "5.png", Image.new("LA", (2, 2), (77, 5)))
    save(tmp_path, "6.png", Image.new("1", (2, 2), 1))
    images = [image for image, _ in open_image_folder(tmp_path, "train")]
    assert {image.mode for image in images} == {"RGB"}
    assert [image.size for image in images[:2]] == [(7, 5), (3, 9)]
    expected = [(200, 40, 90), (77,) * 3, (200, 40, 90), (200, 40, 90), (255, 0, 0), (77,) * 3, (255,) * 3]
    for image, pixel in zip(images, expected, strict=True):
        assert np.abs(np.array(image.getpixel((1, 1))) - pixel).max() <= 3  # JPEG rounds


@pytest.mark.parametrize("content", [b"no image", b"", None], ids=["text", "empty", "cut"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    save(tmp_path, "0.png", Image.effect_noise((40, 40), 50))
    path = tmp_path / "train" / "ant" / "0.png"
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(
        ValueError,
        match=r"Expected an image in .*train/ant/0\.png, got a file that cannot be read \(.*\); rep",
    ):
        open_image_folder(tmp_path, "train")[0]


def test_16_bits_are_refused_by_name(tmp_path):
    save(tmp_path, "0.png", Image.fromarray(np.full((4, 4), 30000, dtype=np.uint16)))
    with pytest.raises(ValueError, match=r"Expected 8 bits a channel in .*0\.png, got an image of mode I"):
        open_image_folder(tmp_path, "train")[0]
