"""Structures that users name: a file, a bundled molecule, or a SMILES string.

The bundled molecules and what experiments say of them are in ``molecules.json``.
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

SMILES_PREFIX = "smiles:"
CONFORMER_SEED = 2024

# ASE's readers of some 80 formats raise all of these on files of another format
READ_FAILURES = (
    ase.io.formats.UnknownFileTypeError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    sqlite3.Error,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """What measurements say of a molecule; empty where no source was at hand.

    Attributes:
        fundamentals_cm1: fundamental wavenumbers, ascending.
        band_strengths_km_mol: of the fundamentals, in their order.
        band_strength_errors_km_mol: uncertainties of the strengths.
        fundamentals_source: of all of the above.
        peaks: position (cm⁻¹) and relative height of the peaks in the gas phase.
        peaks_source: of the peaks.
        band_areas: limits (cm⁻¹) and area (km/mol) of quantitative spectra of the gas.
        band_areas_source: of the areas.
    """

    fundamentals_cm1: tuple[float, ...] = ()
    band_strengths_km_mol: tuple[float, ...] = ()
    band_strength_errors_km_mol: tuple[float, ...] = ()
    fundamentals_source: str = ""
    peaks: tuple[tuple[float, float], ...] = ()
    peaks_source: str = ""
    band_areas: tuple[tuple[float, float, float], ...] = ()
    band_areas_source: str = ""


def molecule_names() -> list[str]:
    """Return the names of the bundled molecules."""
    return list(_table())


def experiment_of(name: str) -> Experiment | None:
    """Return what is known of a bundled molecule from experiment, if anything.

    Args:
        name: as users write it; ``None`` is returned for all that is not bundled.

    Example:
        >>> experiment_of("formaldehyde").fundamentals_cm1
        (1167.0, 1249.0, 1500.0, 1746.0, 2782.0, 2843.0)
    """
    known = _entry(name).get("experiment")
    if known is None:
        return None
    values: dict[str, Any] = {
        key: value if isinstance(value, str) else tuple(map(_frozen, value))
        for key, value in known.items()
    }
    return Experiment(**values)


def default_potential(name: str) -> str | None:
    """Return the bundled potential made for a bundled molecule, if there is one."""
    potential: str | None = _entry(name).get("potential")
    return potential


def read_system(text: str) -> Atoms:
    """Return the structure that ``text`` names.

    Args:
        text: a bundled molecule, ``smiles:`` and a SMILES string (needs RDKit), or a
            file that ASE reads; of several frames the last is taken, or the one
            that ``@`` and its number after the name ask for.

    Raises:
        ValueError: there is no such molecule or file, or it cannot be read.
        ImportError: a SMILES string was given and RDKit is missing.

    Example:
        >>> read_system("formaldehyde").get_chemical_formula()
        'CH2O'
    """
    if text.startswith(SMILES_PREFIX):
        return _from_smiles(text.removeprefix(SMILES_PREFIX))
    entry = _entry(text)
    if entry:
        return Atoms(entry["symbols"], entry["positions"])
    return _from_file(text)


def _table() -> dict[str, dict[str, Any]]:
    content = files("molpool_calc").joinpath("molecules.json").read_text("utf-8")
    table: dict[str, dict[str, Any]] = json.loads(content)["molecules"]
    return table


def _entry(name: str) -> Mapping[str, Any]:
    table = _table()
    entry = table.get(name, {})
    return table[entry["same_as"]] if "same_as" in entry else entry


def _frozen(value: Any) -> Any:
    return tuple(map(float, value)) if isinstance(value, list) else float(value)


def _from_file(text: str) -> Atoms:
    path = Path(text)
    if not path.exists() and "@" in text:
        path = Path(text.rpartition("@")[0])
    if not path.is_file():
        raise ValueError(
            f"there is no structure {text!r}: give a file that ASE reads, one of the "
            f"bundled molecules {', '.join(molecule_names())}, or smiles: and a SMILES "
            "string, as in smiles:CCO"
        )
    try:
        atoms = ase.io.read(text)
    except READ_FAILURES as error:
        raise ValueError(
            f"{text} cannot be read as a structure ({_reason(error)}); give a file "
            "of a format that ASE reads, such as .xyz, .cif or .traj"
        ) from error
    if not isinstance(atoms, Atoms):
        raise ValueError(f"{text} holds several structures; ask for one, as in @0")
    return atoms


def _reason(error: BaseException) -> str:
    """Return one line on an error of a reader."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _from_smiles(smiles: str) -> Atoms:
    """Return the force-field minimum of one conformer, always the same one."""
    try:
        from rdkit import Chem, rdBase  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(
            f"{SMILES_PREFIX}{smiles} needs RDKit, which is not installed; run "
            "pip install 'molpool-calc[chem]', or give a structure file"
        ) from error
    with rdBase.BlockLogs():  # RDKit writes to stderr by itself
        molecule = _conformer(smiles)
    atoms = Atoms(
        [atom.GetAtomicNum() for atom in molecule.GetAtoms()],
        np.asarray(molecule.GetConformer().GetPositions()),
    )
    charge = Chem.GetFormalCharge(molecule)
    unpaired = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    atoms.info.update({"charge": charge} if charge else {})
    atoms.info.update({"num_unpaired": unpaired} if unpaired else {})
    return atoms


def _conformer(smiles: str) -> Any:
    """Return RDKit's molecule with hydrogen atoms and positions."""
    from rdkit import Chem  # noqa: PLC0415 - an extra
    from rdkit.Chem import AllChem  # noqa: PLC0415 - an extra

    parsed = Chem.MolFromSmiles(smiles)
    if parsed is None or parsed.GetNumAtoms() == 0:
        raise ValueError(
            f"{smiles!r} is no SMILES string that RDKit understands; write it as in "
            "smiles:CCO"
        )
    molecule = Chem.AddHs(parsed)
    if AllChem.EmbedMolecule(molecule, randomSeed=CONFORMER_SEED) != 0:
        raise ValueError(
            f"RDKit finds no three-dimensional structure for {smiles!r}; give a "
            "structure file"
        )
    if AllChem.MMFFHasAllMoleculeParams(molecule):
        AllChem.MMFFOptimizeMolecule(molecule, maxIters=2000)
    return molecule
