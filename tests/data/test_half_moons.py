"""Half moons: where the points lie, what the views are, and that everything follows from the seed."""

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory.data import HalfMoonsDataModule


def test_points_lie_on_the_two_half_circles():
    data = HalfMoonsDataModule(100, num_samples=100, noise=0.0)
    for loader in (data.probe_dataloader(), data.val_dataloader(), data.test_dataloader()):
        ((points, labels),) = loader
        points = points + torch.tensor([0.5, 0.25])
        centres = torch.tensor([[0.0, 0.0], [1.0, 0.5]])[labels]
        assert_close((points - centres).norm(dim=1), torch.ones(100))
        assert ((points - centres)[:, 1] * torch.tensor([1.0, -1.0])[labels] >= -1e-6).all()
    train, held_out = (next(iter(loader))[0] for loader in (data.probe_dataloader(), data.val_dataloader()))
    assert torch.cat([train, held_out]).mean(0).abs().max() < 1e-2
    assert not {tuple(row) for row in train.tolist()} & {tuple(row) for row in held_out.tolist()}


def test_views_are_the_points_and_noisy_ones():
    data = HalfMoonsDataModule(500, num_samples=2000, num_views=3, view_noise=0.2)
    batches = list(data.train_dataloader())
    assert len(batches) == 4
    clean = {tuple(row) for points, _ in data.probe_dataloader() for row in points.tolist()}
    noise = []
    for (first, *others), labels in batches:
        assert labels.shape == (500,)
        assert {tuple(row) for row in first.tolist()} <= clean
        noise += [other - first for other in others]
    deviations = torch.cat(noise).std(0)
    assert_close(deviations, torch.full((2,), 0.2), rtol=0.05, atol=0)
    assert torch.cat(noise).mean(0).abs().max() < 0.02


def test_everything_is_a_function_of_the_seed():
    def first(seed):
        views, _ = next(iter(HalfMoonsDataModule(20, num_samples=40, seed=seed).train_dataloader()))
        return torch.stack(views)

    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))
    loader = HalfMoonsDataModule(40, num_samples=40).train_dataloader()
    epochs = [next(iter(loader))[0] for _ in range(2)]
    assert not torch.equal(epochs[0][1] - epochs[0][0], epochs[1][1] - epochs[1][0])


def test_rejects():
    with pytest.raises(ValueError, match="Expected `batch_size` <= 40, the number of training samples"):
        HalfMoonsDataModule(50, num_samples=40).train_dataloader()
    with pytest.raises(ValueError, match="Expected `num_samples` of at least 1, got 0"):
        HalfMoonsDataModule(num_samples=0)
    for name in ("noise", "view_noise"):
        with pytest.raises(ValueError, match=rf"Expected `{name}` >= 0, got -0\.1; 0 switches it off"):
            HalfMoonsDataModule(**{name: -0.1})
