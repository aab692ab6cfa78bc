"""KNNProbe: how well the nearest labelled images name a held-out image, while the network trains."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_integer, check_positive, check_sequence
from lightning_ssl_theory.distributed import all_gather_rows
from lightning_ssl_theory.probes import knn_votes, nearest_neighbours

from .feature_probe import FeatureProbe, LabelledRows, share_correct
from .rank_shard import dataset_positions

Temperature = float | None


class KNNProbe(FeatureProbe):
    r"""Accuracy of a k-nearest-neighbour classifier by cosines on a layer's features, scored on validation.

    .. math:: \hat y = \operatorname{argmax}_c \sum_{m \in N_k,\, y_m = c} e^{\cos(x, x_m) / \tau}

    Logs `probe/<layer>/`, each a share of the validation images, in [0, 1]:

    - `knn<k>_t<tau>_top1`, such as `knn20_t0.07_top1`, for every k and every temperature tau;
    - `knn<k>_top1` for the temperature `None`: each neighbour has one vote.

    Of fitted images at one cosine the first in the dataset are the nearer ones, of classes with equal votes the lower
    one is taken; cosines and votes are equal within 2^-40. So the values do not depend on the number of processes.
    Features are those of the network in evaluation mode with the first rank's buffers, not standardised. Each process
    holds the features of all fitted images, M D float32 numbers for M images, and compares its own validation images
    with them in blocks: O(N M D / W) time for N images on W processes.

    Args:
        layer: Dotted path; "output" is the network's output.
        k: Number of neighbours, or several; at most the labelled images of the fit.
        temperature: tau > 0, `None`, or several of them.
        **kwargs: `num_classes`, `fit_loader`, `score_loader`, `num_fit_samples` (M), `output` and `pool` of
            `FeatureProbe`; and see `Diagnostic`.

    Example:
        >>> KNNProbe("backbone", num_classes=3, k=(1, 3), temperature=(0.1, None)).keys
        ('knn1_t0.1_top1', 'knn1_top1', 'knn3_t0.1_top1', 'knn3_top1')

    References:
        Z. Wu, Y. Xiong, S. Yu, D. Lin, "Unsupervised Feature Learning via Non-Parametric Instance
        Discrimination", 2018, section 3.4.
    """

    def __init__(
        self,
        layer: str = "backbone",
        *,
        k: int | Sequence[int] = 20,
        temperature: Temperature | Sequence[Temperature] = 0.07,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, **kwargs)
        counts, temperatures = _several(k, "k"), _several(temperature, "temperature")
        for count in counts:
            check_integer(count, "k")
        for one in temperatures:
            if one is not None:
                check_positive(one, "temperature")
        if self._num_fit_samples is not None and max(counts) > self._num_fit_samples:
            raise InputError(
                f"Expected `k` of at most num_fit_samples={self._num_fit_samples}, got {max(counts)}; "
                "pass a smaller `k`, or `num_fit_samples=None` for all images."
            )
        self._votes = {_key(count, one): (count, one) for count in counts for one in temperatures}

    @property
    def keys(self) -> tuple[str, ...]:
        """The quantities that are logged."""
        return tuple(self._votes)

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"quantities": self.keys} | super().identity()

    def accuracies(self, fitted: LabelledRows, scored: LabelledRows) -> dict[str, Tensor]:
        """Accuracy for every number of neighbours and temperature."""
        features, labels = _everyones(fitted)
        most = max(count for count, _ in self._votes.values())
        if most > len(labels):
            raise InputError(
                f"Expected `k` of at most {len(labels)}, the labelled images of the fit, got {most}; "
                "pass a smaller `k` or more images by `fit_loader=`."
            )
        near = nearest_neighbours(scored.features, features, most)
        return {
            key: share_correct(
                knn_votes(near, labels, self._num_classes, k=count, temperature=temperature), scored.labels
            )
            for key, (count, temperature) in self._votes.items()
        }


def _everyones(fitted: LabelledRows) -> LabelledRows:
    # all ranks' labelled images, in the dataset's order
    own_positions, _ = dataset_positions(fitted.labels)
    positions, labels = all_gather_rows(torch.stack([own_positions, fitted.labels], dim=1)).unbind(1)
    order = positions.argsort()
    return LabelledRows(all_gather_rows(fitted.features)[order], labels[order]).known


def _several(value: Any, name: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return (value,)
    check_sequence(value, name)
    return tuple(value)


def _key(count: int, temperature: Temperature) -> str:
    suffix = "" if temperature is None else f"_t{repr(float(temperature)).removesuffix('.0')}"
    return f"knn{count}{suffix}_top1"
