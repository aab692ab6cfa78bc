"""Data from a hierarchical latent tree: the leaves are seen, the nodes above them are the truth to be found."""

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_ssl_theory import distributed
from lightning_ssl_theory.checks import InputError, check_device, check_integer
from lightning_ssl_theory.data.epochs import EpochDataset, EpochLoader, EpochSampler, check_seed
from lightning_ssl_theory.data.latent_tree_sampler import latents_from_uniforms, random_polarities

TreeBatch = tuple[list[Tensor], Tensor, Tensor]

_CHUNK = 64  # samples that share one seed
_VALIDATION, _PROBE = 2**40, 2**41  # first samples of the fixed sets, beyond those of any epoch


class LatentTreeDataModule(LightningDataModule):
    r"""Leaves of a symmetric binary latent tree; the views of a sample share the root, all below is drawn anew.

    .. math:: z_0 \sim U\{0, 1\}, \quad P(z_\nu = z_\mu) = (1 + \rho_{\mu\nu}) / 2

    Batches are (views, roots, latents): A tensors (N, C^depth) of zeros and ones, the class of each sample (N,),
    and the nodes of the first view above its leaves, (N, K), root first, level by level. Sample i of an epoch is a
    function of `seed`, the epoch and i alone: it is the same for any batch size and any number of loader
    processes, and W processes with batches of N see in each step what one process with batches of W N sees.

    Args:
        depth: Number of levels below the root, >= 1.
        num_children: C >= 2 children of every node above the leaves.
        polarity: Smallest and largest polarity before its sign, both in [-1, 1].
        random_signs: Whether each polarity has a random sign.
        batch_size: N, for each process.
        num_samples: Samples of a training epoch over all processes; what does not fill a batch on each is left out.
        num_val_samples: Samples of the fixed validation set, and of the one that probes are fitted on.
        num_views: A >= 1.
        seed: Of the polarities and the samples, >= 0.
        device: Where samples are drawn; another device draws other samples.
        num_workers: Number of loader processes; more than 0 for the CPU only.

    Attributes:
        num_classes: 2, the values of the root.
        polarities: One tensor for each level below the root, (C,), (C^2,), ...
        num_latents: K, the number of nodes above the leaves.
        num_leaves: C^depth.

    Raises:
        InputError: `polarity` is no pair of numbers, or a number out of its range.

    References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
    Networks", 2020, Section 5.

    Example:
        >>> views, roots, latents = next(iter(LatentTreeDataModule(3, batch_size=4).train_dataloader()))
        >>> [view.shape for view in views], roots.shape, latents.shape
        ([torch.Size([4, 8]), torch.Size([4, 8])], torch.Size([4]), torch.Size([4, 7]))
    """

    num_classes = 2

    def __init__(
        self,
        depth: int = 5,
        num_children: int = 2,
        *,
        polarity: tuple[float, float] = (0.9, 1.0),
        random_signs: bool = True,
        batch_size: int = 128,
        num_samples: int = 64_000,
        num_val_samples: int = 6_400,
        num_views: int = 2,
        seed: int = 0,
        device: str = "cpu",
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        for name in ("batch_size", "num_samples", "num_val_samples", "num_views"):
            check_integer(self.hparams[name], name)
        check_seed(seed)
        check_integer(num_workers, "num_workers", at_least=0)
        check_device(device, "device")
        if num_workers and torch.device(device).type != "cpu":
            raise InputError(
                f"Expected `num_workers` 0 on {device}, got {num_workers}; one process draws whole batches there."
            )
        generator = torch.Generator().manual_seed(seed)
        self.polarities = random_polarities(
            depth, num_children, polarity=polarity, random_signs=random_signs, generator=generator
        )
        self.num_leaves = num_children**depth
        self.num_latents = sum(num_children**level for level in range(depth))

    def setup(self, stage: str | None = None) -> None:
        """Nothing: samples are drawn when they are asked for.

        Args:
            stage: not used.
        """

    def train_dataloader(self) -> DataLoader:
        """Views of new samples in every epoch.

        Returns:
            Loader of batches (views, roots, latents).

        Raises:
            InputError: An epoch has no batch for each process.
        """
        batch_size, num_samples = self.hparams["batch_size"], self.hparams["num_samples"]
        samples = self._samples(num_samples // batch_size * batch_size, first=0)
        sampler = _BatchesInOrder(samples, num_replicas=distributed.world_size(), rank=distributed.rank())
        if len(sampler) == 0:
            raise InputError(
                f"Expected `num_samples` for a batch of {batch_size} on each of {sampler.num_replicas} processes, "
                f"got {num_samples}; pass more samples or a smaller `batch_size`."
            )
        return self._loader(samples, sampler)

    def val_dataloader(self) -> DataLoader:
        """Views of a fixed set of samples.

        Returns:
            Loader of batches (views, roots, latents).
        """
        return self._loader(self._samples(self.hparams["num_val_samples"], first=_VALIDATION))

    def test_dataloader(self) -> DataLoader:
        """The fixed set of `val_dataloader`.

        Returns:
            The same as `val_dataloader`.
        """
        return self.val_dataloader()

    def probe_dataloader(self) -> DataLoader:
        """Views of another fixed set of samples, for probes.

        Returns:
            Loader of batches (views, roots, latents), in a fixed order.
        """
        return self._loader(self._samples(self.hparams["num_val_samples"], first=_PROBE))

    def _samples(self, num_samples: int, *, first: int) -> "_TreeSamples":
        return _TreeSamples(
            self.polarities,
            num_samples=num_samples,
            first=first,
            batch_size=self.hparams["batch_size"],
            num_views=self.hparams["num_views"],
            device=torch.device(self.hparams["device"]),
            seed=self.hparams["seed"],
        )

    def _loader(self, samples: "_TreeSamples", sampler: EpochSampler | None = None) -> DataLoader:
        num_workers: int = self.hparams["num_workers"]
        kind = DataLoader if sampler is None else EpochLoader
        return kind(
            samples,
            batch_size=None,
            sampler=sampler,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
        )


# Batches of independent samples need no shuffling, so each step is a run of samples.
class _BatchesInOrder(EpochSampler):
    def __init__(self, dataset: EpochDataset, *, num_replicas: int, rank: int) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank)
        self.shuffle = False

    # lazy: a loader with processes asks for two iterators and uses one, which must not count as two epochs
    def __iter__(self) -> Iterator[int]:
        yield from super().__iter__()


# Item i is the i-th batch.
class _TreeSamples(EpochDataset):
    def __init__(
        self,
        polarities: list[Tensor],
        *,
        num_samples: int,
        first: int,
        batch_size: int,
        num_views: int,
        device: torch.device,
        seed: int,
    ) -> None:
        super().__init__(seed=seed)
        self._polarities = [level.to(device) for level in polarities]
        self._num_samples, self._first = num_samples, first
        self._batch_size, self._num_views, self._device = batch_size, num_views, device
        self._num_draws = sum(len(level) for level in polarities)

    def __len__(self) -> int:
        return -(-self._num_samples // self._batch_size)

    def __getitem__(self, index: int) -> TreeBatch:  # type: ignore[override]
        start = index * self._batch_size
        stop = min(start + self._batch_size, self._num_samples)
        uniforms = torch.cat(list(self._chunks(start, stop)))
        uniforms = uniforms[start % _CHUNK :][: stop - start]
        roots = uniforms[:, 0] < 0.5
        draws = uniforms[:, 1:].split(self._num_draws, dim=1)
        views = [latents_from_uniforms(roots, draw, self._polarities) for draw in draws]
        latents = torch.cat(views[0][:-1], dim=1)
        return [levels[-1].float() for levels in views], roots.long(), latents.float()

    # All random numbers of the chunks that hold some samples: the root's, and each view's.
    def _chunks(self, start: int, stop: int) -> Iterator[Tensor]:
        width = 1 + self._num_views * self._num_draws
        for chunk in range(start // _CHUNK, -(-stop // _CHUNK)):
            seed = self.seed_of(self._first + chunk)
            generator = torch.Generator(self._device).manual_seed(seed)
            yield torch.rand(_CHUNK, width, generator=generator, device=self._device)
