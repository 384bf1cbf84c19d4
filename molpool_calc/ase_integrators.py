"""The integrators of ``ase.md`` by name: ensemble, constructor, known problems.

One row a class and ensemble. ``keywords`` maps arguments of the constructor to
quantities of `Settings`, in ASE's units, and these to the options of `DynamicsJob`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import sqrt
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from molpool_calc.ase_settings import OPTIONS, Settings
from molpool_calc.units import FEMTOSECOND

if TYPE_CHECKING:
    from ase import Atoms

PREFIX = "ase:"


def _nothing(_dynamics: Any) -> float:
    return 0.0


def _counted(dynamics: Any) -> float:
    return float(dynamics.transferred_energy)


def _left_of_conserved(dynamics: Any) -> float:
    atoms = dynamics.atoms
    energy = atoms.get_potential_energy() + atoms.get_kinetic_energy()
    return float(energy - dynamics.get_conserved_energy())


def _left_of_gibbs(dynamics: Any) -> float:
    atoms = dynamics.atoms
    energy = atoms.get_potential_energy() + atoms.get_kinetic_energy()
    return float(energy - dynamics.get_gibbs_free_energy())


@dataclass(frozen=True, kw_only=True)
class AseKind:
    """A class of ``ase.md`` in one ensemble.

    Attributes:
        module: of the class, below ``ase.md``.
        ensemble: ``nve``, ``nvt`` or ``npt``.
        free: motion that it keeps up: ASE counts 3N degrees of freedom, so that rigid
            motion has to stay where a temperature is aimed at.
        keywords: arguments of the constructor, with the quantity that each takes.
        constants: further arguments.
        heat: energy from the surroundings up to a constant, if the class knows it.
        note: a known problem, for ``run.json``.
    """

    module: str
    ensemble: Literal["nve", "nvt", "npt"]
    free: Literal["internal", "all"] = "all"
    keywords: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    heat: Callable[[Any], float] | None = None
    note: str = ""

    @property
    def options(self) -> frozenset[str]:
        """Options of a job that mean something to it."""
        taken = (OPTIONS.get(quantity, ()) for quantity in self.keywords.values())
        return frozenset(name for names in taken for name in names)

    def make(self, name: str, atoms: "Atoms", settings: Settings) -> Any:
        """Return the dynamics of a structure that has a calculator and momenta."""
        quantities = settings.quantities()
        given = {key: quantities[name] for key, name in self.keywords.items()}
        chosen = getattr(import_module(f"ase.md.{self.module}"), name)
        timestep = settings.timestep_fs * FEMTOSECOND
        return chosen(atoms, timestep, **given, **self.constants)


_WEAK = "weak coupling samples no ensemble: its fluctuations are too small"
_COUNTS = "counts 3N degrees of freedom, so that rigid motion is part of the dynamics"
_BATH = {"temperature_K": "temperature", "rng": "rng"}
_BERENDSEN = {
    "temperature_K": "temperature",
    "taut": "relaxation",
    "pressure_au": "pressure",
    "taup": "barostat_relaxation",
    "compressibility_au": "compressibility",
}
_MTK = {
    "temperature_K": "temperature",
    "tdamp": "relaxation",
    "tchain": "chain_length",
    "pressure_au": "pressure",
    "pdamp": "barostat_relaxation",
}
_BAOAB = {**_BATH, "T_tau": "drag_time"}

KINDS: Mapping[str, tuple[AseKind, ...]] = {
    "VelocityVerlet": (
        AseKind(module="verlet", ensemble="nve", free="internal", heat=_nothing),
    ),
    "Langevin": (
        AseKind(
            module="langevin",
            ensemble="nvt",
            keywords={**_BATH, "friction": "friction"},
            constants={"fixcm": False},
            note="fixcm is off, since with it ASE does not sample NVT exactly",
        ),
    ),
    "LangevinBAOAB": (
        AseKind(module="langevinbaoab", ensemble="nvt", keywords=_BAOAB),
        AseKind(
            module="langevinbaoab",
            ensemble="npt",
            keywords={
                **_BAOAB,
                "externalstress": "tension",
                "hydrostatic": "hydrostatic",
                "P_tau": "barostat_relaxation",
                "P_mass": "cell_mass",
            },
            note="the mass of the cell is ASE's estimate for a metal",
        ),
    ),
    "Andersen": (
        AseKind(
            module="andersen",
            ensemble="nvt",
            keywords={**_BATH, "andersen_prob": "collision_probability"},
            constants={"fixcm": False},
            note="collisions interrupt the motion, so that spectra mean nothing",
        ),
    ),
    "Bussi": (
        AseKind(
            module="bussi",
            ensemble="nvt",
            keywords={**_BATH, "taut": "relaxation"},
            heat=_counted,
            note=_COUNTS,
        ),
    ),
    "NoseHooverChainNVT": (
        AseKind(
            module="nose_hoover_chain",
            ensemble="nvt",
            keywords={
                "temperature_K": "temperature",
                "tdamp": "relaxation",
                "tchain": "chain_length",
            },
            heat=_left_of_conserved,
            note=_COUNTS,
        ),
    ),
    "NVTBerendsen": (
        AseKind(
            module="nvtberendsen",
            ensemble="nvt",
            keywords={"temperature_K": "temperature", "taut": "relaxation"},
            constants={"fixcm": False},
            note=_WEAK,
        ),
    ),
    **{
        name: (
            AseKind(
                module="nptberendsen",
                ensemble="npt",
                keywords=_BERENDSEN,
                constants={"fixcm": False},
                note=_WEAK,
            ),
        )
        for name in ("NPTBerendsen", "Inhomogeneous_NPTBerendsen")
    },
    **{
        name: (
            AseKind(
                module="nose_hoover_chain",
                ensemble="npt",
                keywords=_MTK,
                constants={"mask": (True, True, True)} if masked else {},
                heat=_left_of_conserved,
                note=_COUNTS,
            ),
        )
        for name, masked in (
            ("IsotropicMTKNPT", False),
            ("MTKNPT", False),
            ("MaskedMTKNPT", True),
        )
    },
    "MelchionnaNPT": (
        AseKind(
            module="melchionna",
            ensemble="npt",
            free="internal",
            keywords={
                "temperature_K": "temperature",
                "ttime": "relaxation",
                "externalstress": "pressure",
                "pfactor": "pressure_factor",
            },
            heat=_left_of_gibbs,
            note="needs a triangular cell, and its fluctuations depend on both times",
        ),
    ),
}


def ase_kind(name: str, ensemble: str | None) -> AseKind:
    """Return the row of a class, by default of its first ensemble.

    Raises:
        ValueError: the class is not there, or not in this ensemble.
    """
    rows = KINDS.get(name)
    if rows is None:
        raise ValueError(
            f"the integrator {PREFIX}{name} is unknown; give {PREFIX} and one of "
            f"{', '.join(KINDS)}"
        )
    for row in rows:
        if ensemble in (None, row.ensemble):
            return row
    made = " or ".join(row.ensemble for row in rows)
    raise ValueError(
        f"{PREFIX}{name} makes the ensemble {made}, but {ensemble} was given; leave "
        "the ensemble out or take another integrator"
    )


def refuse_misplaced_of_ase(
    given: Iterable[str],
    name: str,
    ensemble: str | None,
    *,
    spell: Callable[[str], str] = str,
    equilibrates: bool = False,
) -> None:
    """Check that a class of ASE takes the options that were given.

    Raises:
        ValueError: the class is unknown, or an option means nothing to it.
    """
    taken = ase_kind(name, ensemble).options
    taken |= {"friction_per_fs"} if equilibrates else frozenset()
    for option in given:
        if option not in taken:
            known = ", ".join(map(spell, sorted(taken))) or "no option of these"
            raise ValueError(
                f"{spell(option)} means nothing to {PREFIX}{name}, which takes {known};"
                " leave it out"
            )


def require_plain_cell(name: str, atoms: "Atoms") -> None:
    """Check that a class of ASE can take the cell of a structure.

    Raises:
        ValueError: it needs a triangular matrix, and this is none.
    """
    cell = atoms.cell.array
    upper, lower = np.triu(cell, 1), np.tril(cell, -1)
    crooked = sqrt(min(np.square(upper).sum(), np.square(lower).sum())) > 0.0
    if name == "MelchionnaNPT" and crooked:
        raise ValueError(
            f"{PREFIX}{name} needs a triangular cell, but this one is not; turn it "
            f"with ase.cell.Cell.standard_form, or take {PREFIX}MTKNPT"
        )
