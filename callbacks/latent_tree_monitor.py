"""LatentTreeMonitor: whether a network learns the latents that its data come from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_ssl_theory.data.batch import read_latents, read_views
from lightning_ssl_theory.distributed import all_sum
from lightning_ssl_theory.metrics import LatentSelectivity, RankOne, lucky_nodes
from lightning_ssl_theory.networks import BlockLinear, LatentTreeNetwork
from lightning_ssl_theory.operators import (
    ConnectionSums,
    connection_sums,
    find_module,
    latent_operator_norms,
    trace_network,
)

from .diagnostic import Diagnostic


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
    """The neuron that was lucky at initialisation (M,), -1 for none or where no look was taken then."""
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
    - `lucky_share`: latents whose lucky node has the largest correlation now. The lucky node is the one with the
      largest w_j^T a_mu > 0 among the active ones in the first look, if that was taken before training: with
      `every_n_steps` it is, with `every_n_epochs` run `trainer.validate` before `trainer.fit`. A latent may have none.

    `levels` holds the last look by latent and neuron. Batches are (views, labels, latents) with two views, as
    `LatentTreeDataModule` makes them.

    Args:
        network: Dotted path of the network.
        **kwargs: See `Diagnostic`.

    References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
    Networks", 2020, Sections 5 and 6.
    """

    section = "selectivity"

    def __init__(self, network: str = "backbone", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._network = network
        self._groups: dict[str, LatentSelectivity] = {}
        self._activations: dict[str, LatentSelectivity] = {}
        self._children: dict[str, RankOne] = {}
        self._connections: dict[str, ConnectionSums] = {}
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
        """Raise ValueError if there is no such network."""
        self._tree(pl_module)

    def open(self, pl_module: LightningModule) -> None:
        """Forget the last look."""
        device = pl_module.device
        for name, layer in self._levels(pl_module).items():
            num_latents, num_outputs = layer.groups, self._tree(pl_module).num_features
            num_inputs = layer.weight.shape[1]
            self._groups[name] = LatentSelectivity(num_latents, num_outputs).to(device)
            self._activations[name] = LatentSelectivity(num_latents, num_outputs).to(device)
            self._children[name] = RankOne(num_latents, num_inputs).to(device)
            total = torch.zeros(2, num_latents, num_outputs, num_outputs * num_inputs, device=device)
            self._connections[name] = ConnectionSums(torch.zeros(2, device=device), total)

    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Add both views of a batch."""
        tree, layers = self._tree(pl_module), self._levels(pl_module)
        latents = read_latents(batch)[rows]
        sizes = [layer.groups for layer in reversed(layers.values())]
        if latents.shape[1] != sum(sizes):
            raise ValueError(
                f"Expected {sum(sizes)} latents for the groups of {self._network!r}, got {latents.shape[1]}; "
                "give the network and the data the same depth and number of children."
            )
        first, second = (
            trace_network(tree, view[rows].float(), list(layers), output=tree.root_features)
            for view in read_views(batch, min_views=2)[:2]
        )
        sums = connection_sums(first, latents[:, 0])
        activations = [*[seen.inputs for seen in first.layers.values()][1:], first.outputs]
        by_level = latents.split(sizes, dim=1)[::-1]
        for name, found, level_latents in zip(layers, activations, by_level, strict=True):
            self._groups[name].update(first.layers[name].outputs, level_latents)
            self._activations[name].update(found, level_latents)
            self._children[name].update(first.layers[name].inputs, second.layers[name].inputs, level_latents)
            seen = self._connections[name]
            self._connections[name] = ConnectionSums(*(a + b for a, b in zip(seen, sums[name], strict=True)))

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """Values of every level over all ranks."""
        is_untrained = trainer.global_step == 0
        values: dict[str, float | Tensor] = {}
        for name in self._levels(pl_module):
            level = self._level(name, is_untrained=is_untrained)
            self.levels[name] = level
            values |= {
                f"{self._network}.{name}/normalized_correlation": level.normalized_correlation.mean(),
                f"{self._network}.{name}/latent_selectivity": level.selectivity.abs().amax(1).mean(),
            }
            for key in ("rank_one_share", "rank_one_cosine", "operator_trace", "operator_norm"):
                values[f"{self._network}.{name}/{key}"] = getattr(level, key).mean()
            is_known = level.lucky_node >= 0
            if bool(is_known.any()):
                wins = level.lucky_node[is_known] == level.best_node[is_known]
                values[f"{self._network}.{name}/lucky_share"] = wins.double().mean()
        return values

    def _level(self, name: str, *, is_untrained: bool) -> LatentLevel:
        group, activation = self._groups[name].compute(), self._activations[name].compute()
        children = self._children[name].compute()
        sums = ConnectionSums(*(all_sum(part) for part in self._connections[name]))
        norms = latent_operator_norms(sums)
        shape = (self._groups[name].num_latents, -1)
        alignment = group.selectivity.reshape(shape)
        if is_untrained and name not in self._lucky:
            self._lucky[name] = lucky_nodes(alignment, group.is_active.reshape(shape)).cpu()
        level = LatentLevel(
            normalized_correlation=group.normalized_correlation.reshape(-1),
            selectivity=activation.selectivity.reshape(shape),
            alignment=alignment,
            best_node=group.best_node.reshape(-1),
            lucky_node=self._lucky.get(name, torch.full_like(group.best_node.reshape(-1), -1)),
            rank_one_share=children.leading_share.reshape(-1),
            rank_one_cosine=children.cosine.reshape(-1),
            rank_one_scale=children.scale.reshape(-1),
            operator_trace=norms.trace,
            operator_norm=norms.frobenius_norm,
        )
        return LatentLevel(*(part.cpu() for part in level))

    def _tree(self, pl_module: LightningModule) -> LatentTreeNetwork:
        network = find_module(pl_module, self._network)
        if not isinstance(network, LatentTreeNetwork):
            raise ValueError(
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
