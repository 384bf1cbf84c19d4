"""Writing of structures, whole or not at all."""

from pathlib import Path

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.formats import UnknownFileTypeError, filetype, ioformats

from molpool_calc.commands.output import replacing


def format_of(path: Path) -> str:
    """Return ASE's name of the format that a file name asks for.

    Raises:
        ValueError: ASE cannot write such a file.
    """
    try:
        name = "extxyz" if path.suffix == ".xyz" else filetype(str(path), read=False)
    except UnknownFileTypeError as error:
        raise ValueError(
            f"the format of {path} is not known; give a name that ends in .xyz, .traj, "
            ".cif or another format of ASE"
        ) from error
    if name not in ioformats or not ioformats[name].can_write:
        raise ValueError(
            f"ASE cannot write {path} as {name}; give a name that ends in .xyz or .traj"
        )
    return str(name)


def write_structure(path: Path, atoms: Atoms, file_format: str) -> None:
    """Write the structure with its energy, forces and dipole."""
    frozen = atoms.copy()  # type: ignore[no-untyped-call]
    results = {
        name: value
        for name, value in atoms.calc.results.items()
        if name in {"energy", "forces", "dipole", "stress"}
    }
    frozen.calc = SinglePointCalculator(frozen, **results)  # type: ignore[no-untyped-call]
    with replacing(path) as temporary:
        ase.io.write(temporary, frozen, format=file_format)
