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
        FileNotFoundError, match=r"Expected one folder .* in .*train, got no such folder; put the images"
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
