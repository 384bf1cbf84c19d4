"""What a table of times must say of where they were measured."""

import os
import platform
from pathlib import Path
from typing import Any

import ase
import torch

from molpool_calc._version import __version__


def machine() -> dict[str, Any]:
    """Return the processor, its cores, a GPU if there is one, and the load of now."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """Return the versions of what a step runs."""
    return {
        "molpool-calc": __version__,
        "torch": torch.__version__,
        "ase": ase.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.machine()
