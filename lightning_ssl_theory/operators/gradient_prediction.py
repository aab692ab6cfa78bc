r"""How well the covariance operators predict the true gradient of a loss, layer by layer.

References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep Networks",
2020, Theorems 2 to 4.
"""

from itertools import combinations
from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_ssl_theory.distributed import all_gather_rows, all_sum, row_offset, world_size
from lightning_ssl_theory.operators.covariance_operators import half_squared_distances
from lightning_ssl_theory.operators.layer_trace import NetworkTrace
from lightning_ssl_theory.operators.pair_coefficients import laplacian


class PairwiseObjective(Protocol):
    """What a loss offers so that theory can predict its gradient; `losses.PairwiseLoss` does."""

    distance: Literal["cosine", "squared"]
    beta: float

    def __call__(self, z1: Tensor, z2: Tensor) -> Tensor:
        """The loss of two views, (n, D) each, equal on every rank."""

    def pair_weight(self, r: Tensor) -> Tensor:
        """The weights xi of all pairs of samples, (N, N) -> (N, N)."""


class PredictionQuality(NamedTuple):
    """Residual ||gradient - prediction|| / ||gradient|| and cosine between the two, for one layer."""

    residual: Tensor
    cosine: Tensor


def gradient_prediction(
    trace: NetworkTrace, loss: PairwiseObjective, *, num_views: int
) -> dict[str, PredictionQuality]:
    r"""Compare the loss's gradient with theory's prediction at every traced layer.

    .. math:: \hat g = -2 N^{-2} \sum_{ij} Lap_{ij}\, \bar K_i \bar f_j + 2\beta\, W

    Lap is the Laplacian of the loss's in-batch pair weights, f the output as the loss sees it (normalised for cosine
    losses), W the mean over samples of Cov(K, f) over views. On the diagonal, barK_i barf_i is the mean over pairs
    of *different* views, as in the loss's positives; so the prediction is exact on every batch for
    SimpleContrastiveLoss, and what remains for other losses is what Theorem 4 leaves open. Biases, skips and
    BatchNorm with held statistics are covered: f stands where K^T w would. Gradient and prediction are means over all
    pairs of two views, each pair a batch of its own.

    Args:
        trace: A forward pass over this rank's N A views, the views of a sample next to each other.
        loss: A pairwise loss of two views.
        num_views: A, at least 2.

    Returns:
        Residual and cosine for each layer; both 0 where the output does not depend on it. Two backward passes; what
        crosses ranks is the mean outputs of each pair of views, (N, D), and two weight gradients a layer.
    """
    outputs = F.normalize(trace.outputs, dim=1) if loss.distance == "cosine" else trace.outputs
    views = trace.outputs.unflatten(0, (-1, num_views))
    seen = outputs.detach().unflatten(0, (-1, num_views))
    pairs = list(combinations(range(num_views), 2))
    value = torch.stack([loss(views[:, a], views[:, b]) for a, b in pairs]).mean()
    cotangents = torch.zeros_like(seen)
    for pair in pairs:
        cotangents[:, pair] += _predicted_cotangents(seen[:, pair], loss) / len(pairs)
    weights = [layer.weight for layer in trace.layers.values()]
    found = torch.autograd.grad(value, weights, retain_graph=True, materialize_grads=True)
    predicted = torch.autograd.grad(
        outputs, weights, cotangents.flatten(0, 1), retain_graph=True, materialize_grads=True
    )
    return {
        name: _quality(all_sum(g).double() / world_size(), all_sum(p).double())
        for name, g, p in zip(trace.layers, found, predicted, strict=True)
    }


def _predicted_cotangents(views: Tensor, loss: PairwiseObjective) -> Tensor:
    means = views.mean(1)  # of two views, (n, 2, D), this rank's
    everyone = all_gather_rows(means)
    first, num_samples = row_offset(len(means))
    lap = laplacian(loss.pair_weight(half_squared_distances(everyone))) / num_samples**2
    lap = lap[first : first + len(means)]
    own = lap[:, first : first + len(means)].diagonal()[:, None]
    others = (lap @ everyone - own * means) / 2
    spread = (views - means[:, None]) / num_samples
    return -own[:, None] * views.flip(1) - 2 * others[:, None] + 2 * loss.beta * spread


def _quality(gradient: Tensor, prediction: Tensor) -> PredictionQuality:
    tiny = torch.finfo(torch.float64).tiny
    norm, predicted_norm = (torch.linalg.vector_norm(x).clamp(min=tiny) for x in (gradient, prediction))
    difference = torch.linalg.vector_norm(gradient - prediction)
    return PredictionQuality(difference / norm, (gradient / norm * (prediction / predicted_norm)).sum())
