"""An epoch on a latent tree: samples, training and the operator of every latent, ours against one module a node.

All sides draw from the same vectorised sampler, train on the ratio loss of Tian et al.'s code and add up, batch by
batch, what the operators of all latents and the correlations of all neurons need. Ours has one batched product a level;
the others one `nn.Linear`, one Jacobian and one set of sums for every node, as that code has (whose own sampler, one
draw at a time, would take another 1.3 s a batch). Its negatives are trees of their own, drawn and passed through the
network apart; the leaner side takes them from the batch, as ours does. The numbers of ours and of the leaner side are
compared first. Times are CPU seconds of one thread: what a quiet machine takes.

    python benchmarks/latent_tree.py
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.testing import assert_close

from lightning_ssl_theory.data import LatentTreeDataModule
from lightning_ssl_theory.metrics import LatentSelectivity
from lightning_ssl_theory.networks import LatentTreeNetwork
from lightning_ssl_theory.operators import (
    ConnectionSums,
    connection_sums,
    latent_operator_norms,
    trace_network,
)

DEPTH, GROUP_SIZE, BATCH, EPOCH, ROUNDS, BATCHES = 5, 10, 128, 64_000, 10, 25

Batch = tuple[list[Tensor], Tensor, Tensor]


def ratio_loss(z1: Tensor, z2: Tensor, negatives: Tensor) -> Tensor:
    positive, negative = (z1 - z2).square().mean(), (z1 - negatives).square().mean()
    return -torch.sigmoid((negative - positive) / 0.1)


class Ours:
    """One batched product a level."""

    def __init__(self, depth: int) -> None:
        self.network = LatentTreeNetwork(depth, group_size=GROUP_SIZE, is_normalized=True)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
        self.levels = [f"level_{level}" for level in range(1, depth + 1)]
        self.correlations = LatentSelectivity(2**depth - 1, GROUP_SIZE)
        self.sums: dict[str, list[Tensor]] = {}

    def look(self, batch: Batch) -> None:
        (x, *_), roots, latents = batch
        trace = trace_network(self.network, x, self.levels, output=self.network.root_features)
        for name, found in connection_sums(trace, roots).items():
            old = self.sums.get(name)
            self.sums[name] = list(found) if old is None else [a + b for a, b in zip(old, found, strict=True)]
        outputs = [seen.outputs for seen in trace.layers.values()][::-1]  # from the root down, as the latents
        self.correlations.update(torch.cat(outputs, dim=1), latents)

    def train(self, batch: Batch) -> None:
        self.optimizer.zero_grad()
        first, second = self.network(torch.cat(batch[0])).chunk(2)
        ratio_loss(first, second, second.roll(1, 0)).backward()
        self.optimizer.step()


class PerNode:
    """One linear layer a node; Jacobians and sums node by node, from the root down."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.nodes = nn.ModuleDict(
            {
                f"{level}_{index}": nn.Linear(2 if level == 1 else 2 * GROUP_SIZE, GROUP_SIZE)
                for level in range(1, depth + 1)
                for index in range(2 ** (depth - level))
            }
        )
        self.optimizer = torch.optim.SGD(self.nodes.parameters(), lr=0.1)
        self.sums: dict[str, Tensor] = {}
        self.moments: dict[str, Tensor] = {}

    @torch.no_grad()
    def start_as(self, network: LatentTreeNetwork) -> None:
        """Take over the weights of a network of levels."""
        for (layer, block), rows in self._blocks(network):
            layer.weight.copy_(block.weight[rows, :, 0])
            layer.bias.copy_(block.bias[rows])

    @torch.no_grad()
    def write_to(self, network: LatentTreeNetwork) -> None:
        """Give the weights to a network of levels."""
        for (layer, block), rows in self._blocks(network):
            block.weight[rows, :, 0] = layer.weight
            block.bias[rows] = layer.bias

    def _blocks(self, network: LatentTreeNetwork):
        for name, layer in self.nodes.items():
            level, index = map(int, name.split("_"))
            rows = slice(index * GROUP_SIZE, (index + 1) * GROUP_SIZE)
            yield (layer, getattr(network, f"level_{level}")), rows

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        inputs, outputs = {}, {}
        for name, layer in self.nodes.items():
            level, index = map(int, name.split("_"))
            if level == 1:
                inputs[name] = x[:, 2 * index : 2 * index + 2]
            else:
                below = [outputs[f"{level - 1}_{2 * index + child}"] for child in range(2)]
                inputs[name] = torch.cat(below, dim=1).relu()
            outputs[name] = layer(inputs[name])
        return outputs[f"{self.depth}_0"], inputs, outputs

    @torch.no_grad()
    def look(self, batch: Batch) -> None:
        (x, *_), roots, latents = batch
        root, inputs, outputs = self.forward(x)
        jacobians = {f"{self.depth}_0": torch.eye(GROUP_SIZE).expand(len(root), -1, -1)}
        is_one = roots.to(torch.bool)
        for name in reversed(list(self.nodes)):
            level, index = map(int, name.split("_"))
            if level > 1:
                down = (jacobians[name] @ self.nodes[name].weight).split(GROUP_SIZE, dim=2)
                for child, jacobian in enumerate(down):
                    below = f"{level - 1}_{2 * index + child}"
                    jacobians[below] = jacobian * (outputs[below] > 0).unsqueeze(1)
            # as that code: the connection of every sample, then sums over those of either root
            connections = torch.einsum("sug,sf->sugf", jacobians[name], inputs[name]).flatten(2)
            sums = [connections[~is_one].sum(0), connections[is_one].sum(0)]
            f = outputs[name].double()
            z = latents[:, 2 ** (self.depth - level) - 1 + index, None].double()
            moments = torch.stack([f.sum(0), f.square().sum(0), (f * z).sum(0), z.sum().expand(GROUP_SIZE)])
            self.sums[name] = self.sums.get(name, 0) + torch.stack(sums)
            self.moments[name] = self.moments.get(name, 0) + moments

    def train(self, batch: Batch, negatives: Batch | None = None) -> None:
        self.optimizer.zero_grad()
        first, second = (normalize(self.forward(view)[0]) for view in batch[0])
        others = second.roll(1, 0) if negatives is None else normalize(self.forward(negatives[0][0])[0])
        ratio_loss(first, second, others).backward()
        self.optimizer.step()


def loader(depth: int, num_batches: int, **kwargs: int):
    data = LatentTreeDataModule(depth, batch_size=BATCH, num_samples=num_batches * BATCH, **kwargs)
    return data.train_dataloader()


def run(side: Ours | PerNode, depth: int, num_batches: int) -> float:
    """CPU seconds of some batches on one thread: generation, a look and a step for each."""
    start = time.process_time()
    for batch in loader(depth, num_batches):
        side.look(batch)
        side.train(batch)
    return time.process_time() - start


def run_apart(side: PerNode, depth: int, num_batches: int) -> float:
    """The same with negatives of their own."""
    start = time.process_time()
    negatives = loader(depth, num_batches, num_views=1, seed=1)
    for batch, others in zip(loader(depth, num_batches), negatives, strict=True):
        side.look(batch)
        side.train(batch, others)
    return time.process_time() - start


def compare(depth: int) -> None:
    """Both sides from the same weights give the same operators and take the same step."""
    ours, nodes = Ours(depth), PerNode(depth)
    nodes.start_as(ours.network)
    for batch in loader(depth, 2):
        for side in (ours, nodes):
            side.look(batch)
            side.train(batch)
    for level, name in enumerate(ours.levels, start=1):
        total = torch.stack([nodes.sums[f"{level}_{index}"] for index in range(2 ** (depth - level))], dim=1)
        found = latent_operator_norms(ConnectionSums(*ours.sums[name]))
        expected = latent_operator_norms(ConnectionSums(ours.sums[name][0], total))
        assert_close(found.trace, expected.trace, rtol=1e-3, atol=1e-9)
        assert_close(found.frobenius_norm, expected.frobenius_norm, rtol=1e-3, atol=1e-9)
    last = nodes.nodes[f"{depth}_0"].weight
    assert_close(getattr(ours.network, f"level_{depth}").weight.squeeze(2), last, rtol=1e-3, atol=1e-5)


def fastest(calls: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Fastest of the rounds made in turn, in seconds, so that what else the machine does matters little."""
    rounds = [{name: call() for name, call in calls.items()} for _ in range(ROUNDS)]
    return {name: min(times[name] for times in rounds) for name in calls}


def main() -> None:
    torch.set_num_threads(1)  # several threads wait for one another where the machine has other work
    compare(3)
    num_epoch_batches = EPOCH // BATCH
    print(f"depth {DEPTH}, groups of {GROUP_SIZE}, batches of {BATCH}")
    times = fastest(
        {
            "ours": partial(run, Ours(DEPTH), DEPTH, BATCHES),
            "one module a node, as the authors": partial(run_apart, PerNode(DEPTH), DEPTH, BATCHES),
            "one module a node, leaner": partial(run, PerNode(DEPTH), DEPTH, BATCHES),
        }
    )
    print(f"{'':34} {'ms a batch':>10} {'s an epoch':>10} {'/ ours':>7}")
    for name, seconds in times.items():
        per_batch = seconds / BATCHES
        ratio = seconds / times["ours"]
        print(f"{name:34} {1e3 * per_batch:10.2f} {per_batch * num_epoch_batches:10.1f} {ratio:7.2f}")
    start = time.perf_counter()
    seconds = run(Ours(DEPTH), DEPTH, num_epoch_batches)
    print(f"a whole epoch of ours: {seconds:.1f} s, {time.perf_counter() - start:.1f} s by the clock\n")
    print(f"{'depth':>5} {'nodes':>6} {'ms a batch':>10} {'us a node':>10}")
    depths = range(3, 11)
    times = fastest({str(depth): partial(run, Ours(depth), depth, BATCHES // 8) for depth in depths})
    for depth in depths:
        per_batch = times[str(depth)] / (BATCHES // 8)
        nodes = 2**depth - 1
        print(f"{depth:5} {nodes:6} {1e3 * per_batch:10.2f} {1e6 * per_batch / nodes:10.1f}")


if __name__ == "__main__":
    main()
