import pytest
import torch

from lightning_ssl_theory.data import read_images, read_labels, read_views
from lightning_ssl_theory.data.batch import read_known_labels

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
    assert read_labels(([X1, X2], Y[:2])) is None
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
