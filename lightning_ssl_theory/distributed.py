r"""The few collectives of this library, differentiable where a loss needs them.

With W ranks every rank computes the same value :math:`L(\theta_1, …, \theta_W)` of what the ranks hold and
calls `backward` on it. The backward pass of a collective sums the upstream gradients over the ranks, so that
rank r ends with :math:`W\, \partial L / \partial \theta_r`, and DistributedDataParallel's mean over ranks is
the gradient of L itself, as one process on all rows would have it.

Without an initialised process group, or with one process, nothing is communicated and nothing is copied.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from lightning_ssl_theory.checks import InputError

AllSum = Callable[[Tensor], Tensor]
AllGatherRows = Callable[[Tensor], Tensor]
"""Sums a tensor over the ranks: `identity`, `all_sum` or `all_sum_with_grad`."""


def is_distributed() -> bool:
    """Whether more than one process takes part.

    Returns:
        True with an initialised process group of at least two ranks.
    """
    return world_size() > 1


def rank() -> int:
    """Index of this process among all.

    Returns:
        The rank, 0 without an initialised process group.
    """
    return dist.get_rank() if _is_initialized() else 0


def world_size() -> int:
    """Number of processes W.

    Returns:
        The number of ranks, 1 without an initialised process group.
    """
    return dist.get_world_size() if _is_initialized() else 1


def identity(tensor: Tensor) -> Tensor:
    """The sum over one rank: the `AllSum` of a computation that stays local.

    Args:
        tensor: Any tensor.

    Returns:
        The tensor itself.
    """
    return tensor


ROOM = 254
"""How many numbers travel with the status of `failing_together`: 2 KiB, which take as long as one number."""


def all_sum(tensor: Tensor) -> Tensor:
    """Sum of a tensor over the ranks, without a gradient.

    Args:
        tensor: Any real tensor of one shape and dtype on all ranks.

    Returns:
        A new tensor with the sum, equal on every rank; with one process the tensor itself. Inside `failing_together`
        up to `ROOM` numbers cross in float64 with the status, in one collective; integers are exact below 2^53.
    """
    if not is_distributed():
        return tensor
    if _watched and tensor.numel() <= ROOM:
        return _meet(tensor.detach())[: tensor.numel()].to(tensor.dtype).view(tensor.shape).to(tensor.device)
    total = _on_collective_device(tensor.detach()).clone(memory_format=torch.contiguous_format)
    meet()
    dist.all_reduce(total)
    return total.to(tensor.device)


def all_sum_with_grad(tensor: Tensor) -> Tensor:
    """Sum of a tensor over the ranks, whose backward pass sums the upstream gradients over the ranks.

    Args:
        tensor: Any floating tensor of one shape and dtype on all ranks.

    Returns:
        A new tensor with the sum, equal on every rank; with one process the tensor itself.
    """
    return _AllSum.apply(tensor) if is_distributed() else tensor


class RowPlaces(NamedTuple):
    """Where the rows of this rank lie among the rows of all ranks.

    Attributes:
        first: Global index of this rank's first row.
        counts: Number of rows of each rank.
    """

    first: int
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Number of rows of all ranks together."""
        return sum(self.counts)


def row_places(tensor: Tensor) -> RowPlaces:
    r"""Where the rows of this rank lie among the rows of all ranks.

    Args:
        tensor: Rows of this rank, shape (n_r, \*).

    Returns:
        The places, for as many exchanges of rows as there are.

    Raises:
        InputError: If the tensor has no rows to stack or the row size differs between ranks.
    """
    if tensor.ndim == 0:
        raise InputError("Expected `tensor` with at least one dimension, got a scalar; pass rows to gather.")
    if not is_distributed():
        return RowPlaces(0, (len(tensor),))
    row_counts, row_sizes = _every_rank([len(tensor), tensor.shape[1:].numel()])
    if len(set(row_sizes)) > 1:
        raise InputError(
            f"Expected rows of one size on every rank, got {row_sizes} numbers a row; pass equal shapes."
        )
    return RowPlaces(sum(row_counts[: rank()]), tuple(row_counts))


def all_gather_rows(tensor: Tensor, places: RowPlaces | None = None) -> Tensor:
    r"""Rows of all ranks below one another, in rank order.

    Ranks may hold different numbers of rows, none included. The backward pass sums the upstream gradients
    over the ranks and returns the slice of this rank.

    Args:
        tensor: Rows of this rank, shape (n_r, \*); \* and the dtype are the same on every rank.
        places: What `row_places` says of as many rows, whose sizes are equal on every rank; asked for by default.

    Returns:
        Shape (n_1 + … + n_W, \*), equal on every rank; with one process the tensor itself.

    Raises:
        ValueError: As `row_places`.
    """
    places = row_places(tensor) if places is None else places
    return _AllGatherRows.apply(tensor, places.counts) if is_distributed() else tensor


def any_rank(flag: bool) -> bool:
    """Whether a condition holds on any rank, so that all ranks can act on it together.

    Args:
        flag: The condition on this rank.

    Returns:
        True on every rank when it is set on one.
    """
    return bool(all_sum(torch.tensor(int(flag))))


def from_first_rank(tensor: Tensor) -> Tensor:
    """The first rank's tensor, on every rank.

    Args:
        tensor: Any tensor of one shape and dtype on all ranks.

    Returns:
        A new tensor; with one process the tensor itself.
    """
    if not is_distributed():
        return tensor
    shared = _on_collective_device(tensor.detach()).clone(memory_format=torch.contiguous_format)
    meet()
    dist.broadcast(shared, src=0)
    return shared.to(tensor.device)


def all_from_first_rank(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The first rank's tensors, on every rank; they cross in one buffer of bytes.

    Args:
        tensors: Of any types, in one order and of one shape and dtype each on all ranks.

    Returns:
        New tensors; with one process the tensors themselves.
    """
    if not is_distributed() or not tensors:
        return list(tensors)
    own = [
        _on_collective_device(tensor.detach()).contiguous().reshape(-1).view(torch.uint8)
        for tensor in tensors
    ]
    shared = from_first_rank(torch.cat(own)).split([len(part) for part in own])
    return [
        part.clone().view(tensor.dtype).view(tensor.shape).to(tensor.device)
        for part, tensor in zip(shared, tensors, strict=True)
    ]


@contextmanager
def failing_together(describe: Callable[[Exception], str] = str) -> Iterator[None]:
    """An exception inside, on any rank, is raised as a ValueError on all of them, wherever they are inside.

    Every collective inside begins with a status of fixed size, which carries a small sum along. A rank that fails
    reports it there, instead of its part of the collective that the others are about to start, and all leave together.
    A rank that is interrupted interrupts the others. Blocks are not nested.

    Args:
        describe: Makes the sentence of a rank's exception.

    Raises:
        InputError: With the sentence of the first rank that failed.
        _AnotherStoppedError: If this rank failed while another was interrupted.
    """
    error: Exception | None = None
    _watched.append(True)
    try:
        yield
        meet()
    except _AnotherFailedError:
        pass
    except Exception as found:
        # without this frame, which from Python 3.12 on holds the caller's, and that the exception
        error = found.with_traceback(found.__traceback__.tb_next if found.__traceback__ else None)
        if _report(_FAILED)[0] == _STOPPED:
            raise _AnotherStoppedError from found
    except BaseException as found:
        if not isinstance(found, _AnotherStoppedError):
            _report(_STOPPED)
        raise
    else:
        return
    finally:
        _watched.pop()
    message = _first_sentence(None if error is None else describe(error))
    try:
        raise InputError(message) from error
    finally:
        del error  # it holds this frame, which would hold it, and all that is alive where it was raised


def meet() -> None:
    """Where all ranks are well inside `failing_together`, nothing; the collectives of this file begin with it.

    A collective that is not of this file, such as that of a torchmetrics metric, needs it just before.

    Raises:
        _AnotherFailedError: If another rank has failed.
        _AnotherStoppedError: If another rank was interrupted.
    """
    if _watched and is_distributed():
        _meet(torch.zeros(0))


class _AnotherFailedError(Exception):
    """Another rank has left the common work, and will say why."""


class _AnotherStoppedError(KeyboardInterrupt):
    """Another rank was interrupted."""


_WELL, _FAILED, _STOPPED = range(3)
_watched: list[bool] = []  # one entry for each `failing_together` that is open


def _meet(numbers: Tensor) -> Tensor:
    # the sums of up to ROOM numbers, float64
    status, sums = _report(_WELL, numbers)
    if status == _FAILED:
        raise _AnotherFailedError
    if status == _STOPPED:
        raise _AnotherStoppedError
    return sums


def _report(status: int, numbers: Tensor | None = None) -> tuple[int, Tensor]:
    # how many ranks have failed and how many were stopped, and beside them the sums
    message = torch.zeros(2 + ROOM, dtype=torch.float64)
    if numbers is not None:
        message[2 : 2 + numbers.numel()] = numbers.reshape(-1).cpu()
    if status != _WELL:
        message[status - 1] = 1
    if is_distributed():
        message = _on_collective_device(message)
        dist.all_reduce(message)
        message = message.cpu()
    failed, stopped = message[:2].tolist()
    return _STOPPED if stopped else _FAILED if failed else _WELL, message[2:]


def _first_sentence(sentence: str | None) -> str:
    # the first rank's that has one; all ranks take part
    sentences = [sentence]
    if is_distributed():
        sentences = [None] * world_size()
        dist.all_gather_object(sentences, sentence)
    return next(found for found in sentences if found is not None)


class _AllSum(Function):
    """Sum over the ranks; its adjoint is itself."""

    @staticmethod
    def forward(tensor: Tensor) -> Tensor:
        return all_sum(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep nothing: the adjoint needs no values."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return all_sum_with_grad(grad)


class _AllGatherRows(Function):
    """Rows of all ranks; the adjoint is the own slice of the sum over the ranks."""

    @staticmethod
    def forward(tensor: Tensor, row_counts: tuple[int, ...]) -> Tensor:
        rows = _on_collective_device(tensor.detach())
        padded = rows.new_zeros(max(row_counts), *rows.shape[1:])  # the collective takes equal shapes only
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in row_counts]
        meet()
        dist.all_gather(gathered, padded)
        every = torch.cat([part[:count] for part, count in zip(gathered, row_counts, strict=True)])
        return every.to(tensor.device)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple[int, ...]], output: Tensor) -> None:
        row_counts = inputs[1]
        ctx.first, ctx.count = sum(row_counts[: rank()]), row_counts[rank()]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return all_sum_with_grad(grad)[ctx.first : ctx.first + ctx.count], None


def _is_initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def _collective_device(like: torch.device) -> torch.device:
    # NCCL takes GPU tensors only.
    if dist.get_backend() == "nccl" and like.type != "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return like


def _on_collective_device(tensor: Tensor) -> Tensor:
    return tensor.to(_collective_device(tensor.device))


def _every_rank(numbers: list[int]) -> list[list[int]]:
    # One list over the ranks for each of `numbers`; a sum, which needs fewer steps than a gather.
    everyone = torch.zeros(world_size(), len(numbers), dtype=torch.int64)
    everyone[rank()] = torch.tensor(numbers)
    return all_sum(everyone).mT.tolist()
