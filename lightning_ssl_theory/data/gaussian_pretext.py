"""Jointly Gaussian inputs, pretext targets and downstream targets as a data module."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_ssl_theory.checks import check_instance, check_integer
from lightning_ssl_theory.data.epochs import EpochDataset, check_seed, training_loader
from lightning_ssl_theory.data.pretext_moments import PretextMoments, pretext_moments
from lightning_ssl_theory.data.pretext_worlds import PretextSetting, gaussian_pretext_moments

_WORLD, _TRAINING, _HELD_OUT, _PROBE = range(4)  # streams of draws


class PretextSamples(NamedTuple):
    """Samples of (x, z, y), float32."""

    inputs: Tensor
    """x, shape (N, D)."""
    pretext: Tensor
    """z, shape (N, K)."""
    downstream: Tensor
    """y, shape (N, M)."""


class GaussianPretextDataModule(LightningDataModule):
    r"""Samples of jointly Gaussian (x, z, y), of which the first n0 have their downstream target y.

    A batch is a dictionary:

    - `image`: x, (N, D);
    - `pretext`: z, (N, K);
    - `downstream`: y, (N, M), NaN where it is not known;
    - `label`: class 1 where the first number of y is positive, else 0, and -1 where it is not known.

    The samples are a function of `seed`, their order one of `seed` and the epoch. A training batch of N samples holds
    about N n0 / `num_samples` known targets, and with `batch_size=num_samples` all of them; those of
    `val_dataloader` and `probe_dataloader` are all known.

    Args:
        setting: "independent", "separable", "entangled" or "infeasible": see `data.pretext_worlds`.
        num_features: D.
        num_pretext: K.
        num_downstream: M.
        noise: As in `gaussian_pretext_moments`.
        signal: As in `gaussian_pretext_moments`.
        nuisance: As in `gaussian_pretext_moments`.
        covariance: Of (x, z, y), shape (D + K + M, D + K + M), instead of a setting; it goes with `num_features` and
            `num_pretext`.
        batch_size: N, at most the number of training samples of a process.
        num_samples: Training samples over all processes.
        num_labels: n0 <= `num_samples`; None is all.
        num_held_out: Samples of `val_dataloader`, and as many others of `probe_dataloader`.
        seed: Of the world and the samples, >= 0.

    Attributes:
        num_classes: 2.
        moments: The covariance that the samples are drawn from, by its blocks.

    Raises:
        InputError: If a number is out of its range, or the covariance is none.

    References: J. Teng, W. Huang, H. He, "Can pretext-based self-supervised learning be boosted by downstream data? A
    theoretical analysis", AISTATS 2022.

    Example:
        >>> data = GaussianPretextDataModule("separable", 6, 3, 1, num_samples=8, num_labels=2, batch_size=8)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["image"].shape, int((batch["label"] >= 0).sum())
        (torch.Size([8, 6]), 2)
    """

    num_classes = 2

    def __init__(
        self,
        setting: PretextSetting = "separable",
        num_features: int = 32,
        num_pretext: int = 8,
        num_downstream: int = 2,
        *,
        noise: float = 1.0,
        signal: float = 1.0,
        nuisance: float = 1.0,
        covariance: Tensor | None = None,
        batch_size: int = 1024,
        num_samples: int = 4096,
        num_labels: int | None = None,
        num_held_out: int = 2048,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["covariance"])
        for name, size in {
            "batch_size": batch_size,
            "num_samples": num_samples,
            "num_held_out": num_held_out,
        }.items():
            check_integer(size, name)
        check_integer(
            num_labels, "num_labels", at_most=num_samples, advice="they are training samples", or_none=True
        )
        check_seed(seed)
        world = gaussian_pretext_moments(  # refuses what is wrong, beside a covariance too
            setting,
            num_features,
            num_pretext,
            num_downstream,
            noise=noise,
            signal=signal,
            nuisance=nuisance,
            generator=_stream(seed, _WORLD),
        )
        given = covariance is not None
        self.moments: PretextMoments = (
            pretext_moments(covariance, num_features, num_pretext) if given else world  # type: ignore[arg-type]
        )
        self._num_held_out, self._seed = num_held_out, seed
        self._train = self.draw(num_samples, generator=_stream(seed, _TRAINING))
        self._num_labels = num_samples if num_labels is None else num_labels

    def setup(self, stage: str | None = None) -> None:
        """Nothing: the samples are drawn when the data module is made.

        Args:
            stage: Not used.
        """

    def train_dataloader(self) -> DataLoader:
        """The training samples, in another order in every epoch.

        Returns:
            Loader of batches {"image", "pretext", "downstream", "label"}.

        Raises:
            InputError: The batch size exceeds the number of training samples of a process.
        """
        rows = _OrderedByEpoch(_columns(self._train, self._num_labels), seed=self._seed)
        return training_loader(rows, self.hparams["batch_size"], seed=self._seed, collate_fn=_identity)

    def val_dataloader(self) -> DataLoader:
        """Held-out samples with their targets, always the same.

        Returns:
            Loader of batches {"image", "pretext", "downstream", "label"}.
        """
        return self._known_loader(_HELD_OUT)

    def test_dataloader(self) -> DataLoader:
        """The same as `val_dataloader`.

        Returns:
            Loader of batches {"image", "pretext", "downstream", "label"}.
        """
        return self.val_dataloader()

    def probe_dataloader(self) -> DataLoader:
        """Other samples with their targets, for probes to fit on, always the same.

        Returns:
            Loader of batches {"image", "pretext", "downstream", "label"}.
        """
        return self._known_loader(_PROBE)

    def draw(self, num_samples: int, *, generator: torch.Generator) -> PretextSamples:
        """Samples of the same law.

        Args:
            num_samples: N.
            generator: Of the draws.

        Returns:
            Inputs (N, D), pretext targets (N, K) and downstream targets (N, M).

        Raises:
            InputError: If the number is not positive, or there is no generator.
        """
        check_integer(num_samples, "num_samples")
        check_instance(generator, "generator", torch.Generator)
        eigenvalues, eigenvectors = torch.linalg.eigh(self.moments.covariance)
        root = (eigenvectors * eigenvalues.clamp(min=0).sqrt()).float()
        widths = [len(block) for block in (self.moments.xx, self.moments.zz, self.moments.yy)]
        rows = torch.randn(num_samples, len(root), generator=generator) @ root.mT
        return PretextSamples(*rows.split(widths, 1))

    def _known_loader(self, stream: int) -> DataLoader:
        samples = self.draw(self._num_held_out, generator=_stream(self._seed, stream))
        return DataLoader(
            _Rows(_columns(samples, self._num_held_out)),
            batch_size=self.hparams["batch_size"],
            collate_fn=_identity,
        )


def _columns(samples: PretextSamples, num_labels: int) -> dict[str, Tensor]:
    is_known = torch.arange(len(samples.inputs)) < num_labels
    return {
        "image": samples.inputs,
        "pretext": samples.pretext,
        "downstream": samples.downstream.where(is_known.unsqueeze(1), torch.nan),
        "label": (samples.downstream[:, 0] > 0).long().where(is_known, -1),
    }


class _Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, columns: dict[str, Tensor]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns["label"])

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        rows = torch.as_tensor(indices)
        return {name: column[rows] for name, column in self._columns.items()}


class _OrderedByEpoch(EpochDataset):
    def __init__(self, columns: dict[str, Tensor], *, seed: int) -> None:
        super().__init__(seed=seed)
        self._rows = _Rows(columns)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        return self._rows.__getitems__(indices)


def _stream(seed: int, stream: int) -> torch.Generator:
    state = np.random.SeedSequence((seed, 0, 0, stream)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


# The dataset makes whole batches already.
def _identity(batch: Any) -> Any:
    return batch
