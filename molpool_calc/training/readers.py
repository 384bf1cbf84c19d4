"""Files to arrays under MolPool's names, in the units of the file.

The arrays of all frames stand one after another: ``sizes`` (atoms per frame),
``numbers``, ``positions`` and, where found, ``energy``, ``forces``, ``dipole``,
``polarizability``, ``charge``, ``cell``, ``pbc`` and ``split``. Nothing in a file is
ever executed: arrays of Python objects are refused.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import h5py
import numpy as np
from ase import Atoms

from molpool_calc.training.named_arrays import (
    NAMES,
    Arrays,
    find_key,
    frames_of_arrays,
)

Reader = Callable[[Path, Mapping[str, str]], Iterator[Arrays]]


def read_arrays(
    path: Path,
    keys: Mapping[str, str],
    file_format: str | None,
    further: Collection[str] = (),
) -> Arrays:
    """Return the arrays of all frames of a file.

    ``further`` are quantities of the user's own: numbers of the molecule, or, with
    names that end in ``_weights``, of the atoms. Their keys are their names unless
    ``keys`` say otherwise.

    Raises:
        ValueError: ``keys`` name what is not there or no quantity at all, positions
            or elements are not found, a shape is wrong, or the format is not known.
    """
    unknown = sorted(set(keys) - set(NAMES) - set(further))
    keys = {**{name: name for name in further}, **keys}
    if unknown:
        raise ValueError(
            f"keys name the unknown quantity {unknown[0]!r}; "
            f"the quantities are {', '.join(NAMES)}"
        )
    reader = _OWN_READERS.get(kind_of(path, file_format))
    frames = (
        _read_ase(path, keys, file_format) if reader is None else reader(path, keys)
    )
    blocks = list(frames)
    if not blocks:
        raise ValueError(f"{path.name} holds no frames; give a file with some")
    return _joined(blocks, path)


def kind_of(path: Path, file_format: str | None) -> str:
    """Return the format stated, else the suffix of the file."""
    return file_format or path.suffix.lstrip(".").lower()


def _joined(blocks: list[Arrays], path: Path) -> Arrays:
    """Return the blocks one after another; all must hold the same quantities."""
    names = set(blocks[0])
    for i, block in enumerate(blocks):
        if set(block) != names:
            odd = sorted(names ^ set(block))[0]
            holds, lacks = (i, 0) if odd in block else (0, i)
            raise ValueError(
                f"{path.name}: frame {holds} holds {odd}, frame {lacks} does not; "
                "give every frame the same quantities"
            )
    return {name: np.concatenate([block[name] for block in blocks]) for name in names}


def _read_npz(path: Path, keys: Mapping[str, str]) -> Iterator[Arrays]:
    with np.load(path, allow_pickle=False) as archive:
        yield frames_of_arrays(archive, keys, path.name)


def _read_hdf5(path: Path, keys: Mapping[str, str]) -> Iterator[Arrays]:
    """Yield every group that holds positions: one of all frames, or one a molecule."""
    with h5py.File(path, "r") as file:
        yield from _groups(file, keys, path.name)


def _groups(group: Any, keys: Mapping[str, str], where: str) -> Iterator[Arrays]:
    arrays = {k: v for k, v in group.items() if isinstance(v, h5py.Dataset)}
    positions = keys.get("positions")
    is_molecule = (
        find_key("positions", set(arrays), {}, where) is not None
        if positions is None
        else positions in arrays
    )
    if is_molecule:
        yield frames_of_arrays(arrays, keys, where)
        return
    for name, child in group.items():
        if isinstance(child, h5py.Group):
            yield from _groups(child, keys, f"{where}/{name}")


def _read_database(path: Path, keys: Mapping[str, str]) -> Iterator[Arrays]:
    """Yield the rows of an ASE database; ``data`` and key-value pairs count too."""
    database = ase.db.connect(path)  # type: ignore[no-untyped-call]
    for row in database.select():
        extra = {**row.key_value_pairs, **row.data}
        where = f"{path.name}, row {row.id}"
        yield _frame_of_atoms(row.toatoms(), extra, keys, where)


def _read_ase(
    path: Path, keys: Mapping[str, str], file_format: str | None
) -> Iterator[Arrays]:
    try:
        frames = ase.io.read(path, index=":", format=file_format)
    except (ase.io.formats.UnknownFileTypeError, StopIteration) as error:
        raise ValueError(
            f"{path.name} is of no format that is known; name one under format: npz, "
            "hdf5, db or one of ASE's, such as extxyz"
        ) from error
    for i, atoms in enumerate(frames):
        yield _frame_of_atoms(atoms, {}, keys, f"{path.name}, frame {i}")


def _frame_of_atoms(
    atoms: Atoms, extra: Mapping[str, Any], keys: Mapping[str, str], where: str
) -> Arrays:
    """Return one frame; results of a calculator go before info and arrays."""
    results = {} if atoms.calc is None else atoms.calc.results
    named = {
        **atoms.info,
        **extra,
        **atoms.arrays,
        **{name: value for name, value in results.items() if value is not None},
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
    }
    return frames_of_arrays(named, keys, where)


_OWN_READERS: Mapping[str, Reader] = {
    "npz": _read_npz,
    **dict.fromkeys(("h5", "hdf5", "hdf"), _read_hdf5),
    **dict.fromkeys(("db", "json"), _read_database),
}
