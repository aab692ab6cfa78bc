"""The latent tree data module: batches, and the same samples however they are loaded."""

import itertools

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.toy_ssl import QUIET
from lightning.pytorch import LightningModule, Trainer

from lightning_ssl_theory.data import LatentTreeDataModule, read_images, read_labels, read_latents, read_views

SMALL = {"depth": 3, "num_samples": 300, "num_val_samples": 70}
NUM_SAMPLES = 40_000
LARGE = {"polarity": (0.3, 0.9), "batch_size": NUM_SAMPLES, "num_samples": NUM_SAMPLES, "num_views": 3}
FIVE_ERRORS = 5 / NUM_SAMPLES**0.5  # largest standard error of a mean of signs


def join(batches):
    """Views, roots and latents of some batches, one below another."""
    views, roots, latents = zip(*batches, strict=True)
    return [*(torch.cat(parts) for parts in zip(*views, strict=True)), torch.cat(roots), torch.cat(latents)]


def assert_same(found, expected):
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_batches():
    data = LatentTreeDataModule(**SMALL, batch_size=50, num_views=3)
    batches = list(data.train_dataloader())
    assert len(batches) == 6
    for batch in batches:
        views, roots, latents = batch
        assert [view.shape for view in views] == [(50, 8)] * 3
        assert all(set(view.unique().tolist()) <= {0.0, 1.0} for view in views)
        assert torch.equal(latents[:, 0], roots.float())
        assert latents.shape == (50, data.num_latents)
        assert read_views(batch, min_views=3) is not None
        assert torch.equal(read_images(batch), views[0])
        assert torch.equal(read_labels(batch), roots)
        assert torch.equal(read_latents(batch), latents)
    views = torch.cat([torch.stack(batch[0]) for batch in batches], dim=1)
    assert (views[0] != views[1]).any()
    assert (views[1] != views[2]).any()


def large_batch(**arguments):
    data = LatentTreeDataModule(3, **LARGE | arguments)
    (batch,) = data.train_dataloader()
    return data, batch


def path_product(polarities, a, b):
    """Product of the polarities between two nodes of a binary tree, numbered level by level from the root."""
    to_parent = torch.cat([torch.ones(1), *polarities]).tolist()
    product = 1.0
    while a != b:
        a, b = min(a, b), max(a, b)
        product *= to_parent[b]
        b = (b - 1) // 2
    return product


def test_path_by_hand():
    polarities = [torch.tensor([0.5, -0.5]), torch.tensor([0.1, 0.2, 0.3, 0.4])]
    assert path_product(polarities, 3, 6) == pytest.approx(0.1 * 0.5 * -0.5 * 0.4)
    assert path_product(polarities, 5, 2) == pytest.approx(0.3)


def test_correlations_are_products_along_the_path():
    data, (views, roots, latents) = large_batch()
    signs = torch.cat([latents, views[0]], dim=1).double() * 2 - 1
    assert signs.mean(0).abs().max() < FIVE_ERRORS
    found = signs.mT @ signs / len(signs)
    for a, b in itertools.product(range(15), repeat=2):
        assert float(found[a, b]) == pytest.approx(path_product(data.polarities, a, b), abs=FIVE_ERRORS)
    for view in views[1:]:
        with_root = (roots * 2.0 - 1).double() @ (view.double() * 2 - 1) / len(view)
        expected = [path_product(data.polarities, 0, leaf) for leaf in range(7, 15)]
        assert with_root.tolist() == pytest.approx(expected, abs=FIVE_ERRORS)


@pytest.mark.parametrize(("a", "b"), [(0, 1), (0, 2), (1, 2)])
def test_views_share_the_root_and_nothing_else(a, b):
    data, (views, roots, _) = large_batch()
    x, y = views[a].double(), views[b].double()
    to_root = torch.tensor([path_product(data.polarities, 0, leaf) for leaf in range(7, 15)]).double()
    expected = torch.outer(to_root, to_root) / 4  # of zeros and ones, whose variance is 1/4
    assert (covariance(x, y) - expected).abs().max() < FIVE_ERRORS / 4
    assert (covariance(x, x) - expected).abs().max() > 0.1, "within a view the leaves share more"
    for root in (0, 1):
        given = roots == root
        # half the samples, so errors larger by sqrt 2
        assert covariance(x[given], y[given]).abs().max() < 2**0.5 * FIVE_ERRORS / 4


def covariance(x, y):
    return (x - x.mean(0)).mT @ (y - y.mean(0)) / len(x)


def test_latents_are_those_of_the_first_view():
    data = LatentTreeDataModule(3, **LARGE)
    data.polarities[-1].fill_(1.0)  # leaves are copies of their parents
    ((views, roots, latents),) = data.train_dataloader()
    assert torch.equal(latents[:, 0], roots.float())
    copies = latents[:, 3:].repeat_interleave(2, dim=1)
    assert torch.equal(copies, views[0])
    for view in views[1:]:  # parents of two views agree with probability (1 + rho_0mu^2) / 2 < 0.83
        assert (copies == view).double().mean() < 0.85


def test_samples_do_not_depend_on_batch_size_or_workers():
    expected = join(LatentTreeDataModule(**SMALL, batch_size=300).train_dataloader())
    for arguments in ({"batch_size": 100}, {"batch_size": 50}, {"batch_size": 100, "num_workers": 2}):
        data = LatentTreeDataModule(**SMALL, **arguments)
        assert_same(join(data.train_dataloader()), expected)
        assert_same(join(data.val_dataloader()), join(LatentTreeDataModule(**SMALL).val_dataloader()))


def test_epochs_seeds_and_sets_differ():
    data = LatentTreeDataModule(**SMALL, batch_size=75)
    loader = data.train_dataloader()
    first, second = join(loader), join(loader)
    assert not torch.equal(first[0], second[0])
    loader.sampler.set_epoch(0)
    assert_same(join(loader), first)
    other = LatentTreeDataModule(**SMALL, batch_size=75, seed=1)
    assert not torch.equal(other.polarities[-1], data.polarities[-1])
    assert not torch.equal(join(other.train_dataloader())[0], first[0])
    fixed = [join(part()) for part in (data.val_dataloader, data.probe_dataloader, data.test_dataloader)]
    assert len(fixed[0][0]) == 70  # the last batch is smaller
    assert_same(fixed[0], fixed[2])
    assert not torch.equal(fixed[0][0], fixed[1][0])
    assert not torch.equal(fixed[0][0], first[0][:70])
    assert_same(join(data.val_dataloader()), fixed[0])


class Keeper(LightningModule):
    """Keeps the training batches of the epochs it sees."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.kept = []

    def training_step(self, batch, batch_idx):
        self.kept.append((self.current_epoch, batch))
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _rank_batches(rank, world_size):
    loader = LatentTreeDataModule(**SMALL, batch_size=30).train_dataloader()
    batches = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        batches += [(epoch, batch) for batch in loader]
    return batches


@pytest.mark.ddp
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_steps_of_one_process(world_size):
    alone = Keeper()
    Trainer(**QUIET, max_epochs=2).fit(alone, LatentTreeDataModule(**SMALL, batch_size=30 * world_size))
    ranks = run_ranks(_rank_batches, world_size)
    assert {epoch for epoch, _ in alone.kept} == {0, 1}
    for (epoch, whole), *parts in zip(alone.kept, *ranks, strict=True):
        assert {part_epoch for part_epoch, _ in parts} == {epoch}
        assert_same(join([batch for _, batch in parts]), join([whole]))
        assert not torch.equal(parts[0][1][0][0], parts[1][1][0][0]), "ranks draw the same samples"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "Expected `depth` of at least 1, got 0"),
        ({"num_children": 1}, "Expected `num_children` of at least 2, got 1"),
        ({"polarity": (0.5, 1.5)}, r"Expected `polarity` in \[-1, 1\], got 1.5"),
        ({"batch_size": 0}, "Expected `batch_size` of at least 1, got 0"),
        ({"num_views": 0}, "Expected `num_views` of at least 1, got 0"),
        ({"num_samples": 0}, "Expected `num_samples` of at least 1, got 0"),
        ({"num_val_samples": -1}, "Expected `num_val_samples` of at least 1, got -1"),
        ({"seed": -1}, "Expected `seed` of at least 0, got -1"),
        ({"device": "cuda", "num_workers": 2}, r"Expected `num_workers` 0 on cuda, got 2"),
    ],
)
def test_rejected_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LatentTreeDataModule(**arguments)


def test_rejects_a_polarity_that_is_no_range():
    with pytest.raises(
        TypeError, match=r"Expected `polarity` to be a pair of numbers, got 0.9; pass \(smallest, largest\)"
    ):
        LatentTreeDataModule(polarity=0.9)


def test_rejects_an_epoch_without_a_batch():
    with pytest.raises(
        ValueError, match=r"Expected `num_samples` for a batch of 64 on each of 1 processes, got 63"
    ):
        LatentTreeDataModule(batch_size=64, num_samples=63).train_dataloader()


@pytest.mark.parametrize("batch", [(torch.zeros(3, 2), torch.zeros(3)), {"image": torch.zeros(3, 2)}])
def test_reader_rejects_batches_without_latents(batch):
    with pytest.raises(ValueError, match=r"Expected latents \(N, K\) in the batch, found none"):
        read_latents(batch)


def test_reader_takes_dictionaries():
    latents = torch.ones(3, 7)
    assert read_latents({"image": torch.zeros(3, 2), "latents": latents}) is latents
