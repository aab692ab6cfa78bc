import pytest
import torch

from lightning_ssl_theory.data import MultiViewDataset

DATA = [(torch.full((2,), float(i)), i) for i in range(4)]


def noisy(x):
    return x + torch.randn(2)


def test_views_differ_and_the_label_stays():
    views, label = MultiViewDataset(DATA, noisy, num_views=3)[2]
    assert label == 2
    assert len(views) == 3
    assert len({view[0].item() for view in views}) == 3


def test_views_depend_on_seed_epoch_and_sample_alone():
    dataset = MultiViewDataset(DATA, noisy, seed=1)
    first = torch.stack(dataset[0][0])
    torch.randn(7)
    dataset[3]
    assert torch.equal(torch.stack(dataset[0][0]), first)
    dataset.set_epoch(1)
    assert not torch.equal(torch.stack(dataset[0][0]), first)
    assert not torch.equal(torch.stack(MultiViewDataset(DATA, noisy, seed=2)[0][0]), first)
    # the noise itself, not only the image, differs between samples
    dataset.set_epoch(0)
    assert not torch.allclose(torch.stack(dataset[1][0]) - 1, first)


def test_the_callers_generator_is_left_alone():
    state = torch.get_rng_state()
    MultiViewDataset(DATA, noisy)[0]
    assert torch.equal(torch.get_rng_state(), state)


def test_generator_is_put_back_when_the_transform_fails():
    def failing(x):
        torch.rand(1)
        raise ArithmeticError

    state = torch.get_rng_state()
    with pytest.raises(ArithmeticError):
        MultiViewDataset(DATA, failing)[0]
    assert torch.equal(torch.get_rng_state(), state)


def test_rejects_no_views():
    with pytest.raises(ValueError, match="Expected `num_views` of at least 1, got 0"):
        MultiViewDataset(DATA, noisy, num_views=0)
