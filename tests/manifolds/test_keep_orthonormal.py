"""Any optimizer on orthonormal weights: steps by formula, long runs, and what takes part in a training loop."""

import copy
import io
import warnings

import lightly.utils.lars
import numpy as np
import pytest
import torch
from helpers.ddp import run_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from lightning_ssl_theory.losses.trace import TraceLoss
from lightning_ssl_theory.manifolds import (
    ConstrainedSGD,
    OrthonormalLinear,
    keep_orthonormal,
    orthogonality_drift,
)
from lightning_ssl_theory.manifolds.orthonormal_steps import orthonormal_step, tangent_part

CONSTRAINTS = ["grassmann", "stiefel", "polar"]
WARNING = r"Expected an orthonormal weight in a layer OrthonormalLinear\(constraint='stiefel'\), got .* call keep_orth"


def network(constraint: str = "stiefel", dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [OrthonormalLinear(5, 8, constraint), nn.Tanh(), OrthonormalLinear(8, 3, constraint)]
    model = nn.Sequential(*layers).to(dtype)
    for layer in model[::2]:
        layer.reset_parameters()  # orthonormal to the rounding of this dtype
    return model


def batch(seed: int, rows: int = 16, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, rows, 5, generator=generator, dtype=dtype)
    return x, x + 0.3 * noise


def drift(model: nn.Module) -> float:
    return max(
        orthogonality_drift(layer.weight.detach()).item()
        for layer in model.modules()
        if isinstance(layer, OrthonormalLinear)
    )


def train(model, optimizer, steps, *, has_closure=False, dtype=torch.float32):
    loss = TraceLoss()
    for step in range(steps):
        first, second = batch(step, dtype=dtype)

        def closure(first=first, second=second):
            optimizer.zero_grad()
            value = loss(model(first), model(second))
            value.backward()
            return value

        if has_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


@pytest.mark.parametrize("has_closure", [False, True])
@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_plain_gradient_descent_takes_the_steps_of_the_constrained_one(constraint, has_closure):
    ours, theirs = (network(constraint, torch.float64) for _ in range(2))
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.05)
    keep_orthonormal(optimizer, ours)
    train(ours, optimizer, 30, has_closure=has_closure, dtype=torch.float64)
    train(theirs, ConstrainedSGD(theirs.parameters(), 0.05, constraint=constraint), 30, dtype=torch.float64)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(a, b, rtol=0, atol=1e-12)
    assert (ours[0].weight - network(constraint, torch.float64)[0].weight).abs().max() > 0.01


def adam_by_numpy(weight, gradients, constraint, lr=0.1, betas=(0.9, 0.999), eps=1e-8):
    """Adam on tangent gradients; its step made tangent, then retracted by a Cholesky factor or a polar one."""

    def tangent(w, m):
        if constraint == "polar":
            return m
        product = w.T @ m
        return m - w @ ((product + product.T) / 2 if constraint == "stiefel" else product)

    first = second = np.zeros_like(weight)
    for t, gradient in enumerate(gradients, start=1):
        part = tangent(weight, gradient)
        first = betas[0] * first + (1 - betas[0]) * part
        second = betas[1] * second + (1 - betas[1]) * part**2
        step = first / (1 - betas[0] ** t) / (np.sqrt(second / (1 - betas[1] ** t)) + eps)
        moved = weight + tangent(weight, -lr * step)
        if constraint == "polar":
            left, _, right = np.linalg.svd(moved, full_matrices=False)
            weight = left @ right
        else:
            weight = moved @ np.linalg.inv(np.linalg.cholesky(moved.T @ moved).T)
    return weight


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("shape", [(4, 7), (7, 4)], ids=["tall", "wide"])
def test_adam_by_formula(shape, constraint):
    layer = OrthonormalLinear(*shape, constraint).double()
    layer.reset_parameters()
    gradients = torch.randn(4, *layer.weight.shape, dtype=torch.float64)
    is_wide = shape[0] > shape[1]
    start = layer.weight.detach().numpy().copy()
    turned = [one.T if is_wide else one for one in gradients.numpy()]
    expected = adam_by_numpy(start.T if is_wide else start, turned, constraint)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    keep_orthonormal(optimizer, layer)
    for gradient in gradients:
        layer.weight.grad = gradient.clone()
        optimizer.step()
    found = layer.weight.detach()
    assert_close((found.T if is_wide else found).numpy(), expected, rtol=0, atol=1e-10)


OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    "lars": lambda p: lightly.utils.lars.LARS(p, 1.0, momentum=0.9, weight_decay=0.1, trust_coefficient=0.01),
    "timm-lars": lambda p: pytest.importorskip("timm.optim").Lars(p, 0.1, momentum=0.9, weight_decay=1e-2),
    "foreach": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True, foreach=True),
    "fused": lambda p: torch.optim.Adam(p, 0.01, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.05),
}
RUNS = [("momentum", "stiefel"), ("lars", "stiefel"), ("adam", "grassmann"), ("adamw", "polar")]
MORE = [(name, c) for name in OPTIMIZERS for c in CONSTRAINTS if (name, c) not in RUNS]


@pytest.mark.parametrize(
    ("name", "constraint"), RUNS + [pytest.param(*one, marks=pytest.mark.all_cases) for one in MORE]
)
def test_weights_stay_orthonormal_under_every_optimizer(name, constraint):
    model = network(constraint)
    start = copy.deepcopy(model)
    optimizer = OPTIMIZERS[name](model.parameters())
    keep_orthonormal(optimizer, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, 500)
    assert drift(model) <= 1e-5
    assert (model[0].weight - start[0].weight).norm() > 0.1
    views = batch(0, 400)
    assert TraceLoss()(*map(model, views)) < TraceLoss()(*map(start, views))


def test_line_search_within_one_step():
    model = network(dtype=torch.float64)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    keep_orthonormal(optimizer, model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # between its ends the line leaves the constraint
        train(model, optimizer, 5, has_closure=True, dtype=torch.float64)
    assert drift(model) < 1e-12


def test_without_anyone_to_keep_them_they_drift_and_training_says_so_once():
    model = network()
    with pytest.warns(UserWarning, match=WARNING) as seen:
        train(model, torch.optim.Adam(model.parameters(), 0.01), 5)
    assert len(seen) == 2  # once a layer
    assert drift(model) > 1e-2


@pytest.mark.parametrize("copied", ["module", "optimizer", "pickle"])
def test_a_copy_that_nobody_keeps_says_so(copied):
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    keep_orthonormal(optimizer, model)
    train(model, optimizer, 2)
    if copied == "optimizer":
        optimizer = copy.deepcopy(optimizer)
        optimizer.param_groups[0]["params"] = list(model.parameters())
    elif copied == "module":
        model = copy.deepcopy(model)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        model = torch.load(file, weights_only=False)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
    with pytest.warns(UserWarning, match=WARNING):
        train(model, optimizer, 3)
    again = network()
    optimizer = torch.optim.Adam(again.parameters(), 0.01)
    keep_orthonormal(optimizer, again)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(again, optimizer, 3)


def test_layers_of_inference_mode():
    with torch.inference_mode():
        assert OrthonormalLinear(3, 2)(torch.ones(1, 3)).shape == (1, 2)


def test_passes_that_train_nothing_say_nothing():
    model = network()
    with torch.no_grad():
        model[0].weight.mul_(2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.eval()(batch(0)[0])
        with torch.no_grad():
            model.train()(batch(0)[0])
        average = copy.deepcopy(model).requires_grad_(False)  # a target network
        average(batch(0)[0])
    with pytest.warns(UserWarning, match=WARNING):
        model(batch(0)[0])


def test_a_second_call_replaces_the_first():
    models = [network(dtype=torch.float64) for _ in range(2)]
    for count, model in enumerate(models, start=1):
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        for _ in range(count):
            keep_orthonormal(optimizer, model)
        train(model, optimizer, 3, dtype=torch.float64)
        assert len(optimizer._optimizer_step_post_hooks) == 1
    assert torch.equal(models[0][0].weight, models[1][0].weight)


def test_a_shared_weight_makes_one_step():
    layers = [OrthonormalLinear(4, 4) for _ in range(2)]
    layers[1].weight = layers[0].weight
    optimizer = torch.optim.SGD([layers[0].weight], lr=0.5)
    keep_orthonormal(optimizer, nn.Sequential(*layers))
    start = layers[0].weight.detach().clone()
    (layers[0](torch.eye(4)) * torch.arange(16.0).reshape(4, 4)).sum().backward()
    tangent = tangent_part(start, layers[0].weight.grad, "stiefel")
    optimizer.step()
    assert_close(layers[0].weight.detach(), orthonormal_step(start, -0.5 * tangent, "stiefel"))
    assert all(layer._known == layer._state_of_weight() for layer in layers)


def test_groups_other_parameters_and_other_optimizers():
    model = nn.Sequential(nn.Linear(5, 5), network(), nn.BatchNorm1d(3))
    outer, (hidden, _, output) = copy.deepcopy(model), model[1]
    groups = [{"params": [*model[0].parameters(), hidden.weight], "lr": 0.02}]
    groups += [{"params": [*model[2].parameters()], "weight_decay": 0.1}]
    optimizer = torch.optim.Adam(groups, lr=0.01)
    keep_orthonormal(optimizer, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, 10)
    assert drift(hidden) < 1e-5
    assert torch.equal(output.weight, outer[1][2].weight)  # in no optimizer
    assert not torch.equal(model[0].weight, outer[0].weight)
    optimizer.add_param_group({"params": [output.weight]})
    train(model, optimizer, 3)
    assert not torch.equal(output.weight, outer[1][2].weight)
    assert drift(model) < 1e-5
    keep_orthonormal(torch.optim.SGD(model[0].parameters(), 0.1), model[0])  # a module without such layers


def test_accumulated_gradients_are_those_of_the_whole_batch():
    models = [network(dtype=torch.float64) for _ in range(2)]
    for parts, model in zip((1, 4), models, strict=True):
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        keep_orthonormal(optimizer, model)
        for step in range(3):
            optimizer.zero_grad()
            for rows in batch(step, dtype=torch.float64)[0].chunk(parts):
                (model(rows).square().sum(1).sqrt().sum() / 16).backward()
            optimizer.step()
    assert_close(models[0][0].weight, models[1][0].weight, rtol=0, atol=1e-12)


def test_scaled_gradients_and_a_skipped_step():
    plain, scaled = (network() for _ in range(2))
    optimizers = [torch.optim.Adam(model.parameters(), 0.01) for model in (plain, scaled)]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for model, optimizer in zip((plain, scaled), optimizers, strict=True):
        keep_orthonormal(optimizer, model)
    for step in range(6):
        first, second = batch(step)
        for model, optimizer in zip((plain, scaled), optimizers, strict=True):
            optimizer.zero_grad()
            loss = TraceLoss()(model(first), model(second))
            if model is plain:
                loss.backward()
                optimizer.step()
            else:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
    assert_close(plain[0].weight, scaled[0].weight, rtol=0, atol=1e-5)
    before = scaled[0].weight.clone()
    optimizers[1].zero_grad()
    (scaler.scale(scaled(batch(9)[0]).sum()) * float("inf")).backward()
    scaler.step(optimizers[1])
    scaler.update()
    assert torch.equal(scaled[0].weight, before)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_weight_decay_moves_nothing(kind):
    models = [network(dtype=torch.float64) for _ in range(2)]
    for decay, model in zip((0.0, 0.5), models, strict=True):
        optimizer = kind(model.parameters(), lr=0.02, weight_decay=decay)
        keep_orthonormal(optimizer, model)
        train(model, optimizer, 20, dtype=torch.float64)
    assert_close(models[0][0].weight, models[1][0].weight, rtol=0, atol=1e-12)


def test_a_resumed_run_is_the_whole_one():
    def new():
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        keep_orthonormal(optimizer, model)
        return model, optimizer

    whole, optimizer = new()
    train(whole, optimizer, 4)
    saved = copy.deepcopy(whole.state_dict()), copy.deepcopy(optimizer.state_dict())
    train(whole, optimizer, 4)
    resumed, optimizer = new()
    resumed.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    train(resumed, optimizer, 4)
    assert saved[0].keys() == {"0.weight", "2.weight"}
    assert torch.equal(whole[0].weight, resumed[0].weight)


def _trained(rank, world_size):
    model = network(dtype=torch.float64)
    wrapped = DistributedDataParallel(model) if world_size > 1 else model
    optimizer = torch.optim.Adam(wrapped.parameters(), 0.01)
    keep_orthonormal(optimizer, wrapped)
    shards = [slice(0, 11), slice(11, 16)] if world_size > 1 else [slice(0, 16)]
    alone = None
    for step in range(4):
        optimizer.zero_grad()
        rows = batch(step, dtype=torch.float64)[0][shards[rank]]
        if step == 0:
            alone = torch.autograd.grad(model(rows).pow(4).sum() * world_size / 16, model[0].weight)[0]
        (wrapped(rows).pow(4).sum() * world_size / 16).backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()], alone


@pytest.mark.ddp
def test_ranks_with_uneven_rows_keep_the_weights_of_one_process():
    (first, one), (second, other) = run_ranks(_trained, 2)
    whole, _ = _trained(0, 1)
    for a, b, c in zip(first, second, whole, strict=True):
        assert torch.equal(a, b)
        assert_close(a, c, rtol=0, atol=1e-10)
    assert (one - other).abs().max() > 1e-2  # each rank's own gradient would lead elsewhere


def test_rejects():
    layer = OrthonormalLinear(2, 3)
    with pytest.raises(ValueError, match="Expected `optimizer` to be of type Optimizer, got Sequential"):
        keep_orthonormal(network(), layer)
    with pytest.raises(ValueError, match="Expected `module` to be of type Module, got list"):
        keep_orthonormal(torch.optim.SGD(layer.parameters()), [layer])
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    keep_orthonormal(optimizer, layer)
    layer.bfloat16()
    with pytest.raises(ValueError, match="Expected constrained parameters of dtype float32 or float64, got"):
        optimizer.step()
    with pytest.raises(ValueError, match="Expected constrained parameters of dtype float32 or float64, got"):
        keep_orthonormal(optimizer, layer)
    with pytest.raises(ValueError, match="Expected `constraint` to be one of grassmann, stiefel, polar, got"):
        OrthonormalLinear(2, 3, "none")
    with pytest.raises(ValueError, match="Expected `out_features` of at least 1, got 0"):
        OrthonormalLinear(2, 0)
