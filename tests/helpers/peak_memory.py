"""Memory that a call holds at its peak, measured by the kernel in a process of its own."""

import ctypes
from collections.abc import Callable
from pathlib import Path

from helpers.ddp import run_ranks

CAN_MEASURE = Path("/proc/self/clear_refs").exists() and hasattr(ctypes.CDLL(None), "mallopt")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


def peak_bytes(build: Callable[[], Callable[[], object]]) -> int:
    """Growth of the resident memory at its peak, in a fresh process.

    Freed memory goes back to the kernel at once there, so that what was freed before does not hide what is taken.

    Args:
        build: Returns the call to measure; at the top level of its module.
    """
    return run_ranks(_growth_of, 1, build, init=False)[0]


def _growth_of(rank: int, world_size: int, build: Callable[[], Callable[[], object]]) -> int:
    malloc = ctypes.CDLL(None)
    malloc.mallopt(_MMAP_THRESHOLD, 2**16)
    malloc.mallopt(_TRIM_THRESHOLD, 0)
    call = build()
    growth(lambda: None)  # pages of its own code are counted once
    return growth(call)


def growth(call: Callable[[], object]) -> int:
    """What a call holds at its peak above the start, in this process."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def resident_bytes() -> int:
    """What this process holds now."""
    return _status("VmRSS")


def _status(key: str) -> int:
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(key))
    return 1024 * int(line.split()[1])
