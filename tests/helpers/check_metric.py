"""What every metric of sums keeps: its value, and that batches and ranks merge."""

import copy
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close
from torchmetrics import Metric

from helpers.ddp import run_ranks

Batch = tuple[Tensor, ...]
Make = Callable[..., Metric]
Oracle = Callable[[Sequence[Batch]], Mapping[str, Any]]

RTOL = 1e-9  # sums of some hundred float64 numbers, and the square root of an eigenvalue from them


def joined(batches: Sequence[Batch]) -> Batch:
    """All batches as one."""
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))


def check_metric(make: Make, batches: Sequence[Batch], oracle: Oracle, *, is_additive: bool = True) -> None:
    """Value against an oracle, shards == whole, reset, half inputs, casts, pickling.

    `oracle(batches)` returns a value for each field of what the metric returns, or {"value": …}. A metric
    that is not additive merges batches in any order, but not into one.
    """
    assert len({len(batch[0]) for batch in batches}) > 1, "uneven batches find more"
    expected = oracle(batches)
    metric = make()
    _update(metric, batches)
    _assert_values(metric, expected)

    if is_additive:
        whole = make()
        whole.update(*joined(batches))
        _assert_values(whole, expected)

    reverse = make()
    for batch in reversed(batches):
        reverse(*batch)  # forward: the batch's value, and the merge that torchmetrics makes of it
    reverse.update(*(part[:0] for part in batches[0]))  # an empty batch adds nothing
    _assert_values(reverse, expected)

    _assert_values(pickle.loads(pickle.dumps(metric)), expected)
    metric.reset()
    assert not any(state.any() for state in _states(metric))
    _update(metric, batches)
    _assert_values(metric, expected)

    for dtype in (torch.float16, torch.bfloat16):
        cast = copy.deepcopy(make()).to(dtype).half()
        rounded = [
            tuple(part.to(dtype) if part.is_floating_point() else part for part in batch) for batch in batches
        ]
        _update(cast, rounded)
        assert all(state.dtype == torch.float64 for state in _states(cast))
        exact = [
            tuple(part.double() if part.is_floating_point() else part for part in batch) for batch in rounded
        ]
        _assert_values(cast, oracle(exact))


def check_two_ranks(cases: Mapping[str, tuple[Make, Sequence[Batch]]]) -> None:
    """Each rank with its own batch: equal to one process with both; without synchronisation not."""
    assert all(len(batches) == 2 for _, batches in cases.values())
    results = run_ranks(_rank_values, 2, dict(cases))
    for name, (make, batches) in cases.items():
        metric = make()
        _update(metric, batches)
        expected = _as_dict(metric.compute())
        for synchronised, alone in (result[name] for result in results):
            assert_close(synchronised, expected, rtol=RTOL, atol=1e-12, equal_nan=True)
            differs = [not torch.allclose(alone[key], expected[key]) for key in expected]
            assert any(differs), f"{name}: one rank alone has the value of both"


def _rank_values(
    rank: int, world_size: int, cases: Mapping[str, tuple[Make, Sequence[Batch]]]
) -> dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]:
    values = {}
    for name, (make, batches) in cases.items():
        together, alone = make(), make(sync_on_compute=False)
        together.update(*batches[rank])
        alone.update(*batches[rank])
        values[name] = (_as_dict(together.compute()), _as_dict(alone.compute()))
    return values


def _update(metric: Metric, batches: Sequence[Batch]) -> None:
    for batch in batches:
        metric.update(*batch)


def _states(metric: Metric) -> list[Tensor]:
    states = [getattr(metric, name) for name in metric._defaults]
    return [part for state in states for part in (state if isinstance(state, list) else [state])]


def _as_dict(value: Any) -> dict[str, Tensor]:
    if isinstance(value, Tensor):
        return {"value": value}
    return {key: part for key, part in value._asdict().items() if part is not None}


def _assert_values(metric: Metric, expected: Mapping[str, Any]) -> None:
    values = _as_dict(metric.compute())
    assert set(values) == set(expected)
    for key, value in values.items():
        wanted = torch.as_tensor(expected[key], dtype=value.dtype)
        assert_close(
            value, wanted, rtol=RTOL, atol=1e-12, equal_nan=True, msg=lambda text, k=key: f"{k}: {text}"
        )
