"""LinearProbe: what a linear classifier on frozen features gets, while the network trains."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_ssl_theory.checks import (
    InputError,
    check_integer,
    check_names,
    check_positive,
    check_sequence,
    check_targets,
    described,
)
from lightning_ssl_theory.data.batch import read_images, read_known_labels
from lightning_ssl_theory.distributed import all_gather_rows, all_sum, rank, world_size
from lightning_ssl_theory.probes import (
    LinearClassifier,
    labels_per_class,
    logistic_classifier,
    ridge_classifier_of_rows,
    top_k_correct,
)
from lightning_ssl_theory.tracing import Output
from lightning_ssl_theory.tracing.inputs import map_inputs, num_rows
from lightning_ssl_theory.tracing.layer_features import Pool

from .class_count import check_any_label, class_count
from .diagnostic import Diagnostic
from .rank_shard import rank_batches, transferred
from .tapped_layers import TappedLayers
from .validation_loader import validation_loader


class LinearProbe(Diagnostic):
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
        num_classes: C; the datamodule's `num_classes` by default.
        fit_loader: Clean labelled images for the fit: a DataLoader, or anything that gives batches when iterated; the
            datamodule's `probe_dataloader()` by default. In YAML the class of a loader of one's own.
        score_loader: Held-out labelled images for the score, likewise; the validation loader's by default. With both
            loaders nothing needs to be validated.
        num_fit_samples: Most images in the fit, spread evenly over the dataset, the first batches of a stream; `None`
            for all.
        top_k: Which further top-k accuracies of the ridge probe are logged.
        few_labels: Numbers of labels a class for the few-label probes.
        ridge_lamb: Ridge penalty, per sample, on standardised features.
        logistic_l2: L2 penalty of the logistic probe, per sample, on standardised features.
        seed: Of the choice of the few labels.
        output: What to call instead of the module, or the key or index of what its `embed`, else `forward` puts out.
        pool: Makes (N, D) of what a layer puts out where its axis of features does not show.
        **kwargs: See `Diagnostic`.
    """

    section = "probe"
    best: ClassVar[Mapping[str, str]] = {"ridge_top1": "max", "logistic_top1": "max"}
    observes_training = False

    def __init__(
        self,
        layer: str = "backbone",
        *,
        num_classes: int | None = None,
        fit_loader: DataLoader | Iterable[Any] | None = None,
        score_loader: DataLoader | Iterable[Any] | None = None,
        num_fit_samples: int | None = 10_000,
        top_k: Sequence[int] = (5,),
        few_labels: Sequence[int] = (10,),
        ridge_lamb: float = 1e-3,
        logistic_l2: float = 1e-3,
        seed: int = 0,
        output: Output = None,
        pool: Pool = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(ridge_lamb, "ridge_lamb")
        check_positive(logistic_l2, "logistic_l2")
        check_names([layer], "layer")
        check_integer(num_classes, "num_classes", or_none=True)
        for name, loader in {"fit_loader": fit_loader, "score_loader": score_loader}.items():
            check_loader(loader, name)
        for name, counts in {"top_k": top_k, "few_labels": few_labels}.items():
            check_sequence(counts, name, at_least=0)
            for count in counts:
                check_integer(count, name, advice="leave it out")
        check_integer(
            num_fit_samples, "num_fit_samples", at_least=2, advice="use None for all samples", or_none=True
        )
        check_integer(seed, "seed", at_least=0)
        self._layers, self._num_classes, self._seed = (
            TappedLayers([layer], output=output, pool=pool),
            num_classes,
            seed,
        )
        self._num_given_classes = num_classes
        self._fit_loader, self._score_loader = fit_loader, score_loader
        self._num_fit_samples = num_fit_samples
        self._top_k, self._few_labels = tuple(top_k), tuple(few_labels)
        self._ridge_lamb, self._logistic_l2 = ridge_lamb, logistic_l2
        self._scored: list[tuple[Tensor, Tensor]] = []

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"layer": self._layers.names[0]} | super().identity()

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise InputError if the layer, the number of classes or the data to fit on is unknown."""
        self._layers.check(pl_module)
        self._num_classes = self._num_given_classes or class_count(trainer, "LinearProbe")
        if self._fit_loader is None and not hasattr(getattr(trainer, "datamodule", None), "probe_dataloader"):
            raise InputError(
                "Expected labelled images to fit LinearProbe on, found neither `fit_loader` nor a datamodule with "
                "`probe_dataloader`; pass LinearProbe(fit_loader=...)."
            )
        if self._score_loader is None and trainer.state.fn == "fit" and not trainer.enable_validation:
            raise InputError(
                "Expected held-out images to score LinearProbe on, found neither validation (a loader and a "
                "`validation_step`) nor `score_loader`; pass LinearProbe(score_loader=...)."
            )

    def layers_of(self, pl_module: LightningModule) -> Collection[str]:
        """The layers whose keys are logged."""
        return self._layers.names

    def open(self, pl_module: LightningModule) -> None:
        """Forget the last look."""
        self._layers.open(pl_module)
        self._scored = []

    def observe(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> None:
        """Keep the features and labels of a batch, if it is one of validation and to be scored on."""
        if self._score_loader is None and not pl_module.trainer.training:
            self._scored.append(self._labelled_features(pl_module, batch, rows))

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | Tensor]:
        """Accuracy of every probe over the validation images of all ranks."""
        assert self._num_classes is not None
        scored, labels = _known(*_joined(pl_module, self._features_to_score(trainer, pl_module)))
        loader: Any = self._fit_loader
        if loader is None:
            loader = getattr(trainer, "datamodule").probe_dataloader()  # noqa: B009
        everything = _joined(pl_module, self._loaded_features(pl_module, loader, self._num_fit_samples))
        features, targets = _known(*everything)
        for known in (labels, targets):
            check_any_label(len(known))
        ridge = ridge_classifier_of_rows(
            features,
            targets,
            self._num_classes,
            self._ridge_lamb,
            all_sum=all_sum,
            all_gather_rows=all_gather_rows,
        )
        values = {"ridge_top1": _accuracy(ridge, scored, labels, 1)}
        for k in self._top_k:
            if 1 < k < self._num_classes:
                values[f"ridge_top{k}"] = _accuracy(ridge, scored, labels, k)
        values["logistic_top1"] = _accuracy(self._logistic(features, targets), scored, labels, 1)
        for k, is_chosen in _few_label_choices(everything[1], self._few_labels, self._seed):
            classifier = self._logistic(*(rows[is_chosen] for rows in everything))
            values[f"logistic_top1_{k}_labels"] = _accuracy(classifier, scored, labels, 1)
        return {f"{self._layers.names[0]}/{key}": value for key, value in values.items()}

    def close(self) -> None:
        """Let go of the features."""
        self._layers.close()
        self._scored = []

    def _features_to_score(self, trainer: Trainer, pl_module: LightningModule) -> list[tuple[Tensor, Tensor]]:
        if self._score_loader is not None:
            return self._loaded_features(pl_module, self._score_loader, self._num_samples)
        if trainer.training:
            source = validation_loader(trainer, self._val_loader)
            return self._loaded_features(pl_module, source and source.loader, self._num_samples)
        return self._scored

    def _loaded_features(
        self, pl_module: LightningModule, loader: Iterable[Any] | None, num_samples: int | None
    ) -> list[tuple[Tensor, Tensor]]:
        found = []
        for loaded in rank_batches(loader, num_samples):
            batch = self._read(transferred(pl_module, loaded))
            found.append(self._labelled_features(pl_module, batch, range(num_rows(read_images(batch)))))
        return found

    def _labelled_features(
        self, pl_module: LightningModule, batch: Any, rows: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        rows = list(rows)
        labels = read_known_labels(batch)[rows].to(pl_module.device)
        images = map_inputs(lambda value: value[rows].to(pl_module.device), read_images(batch))
        known = labels[labels >= 0]
        assert self._num_classes is not None
        check_targets(known, len(known), self._num_classes)
        (features,) = self._layers.features(pl_module, images).values()
        return features, labels

    def _logistic(self, features: Tensor, targets: Tensor) -> LinearClassifier:
        assert self._num_classes is not None
        return logistic_classifier(
            features, targets, self._num_classes, l2=self._logistic_l2, all_sum=all_sum
        )


def _joined(pl_module: LightningModule, batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    # (n, D) and (n,); a rank without a batch learns D from the others
    widths, num_ranks = all_sum(torch.tensor([batches[0][0].shape[1], 1] if batches else [0, 0])).tolist()
    if not num_ranks:
        raise InputError("Expected at least one batch for the probe, found none; pass a loader with samples.")
    empty = torch.zeros(0, widths // num_ranks, device=pl_module.device)
    features, labels = zip((empty, empty[:, 0].long()), *batches, strict=True)
    return torch.cat(features), torch.cat(labels)


def _known(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return features[labels >= 0], labels[labels >= 0]


def _accuracy(classifier: LinearClassifier, features: Tensor, labels: Tensor, k: int) -> Tensor:
    correct = top_k_correct(classifier.scores(features), labels, k).sum()
    counts = all_sum(torch.stack([correct, torch.tensor(len(labels), device=correct.device)])).double()
    return counts[0] / counts[1]


def _few_label_choices(targets: Tensor, few_labels: Sequence[int], seed: int) -> Iterator[tuple[int, Tensor]]:
    # For each number k of labels a class which of this rank's rows are chosen: from all labels in the dataset's order,
    # so that the number of ranks does not matter; this rank holds every W-th of them, of a stream those that follow
    # the ranks' before.
    counts = all_gather_rows(torch.tensor([len(targets)])).tolist()
    total, every = sum(counts), world_size()
    own_rows = torch.arange(len(targets), device=targets.device)
    is_dealt = counts == [len(range(first, total, every)) for first in range(every)]
    positions = own_rows * every + rank() if is_dealt else own_rows + sum(counts[: rank()])
    own = targets.new_zeros(total)
    own[positions] = targets + 1
    everyones = all_sum(own) - 1  # -1 has no label
    known = (everyones >= 0).nonzero().flatten()
    fewest = int(everyones[known].unique(return_counts=True)[1].min())
    for k in few_labels:
        if k <= fewest:
            chosen = labels_per_class(everyones[known], k, generator=torch.Generator().manual_seed(seed))
            yield k, torch.isin(positions, known[chosen.to(known.device)])


def check_loader(loader: Any, name: str) -> None:
    """Raise InputError unless a value gives batches or is None; a dataset has batches of one image each."""
    if loader is not None and (isinstance(loader, Dataset | str) or not isinstance(loader, Iterable)):
        raise InputError(
            f"Expected `{name}` to be a loader of batches, got {described(loader)}; "
            "wrap a dataset in torch.utils.data.DataLoader."
        )
