"""What a result was made with: versions, machine, and the hash of the potential."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from molpool_calc._version import __version__
from molpool_calc.storage import find_folder, read_json

PACKAGES = ("torch", "numpy", "ase", "vesin", "h5py")


def provenance(potential: str | Path) -> dict[str, Any]:
    """Return versions, machine and potential, ready for JSON."""
    folder = find_folder(potential)
    content = read_json(folder)
    return {
        "versions": {"molpool-calc": __version__, **_versions()},
        "machine": {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
        },
        "potential": {"potential": content["name"], "sha256": content["sha256"]},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
