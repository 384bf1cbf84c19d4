"""Reading of labelled data: any file in, one record in internal units out."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from molpool_calc.training.dataset import (
    Dataset,
    fit_reference_energies,
    sum_reference_energies,
)
from molpool_calc.training.file_units import Units
from molpool_calc.training.named_arrays import Arrays
from molpool_calc.training.readers import read_arrays

__all__ = [
    "Dataset",
    "Units",
    "fit_reference_energies",
    "read_dataset",
    "sum_reference_energies",
]


def read_dataset(
    path: Path | str,
    *,
    units: Units,
    keys: Mapping[str, str] | None = None,
    format: str | None = None,  # noqa: A002 (the word ASE uses)
) -> Dataset:
    """Return the frames of a file in internal units.

    Args:
        path: npz, HDF5, ASE database, or any trajectory ASE reads.
        units: units of the file; a property without one is not read.
        keys: names in the file of ``numbers``, ``positions``, ``offsets``,
            ``energy``, ``forces``, ``dipole``, ``polarizability``, ``charge``,
            ``cell``, ``pbc``, ``split``, where they are not recognised. A minus sign
            before the name of the forces (``"-gradient"``) turns their sign.
        format: ``npz``, ``hdf5``, ``db`` or a format of ASE; by default what the
            name of the file says.

    Raises:
        ValueError: the file lacks something or holds it in a wrong shape, a value is
            not finite, or the magnitudes contradict the units.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no data file {path}; name one that exists")
    keys = dict(keys or {})
    _demand_units(keys, units)
    arrays = read_arrays(path, keys, format)
    return _convert(arrays, units, path)


def _demand_units(keys: Mapping[str, str], units: Units) -> None:
    for name in ("energy", "forces", "dipole", "polarizability"):
        if name in keys and units.factor(name) is None:
            raise ValueError(
                f"keys name {keys[name]!r} as {name}, but units state none for it; "
                f"add units.{name}"
            )


def _convert(arrays: Arrays, units: Units, path: Path) -> Dataset:
    def scaled(name: str, quantity: str) -> np.ndarray | None:
        factor = units.factor(quantity)
        if factor is None or name not in arrays:
            return None
        values = np.asarray(arrays[name], dtype=np.float64)
        _demand_finite(values, name, path)
        return values * factor

    sizes = arrays["sizes"]
    n_frames = len(sizes)
    positions, cells = scaled("positions", "length"), scaled("cell", "length")
    assert positions is not None  # readers always give them, units always a length
    return Dataset(
        offsets=np.concatenate(([0], np.cumsum(sizes))),
        numbers=arrays["numbers"].astype(np.int64),
        positions=positions,
        cells=np.zeros((n_frames, 3, 3)) if cells is None else cells,
        pbc=arrays.get("pbc", np.zeros((n_frames, 3))).astype(bool),
        charges=arrays.get("charge", np.zeros(n_frames)).astype(np.float64),
        energy=scaled("energy", "energy"),
        forces=scaled("forces", "forces"),
        dipole=scaled("dipole", "dipole"),
        polarizability=scaled("polarizability", "polarizability"),
        split=arrays.get("split"),
        sha256=_sha256(path),
    )


def _demand_finite(values: Shaped[np.ndarray, "..."], name: str, path: Path) -> None:
    wrong = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if wrong.any():
        raise ValueError(
            f"{path.name} holds {int(wrong.sum())} rows of {name} that are not finite, "
            f"the first is row {int(np.argmax(wrong))}; leave those frames out"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
