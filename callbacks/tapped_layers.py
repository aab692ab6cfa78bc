"""The layers that a diagnostic of features looks at, and one pass that gives their features."""

from collections.abc import Callable, Sequence

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lightning_ssl_theory.distributed import from_first_rank
from lightning_ssl_theory.operators import find_module
from lightning_ssl_theory.tracing.frozen_call import layer_features, network_state

OUTPUT = "output"
"""The name under which the output of the whole network is asked for and logged."""


def network_output(pl_module: LightningModule) -> Callable[[Tensor], Tensor]:
    """What enters the loss: `embed` where the module has it, else `forward`."""
    return getattr(pl_module, "embed", pl_module.forward)


def as_names(layers: Sequence[str]) -> list[str]:
    """The names as a list, each once; a single name may come without brackets."""
    return [layers] if isinstance(layers, str) else list(dict.fromkeys(layers))


@torch.inference_mode(False)
def first_rank_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and the first rank's buffers by name, floating ones in float32; all ranks take part.

    DistributedDataParallel lets the running statistics of BatchNorm differ between ranks until the next forward
    pass; the first rank's are the ones that a checkpoint keeps.

    Args:
        module: Any module.

    Returns:
        The tensors; parameters in float32 share their memory with the module's.
    """
    buffers = {name for name, _ in module.named_buffers()}
    return {
        name: from_first_rank(value) if name in buffers else value
        for name, value in network_state(module, torch.float32).items()
    }


class TappedLayers:
    """Named layers of a module, their features in evaluation mode with the first rank's buffers.

    Args:
        layers: Dotted paths; "output" is the output of the network.
        output: What to call; `embed` where the module has it, else `forward`, by default.
    """

    def __init__(self, layers: Sequence[str], output: Callable[[Tensor], Tensor] | None = None) -> None:
        self.names = as_names(layers)
        self._output = output
        self._state: dict[str, Tensor] = {}

    def check(self, pl_module: LightningModule) -> None:
        """Raise ValueError with near names if a layer is unknown."""
        for name in self.names:
            if name != OUTPUT:
                find_module(pl_module, name)

    def open(self, pl_module: LightningModule) -> None:
        """Take the parameters and the first rank's buffers; all ranks take part."""
        self._state = first_rank_state(pl_module)

    def close(self) -> None:
        """Let go of the tensors."""
        self._state = {}

    def features(self, pl_module: LightningModule, images: Tensor) -> dict[str, Tensor]:
        """Features of images at every layer.

        Args:
            pl_module: The module that holds the layers.
            images: (N, *input).

        Returns:
            For each layer (N, D), float32.

        Raises:
            ValueError: If a layer is not reached, or a feature is not finite.
        """
        found = layer_features(
            pl_module,
            images.float(),
            ["" if name == OUTPUT else name for name in self.names],
            output=self._output or network_output(pl_module),
            state=self._state,
        )
        for name, features in zip(self.names, found.values(), strict=True):
            if not features.isfinite().all():
                raise ValueError(
                    f"Expected finite features at layer {name!r}, found NaN or infinity; "
                    "lower the learning rate or check the images."
                )
        return {name or OUTPUT: features for name, features in found.items()}
