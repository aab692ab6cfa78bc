"""The sum of a loss's parts, logged with them."""

from collections.abc import Mapping

import torch
from lightning.pytorch import LightningModule
from torch import Tensor


def logged_loss(module: LightningModule, parts: Mapping[str, Tensor]) -> Tensor:
    """The sum of the parts of a loss, logged as `train/loss`, and each part as `train/<name>` where it has several.

    Args:
        module: What logs, in its training step.
        parts: Scalars by name; `{"loss": …}` for a loss without parts.

    Returns:
        Scalar.
    """
    loss = torch.stack(list(parts.values())).sum()
    module.log("train/loss", loss, prog_bar=True)
    if set(parts) != {"loss"}:
        module.log_dict({f"train/{name}": value for name, value in parts.items()})
    return loss
