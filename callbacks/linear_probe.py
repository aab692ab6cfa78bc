"""LinearProbe: what a linear classifier on frozen features gets, while the network trains."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_ssl_theory.checks import check_integer, check_positive, check_sequence
from lightning_ssl_theory.distributed import all_gather_rows, all_sum
from lightning_ssl_theory.probes import (
    LinearClassifier,
    labels_per_class,
    logistic_classifier,
    ridge_classifier_of_rows,
)

from .feature_probe import FeatureProbe, LabelledRows, share_correct
from .rank_shard import dataset_positions


class LinearProbe(FeatureProbe):
    """Accuracy of linear classifiers on a layer's features, fitted on clean labelled images, scored on validation.

    With `every_n_steps` a look reads the first validation loader's images itself, since training batches say nothing
    of generalization. Logs `probe/<layer>/`, each a share of the validation images, in [0, 1]:

    - `ridge_top1`: ridge regression onto one-hot labels, closed form; `ridge_top<k>` for the k of `top_k`;
    - `logistic_top1`: multinomial logistic regression on all labels of the fit;
    - `logistic_top1_<k>_labels`: the same from k labels a class, for the k of `few_labels` that every class of the
      fit has.

    Features are those of the network in evaluation mode with the first rank's buffers, standardised. Nothing of the
    probes enters the module or its optimisers.

    Args:
        layer: Dotted path; "output" is the network's output.
        top_k: Which further top-k accuracies of the ridge probe are logged.
        few_labels: Numbers of labels a class for the few-label probes.
        ridge_lamb: Ridge penalty, per sample, on standardised features.
        logistic_l2: L2 penalty of the logistic probe, per sample, on standardised features.
        seed: Of the choice of the few labels.
        **kwargs: `num_classes`, `fit_loader`, `score_loader`, `num_fit_samples`, `output` and `pool` of
            `FeatureProbe`; and see `Diagnostic`.
    """

    best: ClassVar[Mapping[str, str]] = {"ridge_top1": "max", "logistic_top1": "max"}

    def __init__(
        self,
        layer: str = "backbone",
        *,
        top_k: Sequence[int] = (5,),
        few_labels: Sequence[int] = (10,),
        ridge_lamb: float = 1e-3,
        logistic_l2: float = 1e-3,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, **kwargs)
        check_positive(ridge_lamb, "ridge_lamb")
        check_positive(logistic_l2, "logistic_l2")
        for name, counts in {"top_k": top_k, "few_labels": few_labels}.items():
            check_sequence(counts, name, at_least=0)
            for count in counts:
                check_integer(count, name, advice="leave it out")
        check_integer(seed, "seed", at_least=0)
        self._top_k, self._few_labels, self._seed = tuple(top_k), tuple(few_labels), seed
        self._ridge_lamb, self._logistic_l2 = ridge_lamb, logistic_l2

    def accuracies(self, fitted: LabelledRows, scored: LabelledRows) -> dict[str, Tensor]:
        """Accuracy of the ridge probe and of logistic regression, with all labels and with few."""
        known = fitted.known
        ridge = ridge_classifier_of_rows(
            *known,
            self._num_classes,
            self._ridge_lamb,
            all_sum=all_sum,
            all_gather_rows=all_gather_rows,
        )
        scores = ridge.scores(scored.features)
        values = {"ridge_top1": share_correct(scores, scored.labels)}
        for k in self._top_k:
            if 1 < k < self._num_classes:
                values[f"ridge_top{k}"] = share_correct(scores, scored.labels, k)
        values["logistic_top1"] = self._logistic_accuracy(known, scored)
        for k, is_chosen in _few_label_choices(fitted.labels, self._few_labels, self._seed):
            values[f"logistic_top1_{k}_labels"] = self._logistic_accuracy(fitted.where(is_chosen), scored)
        return values

    def _logistic_accuracy(self, fitted: LabelledRows, scored: LabelledRows) -> Tensor:
        classifier: LinearClassifier = logistic_classifier(
            *fitted, self._num_classes, l2=self._logistic_l2, all_sum=all_sum
        )
        return share_correct(classifier.scores(scored.features), scored.labels)


def _few_label_choices(targets: Tensor, few_labels: Sequence[int], seed: int) -> Iterator[tuple[int, Tensor]]:
    # For each number k of labels a class which of this rank's rows are chosen: from all labels in the dataset's order,
    # so that the number of ranks does not matter.
    positions, total = dataset_positions(targets)
    own = targets.new_zeros(total)
    own[positions] = targets + 1
    everyones = all_sum(own) - 1  # -1 has no label
    known = (everyones >= 0).nonzero().flatten()
    fewest = int(everyones[known].unique(return_counts=True)[1].min())
    for k in few_labels:
        if k <= fewest:
            chosen = labels_per_class(everyones[known], k, generator=torch.Generator().manual_seed(seed))
            yield k, torch.isin(positions, known[chosen.to(known.device)])
