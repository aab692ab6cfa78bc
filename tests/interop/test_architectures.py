"""Other people's networks: every diagnostic attaches, disturbs nothing, and its numbers are right or absent."""

import math
from typing import Any

import pytest
import torch
from helpers.toy_ssl import seed_all
from torch import Tensor, nn

from .architecture import NUM_SAMPLES, Architecture
from .oracle import expected, held, jacobians
from .training import Run, Trained, clean_loader, diagnostics, first_batch, run, sample, views_of
from .zoo import ZOO

PREFIX = "network."


def untrained(architecture: Architecture) -> Trained:
    """The same weights each time."""
    seed_all()
    return Trained(architecture)


def tapped(network: nn.Module) -> list[str]:
    """The first and the middle dense layer."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    names = [name for name, module in network.named_modules() if isinstance(module, kinds)]
    if not names:
        return []
    return list(dict.fromkeys([names[0], names[len(names) // 2]]))


def watched(architecture: Architecture) -> tuple[Run, Run]:
    """Training with and without the diagnostics."""
    views = views_of(architecture)
    plain = run(untrained(architecture), views, [])
    module = untrained(architecture)
    layers = ["output", *(PREFIX + name for name in tapped(module.network))]
    output: dict[str, Any] = {}
    if callable(architecture.output):
        output = {"output": lambda inputs: architecture.output(module(inputs))}
    elif architecture.output is not None:
        output = {"output": architecture.output}
    callbacks = diagnostics(
        layers=layers, clean=clean_loader(views), output=output, operators=dict(architecture.arguments)
    )
    return plain, run(module, views, callbacks)


def check_training(plain: Run, seen: Run) -> None:
    state = seen.module.state_dict()
    for name, value in plain.module.state_dict().items():
        assert torch.equal(value, state[name]), f"{name} differs from a training without the diagnostics"
    assert torch.equal(plain.random_state, seen.random_state), "the random state differs"


def check_finite(seen: Run) -> None:
    for section in ("covariance", "selectivity", "feature_norms", "collapse", "probe"):
        assert seen.logger.looks(f"{section}/"), f"no look at {section}: {seen.sentences}"
    for _, values in seen.logger.rows:
        for key, value in values.items():
            assert math.isfinite(value), f"{key} is {value}"


def covered_layers(seen: Run) -> list[str]:
    """Those with a trace in the first look, in the network's order."""
    found = {key.removesuffix("/trace") for key in seen.first("covariance/") if key.endswith("/trace")}
    order = [name for name, _ in seen.module.named_modules()]
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def check_operators(architecture: Architecture, seen: Run) -> None:
    values, layers = seen.first("covariance/"), covered_layers(seen)
    batch = first_batch(views_of(architecture))

    def call(network: nn.Module) -> Tensor:
        return network(**batch) if isinstance(batch, dict) else network(batch)

    (network,) = seen.untrained
    network = held(network, call)
    names = list(dict.fromkeys([layers[0], layers[-1]]))
    weights = [network.get_submodule(name.removeprefix(PREFIX)).get_parameter("weight") for name in names]
    for weight in weights:
        weight.requires_grad_(True)
    outputs = architecture.read(call(network))
    for name, weight, jacobian in zip(names, weights, jacobians(outputs.flatten(1), weights), strict=True):
        right = expected(jacobian, weight.detach(), num_views=2)
        for key, value in right._asdict().items():
            assert values[f"{name}/{key}"] == pytest.approx(value, rel=1e-6, abs=1e-12), (
                f"{name}/{key} is {values[f'{name}/{key}']}, true {value}"
            )


def check_features(architecture: Architecture, seen: Run) -> None:
    """Mean norms by one sample at a time; a layer whose rows are no samples may be absent."""
    network, values = seen.module.network.eval(), seen.first("feature_norms/")
    views = views_of(architecture)
    for name in tapped(network):
        layer, found = network.get_submodule(name), []
        handle = layer.register_forward_hook(
            lambda _, __, outputs, found=found: found.append(outputs.clone())
        )
        with torch.no_grad():
            for index in range(NUM_SAMPLES):
                one = sample(views[0], slice(index, index + 1))
                network(**one) if isinstance(one, dict) else network(one)
        handle.remove()
        if len(found) != NUM_SAMPLES:  # called more than once a pass, or not at all
            continue
        axis = -1 if isinstance(layer, nn.Linear) else 1
        norms = [outputs.movedim(axis, -1).flatten(0, -2).mean(0).norm() for outputs in found]
        logged = values.get(f"{PREFIX}{name}/mean_norm")
        if logged is not None:
            right = float(torch.stack(norms).mean())
            assert logged == pytest.approx(right, rel=1e-4), f"{name}: mean norm {logged}, true {right}"


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(a, id=a.name, marks=[] if a.in_ci else [pytest.mark.all_architectures]) for a in ZOO],
)
def test_architecture(architecture: Architecture, record_property: Any) -> None:
    pytest.importorskip(architecture.name.partition("-")[0], reason="comes with the extra `interop`")
    plain, seen = watched(architecture)
    share = seen.first("covariance/").get("weight_share", math.nan)
    record_property("interop", [architecture.name, share, architecture.special, *seen.sentences])
    check_training(plain, seen)
    check_finite(seen)
    check_operators(architecture, seen)
    check_features(architecture, seen)
    assert share >= architecture.least_share


def test_the_zoo() -> None:
    """At least 40 architectures of three libraries, 30 of which keep half of their weights in a look."""
    theirs = [a for a in ZOO if not a.name.startswith("torch-")]
    assert len(theirs) >= 40
    assert sum(a.least_share >= 0.5 for a in theirs) >= 30
    assert 20 <= sum(a.in_ci for a in theirs) <= 30
