"""Peak memory of what a function does."""

from collections.abc import Callable
from pathlib import Path

import torch

PROCESS = Path("/proc/self")
RESET_PEAK = "5"
"""What sets the peak back to the present size (Linux: proc_pid_clear_refs(5))."""


def peak_mib(function: Callable[[], None], device: torch.device) -> float | None:
    """Return the largest memory in MiB while a function runs.

    On a GPU that of tensors; on the CPU the resident size of the whole process, where
    the system tells it (Linux), ``None`` elsewhere.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        (PROCESS / "clear_refs").write_text(RESET_PEAK, encoding="ascii")
    except OSError:
        function()
        return None
    function()
    return resident_mib("VmHWM")


def resident_mib(field: str = "VmRSS") -> float | None:
    """Return the resident size of this process in MiB, or its peak (``VmHWM``)."""
    try:
        text = (PROCESS / "status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    return None
