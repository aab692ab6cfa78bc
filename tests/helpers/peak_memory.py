"""Memory that a call holds at its peak, measured by the kernel in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CAN_MEASURE = Path("/proc/self/clear_refs").exists()


def peak_bytes(module: str, function: str) -> int:
    """Growth of the resident memory at its peak, in a fresh process.

    Freed memory goes back to the kernel at once there, so that what was freed before does not hide what is taken.

    Args:
        module: Where the function is, as an importable name.
        function: Its name; it returns the call to measure.
    """
    code = f"from {__name__} import growth; from {module} import {function}; print(growth({function}()))"
    settings = {"MALLOC_MMAP_THRESHOLD_": str(2**16), "MALLOC_TRIM_THRESHOLD_": "0", "OMP_NUM_THREADS": "1"}
    environment = os.environ | settings | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


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
