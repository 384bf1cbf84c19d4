"""Units that a file states itself: they must be those of the recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase.db
import numpy as np

from molpool_calc.training.file_units import Units
from molpool_calc.training.named_arrays import NAMES

SPELLINGS = {
    **dict.fromkeys(("Angstrom", "Ang", "A", "Å"), "Angstrom"),
    **dict.fromkeys(("Bohr", "a0"), "Bohr"),
    **{name: name for name in ("eV", "kcal/mol", "kJ/mol")},
    **dict.fromkeys(("Hartree", "Ha", "Eh"), "Hartree"),
}
"""How sGDML, SchNetPack and ASE write the units that recipes know."""


def demand_stated_units(
    path: Path, units: Units, keys: Mapping[str, str], kind: str
) -> None:
    """Raise ValueError where the file states another unit than the recipe.

    Known are ``r_unit`` and ``e_unit`` of sGDML's npz files and the metadata of
    SchNetPack's databases; spellings that are not known are no contradiction.

    Args:
        path: the file.
        units: what the recipe states.
        keys: what the recipe names.
        kind: the format, ``npz`` or ``db``; others state nothing.
    """
    stated: Mapping[str, Any] = {}
    if kind == "npz":
        with np.load(path, allow_pickle=False) as archive:
            given = {"length": "r_unit", "energy": "e_unit"}
            stated = {
                quantity: archive[key].item()
                for quantity, key in given.items()
                if key in archive.files
            }
    elif kind == "db":
        metadata = ase.db.connect(path).metadata  # type: ignore[no-untyped-call]
        by_name = metadata.get("_property_unit_dict", {})
        energies = (keys["energy"],) if "energy" in keys else NAMES["energy"]
        stated = {
            "length": metadata.get("_distance_unit"),
            "energy": next((by_name[key] for key in energies if key in by_name), None),
        }
    for quantity, word in stated.items():
        _compare(quantity, word, getattr(units, quantity), path.name)


def _compare(quantity: str, word: Any, unit: str | None, where: str) -> None:
    text = word.decode() if isinstance(word, bytes) else str(word)
    by_lower = {name.lower(): known for name, known in SPELLINGS.items()}
    known = by_lower.get(text.strip().lower())
    if known is not None and unit is not None and known != unit:
        raise ValueError(
            f"{where} states {text!r} as its unit of {quantity}, but units.{quantity} "
            f"is {unit!r}; correct the recipe"
        )
