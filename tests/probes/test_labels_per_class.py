import pytest
import torch

from lightning_ssl_theory.probes import labels_per_class


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_k_of_every_class_without_repeats() -> None:
    targets = torch.randint(5, (300,))
    chosen = labels_per_class(targets, 10, generator=seeded(0))
    assert targets[chosen].bincount().tolist() == [10] * 5
    assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_the_generator_alone_decides() -> None:
    targets = torch.arange(100) % 4
    first = labels_per_class(targets, 5, generator=seeded(1))
    torch.rand(7)
    assert labels_per_class(targets, 5, generator=seeded(1)).tolist() == first.tolist()
    assert labels_per_class(targets, 5, generator=seeded(2)).tolist() != first.tolist()


def test_every_sample_is_equally_likely() -> None:
    targets = torch.tensor([0, 1, 0, 1, 0, 0])
    generator = seeded(0)
    counts = torch.zeros(6)
    for _ in range(1000):
        counts[labels_per_class(targets, 1, generator=generator)] += 1
    expected = torch.tensor([250.0, 500.0, 250.0, 500.0, 250.0, 250.0])
    assert ((counts - expected).abs() < 4 * (expected * (1 - expected / 1000)).sqrt()).all()


def test_all_samples_and_classes_with_gaps() -> None:
    assert labels_per_class(torch.tensor([7, 3]), 1).tolist() == [0, 1]
    assert labels_per_class(torch.zeros(0).long(), 1).tolist() == []


def test_rejects_bad_input() -> None:
    with pytest.raises(
        ValueError, match="at least 2 samples of every class, got 1 of class 3; lower `num_labels`"
    ):
        labels_per_class(torch.tensor([0, 0, 3]), 2)
    with pytest.raises(ValueError, match="Expected `num_labels` of at least 1, got 0"):
        labels_per_class(torch.tensor([0]), 0)
    with pytest.raises(ValueError, match=r"Expected `targets` of shape \(N,\), got \(1, 1\)"):
        labels_per_class(torch.tensor([[0]]), 1)
