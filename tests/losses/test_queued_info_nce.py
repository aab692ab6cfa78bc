import math

import pytest
import torch
from torch.nn.functional import normalize

from lightning_ssl_theory.losses import QueuedInfoNCELoss


def loop(queries, keys, queue, temperature):
    """The cross-entropy, query by query, from its definition."""

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    values = []
    for q, k in zip(queries.tolist(), keys.tolist(), strict=True):
        positive = math.exp(cosine(q, k) / temperature)
        negatives = sum(math.exp(cosine(q, c) / temperature) for c in queue.tolist())
        values.append(-math.log(positive / (positive + negatives)))
    return sum(values) / len(values)


def rows(num, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, 3, generator=generator, dtype=dtype).requires_grad_()


def test_oracle_by_hand():
    one, other = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert loop(one, one, other, 0.5) == pytest.approx(math.log(1 + math.exp(-2)))


def test_value_and_gradient():
    q, k, queue = rows(5), rows(5, 1), rows(7, 2).detach()
    loss = QueuedInfoNCELoss(0.3)
    assert loss(q, k, queue).item() == pytest.approx(loop(q, k, queue, 0.3), rel=1e-13)
    assert torch.autograd.gradcheck(lambda q, k: loss(q, k, queue), (q, k))
    torch.testing.assert_close(loss(2 * q, 3 * k, 0.1 * queue), loss(q, k, queue))
    torch.testing.assert_close(loss(q, k, queue.flip(0)), loss(q, k, queue))


def test_equals_lightly_with_a_memory_bank():
    lightly = pytest.importorskip("lightly.loss").NTXentLoss(temperature=0.2, memory_bank_size=(7, 3))
    q, k, queue = rows(5, dtype=torch.float32), rows(5, 1, torch.float32), rows(7, 2, torch.float32).detach()
    lightly.memory_bank.bank = normalize(queue)
    lightly.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)
    theirs, ours = lightly(q, k), QueuedInfoNCELoss(0.2)(q, k, queue)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    found, expected = torch.autograd.grad(ours, (q, k)), torch.autograd.grad(theirs, (q, k))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_an_empty_queue_teaches_nothing():
    q, k = rows(4), rows(4, 1)
    value = QueuedInfoNCELoss()(q, k, torch.zeros(0, 3))
    assert value.item() == 0
    assert not torch.autograd.grad(value, q)[0].any()


def test_half_precision_is_computed_in_float32():
    half = [rows(num, num).detach().bfloat16() for num in (4, 4, 6)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = QueuedInfoNCELoss()(*half)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, QueuedInfoNCELoss()(*(one.float() for one in half)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("queries", "keys", "queue", "message"),
    [
        (rows(2), rows(3), rows(4), r"Expected `queries` and `keys` of one shape, got \(2, 3\) and \(3, 3\)"),
        (rows(2), rows(2), rows(4)[:, :2], "Expected `queue` of as many columns as `queries`, got 2 and 3"),
        (rows(2), rows(2), rows(4)[0], r"Expected `queue` of shape \(K, E\), got \(3,\)"),
        (rows(0), rows(0), rows(4), "Expected `queries` of a sample on some rank, got none"),
    ],
)
def test_rejects(queries, keys, queue, message):
    with pytest.raises(ValueError, match=message):
        QueuedInfoNCELoss()(queries, keys, queue)


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="Expected `temperature` > 0, got 0"):
        QueuedInfoNCELoss(0)
