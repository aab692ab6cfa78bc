"""LatentTreeMonitor: whether a network learns the latents that its data come from."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_instance
from lightning_ssl_theory.data.batch import read_latents, read_views
from lightning_ssl_theory.distributed import all_sum
from lightning_ssl_theory.metrics import LatentSelectivity, RankOne, lucky_nodes
from lightning_ssl_theory.metrics.latent_selectivity import TIE, check_both_values
from lightning_ssl_theory.metrics.sum_metric import sum_together
from lightning_ssl_theory.networks import BlockLinear, LatentTreeNetwork
from lightning_ssl_theory.operators import (
    ConnectionSums,
    connection_sums,
    find_module,
    latent_operator_norms,
    trace_network,
)
from lightning_ssl_theory.tracing.frozen_call import evaluation_mode

from .diagnostic import Diagnostic
from .feature_metrics import let_go
from .tapped_layers import first_rank_state


class LatentLevel(NamedTuple):
    """What a look saw of the M latents of one level, each with G neurons; float64 on the CPU."""

    normalized_correlation: Tensor
    """NC_mu of the pre-activations (M,)."""
    selectivity: Tensor
    """s_j of the activations (M, G)."""
    alignment: Tensor
    """w_j^T a_mu (M, G), the selectivity of the pre-activations."""
    best_node: Tensor
    """The neuron with the largest correlation (M,)."""
    lucky_node: Tensor
    """The neuron that was lucky before the first step (M,), -1 for none or where no look was taken then."""
    rank_one_share: Tensor
    """Share of the leading eigenvalue of the children's covariance over roots (M,)."""
    rank_one_cosine: Tensor
    """Cosine of its eigenvector and a_mu (M,)."""
    rank_one_scale: Tensor
    """Its eigenvalue over ||a_mu||^2 (M,), the theorem's rho_{0mu}^2."""
    operator_trace: Tensor
    """tr OP_mu (M,)."""
    operator_norm: Tensor
    """||OP_mu||_F (M,)."""


class LatentTreeMonitor(Diagnostic):
    r"""What the groups of a `LatentTreeNetwork` know of the latents of a tree, level by level.

    .. math:: NC_\mu = \max_j |\mathrm{corr}(\tilde f_j, z_\mu)|, \quad
        s_j = \tfrac12 \big(E[f_j | z_\mu = 1] - E[f_j | z_\mu = 0]\big), \quad a_\mu = [\rho_{\mu\nu(k)} s_k]_k

    Logs means over the latents of each level, for `selectivity/<network>.level_<l>/`:

    - `normalized_correlation`: NC of the pre-activations, in [0, 1];
    - `latent_selectivity`: the largest |s_j| of a group, of activations;
    - `rank_one_share`, `rank_one_cosine`: the check of Theorem 6, for the covariance over roots of the children's
      activations, from two views: share of its leading eigenvalue, and cosine of its eigenvector with a_mu;
    - `operator_trace`, `operator_norm`: trace and Frobenius norm of OP_mu, from the means given the root; of the
      output before its normalisation;
    - `lucky_share`, during `fit`: latents whose lucky node has the largest correlation now. The lucky node is the one
      with the largest w_j^T a_mu > 0 among those whose activation is positive on some sample, in the last look before
      the first step: with `every_n_steps` there is one, with `every_n_epochs` run `trainer.validate` before
      `trainer.fit`. A latent may have none.

    BatchNorm uses its running statistics, those of the first rank. `levels` holds the last look by latent and neuron.
    Batches are (views, labels, latents) with two views, as `LatentTreeDataModule` makes them.

    Args:
        network: Dotted path of the network.
        **kwargs: See `Diagnostic`.

    References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
    Networks", 2020, Sections 5 and 6.
    """

    section = "selectivity"

    def __init__(self, network: str = "backbone", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_instance(network, "network", str)
        self._network = network
        self._groups: LatentSelectivity | None = None
        self._activations: LatentSelectivity | None = None
        self._children: dict[str, RankOne] = {}
        self._connections: dict[str, ConnectionSums] = {}
        self._state: dict[str, Tensor] = {}
        self._lucky: dict[str, Tensor] = {}
        self.levels: dict[str, LatentLevel] = {}

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"network": self._network} | super().identity()

    def state_dict(self) -> dict[str, Any]:
        """The last values, and the lucky nodes."""
        return super().state_dict() | {"lucky": dict(self._lucky)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the last values, and the lucky nodes."""
        super().load_state_dict(state_dict)
        self._lucky = dict(state_dict["lucky"])

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise InputError if there is no such network."""
        self._tree(pl_module)

    def layers_of(self, pl_module: LightningModule) -> Collection[str]:
        """The layers whose keys are logged."""
        return [self._network]

    def forget(self) -> None:
        """Forget the model before, and its lucky nodes."""
        super().forget()
        self._lucky, self.levels = {}, {}

    def open(self, pl_module: LightningModule) -> None:
        """Forget the last look."""
        tree = self._tree(pl_module)
        self._state = first_rank_state(tree)
        device, group_size = pl_module.device, tree.num_features
        layers = self._levels(pl_module)
        num_latents = sum(layer.groups for layer in layers.values())
        self._groups = LatentSelectivity(num_latents, group_size).to(device)
        self._activations = LatentSelectivity(num_latents, group_size).to(device)
        for name, layer in layers.items():
            num_inputs = layer.weight.shape[1]
            self._children[name] = RankOne(layer.groups, num_inputs).to(device)
            total = torch.zeros(2, layer.groups, group_size, group_size * num_inputs, device=device)
            self._connections[name] = ConnectionSums(torch.zeros(2, device=device), total)

    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Add both views of a batch."""
        tree, layers = self._tree(pl_module), self._levels(pl_module)
        latents = read_latents(batch)[rows]
        sizes = [layer.groups for layer in reversed(layers.values())]
        if latents.shape[1] != sum(sizes):
            raise InputError(
                f"Expected {sum(sizes)} latents for the groups of {self._network!r}, got {latents.shape[1]}; "
                "give the network and the data the same depth and number of children."
            )
        with evaluation_mode(tree):
            first, second = (
                trace_network(
                    tree, view[rows].float(), list(layers), output=tree.root_features, state=self._state
                )
                for view in read_views(batch, min_views=2)[:2]
            )
        # from the root down, as the latents are
        outputs = [seen.outputs for seen in first.layers.values()][::-1]
        activations = [first.outputs, *[seen.inputs for seen in first.layers.values()][:0:-1]]
        assert self._groups is not None
        assert self._activations is not None
        self._groups.update(torch.cat(outputs, dim=1), latents)
        self._activations.update(torch.cat(activations, dim=1), latents)
        sums = connection_sums(first, latents[:, 0])
        for name, level_latents in zip(layers, latents.split(sizes, dim=1)[::-1], strict=True):
            self._children[name].update(first.layers[name].inputs, second.layers[name].inputs, level_latents)
            seen = self._connections[name]
            self._connections[name] = ConnectionSums(*(a + b for a, b in zip(seen, sums[name], strict=True)))

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """Values of every level over all ranks."""
        values: dict[str, float | Tensor] = {}
        for name, level in self._measured(pl_module, is_first=trainer.global_step == 0).items():
            self.levels[name] = level
            found = {
                "normalized_correlation": level.normalized_correlation.mean(),
                "latent_selectivity": level.selectivity.abs().amax(1).mean(),
            }
            for key in ("rank_one_share", "rank_one_cosine", "operator_trace", "operator_norm"):
                found[key] = getattr(level, key).mean()
            is_known = level.lucky_node >= 0
            if trainer.state.fn == "fit" and bool(is_known.any()):
                found["lucky_share"] = (level.lucky_node == level.best_node)[is_known].double().mean()
            values |= {f"{self._network}.{name}/{key}": value for key, value in found.items()}
        return values

    def close(self) -> None:
        """Let go of the sums."""
        let_go(
            metric
            for metric in (self._groups, self._activations, *self._children.values())
            if metric is not None
        )
        self._groups = self._activations = None
        self._children, self._connections, self._state = {}, {}, {}

    def _measured(self, pl_module: LightningModule, *, is_first: bool) -> dict[str, LatentLevel]:
        assert self._groups is not None
        assert self._activations is not None
        layers = self._levels(pl_module)
        sizes = [layer.groups for layer in reversed(layers.values())]
        sum_together([self._groups, self._activations, *self._children.values()], all_sum)
        connections = [part for name in layers for part in self._connections[name]]
        sums = all_sum(torch.cat([part.reshape(-1) for part in connections]))
        totals = iter(sums.split([part.numel() for part in connections]))
        groups, activations = self._groups.compute(), self._activations.compute()
        check_both_values(groups)
        by_level = [
            part.split(sizes)[::-1]
            for part in (
                groups.normalized_correlation.reshape(-1),  # torchmetrics squeezes what one latent has
                activations.selectivity.reshape(sum(sizes), -1),
                groups.selectivity.reshape(sum(sizes), -1),
                groups.best_node.reshape(-1),
                groups.correlation.reshape(sum(sizes), -1).abs(),
                activations.is_active.reshape(sum(sizes), -1),
            )
        ]
        found = {}
        for name, nc, selectivity, alignment, best, correlation, is_active in zip(
            layers, *by_level, strict=True
        ):
            if is_first:
                self._lucky[name] = lucky_nodes(alignment, is_active).cpu()
            children = self._children[name].compute()
            norms = latent_operator_norms(
                ConnectionSums(*(next(totals).view_as(part) for part in self._connections[name]))
            )
            lucky = self._lucky.get(name, torch.full_like(best, -1))
            best = best_or_lucky(best, lucky.to(best.device), correlation)
            level = LatentLevel(
                nc,
                selectivity,
                alignment,
                best,
                lucky,
                children.leading_share.reshape(-1),
                children.cosine.reshape(-1),
                children.scale.reshape(-1),
                norms.trace,
                norms.frobenius_norm,
            )
            found[name] = LatentLevel(*(part.cpu() for part in level))
        return found

    def _tree(self, pl_module: LightningModule) -> LatentTreeNetwork:
        network = find_module(pl_module, self._network)
        if not isinstance(network, LatentTreeNetwork):
            raise InputError(
                f"Expected a LatentTreeNetwork at {self._network!r}, got {type(network).__name__}; "
                "pass LatentTreeMonitor(network=...)."
            )
        return network

    def _levels(self, pl_module: LightningModule) -> dict[str, BlockLinear]:
        return {
            name: layer
            for name, layer in self._tree(pl_module).named_children()
            if isinstance(layer, BlockLinear)
        }


def best_or_lucky(best: Tensor, lucky: Tensor, correlation: Tensor) -> Tensor:
    """The neuron with the largest correlation: the lucky one where several have it, as rounding would choose else.

    Args:
        best: One that has it (M,).
        lucky: The lucky neuron (M,), -1 for none.
        correlation: Absolute correlations (M, G).

    Returns:
        The neurons (M,).
    """
    of_lucky = correlation.gather(1, lucky.clamp(min=0)[:, None])[:, 0]
    is_tied = (lucky >= 0) & (of_lucky >= correlation.amax(1) * (1 - TIE))
    return lucky.where(is_tied, best)
