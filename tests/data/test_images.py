import gzip
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, STL10, SVHN

from lightning_ssl_theory.data import ImageDataModule
from lightning_ssl_theory.data.image_sets import IMAGE_SETS

SHARED = Path(__file__).parents[3] / "shared" / "data"
OFF = {"crop": 0, "flip": 0, "color": 0, "gray": 0, "blur": 0}


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist_like(root, folder):
    random = np.random.default_rng(0)
    for part, number in (("train", 20), ("t10k", 8)):
        write_idx(
            root / folder / "raw" / f"{part}-images-idx3-ubyte", random.integers(0, 256, (number, 28, 28))
        )
        write_idx(root / folder / "raw" / f"{part}-labels-idx1-ubyte", np.arange(number) % 10)


def write_cifar(root, name):
    facts, random = IMAGE_SETS[name], np.random.default_rng(0)
    folder, key = root / facts.folder, "labels" if name == "cifar10" else "fine_labels"
    folder.mkdir(parents=True)
    for file in facts.files:
        content = {"data": random.integers(0, 256, (4, 3072), dtype=np.uint8), key: [0, 1, 2, 3]}
        if "meta" in file:
            content = {"label_names": ["a"], "fine_label_names": ["a"]}
        (folder / file).write_bytes(pickle.dumps(content))


def write_stl10(root):
    folder, random = root / "stl10_binary", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for part, number in (("train", 4), ("unlabeled", 6), ("test", 3)):
        random.integers(0, 256, (number, 3, 96, 96), dtype=np.uint8).tofile(folder / f"{part}_X.bin")
        (np.arange(number, dtype=np.uint8) + 1).tofile(folder / f"{part}_y.bin")


def write_svhn(root):
    random = np.random.default_rng(0)
    for part, number in (("train", 12), ("test", 4)):
        labels = (np.arange(number) % 10 + 1).astype(np.uint8)  # 10 stands for the digit 0
        pixels = random.integers(0, 256, (32, 32, 3, number), dtype=np.uint8)
        savemat(root / f"{part}_32x32.mat", {"X": pixels, "y": labels[:, None]})


def write_folder(root, number=6):
    for part in ("train", "test"):
        for index, name in enumerate(("ant", "bee")):
            (root / part / name).mkdir(parents=True)
            for image in range(number):
                Image.new("RGB", (40, 30), (image * 20, index * 200, 90)).save(
                    root / part / name / f"{image}.png"
                )


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """Files of every data set in its own format, a few random images each; checksums are not looked at."""
    for kind in (CIFAR10, CIFAR100, STL10):
        monkeypatch.setattr(kind, "_check_integrity", lambda self: Path(self.root, self.base_folder).is_dir())
    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: Path(self.root, self.filename).is_file())
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    write_mnist_like(tmp_path, "MNIST")
    write_mnist_like(tmp_path, "FashionMNIST")
    write_cifar(tmp_path, "cifar10")
    write_cifar(tmp_path, "cifar100")
    write_stl10(tmp_path)
    write_svhn(tmp_path)
    write_folder(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "num_train", "num_probe", "num_test", "shape", "num_classes"),
    [
        ("mnist", 20, 20, 8, (1, 28, 28), 10),
        ("fashion_mnist", 20, 20, 8, (1, 28, 28), 10),
        ("cifar10", 20, 20, 4, (3, 32, 32), 10),
        ("cifar100", 4, 4, 4, (3, 32, 32), 100),
        ("stl10", 6, 4, 3, (3, 96, 96), 10),
        ("svhn", 12, 12, 4, (3, 32, 32), 10),
        ("image_folder", 12, 12, 12, (3, 224, 224), 2),
    ],
)
def test_every_data_set(data_dir, name, num_train, num_probe, num_test, shape, num_classes):
    data = ImageDataModule(name, data_dir, batch_size=2)
    data.prepare_data()
    data.setup()
    assert (data.image_shape, data.num_classes) == (shape, num_classes)
    views, labels = next(iter(data.train_dataloader()))
    assert [view.shape for view in views] == [(2, *shape)] * 2
    assert labels.dtype == torch.int64
    assert (views[0] != views[1]).any()
    assert len(data.train_dataloader()) == num_train // 2
    assert len(data.probe_dataloader().dataset) == num_probe
    assert len(data.val_dataloader().dataset) == len(data.test_dataloader().dataset) == num_test
    images, labels = next(iter(data.val_dataloader()))
    assert images.shape == (2, *shape)
    assert labels.min() >= 0


def test_stl10_trains_on_its_unlabelled_split(data_dir):
    data = ImageDataModule("stl10", data_dir, batch_size=6)
    _, labels = next(iter(data.train_dataloader()))
    assert labels.tolist() == [-1] * 6
    assert sorted(torch.cat([y for _, y in data.probe_dataloader()]).tolist()) == [0, 1, 2, 3]


def test_stl10_is_read_column_by_column(data_dir):
    raw = np.fromfile(data_dir / "stl10_binary" / "unlabeled_X.bin", dtype=np.uint8).reshape(6, 3, 96, 96)
    data = ImageDataModule("stl10", data_dir, batch_size=6, augment_on_device=True)
    images = {tuple(image.flatten().tolist()) for image in next(iter(data.train_dataloader())).images}
    assert images == {tuple(one.transpose(0, 2, 1).flatten().tolist()) for one in raw}


def test_svhn_is_read_with_its_digits(data_dir):
    raw = loadmat(data_dir / "train_32x32.mat")
    data = ImageDataModule("svhn", data_dir, batch_size=12, augment_on_device=True)
    batch = next(iter(data.train_dataloader()))
    for image, label in zip(batch.images, batch.labels, strict=True):
        (match,) = [i for i in range(12) if (raw["X"][..., i].transpose(2, 0, 1) == image.numpy()).all()]
        assert raw["y"][match, 0] % 10 == label


def test_normalisation(data_dir):
    data = ImageDataModule("image_folder", data_dir, batch_size=12, image_size=8)
    images, _ = next(iter(data.probe_dataloader()))
    first = torch.tensor([0, 0, 90]) / 255
    expected = (first - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    expected = expected.reshape(3, 1, 1).expand(3, 8, 8)
    assert sum(torch.allclose(image, expected) for image in images) == 1


def test_views_with_everything_off_are_the_clean_images(data_dir):
    data = ImageDataModule("cifar10", data_dir, batch_size=20, num_views=3, **OFF)
    views, _ = next(iter(data.train_dataloader()))
    clean = torch.cat([images for images, _ in data.probe_dataloader()])
    assert len(views) == 3
    assert torch.equal(views[0], views[2])
    assert {tuple(image.flatten().tolist()) for image in views[0]} == {
        tuple(x.flatten().tolist()) for x in clean
    }


def test_usual_strengths_do_not_mirror_handwriting(data_dir):
    usual = ImageDataModule("mnist", data_dir, batch_size=20, color=0, crop=0)
    off = ImageDataModule("mnist", data_dir, batch_size=20, **OFF)
    (view, _), _ = next(iter(usual.train_dataloader()))
    (same, _), _ = next(iter(off.train_dataloader()))
    assert torch.equal(view, same)
    (mirrored, _), _ = next(
        iter(ImageDataModule("mnist", data_dir, batch_size=20, **OFF | {"flip": 1}).train_dataloader())
    )
    assert torch.equal(mirrored, same.flip(-1))


def test_probe_samples_are_bounded_and_always_the_same(data_dir):
    def labels(seed, number):
        data = ImageDataModule("mnist", data_dir, batch_size=20, num_probe_samples=number, seed=seed)
        return [label for _, y in data.probe_dataloader() for label in y.tolist()]

    assert labels(0, 7) == labels(1, 7)
    assert len(labels(0, 7)) == 7
    assert len(labels(0, 100)) == 20
    assert len(labels(0, None)) == 20


@pytest.mark.parametrize("on_device", [False, True])
def test_training_samples_are_bounded_mixed_and_always_the_same(data_dir, on_device):
    def labels(number, seed=0, batch_size=4):
        data = ImageDataModule(
            "image_folder",
            data_dir,
            batch_size=batch_size,
            image_size=8,
            num_train_samples=number,
            augment_on_device=on_device,
            seed=seed,
        )
        loader = data.train_dataloader()
        assert len(data.probe_dataloader().dataset) == 12
        samples = loader.dataset._images._images if on_device else loader.dataset._dataset
        return samples.indices if number else None, sum(len(batch[1]) for batch in loader)

    chosen, count = labels(8)
    assert (len(set(chosen)), count) == (8, 8)
    assert {index // 6 for index in chosen} == {0, 1}  # six images a class
    assert labels(8, seed=1)[0] == chosen
    assert labels(100)[1] == labels(None)[1] == 12
    with pytest.raises(ValueError, match="Expected `batch_size` <= 8"):
        labels(8, batch_size=12)


def test_seed_repeats_the_views(data_dir):
    def views(seed):
        data = ImageDataModule("cifar10", data_dir, batch_size=4, seed=seed)
        return torch.cat([view for views, _ in data.train_dataloader() for view in views])

    assert torch.equal(views(0), views(0))
    assert not torch.equal(views(0), views(1))


def test_loader_processes(data_dir):
    alone, helped = (
        ImageDataModule("mnist", data_dir, batch_size=4, num_workers=number).train_dataloader()
        for number in (0, 1)
    )
    assert helped.persistent_workers
    for (views, labels), (other_views, other_labels) in zip(alone, helped, strict=True):
        assert torch.equal(labels, other_labels)
        assert all(torch.equal(a, b) for a, b in zip(views, other_views, strict=True))


def test_hyperparameters_hold_plain_values(data_dir):
    assert ImageDataModule("mnist", data_dir).hparams["data_dir"] == str(data_dir)


def test_validation_needs_no_training_images(data_dir):
    shutil.rmtree(data_dir / "train" / "ant")
    shutil.rmtree(data_dir / "test" / "ant")
    for image in (data_dir / "train" / "bee").iterdir():
        image.unlink()
    data = ImageDataModule("image_folder", data_dir, batch_size=2)
    data.setup("validate")
    with pytest.raises(FileNotFoundError, match="Expected images in every class folder"):
        data.setup("fit")


def test_packed_mnist_is_unpacked_in_place(tmp_path):
    write_mnist_like(tmp_path, "MNIST")
    folder = tmp_path / "MNIST" / "raw"
    for file in IMAGE_SETS["mnist"].files:
        (folder / f"{file}.gz").write_bytes(gzip.compress((folder / file).read_bytes()))
        (folder / file).unlink()
    data = ImageDataModule("mnist", tmp_path, batch_size=20)
    data.setup()
    assert len(next(iter(data.train_dataloader()))[1]) == 20
    assert {path.name for path in folder.iterdir() if path.suffix != ".gz"} == set(IMAGE_SETS["mnist"].files)

    (folder / IMAGE_SETS["mnist"].files[0]).unlink()
    packed = folder / f"{IMAGE_SETS['mnist'].files[0]}.gz"
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(FileNotFoundError, match=r"\(unpacking failed: Compressed file ended before"):
        ImageDataModule("mnist", tmp_path, batch_size=20).setup()
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "stl10", "svhn"])
def test_missing_files_say_what_to_put_where(tmp_path, name):
    facts, data = IMAGE_SETS[name], ImageDataModule(name, tmp_path)
    sentence = (
        f"Expected the unpacked files {', '.join(facts.files)} of {name} in {tmp_path / facts.folder}, got "
    )
    with pytest.raises(FileNotFoundError) as error:
        data.setup()
    assert str(error.value).startswith(sentence)
    assert str(error.value).endswith("put them there, or pass download=True on a machine with a network.")


def test_what_was_found_instead_is_named(tmp_path):
    data, folder = ImageDataModule("mnist", tmp_path), tmp_path / "MNIST" / "raw"
    with pytest.raises(FileNotFoundError, match="got no such folder"):
        data.setup()
    folder.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="got an empty folder"):
        data.setup()
    (folder / "train-images-idx3-ubyte.gz").touch()
    with pytest.raises(FileNotFoundError, match=r"got train-images-idx3-ubyte\.gz; put them there"):
        data.setup()
    for file in IMAGE_SETS["mnist"].files:
        (folder / file).write_bytes(b"damaged")
    with pytest.raises(FileNotFoundError, match="got files of these names that torchvision finds damaged"):
        data.setup()


def test_download_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(FileNotFoundError, match=r"got an empty folder \(download failed: .*; put them there"):
        ImageDataModule("mnist", tmp_path, download=True).prepare_data()


def test_rejected_settings(tmp_path):
    with pytest.raises(
        ValueError, match=r"Expected `dataset` to be one of mnist, .*image_folder, got 'imagenet'"
    ):
        ImageDataModule("imagenet", tmp_path)
    with pytest.raises(ValueError, match="Expected `download=False` with image_folder, got True"):
        ImageDataModule("image_folder", tmp_path, download=True)
    for name in ("batch_size", "num_views", "image_size", "num_probe_samples", "num_train_samples"):
        with pytest.raises(ValueError, match=f"Expected `{name}` of at least 1, got 0"):
            ImageDataModule("mnist", tmp_path, **{name: 0})
    with pytest.raises(ValueError, match="Expected `augment_on_device` to be True or False, got 1"):
        ImageDataModule("mnist", tmp_path, augment_on_device=1)
    with pytest.raises(ValueError, match=r"Expected `crop` >= 0 and <= 0.99, got 1\.5"):
        ImageDataModule("mnist", tmp_path, crop=1.5)


def test_real_mnist(tmp_path):
    source = SHARED / "MNIST" / "raw"
    if not source.is_dir():
        pytest.skip(f"no MNIST files in {source}")
    target = tmp_path / "MNIST" / "raw"
    target.mkdir(parents=True)
    for file in source.glob("*.gz"):
        with gzip.open(file) as packed, (target / file.stem).open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    data = ImageDataModule("mnist", tmp_path, batch_size=256, num_probe_samples=500)
    assert len(data.train_dataloader().dataset) == 60000
    images = torch.cat([x for x, _ in data.probe_dataloader()])
    # mean over 500 images of pixels whose mean over an image varies by about 0.15 around 0
    assert images.mean().abs() < 0.05
    assert (images.std() - 1).abs() < 0.05


def test_real_photographs_from_a_folder(tmp_path):
    source = SHARED / "cifar10-jpeg.tar.xz"
    if not source.is_file():
        pytest.skip(f"no CIFAR-10 photographs in {source}")
    folders = [f"{part}/{name}" for part in ("train", "test") for name in ("even", "odd")]
    with tarfile.open(source, "r|xz") as packed:  # the first photographs only: reading on takes seconds
        photographs = (member for member in packed if member.isfile())
        for number, member in zip(range(24), photographs, strict=False):
            member.name = f"{folders[number % 4]}/{number}.jpg"
            packed.extract(member, tmp_path, filter="data")
    data = ImageDataModule("image_folder", tmp_path, batch_size=12, image_size=32)
    assert (data.num_classes, data.image_shape) == (2, (3, 32, 32))
    (first, second), _ = next(iter(data.train_dataloader()))
    assert first.shape == second.shape == (12, 3, 32, 32)
    assert len(data.val_dataloader().dataset) == len(data.probe_dataloader().dataset) == 12
    for loader in (
        data.val_dataloader(),
        data.probe_dataloader(),
    ):  # a folder comes class by class, a loader does not
        labels = torch.cat([y for _, y in loader]).tolist()
        assert labels != sorted(labels)
    # two views of one photograph are nearer to each other than to those of another, on average
    distances = torch.cdist(first.flatten(1), second.flatten(1))
    assert distances.diagonal().mean() < distances.mean()
