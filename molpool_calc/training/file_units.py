"""Units of a data file, as its recipe states them, and their factors."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from molpool_calc.units import (
    BOHR,
    DIPOLE_UNITS,
    ENERGY_UNITS,
    POLARIZABILITY_UNITS,
    SCALAR_UNITS,
)

LENGTH_UNITS = {"Angstrom": 1.0, "Bohr": BOHR}
FORCE_UNITS = {
    f"{energy}/{length}": energy_factor / length_factor
    for energy, energy_factor in ENERGY_UNITS.items()
    for length, length_factor in LENGTH_UNITS.items()
}
DIPOLE_ORIGINS = ("coordinates", "center of mass")
ALLOWED = {
    "energy": ENERGY_UNITS,
    "length": LENGTH_UNITS,
    "forces": FORCE_UNITS,
    "dipole": DIPOLE_UNITS,
    "polarizability": POLARIZABILITY_UNITS,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Units:
    """Units of the quantities in a data file; what has no stated unit is not read.

    Attributes:
        length: ``Angstrom`` or ``Bohr``, of positions and cells.
        energy: ``eV``, ``kcal/mol``, ``kJ/mol`` or ``Hartree``.
        forces: an energy unit ``/`` a length unit; by default those two units above.
        dipole: ``e*Angstrom``, ``Debye`` or ``a.u.`` (e·Bohr).
        dipole_origin: of the dipoles of ions, which depend on it: ``coordinates`` or
            ``center of mass``, the convention of MolPool. Needed for ions only.
        polarizability: ``e^2*Angstrom^2/eV``, ``Angstrom^3`` (the polarizability
            volume) or ``a.u.`` (e²Bohr²/Hartree).
        scalars: of any further number of a molecule, by its name, as in
            ``{ homo = "Hartree" }``; ``"1"`` for one without unit.

    Raises:
        ValueError: a unit is none of these.
    """

    length: str
    energy: str | None = None
    forces: str | None = None
    dipole: str | None = None
    dipole_origin: str | None = None
    polarizability: str | None = None
    scalars: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for quantity, factors in ALLOWED.items():
            unit = getattr(self, quantity)
            if unit is not None and unit not in factors:
                raise ValueError(
                    f"units.{quantity} = {unit!r} is not known; write one of "
                    + ", ".join(repr(name) for name in factors)
                )
        for name, unit in self.scalars.items():
            if unit not in SCALAR_UNITS or name in ALLOWED:
                raise ValueError(
                    f"units.scalars.{name} = {unit!r} is not allowed; write one of "
                    f"{', '.join(map(repr, SCALAR_UNITS))} for a property other than "
                    + ", ".join(ALLOWED)
                )
        if self.dipole_origin not in (None, *DIPOLE_ORIGINS):
            raise ValueError(
                f"units.dipole_origin = {self.dipole_origin!r} is not known; write "
                "'coordinates' or 'center of mass'"
            )

    def factor(self, quantity: str) -> float | None:
        """Return internal units per file unit; ``None`` where no unit is stated.

        Args:
            quantity: ``length``, ``energy``, ``forces``, ``dipole``,
                ``polarizability`` or one of the scalars.
        """
        if quantity in self.scalars:
            return SCALAR_UNITS[self.scalars[quantity]][0]
        if quantity not in ALLOWED:
            return None
        unit = getattr(self, quantity)
        if quantity == "forces" and unit is None and self.energy is not None:
            unit = f"{self.energy}/{self.length}"
        return None if unit is None else ALLOWED[quantity][unit]
