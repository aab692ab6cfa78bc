"""BiasSchedule: thresholds that grow with their neurons, until these answer to single features."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_integer, check_names, check_number, check_positive
from lightning_ssl_theory.networks.symmetrized_relu import next_biases
from lightning_ssl_theory.operators import find_module


class BiasSchedule(Callback):
    r"""Sets the biases of layers by hand: zero at first, then a growing share of each neuron's length.

    Unlike this library's diagnostics **it changes training**; it is the part of the sparse coding theory's
    algorithm that no gradient does. Until `start_step` optimiser steps are made it leaves the biases alone.
    Then b_i = `initial` ||w_i||, and after every step the rule of `next_biases`. It begins at the first step seen
    from `start_step` on: a later one where a batch makes several steps, and the first of a run resumed without
    its state. Checkpoints hold the biases, in the layer's buffer, and whether the schedule has begun, so a
    resumed run goes on as if it had not stopped. All processes set the same biases.

    Args:
        layers: Dotted paths of layers with a `weight` (m, d1) and a `bias` (m,), a buffer or a parameter that the
            optimiser leaves alone, such as `SymmetrizedReLU`.
        start_step: Number of optimiser steps of the first, linear stage, >= 0; best ended before the loss begins
            to fall, because neurons compete for atoms only until then.
        initial: b_i / ||w_i|| at the start of the second stage, in (0, `cap`].
        cap: Largest b_i / ||w_i||. At 0.5 to 0.6 a neuron still answers to its two or three strongest atoms,
            from 1.2 on to nothing.
        growth: g; the theory's is the learning rate over the number of atoms.

    Raises:
        InputError: If a number is out of its range.

    References: Z. Wen, Y. Li, "Toward Understanding the Feature Learning Process of Self-supervised Contrastive
    Learning", 2021, section 2.2.
    """

    def __init__(
        self,
        layers: Sequence[str],
        *,
        start_step: int,
        initial: float = 0.3,
        cap: float = 0.5,
        growth: float = 1 / 32,
    ) -> None:
        check_names(layers, "layers")
        check_integer(start_step, "start_step", at_least=0, advice="0 starts at once")
        check_positive(cap, "cap")
        check_number(initial, "initial")
        if not 0 < initial <= cap:
            raise InputError(f"Expected `initial` in (0, cap = {cap}], got {initial}; pass a smaller one.")
        check_number(growth, "growth", "[0, inf)", advice="0 lets biases grow with their neurons only")
        self._layers, self._start_step = tuple(layers), start_step
        self._initial, self._cap, self._growth = initial, cap, growth
        self._norms: dict[str, Tensor] = {}
        self._step, self._has_begun = 0, False

    @property
    def state_key(self) -> str:
        """Schedules of different layers keep their states apart."""
        return self._generate_state_key(layers=self._layers)

    def state_dict(self) -> dict[str, Any]:
        """Whether the second stage has begun."""
        return {"has_begun": self._has_begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore whether the second stage has begun."""
        self._has_begun = state_dict["has_begun"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fail early where a layer has no weight matrix or no biases; a new run has not begun."""
        if trainer.global_step == 0:  # not where a trainer goes on; a checkpoint is loaded after this
            self._has_begun = False
        for name in self._layers:
            _check_layer(find_module(pl_module, name), name)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the lengths of the neurons before the first step, or the first one after a resumption."""
        self._step = trainer.global_step
        self._norms = {name: _norms(find_module(pl_module, name)) for name in self._layers}
        if self._is_due():
            self._begin(pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the biases after an optimiser step."""
        if trainer.global_step == self._step:
            return  # gradients are being accumulated
        self._step = trainer.global_step
        if self._is_due():
            self._begin(pl_module)
        elif self._has_begun:
            self._follow(pl_module)

    def _is_due(self) -> bool:
        return not self._has_begun and self._step >= self._start_step

    def _begin(self, pl_module: LightningModule) -> None:
        self._has_begun = True
        for name in self._layers:
            layer = find_module(pl_module, name)
            self._norms[name] = _norms(layer)
            _set_biases(layer, self._initial * self._norms[name])

    def _follow(self, pl_module: LightningModule) -> None:
        for name in self._layers:
            layer = find_module(pl_module, name)
            norms = _norms(layer)
            bias: Any = layer.bias
            arguments = {"growth": self._growth, "cap": self._cap}
            _set_biases(layer, next_biases(bias.detach(), norms, self._norms[name], **arguments))
            self._norms[name] = norms


@torch.no_grad()
def _norms(layer: Any) -> Tensor:
    return torch.linalg.vector_norm(layer.weight, dim=1)


@torch.no_grad()
def _set_biases(layer: Any, values: Tensor) -> None:
    layer.bias.copy_(values)


def _check_layer(layer: Any, name: str) -> None:
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    shapes = [tuple(part.shape) if isinstance(part, Tensor) else None for part in (weight, bias)]
    if shapes[0] is None or len(shapes[0]) != 2 or shapes[1] != shapes[0][:1]:
        raise InputError(
            f"Expected the layer {name!r} to have a weight (m, d1) and a bias (m,), got {shapes[0]} and "
            f"{shapes[1]}; name a layer such as SymmetrizedReLU."
        )
    if bias is not None and bias.requires_grad:
        raise InputError(
            f"Expected the bias of the layer {name!r} to be left alone by the optimiser, got a trainable one; "
            "make it a buffer, or set its requires_grad to False."
        )
