"""Files to arrays under MolPool's names, in the units of the file.

The arrays of all frames stand one after another: ``sizes`` (atoms per frame),
``numbers``, ``positions`` and, where found, ``energy``, ``forces``, ``dipole``,
``polarizability``, ``charge``, ``cell``, ``pbc`` and ``split``. Nothing in a file is
ever executed: arrays of Python objects are refused.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

NAMES = {
    "numbers": ("numbers", "Z", "z", "nuclear_charges", "atomic_numbers", "atNUM"),
    "positions": ("positions", "R", "coords", "coord", "coordinates", "atXYZ"),
    "offsets": ("offsets",),
    "energy": ("energy", "E", "energies", "REF_energy"),
    "forces": ("forces", "F", "REF_forces", "totFOR"),
    "dipole": ("dipole", "D", "dipoles", "mu", "REF_dipole", "vDIP"),
    "polarizability": ("polarizability", "alpha", "REF_polarizability"),
    "charge": ("charge", "total_charge"),
    "cell": ("cell", "cells"),
    "pbc": ("pbc",),
    "split": ("split",),
}
"""Names under which each quantity is recognised, those of MD17, rMD17, PhysNet,
QM7-X, AIMNet and MACE among them."""


def read_arrays(path: Path, keys: Mapping[str, str], file_format: str | None) -> Arrays:
    """Return the arrays of all frames of a file.

    Raises:
        ValueError: ``keys`` name what is not there or no quantity at all, positions
            or elements are not found, or a shape is wrong.
    """
    unknown = sorted(set(keys) - set(NAMES))
    if unknown:
        raise ValueError(
            f"keys name the unknown quantity {unknown[0]!r}; "
            f"the quantities are {', '.join(NAMES)}"
        )
    blocks = list(_blocks(path, keys, file_format))
    if not blocks:
        raise ValueError(f"{path.name} holds no frames; give a file with some")
    return _joined(blocks, path)


def _blocks(
    path: Path, keys: Mapping[str, str], file_format: str | None
) -> Iterator[Arrays]:
    kind = file_format or path.suffix.lstrip(".").lower()
    if kind == "npz":
        with np.load(path, allow_pickle=False) as archive:
            yield frames_of_arrays(archive, keys, path.name)
    else:
        raise NotImplementedError(kind)


def _joined(blocks: list[Arrays], path: Path) -> Arrays:
    """Return the blocks one after another; all must hold the same quantities."""
    names = set(blocks[0])
    for i, block in enumerate(blocks):
        if set(block) != names:
            odd = sorted(names ^ set(block))
            raise ValueError(
                f"{path.name}: block {i} and block 0 do not both hold {odd[0]}; "
                "give every frame the same quantities"
            )
    return {name: np.concatenate([block[name] for block in blocks]) for name in names}


def frames_of_arrays(
    file: Mapping[str, Any], keys: Mapping[str, str], where: str
) -> Arrays:
    """Return the frames of one set of named arrays.

    Positions (frames, N, 3) go with ``numbers`` (N,) for all frames or (frames, N)
    with zeros as padding; positions (atoms, 3) go with ``offsets``, or are one frame.

    Raises:
        ValueError: something is missing, ambiguous or of a wrong shape.
    """
    found = {
        quantity: key
        for quantity in NAMES
        if (key := find_key(quantity, set(file), keys, where)) is not None
    }
    for quantity in ("numbers", "positions"):
        if quantity not in found:
            raise ValueError(
                f"{where} holds no array recognised as {quantity}; name it under keys, "
                f"it holds {', '.join(sorted(file))}"
            )
    raw = {
        quantity: _array(file, key, where, negate=key.startswith("-"))
        for quantity, key in found.items()
    }
    return _ragged(raw, where)


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
    candidates = [name for name in NAMES[quantity] if name in available]
    if len(candidates) > 1:
        raise ValueError(
            f"{where} holds {' and '.join(candidates)}, which could both be "
            f"{quantity}; name one under keys"
        )
    return candidates[0] if candidates else None


def _array(
    file: Mapping[str, Any], key: str, where: str, *, negate: bool
) -> np.ndarray:
    name = key.removeprefix("-")
    try:
        values = np.asarray(file[name])
    except ValueError as error:  # NumPy's refusal to unpickle
        raise ValueError(
            f"{where}: {name!r} is an array of Python objects, which may run code and "
            "is not read; save it as numbers"
        ) from error
    if values.dtype.kind == "S":
        values = values.astype(str)
    return -values if negate else values


def _ragged(raw: Arrays, where: str) -> Arrays:
    """Return the quantities of one block with atoms one after another."""
    positions = raw["positions"]
    if positions.ndim == 3:  # noqa: PLR2004 (frames, atoms, axes)
        n_frames, width = positions.shape[:2]
        numbers = np.broadcast_to(raw["numbers"], (n_frames, width))
        present = numbers > 0
        sizes = present.sum(axis=1)
        per_atom = {"numbers": numbers[present], "positions": positions[present]}
        if "forces" in raw:
            per_atom["forces"] = raw["forces"][present]
    else:
        offsets = raw.get("offsets", np.array([0, len(positions)]))
        sizes = np.diff(offsets)
        n_frames = len(sizes)
        per_atom = {
            name: raw[name]
            for name in ("numbers", "positions", "forces")
            if name in raw
        }
    per_frame = {
        name: _per_frame(raw[name], (n_frames, *shape), name, where)
        for name, shape in PER_FRAME.items()
        if name in raw
    }
    return {"sizes": sizes, **per_atom, **per_frame}


PER_FRAME: dict[str, tuple[int, ...]] = {
    "energy": (),
    "dipole": (3,),
    "polarizability": (3, 3),
    "charge": (),
    "cell": (3, 3),
    "pbc": (3,),
    "split": (),
}


def _per_frame(
    values: np.ndarray, shape: tuple[int, ...], name: str, where: str
) -> np.ndarray:
    if values.size == np.prod(shape):
        return values.reshape(shape)
    if name in ("charge", "cell", "pbc") and values.shape == shape[1:]:
        return np.broadcast_to(values, shape)
    raise ValueError(
        f"{where}: {name} has shape {values.shape}, but {shape} is needed; "
        "name another array under keys"
    )
