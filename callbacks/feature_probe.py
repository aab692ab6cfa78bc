"""What the probes share: a layer's features of clean labelled images, to fit on and to score on."""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_ssl_theory.checks import InputError, check_integer, check_names, check_targets
from lightning_ssl_theory.data.batch import read_images, read_known_labels
from lightning_ssl_theory.distributed import all_sum
from lightning_ssl_theory.probes import top_k_correct
from lightning_ssl_theory.tracing import Output
from lightning_ssl_theory.tracing.inputs import map_inputs, num_rows
from lightning_ssl_theory.tracing.layer_features import Pool

from .class_count import check_any_label, class_count
from .diagnostic import Diagnostic
from .rank_shard import check_loader, rank_batches, transferred
from .tapped_layers import TappedLayers
from .validation_loader import validation_loader


class LabelledRows(NamedTuple):
    """Features of this rank's images, (N, D), and their labels, (N,), -1 where there is none."""

    features: Tensor
    labels: Tensor

    def where(self, is_chosen: Tensor) -> "LabelledRows":
        """The rows of a mask."""
        return LabelledRows(*(column[is_chosen] for column in self))

    @property
    def known(self) -> "LabelledRows":
        """The rows that have a label."""
        return self.where(self.labels >= 0)


class FeatureProbe(Diagnostic):
    """Accuracy of classifiers on a layer's features, fitted on clean labelled images, scored on validation.

    With `every_n_steps` a look reads the first validation loader's images itself, since training batches say nothing
    of generalization. Features are those of the network in evaluation mode with the first rank's buffers. Nothing of
    the probes enters the module or its optimisers.

    Args:
        layer: Dotted path; "output" is the network's output.
        num_classes: C; the datamodule's `num_classes` by default.
        fit_loader: Clean labelled images for the fit: a DataLoader, or anything that gives batches when iterated; the
            datamodule's `probe_dataloader()` by default. In YAML the class of a loader of one's own.
        score_loader: Held-out labelled images for the score, likewise; the validation loader's by default. With both
            loaders nothing needs to be validated.
        num_fit_samples: Most images in the fit, spread evenly over the dataset, the first batches of a stream; `None`
            for all.
        output: What to call instead of the module, or the key or index of what its `embed`, else `forward` puts out.
        pool: Makes (N, D) of what a layer puts out where its axis of features does not show.
        **kwargs: See `Diagnostic`.
    """

    section = "probe"
    observes_training = False

    def __init__(
        self,
        layer: str = "backbone",
        *,
        num_classes: int | None = None,
        fit_loader: DataLoader | Iterable[Any] | None = None,
        score_loader: DataLoader | Iterable[Any] | None = None,
        num_fit_samples: int | None = 10_000,
        output: Output = None,
        pool: Pool = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_names([layer], "layer")
        check_integer(num_classes, "num_classes", or_none=True)
        for name, loader in {"fit_loader": fit_loader, "score_loader": score_loader}.items():
            check_loader(loader, name)
        check_integer(
            num_fit_samples, "num_fit_samples", at_least=2, advice="use None for all samples", or_none=True
        )
        self._layers = TappedLayers([layer], output=output, pool=pool)
        self._num_given_classes, self._num_fit_samples = num_classes, num_fit_samples
        self._num_classes = num_classes or 0  # known from `check` on
        self._fit_loader, self._score_loader = fit_loader, score_loader
        self._scored: list[LabelledRows] = []

    @abstractmethod
    def accuracies(self, fitted: LabelledRows, scored: LabelledRows) -> dict[str, Tensor]:
        """The values of a look by quantity.

        Args:
            fitted: Images of this rank to fit on, those without a label among them.
            scored: Images of this rank to score on, all of them labelled; on another rank there may be none.

        Returns:
            Each a share of the scored images of all ranks.
        """

    def identity(self) -> dict[str, Any]:
        """The arguments that tell two callbacks of one class apart."""
        return {"layer": self._layers.names[0]} | super().identity()

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise InputError if the layer, the number of classes or the data to fit on is unknown."""
        self._layers.check(pl_module)
        own = type(self).__name__
        self._num_classes = self._num_given_classes or class_count(trainer, own)
        if self._fit_loader is None and not hasattr(getattr(trainer, "datamodule", None), "probe_dataloader"):
            raise InputError(
                f"Expected labelled images to fit {own} on, found neither `fit_loader` nor a datamodule with "
                f"`probe_dataloader`; pass {own}(fit_loader=...)."
            )
        if self._score_loader is None and trainer.state.fn == "fit" and not trainer.enable_validation:
            raise InputError(
                f"Expected held-out images to score {own} on, found neither validation (a loader and a "
                f"`validation_step`) nor `score_loader`; pass {own}(score_loader=...)."
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
        scored = _joined(pl_module, self._features_to_score(trainer, pl_module)).known
        loader: Any = self._fit_loader
        if loader is None:
            loader = getattr(trainer, "datamodule").probe_dataloader()  # noqa: B009
        fitted = _joined(pl_module, self._loaded_features(pl_module, loader, self._num_fit_samples))
        for rows in (scored, fitted.known):
            check_any_label(len(rows.labels))
        values = self.accuracies(fitted, scored)
        return {f"{self._layers.names[0]}/{key}": value for key, value in values.items()}

    def close(self) -> None:
        """Let go of the features."""
        self._layers.close()
        self._scored = []

    def _features_to_score(self, trainer: Trainer, pl_module: LightningModule) -> list[LabelledRows]:
        if self._score_loader is not None:
            return self._loaded_features(pl_module, self._score_loader, self._num_samples)
        if trainer.training:
            source = validation_loader(trainer, self._val_loader)
            return self._loaded_features(pl_module, source and source.loader, self._num_samples)
        return self._scored

    def _loaded_features(
        self, pl_module: LightningModule, loader: Iterable[Any] | None, num_samples: int | None
    ) -> list[LabelledRows]:
        found = []
        for loaded in rank_batches(loader, num_samples):
            batch = self._read(transferred(pl_module, loaded))
            found.append(self._labelled_features(pl_module, batch, range(num_rows(read_images(batch)))))
        return found

    def _labelled_features(self, pl_module: LightningModule, batch: Any, rows: Sequence[int]) -> LabelledRows:
        rows = list(rows)
        labels = read_known_labels(batch)[rows].to(pl_module.device)
        images = map_inputs(lambda value: value[rows].to(pl_module.device), read_images(batch))
        known = labels[labels >= 0]
        check_targets(known, len(known), self._num_classes)
        (features,) = self._layers.features(pl_module, images).values()
        return LabelledRows(features, labels)


def share_correct(scores: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """Share of all ranks' images whose class is among their k highest scores.

    Args:
        scores: Of this rank's images, (N, C).
        labels: Their classes, (N,).
        k: Number of guesses.

    Returns:
        A scalar, float64.
    """
    correct = top_k_correct(scores, labels, k).sum()
    counts = all_sum(torch.stack([correct, torch.tensor(len(labels), device=correct.device)])).double()
    return counts[0] / counts[1]


def _joined(pl_module: LightningModule, batches: list[LabelledRows]) -> LabelledRows:
    # (n, D) and (n,); a rank without a batch learns D from the others
    widths, num_ranks = all_sum(
        torch.tensor([batches[0].features.shape[1], 1] if batches else [0, 0])
    ).tolist()
    if not num_ranks:
        raise InputError("Expected at least one batch for the probe, found none; pass a loader with samples.")
    empty = torch.zeros(0, widths // num_ranks, device=pl_module.device)
    features, labels = zip((empty, empty[:, 0].long()), *batches, strict=True)
    return LabelledRows(torch.cat(features), torch.cat(labels))
