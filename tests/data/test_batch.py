import pytest
import torch

from lightning_ssl_theory.data import read_images, read_labels, read_views
from lightning_ssl_theory.data.batch import read_known_labels, read_latents
from lightning_ssl_theory.data.clean_images import SeededImages

X1, X2, Y = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2), torch.tensor([0, 1, 2])
IDS = torch.tensor([7, 8, 9])

VIEW_BATCHES = {
    "ours": ([X1, X2], Y),
    "list": [[X1, X2], Y],
    "lightly": ((X1, X2), Y, ("a.png", "b.png", "c.png")),
    "lightly, list of names": [[X1, X2], Y, ["a.png", "b.png", "c.png"]],
    "solo-learn": [IDS, [X1, X2], Y],
    "dictionary": {"views": [X1, X2], "label": Y},
    "dictionary of dictionaries": {"views": [{"image": X1}, {"image": X2}], "targets": Y},
}


@pytest.mark.parametrize("batch", VIEW_BATCHES.values(), ids=VIEW_BATCHES.keys())
def test_views_images_and_labels_are_found(batch):
    views = read_views(batch)
    assert len(views) == 2
    assert views[0] is X1
    assert views[1] is X2
    assert read_images(batch) is X1
    assert read_labels(batch) is Y


CLEAN_BATCHES = {
    "pair": (X1, Y),
    "list": [X1, Y],
    "triple": (X1, Y, IDS),
    "dictionary": {"image": X1, "label": Y},
}


@pytest.mark.parametrize("batch", CLEAN_BATCHES.values(), ids=CLEAN_BATCHES.keys())
def test_clean_batches(batch):
    assert read_images(batch) is X1
    assert read_labels(batch) is Y
    assert read_views(batch, min_views=1)[0] is X1
    with pytest.raises(ValueError, match=r"Expected at least 2 views .* got 1; pass a loader .* num_views=2"):
        read_views(batch)


def test_batches_without_labels():
    assert read_labels(X1) is None
    assert read_labels([X1]) is None
    assert read_labels({"image": X1}) is None
    assert read_labels([[X1, X2]]) is None
    assert read_labels(([X1, X2], torch.tensor([-1, -1, -1]))) is None
    assert read_labels(([X1, X2], torch.tensor([-1, 0, -1]))) is not None
    assert read_labels(([X1, X2], Y[:1])) is None
    assert read_labels([X1, X2]) is None
    assert read_views([X1, X2])[1] is X2


def test_vector_inputs_are_not_taken_for_views_when_labels_are_beside_them():
    features = torch.zeros(3, 5)
    assert read_labels((features, Y)) is Y
    assert read_images((features, Y)) is features


def test_clean_image_is_preferred_to_a_view():
    assert read_images({"image": X1, "views": [X2, X2]}) is X1


def test_views_may_differ_in_size_not_in_number():
    assert len(read_views(([X1, torch.zeros(3, 1, 1, 1)], Y))) == 2
    with pytest.raises(ValueError, match=r"same number of samples, got \[3, 2\]; row i"):
        read_views(([X1, X2[:2]], Y))


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        (None, "NoneType"),
        ("text", "str"),
        ({"foo": 3}, r"a dictionary with keys \['foo'\]"),
        ((), r"a tuple of 0"),
        (("a", X1), r"a tuple of 2 \(str, a tensor \(3, 1, 2, 2\)\)"),
        (torch.tensor(1.0), r"a tensor \(\)"),
    ],
)
def test_rejects_unknown_formats(batch, found):
    with pytest.raises(TypeError, match=rf"Expected a batch \(views, labels\), .* got {found}"):
        read_views(batch)
    with pytest.raises(TypeError, match="Expected a batch"):
        read_images(batch)
    with pytest.raises(TypeError, match="Expected a batch"):
        read_labels(batch)


def test_known_labels_are_the_labels_or_a_sentence():
    labels = torch.tensor([-1, 0, -1])
    assert read_known_labels((X1, labels)) is labels
    with pytest.raises(
        ValueError, match=r"Expected labels in the batch, found none; pass batches \(images, labels\)"
    ):
        read_known_labels([X1, X2])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_few_bits_are_indices(dtype):
    labels = torch.tensor([2, 0, 1], dtype=dtype)
    for read in (read_labels, read_known_labels):
        assert read((X1, labels)).dtype == torch.int64
        assert read((X1, labels)).tolist() == [2, 0, 1]


def test_stored_images_are_no_views_yet():
    batch = SeededImages(torch.zeros(3, 3, 4, 4, dtype=torch.uint8), torch.arange(3), torch.arange(3))
    with pytest.raises(
        ValueError, match=r"got the stored images of .*augment_on_device=True\); give a Trainer"
    ):
        read_views(batch)
    assert read_images(batch) is batch.images
    assert read_labels(batch).tolist() == [0, 1, 2]


FLAT = X1.flatten(1)
ONE_HOT = torch.eye(4)[[0, 1, 2]]
MORE_VIEW_BATCHES = {
    "side by side": (X1, X2, Y),
    "side by side, two labels": (X1, X2, Y, IDS),
    "ids first": (IDS, X1, X2, Y),
    "names first": (["a", "b", "c"], [X1, X2], Y),
    "stacked": (torch.stack([X1, X2], 1), Y),
    "stacked by name": {"views": torch.stack([FLAT, FLAT + 1], 1), "label": Y},
    "x1, x2": {"x1": X1, "x2": X2, "y": Y},
    "numbered": {"view_2": X2, "view_1": X1, "target": Y},
    "named": {"weak": X1, "strong": X2, "label": Y},
    "named dictionaries": {"weak": {"image": X1}, "strong": {"image": X2}, "label": Y},
    "dictionary of views": {"views": {"a": X1, "b": X2}, "label": Y},
    "labels inside": {"views": [{"image": X1, "label": Y}, {"image": X2, "label": Y}]},
    "list of dictionaries": [{"image": X1, "label": Y}, {"image": X2, "label": Y}],
    "last batch of two": ([X1[:2], X2[:2]], Y[:2]),
    "last batch of one": ([X1[:1], X2[:1]], Y[:1]),
}


@pytest.mark.parametrize("batch", MORE_VIEW_BATCHES.values(), ids=MORE_VIEW_BATCHES.keys())
def test_more_formats_of_views(batch):
    first, second = read_views(batch)
    assert first.shape[1:] in {X1.shape[1:], FLAT.shape[1:]}
    assert not first.any()
    assert (second == 1).all()
    assert read_images(batch).equal(first)
    assert read_labels(batch).equal(Y[: len(first)])


SAMPLES = list(torch.arange(36.0).reshape(3, 3, 2, 2).unbind())
MORE_CLEAN_BATCHES = {
    "list of images": (SAMPLES, Y),
    "list of images in a dictionary": {"image": SAMPLES, "label": Y},
    "list of numbers": (SAMPLES, [0, 1, 2]),
    "array": (torch.stack(SAMPLES), Y.numpy()),
    "pixel values": {"pixel_values": torch.stack(SAMPLES), "labels": Y},
    "x and y": {"x": torch.stack(SAMPLES), "y": Y},
    "one dictionary a device": [{"data": torch.stack(SAMPLES), "label": Y[:, None]}],
    "column": (torch.stack(SAMPLES), Y[:, None]),
    "one-hot": (torch.stack(SAMPLES), ONE_HOT),
    "one-hot integers": (torch.stack(SAMPLES), ONE_HOT.long()),
    "mixed": (torch.stack(SAMPLES), 0.8 * ONE_HOT + 0.05),
    "floats": (torch.stack(SAMPLES), Y.float()),
}


@pytest.mark.parametrize("batch", MORE_CLEAN_BATCHES.values(), ids=MORE_CLEAN_BATCHES.keys())
def test_more_formats_of_images_and_labels(batch):
    assert read_images(batch).equal(torch.stack(SAMPLES))
    assert read_known_labels(batch).equal(Y)
    assert not read_known_labels(batch).is_floating_point()
    assert len(read_views(batch, min_views=1)) == 1


def test_inputs_beside_an_image_stay_with_it():
    """A network that takes more than its image gets what the user's own loop gives it."""
    first, second = ({"pixel_values": image, "noise": torch.rand(3, 5)} for image in (X1, X2))
    assert read_views(([first, second], Y)) == [first, second]
    assert read_images((first, Y)) == first
    assert read_images(({"pixel_values": X1}, Y)) is X1


def test_an_image_and_its_mask_are_no_pair_of_views():
    image = torch.rand(3, 3, 4, 4)
    for mask in (torch.zeros(3, 4, 4), torch.zeros(3, 1, 4, 4), torch.zeros(3, 3, 4, 4, dtype=torch.long)):
        for batch in ((image, mask), {"image": image, "mask": mask}):
            assert read_images(batch) is image
            assert len(read_views(batch, min_views=1)) == 1
            assert read_labels(batch) is None
    tokens = {"input_ids": torch.ones(3, 5).long(), "attention_mask": torch.ones(3, 5).long()}
    assert set(read_images(tokens | {"labels": Y})) == set(tokens)
    assert set(read_images(tokens | {"pixel_values": image})) == {*tokens, "pixel_values"}


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (torch.tensor([[1, 1, 0], [0, 1, 0], [1, 1, 1]]), r"several classes a sample, a tensor \(3, 3\)"),
        (["cat", "dog", "cat"], r"a list of 3 \(str, str, str\)"),
        (torch.rand(3), r"a tensor \(3,\) of float32"),
        (torch.arange(5), r"a tensor \(5,\)"),
        (torch.zeros(3, 4, 4), r"a tensor \(3, 4, 4\) of float32"),
        ("cats", "str"),
    ],
)
def test_labels_that_are_no_classes_are_named(labels, found):
    assert read_labels((X1, labels)) is None
    with pytest.raises(
        ValueError, match=rf"Expected one class for each of 3 samples .* got {found}; .*`read_batch=`"
    ):
        read_known_labels((X1, labels))


def test_unknown_labels_of_a_whole_batch_are_known_to_be_unknown():
    assert read_known_labels((X1, torch.full((3,), -1))).tolist() == [-1, -1, -1]


def test_samples_of_different_shapes_are_refused_in_a_sentence():
    with pytest.raises(
        ValueError, match=r"Expected samples of one shape .*\(3, 2, 2\), \(3, 3, 3\).*`read_batch=`"
    ):
        read_images(([torch.zeros(3, 2, 2), torch.zeros(3, 3, 3)], Y[:2]))


def test_every_sentence_about_a_batch_names_the_reader():
    for read, batch in (
        (read_views, {"foo": 3}),
        (read_views, (X1, Y)),
        (read_views, ([X1, X2[:2]], Y)),
        (read_known_labels, [X1, X2]),
        (read_known_labels, (X1, ["a", "b", "c"])),
        (read_latents, (X1, Y)),
    ):
        with pytest.raises((TypeError, ValueError), match="`read_batch=`"):
            read(batch)
