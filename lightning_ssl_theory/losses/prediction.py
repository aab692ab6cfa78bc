"""Error of predicting a target that every sample has: cross-entropy of classes, squares of numbers."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_ssl_theory.checks import InputError, check_finite, check_shape, check_targets
from lightning_ssl_theory.distributed import all_sum_with_grad


class PredictionLoss(nn.Module):
    r"""Cross-entropy for classes, and half the squared error for numbers, as means over the samples of all ranks.

    .. math:: -\frac1N \sum_n \log \mathrm{softmax}(p_n)_{z_n} \quad\text{or}\quad \frac1{2N} \sum_n \|p_n - z_n\|^2

    The value is equal on every rank, and the parameters' gradients, once DistributedDataParallel has averaged them, are
    those of one process on the concatenated batch, however unevenly its samples are spread. Half precision is computed
    in float32.

    Example:
        >>> PredictionLoss()(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]])).item()
        2.0
        >>> round(PredictionLoss()(torch.zeros(1, 2), torch.tensor([1])).item(), 4)  # log 2
        0.6931
    """

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Value of the loss.

        Args:
            predictions: Scores of E classes, or E numbers, of this rank's samples, shape (N, E), floating.
            targets: Classes (N,) below E, or numbers (N, E).

        Returns:
            Scalar.

        Raises:
            InputError: If the shapes do not fit, a class is out of range, a number is not finite, or no rank has a
                sample.
        """
        check_shape(predictions, "predictions", "N E")
        check_finite(predictions, "predictions")
        dtype = torch.promote_types(predictions.dtype, torch.float32)
        count, width = predictions.shape
        with torch.autocast(predictions.device.type, enabled=False):
            if isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point():
                check_targets(targets, count, width)
                total = cross_entropy(predictions.to(dtype), targets.long(), reduction="sum")
            else:
                check_shape(targets, "targets", f"{count} {width}")
                check_finite(targets, "targets")
                total = (predictions.to(dtype) - targets.to(dtype)).square().sum() / 2
            total, num_samples = all_sum_with_grad(torch.stack([total, total.new_tensor(count)])).unbind()
        if not num_samples:
            raise InputError("Expected `predictions` of a sample on some rank, got none; pass samples.")
        return total / num_samples
