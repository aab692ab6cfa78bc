"""The world of sparse coding as a data module: masked views of samples whose codes are known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_ssl_theory import distributed
from lightning_ssl_theory.checks import InputError, check_flag, check_integer
from lightning_ssl_theory.data.epochs import EpochDataset, check_seed, training_loader
from lightning_ssl_theory.data.random_mask import random_mask
from lightning_ssl_theory.data.sparse_coding_samples import (
    SparseCodingSamples,
    draw_samples,
    random_task,
    task_labels,
)
from lightning_ssl_theory.sparse_coding import check_dictionary, check_law, random_dictionary, theorem_law

# Streams of draws that no training block has: its seeds end in (epoch, block), these in (0, 0, stream).
_DICTIONARY, _TASK, _HELD_OUT, _PROBE = 1, 2, 3, 4


class SparseCodingDataModule(LightningDataModule):
    r"""Samples x = M z + xi of the sparse coding model, new ones in every epoch, in two views each.

    With `masks` the views are complementary random masks 2Dx and 2(I - D)x, else x twice. A training batch is a
    dictionary:

    - `views`: the two views, (N, d1) each;
    - `image`: the sample x itself, (N, d1), which :class:`FeatureDecouplingSSL` takes for negatives;
    - `code`: z, (N, d);
    - `label`: class of the downstream task sign<w*, z>: 1 or 0, and -1, no label, where <w*, z> = 0.

    Samples and masks are drawn in blocks of `block_size`, each a function of `seed`, the epoch and the block.
    Together the batches of a step hold the same samples on any number of processes, if their batch sizes
    are multiples of `block_size` with the same sum, and with any number of loader processes.

    Args:
        num_features: d1 >= d.
        num_atoms: d.
        probability: p = P(z_j != 0) in (0, 1]; None is the theorem's log log d / d.
        noise_std: sigma >= 0; None is the theorem's (log d)^{1/4} / d^{1/2}.
        dictionary: M, orthonormal columns, shape (d1, d), which then gives d1 and d; None draws one from `seed`.
        masks: whether the views are masked.
        batch_size: N, a multiple of `block_size`.
        num_samples: of an epoch, over all processes.
        num_held_out: clean samples of `val_dataloader` and of `probe_dataloader` each.
        block_size: number of samples that are drawn together.
        num_workers: number of loader processes.
        seed: of everything that is drawn, >= 0.

    Attributes:
        num_classes: 2.
        dictionary: M, shape (d1, d), float32.
        task: w* of the downstream task, shape (d,).
        probability: p.
        noise_std: sigma.

    Raises:
        InputError: a number out of its range, d1 < d, or columns that are not orthonormal.

    References:
        Z. Wen, Y. Li, "Toward Understanding the Feature Learning Process of Self-supervised Contrastive
        Learning", 2021, section 2.
    """

    num_classes = 2

    def __init__(
        self,
        num_features: int = 512,
        num_atoms: int = 32,
        *,
        probability: float | None = None,
        noise_std: float | None = None,
        dictionary: Tensor | None = None,
        masks: bool = True,
        batch_size: int = 1024,
        num_samples: int = 65536,
        num_held_out: int = 4096,
        block_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["dictionary"])
        sizes = (batch_size, num_samples, num_held_out, block_size)
        for size, name in zip(
            sizes, ("batch_size", "num_samples", "num_held_out", "block_size"), strict=True
        ):
            check_integer(size, name)
        check_integer(num_workers, "num_workers", at_least=0)
        check_flag(masks, "masks")
        check_seed(seed)
        if batch_size % block_size:
            raise InputError(
                f"Expected `batch_size` to be a multiple of `block_size` = {block_size}, got {batch_size}; "
                "pass another of the two."
            )
        if dictionary is None:
            dictionary = random_dictionary(num_features, num_atoms, generator=_stream(seed, _DICTIONARY))
        check_dictionary(dictionary)
        self.dictionary = dictionary.float()
        self.task = random_task(dictionary.shape[1], generator=_stream(seed, _TASK))
        self.probability, self.noise_std = _law(dictionary.shape[1], probability, noise_std)

    @property
    def law(self) -> dict[str, Any]:
        """Sizes, probability and noise, the arguments that predictions about this world share.

        Returns:
            `num_features`, `num_atoms`, `probability` and `noise_std`.
        """
        num_features, num_atoms = self.dictionary.shape
        sizes = {"num_features": num_features, "num_atoms": num_atoms}
        return sizes | {"probability": self.probability, "noise_std": self.noise_std}

    def setup(self, stage: str | None = None) -> None:
        """Nothing: samples are drawn when they are asked for.

        Args:
            stage: not used.
        """

    def train_dataloader(self) -> DataLoader:
        """Views of new samples in every epoch.

        Returns:
            Loader of batches {"views", "image", "code", "label"}.

        Raises:
            InputError: the batch size exceeds the number of samples of a process.
        """
        options, processes = self.hparams, distributed.world_size()
        if options["num_samples"] // processes < options["batch_size"]:
            raise InputError(
                f"Expected `num_samples` >= {options['batch_size'] * processes}, a batch on each of {processes} "
                f"processes, got {options['num_samples']}; pass more samples or a smaller batch."
            )
        blocks = _Blocks(
            self, num_blocks=options["num_samples"] // options["block_size"], seed=options["seed"]
        )
        return training_loader(
            blocks,
            options["batch_size"] // options["block_size"],
            seed=options["seed"],
            num_workers=options["num_workers"],
            collate_fn=_joined,
        )

    def val_dataloader(self) -> DataLoader:
        """Held-out samples, clean, always the same.

        Returns:
            Loader of batches {"image", "code", "label"}.
        """
        return self._clean_loader(_HELD_OUT)

    def test_dataloader(self) -> DataLoader:
        """The same as `val_dataloader`.

        Returns:
            Loader of batches {"image", "code", "label"}.
        """
        return self.val_dataloader()

    def probe_dataloader(self) -> DataLoader:
        """Other clean samples, for probes to fit on, always the same.

        Returns:
            Loader of batches {"image", "code", "label"}.
        """
        return self._clean_loader(_PROBE)

    def draw(self, num_samples: int, *, generator: torch.Generator) -> SparseCodingSamples:
        """Samples of the same law.

        Args:
            num_samples: N.
            generator: of the draws.

        Returns:
            Inputs (N, d1) and codes (N, d).
        """
        return draw_samples(
            self.dictionary,
            num_samples,
            probability=self.probability,
            noise_std=self.noise_std,
            generator=generator,
        )

    def _clean_loader(self, stream: int) -> DataLoader:
        samples = self.draw(self.hparams["num_held_out"], generator=_stream(self.hparams["seed"], stream))
        batch = {
            "image": samples.inputs,
            "code": samples.codes,
            "label": task_labels(samples.codes, self.task),
        }
        return DataLoader(_Rows(batch), batch_size=self.hparams["batch_size"], collate_fn=_identity)


class _Blocks(EpochDataset):
    def __init__(self, world: SparseCodingDataModule, *, num_blocks: int, seed: int) -> None:
        super().__init__(seed=seed)
        self._world, self._num_blocks = world, num_blocks

    def __len__(self) -> int:
        return self._num_blocks

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        generator = torch.Generator().manual_seed(self.seed_of(index))
        inputs, codes = self._world.draw(self._world.hparams["block_size"], generator=generator)
        masked = self._world.hparams["masks"]
        return {
            "views": random_mask(inputs, generator=generator) if masked else (inputs, inputs),
            "image": inputs,
            "code": codes,
            "label": task_labels(codes, self._world.task),
        }


class _Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, columns: dict[str, Tensor]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns["label"])

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        rows = torch.as_tensor(indices)
        return {name: column[rows] for name, column in self._columns.items()}


def _law(num_atoms: int, probability: float | None, noise_std: float | None) -> tuple[float, float]:
    if probability is None or noise_std is None:
        usual = theorem_law(num_atoms)
        probability = usual[0] if probability is None else probability
        noise_std = usual[1] if noise_std is None else noise_std
    check_law(probability, noise_std)
    return probability, noise_std


def _stream(seed: int, stream: int) -> torch.Generator:
    state = np.random.SeedSequence((seed, 0, 0, stream)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def _joined(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = {
        name: torch.cat([block[name] for block in blocks]) for name in ("image", "code", "label")
    }
    return {
        "views": [torch.cat(view) for view in zip(*(block["views"] for block in blocks), strict=True)]
    } | joined


# The dataset makes whole batches already.
def _identity(batch: Any) -> Any:
    return batch
