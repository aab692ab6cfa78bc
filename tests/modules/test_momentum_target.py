import math
import pickle

import pytest
import torch
from torch import nn

from lightning_ssl_theory.modules.momentum_target import (
    AfterEveryStep,
    cosine_momentum,
    follow_,
    frozen_copies,
)


def test_copies_are_equal_frozen_and_share_what_the_networks_share():
    backbone, projector = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    projector[0].weight = backbone.weight
    copies = frozen_copies(backbone, projector)
    assert torch.equal(copies[0].weight, backbone.weight)
    assert copies[0].weight is copies[1][0].weight
    assert copies[0].weight is not backbone.weight
    assert not any(parameter.requires_grad for copy in copies for parameter in copy.parameters())


class Stubborn(nn.Module):
    """Cannot be copied."""

    def __deepcopy__(self, memo):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (
            nn.LazyLinear(3),
            "Expected networks with weights to copy, got a lazy layer in `backbone` or `projector`",
        ),
        (
            Stubborn(),
            "Expected `backbone` and `projector` to be copied .* got RuntimeError: no; pass networks",
        ),
    ],
)
def test_networks_that_cannot_be_copied(backbone, message):
    with pytest.raises(ValueError, match=message):
        frozen_copies(backbone, nn.Identity())


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.996, 1.0])
def test_follows_element_by_element_and_leaves_buffers(momentum):
    online = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    target = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double().requires_grad_(False)
    online(torch.randn(5, 3, dtype=torch.float64))
    before = {name: value.clone() for name, value in target.state_dict().items()}
    follow_(target, online, momentum)
    for name, value in target.named_parameters():
        expected = momentum * before[name] + (1 - momentum) * online.get_parameter(name)
        torch.testing.assert_close(value, expected.detach(), rtol=1e-15, atol=1e-15)
    assert all(torch.equal(value, before[name]) for name, value in target.named_buffers())


def test_shared_parameters_move_once():
    shared = nn.Linear(2, 2, bias=False)
    online = nn.ModuleList([nn.Sequential(shared), nn.Sequential(shared)])
    target = nn.ModuleList(frozen_copies(*online))
    before = target[0][0].weight.clone()
    nn.init.ones_(shared.weight)
    follow_(target, online, 0.5)
    torch.testing.assert_close(target[0][0].weight, 0.5 * before + 0.5)


def test_networks_of_different_parameters_are_refused():
    with pytest.raises(
        ValueError, match="Expected the trained network to have the parameters that its target"
    ):
        follow_(nn.Linear(2, 3), nn.Linear(3, 2), 0.5)
    follow_(nn.Identity(), nn.Identity(), 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_not_the_digits_for_an_average(dtype):
    target, online = nn.Linear(2, 3, dtype=dtype), nn.Linear(2, 3, dtype=dtype)
    with pytest.warns(
        UserWarning, match=r"got torch\.\w*float16: steps of 0\.004 .*; train with precision=.bf16-mixed"
    ):
        follow_(target, online, 0.996)
    follow_(target, online, 0.0)  # a copy loses nothing
    torch.testing.assert_close(target.state_dict(), online.state_dict(), rtol=0, atol=0)


def test_cosine_momentum():
    values = [cosine_momentum(0.9, step, 10) for step in range(12)]
    assert values[0] == 0.9
    assert values[5] == pytest.approx(0.95)
    assert values[10] == values[11] == 1
    assert values[3] == pytest.approx(1 - 0.1 * (math.cos(0.3 * math.pi) + 1) / 2)


def test_counts_the_steps_that_took_place():
    weight, calls = nn.Parameter(torch.ones(2)), []
    fused, plain = (torch.optim.SGD([weight], lr=0.1, fused=is_fused) for is_fused in (True, False))
    counter = AfterEveryStep()
    for optimizer in (plain, fused):
        for _ in range(2):  # the second time changes nothing
            counter.start(calls.append, None, optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for value in (1.0, math.inf, math.nan, 1.0):
            optimizer.zero_grad()
            scaler.scale((weight * value).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        assert weight.isfinite().all()
    assert len(calls) == 4
    assert pickle.loads(pickle.dumps(counter))._handle is None
    plain.step()
    assert len(calls) == 4  # the last optimiser counts alone
    del fused, optimizer, scaler
    assert counter._optimizer() is None
