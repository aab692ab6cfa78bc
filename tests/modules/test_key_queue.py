import pytest
import torch

from lightning_ssl_theory.modules.key_queue import KeyQueue, with_newest
from lightning_ssl_theory.modules.momentum_contrast import keys_of_all_ranks


def numbers(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None]


def test_the_newest_stay_in_order():
    queue, pushed = KeyQueue(6), []
    for batch in ([1, 2], [3, 4], [5, 6], [7, 8], [9], [10, 11, 12, 13, 14, 15, 16]):
        queue.push(numbers(*batch))
        pushed += batch
        assert queue.keys.flatten().tolist() == pushed[-6:]
    assert with_newest(torch.zeros(0, 1), numbers(1, 2, 3), 2).flatten().tolist() == [2, 3]


def test_keys_that_are_not_finite_stay_out():
    queue = KeyQueue(4)
    for batch, expected in (
        ([1, float("nan")], [1]),
        ([float("inf"), -float("inf")], [1]),
        ([2, 3], [1, 2, 3]),
    ):
        queue.push(numbers(*batch))
        assert queue.keys.flatten().tolist() == expected


def test_it_starts_empty_whatever_the_width():
    queue = KeyQueue(4)
    assert queue.rows(torch.zeros(3, 5, dtype=torch.float64)).shape == (0, 5)
    queue.push(torch.ones(2, 5, requires_grad=True))
    assert not queue.keys.requires_grad
    assert queue.rows(torch.zeros(1, 5, dtype=torch.float64)).dtype == torch.float64


def test_the_state_is_exact_and_no_buffer():
    queue, other, smaller = KeyQueue(4), KeyQueue(4), KeyQueue(2)
    queue.push(torch.randn(4, 3))
    assert not list(queue.buffers())
    for one in (other, smaller):
        one.load_state_dict(queue.state_dict())
        assert torch.equal(one.keys, queue.keys[-one.size :])
    other.push(torch.randn(4, 3))
    assert not torch.equal(other.keys, queue.keys)
    KeyQueue(4).load_state_dict(KeyQueue(4).state_dict())


def test_a_size_that_the_first_keys_do_not_divide():
    message = "Expected `queue_size` to be a multiple of the 4 keys of a step on all ranks, got 6; pass queue_size=8"
    with pytest.raises(ValueError, match=message):
        KeyQueue(6).push(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="got 2; pass queue_size=4"):
        KeyQueue(2).push(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="Expected `queue_size` of at least 1, got 0"):
        KeyQueue(0)


def test_order_over_views():
    keys = [numbers(1, 2), numbers(3, 4), numbers(5, 6)]
    assert keys_of_all_ranks(keys).flatten().tolist() == [1, 2, 3, 4, 5, 6]
