"""Named arrays, as files hold them, to frames under MolPool's names."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from molpool_calc.elements import number

Arrays = dict[str, np.ndarray]

NAMES = {
    "numbers": (
        "numbers",
        "Z",
        "z",
        "nuclear_charges",
        "atomic_numbers",
        "atNUM",
        "species",
    ),
    "positions": ("positions", "R", "coords", "coord", "coordinates", "atXYZ"),
    "offsets": ("offsets",),
    "energy": ("energy", "E", "energies", "REF_energy"),
    "forces": ("forces", "F", "REF_forces", "totFOR"),
    "dipole": ("dipole", "D", "dipoles", "mu", "REF_dipole", "vDIP"),
    "polarizability": ("polarizability", "alpha", "REF_polarizability"),
    "charge": ("charge", "total_charge", "Q"),
    "cell": ("cell", "cells"),
    "pbc": ("pbc",),
    "split": ("split",),
}
"""Names under which each quantity is recognised, those of MD17, rMD17, sGDML,
PhysNet, QM7-X, AIMNet and MACE among them."""

PER_ATOM = ("numbers", "positions", "forces")
PER_FRAME: dict[str, tuple[int, ...]] = {
    "energy": (),
    "dipole": (3,),
    "polarizability": (3, 3),
    "charge": (),
    "cell": (3, 3),
    "pbc": (3,),
    "split": (),
}
WEIGHTS = "_weights"
"""End of the names of per-atom fractions that supervise a pooling."""
MAY_BE_SHARED = ("charge", "cell", "pbc")


def find_key(
    quantity: str, available: set[str], keys: Mapping[str, str], where: str
) -> str | None:
    """Return the key of a quantity in a file, ``None`` where there is none.

    Raises:
        ValueError: the key asked for is absent, or several are recognised.
    """
    if quantity in keys:
        key = keys[quantity]
        if key.removeprefix("-") not in available:
            raise ValueError(
                f"{where} holds no {key!r}, which keys name as {quantity}; "
                f"it holds {', '.join(sorted(available))}"
            )
        return key
    candidates = [name for name in NAMES.get(quantity, ()) if name in available]
    if len(candidates) > 1:
        raise ValueError(
            f"{where} holds {' and '.join(candidates)}, which could both be "
            f"{quantity}; name one under keys"
        )
    return candidates[0] if candidates else None


def frames_of_arrays(
    file: Mapping[str, Any], keys: Mapping[str, str], where: str
) -> Arrays:
    """Return the frames of one set of named arrays, atoms one after another.

    Positions (frames, N, 3) go with numbers (N,) for all frames, or (frames, N) with
    zeros as padding; positions (atoms, 3) go with ``offsets``, or are one frame.

    Raises:
        ValueError: something is missing, ambiguous or of a wrong shape.
    """
    available = set(file)
    found = {
        quantity: key
        for quantity in (*NAMES, *(key for key in keys if key not in NAMES))
        if (key := find_key(quantity, available, keys, where)) is not None
    }
    for quantity in ("numbers", "positions"):
        if quantity not in found:
            raise ValueError(
                f"{where} holds nothing recognised as {quantity}; name it under keys, "
                f"it holds {', '.join(sorted(available)) or 'nothing at all'}"
            )
    raw = {quantity: _array(file, key, where) for quantity, key in found.items()}
    raw["numbers"] = _atomic_numbers(raw["numbers"])
    is_ragged = raw["positions"].ndim == 2  # noqa: PLR2004 (atoms, axes)
    sizes, per_atom = _one_list(raw, where) if is_ragged else _padded(raw, where)
    if found.get("charge") == "Q" and raw["charge"].size != len(sizes):
        del raw["charge"]  # Q is the total charge in PhysNet, of each atom elsewhere
    shapes = {**PER_FRAME, **dict.fromkeys(_scalars(raw), ())}
    per_frame = {
        name: _per_frame(raw[name], (len(sizes), *shape), name, where)
        for name, shape in shapes.items()
        if name in raw
    }
    return {"sizes": sizes, **per_atom, **per_frame}


def _scalars(raw: Arrays) -> list[str]:
    return [name for name in raw if name not in NAMES and not name.endswith(WEIGHTS)]


def _atom_weights(raw: Arrays) -> list[str]:
    return [name for name in raw if name not in NAMES and name.endswith(WEIGHTS)]


def _array(file: Mapping[str, Any], key: str, where: str) -> np.ndarray:
    name = key.removeprefix("-")
    try:
        values = np.asarray(file[name])
    except ValueError as error:  # NumPy's refusal to unpickle
        raise ValueError(
            f"{where}: {name!r} is an array of Python objects, which may run code and "
            "is not read; save it as numbers"
        ) from error
    if values.dtype.kind in "SO":
        values = values.astype("S").astype(str)  # HDF5 gives text as bytes
    return -values if key.startswith("-") else values


def _atomic_numbers(values: np.ndarray) -> np.ndarray:
    """Return atomic numbers, also for chemical symbols; empty ones are padding."""
    if values.dtype.kind != "U":
        return values
    numbers = [number(str(symbol)) if symbol else 0 for symbol in values.flat]
    return np.array(numbers).reshape(values.shape)


def _padded(raw: Arrays, where: str) -> tuple[np.ndarray, Arrays]:
    """Return sizes and atoms of arrays with a row per frame."""
    positions, numbers = raw["positions"], raw["numbers"]
    if positions.ndim != 3 or positions.shape[2] != 3:  # noqa: PLR2004 (axes)
        raise ValueError(
            f"{where}: positions have shape {positions.shape}, but (frames, atoms, 3) "
            "or (atoms, 3) is needed; name another array under keys"
        )
    shape = positions.shape[:2]
    if numbers.shape not in (shape, shape[1:]):
        raise _misshapen("numbers", numbers, shape, where)
    numbers = np.broadcast_to(numbers, shape)
    present = numbers > 0
    per_atom = {"numbers": numbers[present], "positions": positions[present]}
    if "forces" in raw:
        if raw["forces"].shape != positions.shape:
            raise _misshapen("forces", raw["forces"], positions.shape, where)
        per_atom["forces"] = raw["forces"][present]
    for name in _atom_weights(raw):
        if raw[name].shape != shape:
            raise _misshapen(name, raw[name], shape, where)
        per_atom[name] = raw[name][present]
    return present.sum(axis=1), per_atom


def _one_list(raw: Arrays, where: str) -> tuple[np.ndarray, Arrays]:
    """Return sizes and atoms of arrays with a row per atom."""
    n_atoms = len(raw["positions"])
    offsets = raw.get("offsets", np.array([0, n_atoms]))
    sizes = np.diff(offsets)
    if offsets[0] != 0 or offsets[-1] != n_atoms or (sizes < 1).any():
        raise ValueError(
            f"{where}: offsets must rise from 0 to the number of atoms, {n_atoms}; "
            "frame i holds the atoms offsets[i] to offsets[i + 1]"
        )
    names = [*(name for name in PER_ATOM if name in raw), *_atom_weights(raw)]
    per_atom = {name: raw[name] for name in names}
    for name, values in per_atom.items():
        shape = (n_atoms, 3) if name in {"positions", "forces"} else (n_atoms,)
        if values.shape != shape:
            raise _misshapen(name, values, shape, where)
    return sizes, per_atom


def _per_frame(
    values: np.ndarray, shape: tuple[int, ...], name: str, where: str
) -> np.ndarray:
    n_frames, rest = shape[0], shape[1:]
    if name in MAY_BE_SHARED and values.shape == rest:
        return np.broadcast_to(values, shape)
    if values.size == np.prod(shape) and (n_frames == 1 or len(values) == n_frames):
        return values.reshape(shape)
    raise _misshapen(name, values, shape, where)


def _misshapen(
    name: str, values: np.ndarray, shape: tuple[int, ...], where: str
) -> ValueError:
    return ValueError(
        f"{where}: {name} has shape {values.shape}, but {shape} is needed; "
        "name another array under keys"
    )
