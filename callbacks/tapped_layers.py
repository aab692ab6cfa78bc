"""The layers that a diagnostic of features looks at, and one pass that gives their features."""

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError, check_callable
from lightning_ssl_theory.distributed import all_from_first_rank
from lightning_ssl_theory.tracing import Inputs, Output, find_module, network_state
from lightning_ssl_theory.tracing.layer_features import FeatureReader, Pool
from lightning_ssl_theory.tracing.layer_names import check_layers
from lightning_ssl_theory.tracing.network_output import check_output
from lightning_ssl_theory.tracing.plain_chain import plain_chain

OUTPUT = "output"
"""The name under which the output of the whole network is asked for and logged."""


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
        The tensors; parameters in float32 share their memory with the module's, buffers are copies.
    """
    state = network_state(module, torch.float32)
    buffers = [name for name, _ in module.named_buffers() if name in state]
    shared = all_from_first_rank([state[name].clone() for name in buffers])
    return state | dict(zip(buffers, shared, strict=True))


class TappedLayers:
    """Named layers of a module, their features in evaluation mode with the first rank's buffers.

    Args:
        layers: Dotted paths; "output" is the output of the network.
        output: What to call, or what to choose of what `embed`, where the module has it, else `forward` puts out.
        pool: Makes (N, D) of what a layer puts out where its axis of features is not known.

    Attributes:
        left_out: Why layers cannot be read in this look, by path.
    """

    def __init__(self, layers: Sequence[str], *, output: Output = None, pool: Pool = None) -> None:
        check_layers(layers, "layers")
        check_output(output)
        check_callable(pool, "pool", or_none=True)
        self.names = as_names(layers)
        self._output, self._pool = output, pool
        self._state: dict[str, Tensor] = {}
        self._reader: FeatureReader | None = None
        self.left_out: dict[str, str] = {}

    def check(self, pl_module: LightningModule) -> None:
        """Raise InputError with near names if a layer is unknown."""
        for name in self.names:
            if name != OUTPUT:
                find_module(pl_module, name)

    def open(self, pl_module: LightningModule) -> None:
        """Take the parameters and the first rank's buffers; all ranks take part."""
        self._state, self._reader, self.left_out = first_rank_state(pl_module), None, {}

    def close(self) -> None:
        """Let go of the tensors."""
        self._state, self._reader = {}, None

    def features(self, pl_module: LightningModule, images: Inputs) -> dict[str, Tensor]:
        """Features of images at every layer that can be read.

        Args:
            pl_module: The module that holds the layers.
            images: (N, *input), or a dictionary of such tensors.

        Returns:
            For each layer that is not left out (N, D), float32.

        Raises:
            InputError: If no layer can be read, or a feature is not finite.
        """
        if self._reader is None:
            self._reader = FeatureReader(
                pl_module,
                images,
                ["" if name == OUTPUT else name for name in self.names],
                output=self._output,
                state=self._state,
                pool=self._pool,
            )
            self.left_out = {name or OUTPUT: str(error) for name, error in self._reader.left_out.items()}
            if len(self.left_out) == len(self.names):
                raise InputError(next(iter(self.left_out.values())))
        found = {name or OUTPUT: features for name, features in self._reader(images).items()}
        for name, features in found.items():
            if not features.isfinite().all():
                raise InputError(
                    f"Expected finite features at layer {name!r}, found NaN or infinity; "
                    "lower the learning rate or check the images."
                )
        return found

    def chain(self, pl_module: LightningModule, images: Inputs, name: str) -> list[nn.Module] | None:
        """The modules between images and a layer, where they run one after another and nothing else happens."""
        if self._pool is not None:
            return None
        try:
            layer = "" if name == OUTPUT else name
            return plain_chain(pl_module, images, layer, output=self._output, state=self._state)
        except Exception:  # a network that cannot run on the images as a whole is none
            return None
