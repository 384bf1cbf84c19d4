"""What a result was made with: versions, machine, and the hash of the potential."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from molpool_calc._version import __version__
from molpool_calc.storage import find_folder, read_json

PACKAGES = ("torch", "numpy", "ase", "vesin", "h5py")


Potentials = str | Path | Sequence[str | Path]
"""A bundled name or folder, or several of them: a committee."""


def provenance(potential: Potentials) -> dict[str, Any]:
    """Return versions, machine and potential, ready for JSON.

    Name and hash of the potential are lists, in the order given, for a committee.
    """
    return {
        "versions": {"molpool-calc": __version__, **_versions()},
        "machine": {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
        },
        "potential": _identity(potential),
    }


def _identity(potential: Potentials) -> dict[str, Any]:
    if isinstance(potential, str | Path):
        content = read_json(find_folder(potential))
        return {"potential": content["name"], "sha256": content["sha256"]}
    members = [_identity(member) for member in potential]
    if len(members) == 1:
        return members[0]
    return {key: [member[key] for member in members] for key in members[0]}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
