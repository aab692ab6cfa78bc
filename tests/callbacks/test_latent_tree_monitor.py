"""LatentTreeMonitor logs what the metrics and operators say of the tree's levels, and disturbs nothing."""

from functools import partial

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.toy_ssl import QUIET, MemoryLogger, ToySSL, fit
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.callbacks import LatentTreeMonitor, NeuronSelectivity
from lightning_ssl_theory.callbacks.latent_tree_monitor import best_or_lucky
from lightning_ssl_theory.data import LatentTreeDataModule
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.metrics import latent_selectivity, lucky_nodes, rank_one
from lightning_ssl_theory.networks import LatentTreeNetwork
from lightning_ssl_theory.operators import connection_sums, latent_operator_norms, trace_network
from lightning_ssl_theory.warnings import DiagnosticWarning

DEPTH, SIZE = 3, 4
LEVELS = ["level_1", "level_2", "level_3"]
KEYS = {
    *("normalized_correlation", "latent_selectivity", "rank_one_share", "rank_one_cosine"),
    *("operator_trace", "operator_norm", "lucky_share"),
}


def tree_module(seed=0, **arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LatentTreeNetwork(DEPTH, group_size=SIZE, is_normalized=True, **arguments)
    optimizer = partial(torch.optim.SGD, lr=0.1)
    return ContrastiveSSL(network, nn.Identity(), InfoNCELoss(), optimizer=optimizer)


def tree_data(**arguments):
    return LatentTreeDataModule(
        DEPTH, **{"batch_size": 20, "num_samples": 60, "num_val_samples": 50} | arguments
    )


def run(module, callbacks, data, **arguments):
    logger = MemoryLogger()
    trainer = Trainer(**QUIET | {"max_epochs": 1} | arguments | {"logger": logger, "callbacks": callbacks})
    trainer.fit(module, data)
    return trainer, logger


def level_features(network, x):
    """Inputs, pre-activations and activations of every level, by hand."""
    found, inputs = [], x
    for level in range(1, DEPTH + 1):
        pre = getattr(network, f"level_{level}")(inputs)
        norm = getattr(network, f"norm_{level}", nn.Identity()).eval()
        post = norm(pre).clamp(min=0) if level < DEPTH else pre
        found.append((inputs, pre, post))
        inputs = post
    return found


def test_values_on_validation():
    module, data, monitor = tree_module(), tree_data(), LatentTreeMonitor()
    trainer, logger = run(module, [monitor], data)
    ((step, values),) = logger.looks("selectivity/")
    assert step == trainer.global_step == 3
    batches = list(data.val_dataloader())
    first, second = (torch.cat([views[a] for views, _, _ in batches]) for a in range(2))
    latents = torch.cat([batch[2] for batch in batches])
    network = module.backbone.eval()
    by_level = [latents[:, 3:], latents[:, 1:3], latents[:, :1]]  # root first
    sums = connection_sums(trace_network(network, first, LEVELS, output=network.root_features), latents[:, 0])
    assert set(values) == {
        f"selectivity/backbone.{level}/{key}" for level in LEVELS for key in KEYS - {"lucky_share"}
    }
    features, again = (level_features(network, x) for x in (first, second))
    for level, (inputs, pre, post), (others, _, _), z in zip(LEVELS, features, again, by_level, strict=True):
        group, activation = latent_selectivity(pre, z), latent_selectivity(post, z)
        children, norms = rank_one(inputs, others, z), latent_operator_norms(sums[level])
        seen = monitor.levels[level]
        assert_close(seen.normalized_correlation, group.normalized_correlation, rtol=1e-5, atol=1e-6)
        assert_close(seen.selectivity, activation.selectivity, rtol=1e-5, atol=1e-6)
        assert_close(seen.alignment, group.selectivity, rtol=1e-5, atol=1e-6)
        assert_close(seen.rank_one_scale, children.scale, rtol=1e-4, atol=1e-6)
        assert (seen.lucky_node == -1).all()  # no look was taken before training
        expected = {
            "normalized_correlation": group.normalized_correlation.mean(),
            "latent_selectivity": activation.selectivity.abs().amax(1).mean(),
            "rank_one_share": children.leading_share.mean(),
            "rank_one_cosine": children.cosine.mean(),
            "operator_trace": norms.trace.mean(),
            "operator_norm": norms.frobenius_norm.mean(),
        }
        logged = {key: values[f"selectivity/backbone.{level}/{key}"] for key in expected}
        assert logged == pytest.approx({key: float(value) for key, value in expected.items()}, rel=1e-4)


def shift_norms(network):
    """Silence some neurons that are active before their BatchNorm."""
    for name, norm in network.named_children():
        if name.startswith("norm"):
            norm.running_mean[::2] += 5


@pytest.mark.parametrize("batch_norm", [False, True])
def test_lucky_nodes_are_those_of_the_untrained_network(batch_norm):
    module, data, monitor = tree_module(batch_norm=batch_norm), tree_data(), LatentTreeMonitor()
    shift_norms(module.backbone)
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    trainer = Trainer(**QUIET, max_epochs=2, callbacks=[monitor])
    trainer.validate(tree_module(1), data, verbose=False)  # of another network: the last look counts
    trainer.validate(module, data, verbose=False)
    start = dict(monitor.levels)
    assert not any("lucky_share" in key for key in monitor.values)
    trainer.fit(module, data)
    assert any((before[name] != parameter).any() for name, parameter in module.named_parameters())
    x = torch.cat([views[0] for views, _, _ in data.val_dataloader()])
    untrained = tree_module(batch_norm=batch_norm).backbone
    shift_norms(untrained)
    shares = []
    for level, (_, _, post) in zip(LEVELS, level_features(untrained, x), strict=True):
        is_active = (post > 0).any(0).reshape(start[level].alignment.shape)
        expected = lucky_nodes(start[level].alignment, is_active)
        wins = (monitor.levels[level].best_node == expected)[expected >= 0].double().mean()
        assert torch.equal(monitor.levels[level].lucky_node, start[level].lucky_node)
        assert torch.equal(expected, start[level].lucky_node)
        logged = monitor.values.get(
            f"selectivity/backbone.{level}/lucky_share", float("nan")
        )  # none where none is lucky
        assert logged == pytest.approx(float(wins), nan_ok=True)
        shares.append(logged)
    assert shares[0] >= 0
    restored = LatentTreeMonitor()
    restored.load_state_dict(monitor.state_dict())
    assert restored.values == monitor.values
    again = Trainer(**QUIET, max_epochs=3, callbacks=[restored])
    again.fit(module, data)
    assert torch.equal(restored.levels["level_1"].lucky_node, start["level_1"].lucky_node)


def test_steps_and_undisturbed_training():
    plain, watched = tree_module(batch_norm=True), tree_module(batch_norm=True)
    run(plain, [], tree_data())
    _, logger = run(watched, [LatentTreeMonitor(every_n_steps=1, num_samples=15)], tree_data())
    rows = logger.looks("selectivity/")
    assert [step for step, _ in rows] == [0, 1, 2, 3]
    # the root has no lucky node here
    assert all(
        {key for key in values if "lucky" in key}
        == {f"selectivity/backbone.{level}/lucky_share" for level in LEVELS[:2]}
        for _, values in rows
    )
    for (name, expected), (_, found) in zip(
        plain.state_dict().items(), watched.state_dict().items(), strict=True
    ):
        assert torch.equal(expected, found), name


def test_a_single_latent_with_a_single_neuron():
    monitor = LatentTreeMonitor()
    module = ContrastiveSSL(LatentTreeNetwork(1, group_size=1), nn.Identity(), InfoNCELoss())
    Trainer(**QUIET, callbacks=[monitor]).validate(
        module, LatentTreeDataModule(1, num_val_samples=50), verbose=False
    )
    assert [part.shape for part in monitor.levels["level_1"]] == [(1,), (1, 1), (1, 1), *[(1,)] * 7]


class KeepFirstLook(Callback):
    def __init__(self, monitor):
        self.monitor, self.values = monitor, {}

    def on_train_batch_start(self, *args):
        self.values = self.values or dict(self.monitor.values)


def _rank_values(rank, world_size):
    """Looks of a BatchNorm network whose running statistics have drifted on every rank: validation, first batch."""
    module = tree_module(batch_norm=True)
    for norm in (module.backbone.norm_1, module.backbone.norm_2):
        norm.running_mean += 0.1 * (rank + 1)
        norm.running_var *= 0.1 * (rank + 1)
    arguments = {"devices": world_size, "strategy": "ddp"} if world_size > 1 else {}
    monitor, neurons = LatentTreeMonitor(), NeuronSelectivity(["backbone.level_2"], num_latents=7)
    trainer = Trainer(**QUIET | arguments, callbacks=[monitor, neurons])
    # uneven: the last of 3 batches of 20 has 10 rows
    trainer.validate(module, tree_data(), verbose=False)
    validated = monitor.values | {f"{key} of any neuron": value for key, value in neurons.values.items()}
    by_steps = LatentTreeMonitor(every_n_steps=1)
    first = KeepFirstLook(by_steps)
    trainer = Trainer(**QUIET | arguments, max_steps=1, callbacks=[by_steps, first])
    trainer.fit(module, tree_data(batch_size=60 // world_size))
    return validated | {f"{key} at first": value for key, value in first.values.items()}, monitor.levels


@pytest.mark.ddp
@pytest.mark.parametrize("world_size", [2, 3])
def test_same_numbers_on_every_rank(world_size):
    alone, levels = _rank_values(0, 1)
    assert {key for key in alone if key.endswith("at first")}
    for values, found in run_ranks(_rank_values, world_size, init=False):
        assert values == pytest.approx(alone, rel=2e-5)
        for level in LEVELS:
            assert_close(found[level], levels[level], rtol=2e-5, atol=1e-6)
    other, _ = _rank_values(1, 1)
    assert other != pytest.approx(alone, rel=1e-3), "the other rank's statistics give the same numbers"
    half = LatentTreeMonitor()
    Trainer(**QUIET, callbacks=[half], limit_val_batches=2).validate(
        tree_module(batch_norm=True), tree_data(), verbose=False
    )
    whole = {key: alone[key] for key in half.values}
    assert half.values != pytest.approx(whole, rel=1e-3), "a part of the samples gives the same numbers"


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match=r"Expected a LatentTreeNetwork at 'backbone', got Sequential"):
        fit(ToySSL(), [LatentTreeMonitor()])
    with pytest.raises(ValueError, match=r"Expected the path of a layer of ToySSL, got 'trunk'"):
        fit(ToySSL(), [LatentTreeMonitor("trunk")])


@pytest.mark.parametrize(
    ("read_batch", "message"),
    [
        (
            lambda batch: (*batch[:2], batch[2][:, :3]),
            r"Expected 7 latents for the groups of 'backbone', got 3",
        ),
        (
            lambda batch: (batch[0][0], *batch[1:]),
            r"Expected at least 2 views of every sample in the batch, got 1",
        ),
        (lambda batch: batch[:2], r"Expected latents \(N, K\) in the batch, found none"),
    ],
)
def test_batches_that_do_not_fit_are_left_out_with_a_sentence(read_batch, message):
    data = tree_data(num_samples=20, num_val_samples=20)
    with pytest.warns(DiagnosticWarning, match=message):
        _, logger = run(tree_module(), [LatentTreeMonitor(read_batch=read_batch)], data)
    assert not logger.looks("selectivity/")


def test_of_tied_neurons_the_lucky_one_is_the_best():
    correlation = torch.tensor(
        [[0.5, 0.9, 0.9 - 1e-7], [0.5, 0.9, 0.9 - 1e-5], [0.5, 0.9, 0.9]], dtype=torch.float64
    )
    best, lucky = torch.tensor([1, 1, 1]), torch.tensor([2, 2, -1])
    assert best_or_lucky(best, lucky, correlation).tolist() == [2, 1, 1]
