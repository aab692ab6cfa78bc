"""Several random views of each sample of any labelled dataset."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_ssl_theory.checks import InputError, check_callable, check_integer, check_sequence, described
from lightning_ssl_theory.data.epochs import EpochDataset, check_seed


class MultiViewDataset(EpochDataset):
    """Sample i as A views (t_1(x_i), ..., t_A(x_i)), the t_a drawn from a random transform, and its label.

    The draws are a function of `seed`, the epoch and i: the same with any number of processes and of loader
    workers. For them torch's CPU generator is seeded, and put back as it was afterwards.

    Args:
        dataset: samples (x, label); anything with `len` and an index.
        transform: random map of x to a tensor, drawing from torch's CPU generator.
        num_views: A >= 1.
        seed: any non-negative integer.
        clean: map of x to a tensor that stands first, in place of a random view; None for random views only.
        others: further random maps, a view each after the A, whose draws they leave as they are.

    Raises:
        InputError: `num_views` < 1.

    Example:
        >>> dataset = [(torch.zeros(2), 0), (torch.ones(2), 1)]
        >>> views, label = MultiViewDataset(dataset, lambda x: x + torch.randn(2), num_views=3)[1]
        >>> len(views), bool((views[0] == views[1]).any()), label
        (3, False, 1)
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        transform: Callable[[Any], Tensor],
        *,
        num_views: int = 2,
        seed: int = 0,
        clean: Callable[[Any], Tensor] | None = None,
        others: Sequence[Callable[[Any], Tensor]] = (),
    ) -> None:
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise InputError(
                f"Expected `dataset` with a length and an index, got {described(dataset)}; pass a map-style dataset."
            )
        check_callable(transform, "transform")
        check_callable(clean, "clean", or_none=True)
        check_integer(num_views, "num_views")
        check_sequence(others, "others", at_least=0)
        for other in others:
            check_callable(other, "others")
        check_seed(seed)
        super().__init__(seed=seed)
        self._dataset = dataset
        first = transform if clean is None else clean
        self._transforms = [first, *[transform] * (num_views - 1), *others]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[list[Tensor], Any]:
        sample, label = self._dataset[index]
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed, which would seed the accelerators as well
            torch.default_generator.manual_seed(self.seed_of(index))
            return [transform(sample) for transform in self._transforms], label
