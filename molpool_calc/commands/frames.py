"""Frames with reference values: from files, from data sets, and the errors on them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.training.data import Dataset, Units
from molpool_calc.training.labelled import read_labelled
from molpool_calc.trajectory_file import frames_of_file

COMPARED = ("energy", "forces", "dipole", "polarizability")
_ENERGIES = {"energy", "free_energy"}
UNITLESS_SUFFIXES = (".npz", ".h5", ".hdf5", ".hdf", ".db")
"""Files whose units ASE does not know, so that the user must state them."""


def read_frames(
    path: Path,
    *,
    units: Mapping[str, str],
    keys: Mapping[str, str],
    split: str | None,
    scalars: Collection[str] = (),
) -> Iterator[Atoms]:
    """Yield the frames of a file, reference values in their calculators' results.

    Args:
        path: anything ASE reads, in ASE's units; or a data set with ``units``.
        units: of a data set, by quantity, as in a recipe.
        keys: names in a data set, by quantity, as in a recipe.
        split: take only the frames of this part of a data set.
        scalars: further properties that a data set may have.

    Raises:
        ValueError: the file cannot be read, or lacks its units.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give one that exists")
    if units:
        yield from frames_of(_part(_read(path, units, keys, scalars), split, path))
    elif path.suffix in UNITLESS_SUFFIXES:
        raise ValueError(
            f"{path} does not say what units it is in; add them, as in --units "
            "length=Angstrom energy=eV dipole=Debye"
        )
    elif split is not None or keys:
        raise ValueError("--split and --keys are for data sets; add --units as well")
    else:
        yield from frames_of_file(path)


def reference_values(atoms: Atoms, scalars: Collection[str] = ()) -> dict[str, Any]:
    """Return the reference values that came with a frame, eV, Å, e.

    The results of a calculator go before ``atoms.info`` and ``atoms.arrays``. The
    dipole of an ion depends on the origin, which files do not state: it is left out.
    ``scalars`` are names of further molecular properties.
    """
    results = {} if atoms.calc is None else atoms.calc.results
    places = (results, atoms.info, atoms.arrays)
    found: dict[str, Any] = {}
    for name in (*COMPARED, *scalars):
        value = next((p[name] for p in places if p.get(name) is not None), None)
        if value is not None and not (name == "dipole" and atoms.info.get("charge")):
            shape = _shape(name, len(atoms))
            found[name] = _array(value, shape, name)
    return found


def predictions(
    calculator: MolPoolCalculator, frames: Sequence[Atoms]
) -> list[dict[str, Any]]:
    """Return all results of the frames, the polarizability of molecules among them."""
    found = calculator.calculate_many(frames)
    if "polarizability" in calculator.implemented_properties:
        for atoms, results in zip(frames, found, strict=True):
            if not atoms.pbc.any():
                tensor = calculator.get_property("polarizability", atoms)
                results["polarizability"] = tensor
    return found


class ErrorTable:
    """Differences to the reference values, component by component."""

    def __init__(self) -> None:
        self._differences: dict[str, list[np.ndarray]] = {}

    def add(self, results: Mapping[str, Any], reference: Mapping[str, Any]) -> None:
        """Add one frame."""
        for name in reference.keys() & results.keys():
            difference = np.ravel(np.asarray(results[name]) - reference[name])
            self._differences.setdefault(name, []).append(difference)

    def result(self) -> dict[str, dict[str, float]]:
        """Return mean absolute, root mean square and largest error by property."""
        errors = {}
        known = [name for name in COMPARED if name in self._differences]
        further = sorted(self._differences.keys() - set(COMPARED))
        for name in known + further:
            difference = np.abs(np.concatenate(self._differences[name]))
            errors[name] = {
                "mae": float(difference.mean()),
                "rmse": float(np.sqrt((difference**2).mean())),
                "max": float(difference.max()),
                "n_frames": len(self._differences[name]),
            }
        return errors


def with_results(
    atoms: Atoms, results: Mapping[str, Any], reference: Mapping[str, Any]
) -> Atoms:
    """Return the frame with predictions under ASE's names.

    Reference values move to ``reference_energy`` and so on.
    """
    frame: Atoms = atoms.copy()  # type: ignore[no-untyped-call]
    numbers = {n for n, x in results.items() if isinstance(x, float)} - _ENERGIES
    for name in (*COMPARED, *numbers):
        frame.info.pop(name, None)
        frame.arrays.pop(name, None)
    for name, value in reference.items():
        place = frame.arrays if name == "forces" else frame.info
        place[f"reference_{name}"] = value
    for name in numbers | ({"polarizability"} & results.keys()):
        frame.info[name] = results[name]
    named = {"energy", "forces", "dipole", "stress"} & results.keys()
    frame.calc = _results(frame, {name: results[name] for name in named})
    return frame


def frames_of(dataset: Dataset) -> Iterator[Atoms]:
    """Yield the frames of a data set as structures with reference values."""
    for index in range(len(dataset)):
        atoms = dataset.atoms_of(index)
        frame = Atoms(
            dataset.numbers[atoms],
            dataset.positions[atoms],
            cell=dataset.cells[index],
            pbc=dataset.pbc[index],
        )
        if dataset.charges[index] != 0:
            frame.info["charge"] = float(dataset.charges[index])
        polarizability = dataset.polarizability
        if polarizability is not None and np.isfinite(polarizability[index]).all():
            frame.info["polarizability"] = polarizability[index]
        for name, values in dataset.scalars.items():
            frame.info[name] = float(values[index])
        results: dict[str, Any] = {}
        if dataset.energy is not None:
            results["energy"] = float(dataset.energy[index])
        if dataset.forces is not None:
            results["forces"] = dataset.forces[atoms]
        if dataset.dipole is not None and np.isfinite(dataset.dipole[index]).all():
            results["dipole"] = dataset.dipole[index]
        frame.calc = _results(frame, results)
        yield frame


def _results(atoms: Atoms, results: Mapping[str, Any]) -> SinglePointCalculator:
    return SinglePointCalculator(atoms, **results)  # type: ignore[no-untyped-call]


def _read(
    path: Path,
    units: Mapping[str, str],
    keys: Mapping[str, str],
    scalars: Collection[str],
) -> Dataset:
    known = {field.name for field in fields(Units)} - {"scalars"} | set(scalars)
    for quantity in units.keys() - known:
        raise ValueError(
            f"--units states a unit of {quantity!r}, which is no quantity; they are "
            f"{', '.join(sorted(known))}"
        )
    if "length" not in units:
        raise ValueError(
            "--units states no unit of length; add length=Angstrom or length=Bohr"
        )
    plain = {name: unit for name, unit in units.items() if name not in scalars}
    further = {name: unit for name, unit in units.items() if name in scalars}
    return read_labelled(path, units=Units(**plain, scalars=further), keys=keys)


def _part(dataset: Dataset, split: str | None, path: Path) -> Dataset:
    if split is None:
        return dataset
    chosen = np.flatnonzero([] if dataset.split is None else dataset.split == split)
    if not chosen.size:
        parts = [] if dataset.split is None else sorted(set(dataset.split.tolist()))
        raise ValueError(
            f"{path} has no part {split!r}; its parts are {', '.join(parts) or 'none'}"
        )
    return dataset.select(chosen)


def _shape(name: str, n_atoms: int) -> tuple[int, ...]:
    per_frame: dict[str, tuple[int, ...]] = {"energy": (), "dipole": (3,)}
    per_frame["polarizability"] = (3, 3)
    return (n_atoms, 3) if name == "forces" else per_frame.get(name, ())


def _array(value: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64)
    if array.size != np.prod(shape, dtype=int):
        raise ValueError(
            f"a reference {name} has the shape {array.shape}, but must have {shape}; "
            "correct the file"
        )
    return array.reshape(shape)
