"""Reading of labelled data: any file in, one record in internal units out."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.data import atomic_masses
from jaxtyping import Int, Shaped

from molpool_calc.elements import MAX_ATOMIC_NUMBER
from molpool_calc.training.dataset import (
    Dataset,
    fit_reference_energies,
    sum_reference_energies,
)
from molpool_calc.training.file_units import Units
from molpool_calc.training.magnitudes import check_magnitudes
from molpool_calc.training.named_arrays import WEIGHTS, Arrays
from molpool_calc.training.readers import kind_of, read_arrays
from molpool_calc.training.stated_units import demand_stated_units

__all__ = [
    "Dataset",
    "Units",
    "fit_reference_energies",
    "read_dataset",
    "sum_reference_energies",
]


SUM_TOLERANCE = 1e-3


def read_dataset(
    path: Path | str,
    *,
    units: Units,
    keys: Mapping[str, str] | None = None,
    format: str | None = None,  # noqa: A002 (the word ASE uses)
    check_units: bool = True,
    partly_labelled: Collection[str] = (),
) -> Dataset:
    """Return the frames of a file in internal units.

    Args:
        path: npz, HDF5, ASE database, or any trajectory ASE reads.
        units: units of the file; a property without one is not read.
        keys: names in the file of ``numbers``, ``positions``, ``offsets``,
            ``energy``, ``forces``, ``dipole``, ``polarizability``, ``charge``,
            ``cell``, ``pbc``, ``split``, where they are not recognised. A minus sign
            before the name of the forces (``"-gradient"``) turns their sign.
            ``homo_weights`` names fractions of the atoms in the scalar ``homo``.
        format: ``npz``, ``hdf5``, ``db`` or a format of ASE; by default what the
            name of the file says.
        check_units: whether magnitudes that contradict the units are an error, see
            :func:`~molpool_calc.training.magnitudes.check_magnitudes`.
        partly_labelled: ``dipole`` or ``polarizability``, where frames without a label
            have a row of NaN.

    Raises:
        ValueError: the file lacks something or holds it in a wrong shape, a value is
            not finite, or the magnitudes contradict the units.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no data file {path}; name one that exists")
    keys = dict(keys or {})
    _demand_units(keys, units)
    demand_stated_units(path, units, keys, kind_of(path, format))
    weights = [name for name in keys if name.removesuffix(WEIGHTS) in units.scalars]
    further = {*units.scalars, *weights}
    arrays = read_arrays(path, keys, format, further)
    dataset = _convert(arrays, units, path, partly_labelled)
    if check_units:
        check_magnitudes(dataset, path.name)
    return dataset


def _demand_units(keys: Mapping[str, str], units: Units) -> None:
    for name in ("energy", "forces", "dipole", "polarizability"):
        if name in keys and units.factor(name) is None:
            raise ValueError(
                f"keys name {keys[name]!r} as {name}, but units state none for it; "
                f"add units.{name}"
            )


def _convert(
    arrays: Arrays, units: Units, path: Path, partly_labelled: Collection[str]
) -> Dataset:
    def scaled(name: str, quantity: str) -> np.ndarray | None:
        factor = units.factor(quantity)
        if factor is None or name not in arrays:
            return None
        values = np.asarray(arrays[name], dtype=np.float64)
        labelled = np.ones(len(values), dtype=np.bool_)
        if name in partly_labelled:
            labelled &= ~np.isnan(values).reshape(len(values), -1).all(axis=1)
        _demand_finite(values[labelled], name, path)
        return values * factor

    numbers, n_frames = _elements(arrays, path), len(arrays["sizes"])
    positions, cells = scaled("positions", "length"), scaled("cell", "length")
    assert positions is not None  # readers always give them, units always a length
    dataset = Dataset(
        offsets=np.concatenate(([0], np.cumsum(arrays["sizes"]))),
        numbers=numbers,
        positions=positions,
        cells=np.zeros((n_frames, 3, 3)) if cells is None else cells,
        pbc=arrays.get("pbc", np.zeros((n_frames, 3))).astype(bool),
        charges=arrays.get("charge", np.zeros(n_frames)).astype(np.float64),
        energy=scaled("energy", "energy"),
        forces=scaled("forces", "forces"),
        dipole=scaled("dipole", "dipole"),
        polarizability=scaled("polarizability", "polarizability"),
        scalars={
            name: values
            for name in units.scalars
            if (values := scaled(name, name)) is not None
        },
        weights=_weights(arrays, path),
        split=arrays.get("split"),
        sha256=_sha256(path),
    )
    return _with_central_dipoles(dataset, units, path)


def _weights(arrays: Arrays, path: Path) -> dict[str, np.ndarray]:
    """Return the fractions of the atoms, which must sum to 1 over each frame."""
    found = {}
    starts = np.concatenate(([0], np.cumsum(arrays["sizes"])))[:-1]
    for name in (name for name in arrays if name.endswith(WEIGHTS)):
        values = np.asarray(arrays[name], dtype=np.float64)
        sums = np.add.reduceat(values, starts)
        if not (np.abs(sums - 1.0) < SUM_TOLERANCE).all():
            worst = int(np.argmax(np.abs(sums - 1.0)))
            raise ValueError(
                f"{path.name}: {name} sums to {sums[worst]:.3g} in frame {worst}, but "
                "fractions of atoms must sum to 1; normalise them"
            )
        found[name.removesuffix(WEIGHTS)] = values
    return found


def _elements(arrays: Arrays, path: Path) -> Int[np.ndarray, " atoms"]:
    if (arrays["sizes"] < 1).any():
        raise ValueError(f"{path.name} holds frames without atoms; leave them out")
    numbers = arrays["numbers"].astype(np.int64)
    low, high = int(numbers.min()), int(numbers.max())
    if not 1 <= low <= high <= MAX_ATOMIC_NUMBER:
        raise ValueError(
            f"{path.name} holds atomic numbers from {low} to {high}, but elements have "
            f"1 to {MAX_ATOMIC_NUMBER}; name the right array under keys"
        )
    return numbers


def _with_central_dipoles(dataset: Dataset, units: Units, path: Path) -> Dataset:
    """Return the data with the dipoles of ions about their centres of mass."""
    ions = np.flatnonzero(dataset.charges)
    if dataset.dipole is None or not ions.size:
        return dataset
    if units.dipole_origin is None:
        raise ValueError(
            f"{path.name} holds {ions.size} ions, whose dipoles depend on the origin; "
            "add units.dipole_origin = 'coordinates' or 'center of mass'"
        )
    if units.dipole_origin == "center of mass":
        return dataset
    masses = atomic_masses[dataset.numbers][:, None]
    starts = dataset.offsets[:-1]
    centers = np.add.reduceat(masses * dataset.positions, starts)
    centers = centers / np.add.reduceat(masses, starts)
    return replace(dataset, dipole=dataset.dipole - dataset.charges[:, None] * centers)


def _demand_finite(values: Shaped[np.ndarray, "..."], name: str, path: Path) -> None:
    if not len(values):
        raise ValueError(
            f"{path.name} labels no frame with {name}; label some, or leave its units "
            "out of the recipe"
        )
    wrong = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if wrong.any():
        raise ValueError(
            f"{path.name} holds {int(wrong.sum())} rows of {name} that are not finite, "
            f"the first is row {int(np.argmax(wrong))}; leave those frames out"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
