"""Which integrator an ensemble and a thermostat ask for, and what options they take."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from molpool_calc.md.cell_rescaling import CellRescaling
from molpool_calc.md.integrators import NVE, Bussi, Integrator, Langevin
from molpool_calc.md.nose_hoover import NoseHoover

ENSEMBLES = ("nve", "nvt", "npt")
THERMOSTATS = {
    "langevin": ("friction_per_fs",),
    "bussi": ("relaxation_fs",),
    "nose-hoover": ("relaxation_fs", "chain_length"),
}
"""Thermostats, with the options that each takes."""
BAROSTATS = ("isotropic", "flexible")
OF_PRESSURE = (
    "barostat",
    "pressure_bar",
    "barostat_relaxation_fs",
    "compressibility_per_bar",
)
"""Options of constant pressure."""
COMPRESSIBILITY_OF_WATER = 4.5e-5  # 1/bar at 300 K: Kell, J. Chem. Eng. Data 20, 97
_DEFAULTS = {
    "chain_length": 3,
    "barostat": BAROSTATS[0],
    "pressure_bar": 1.0,
    "barostat_relaxation_fs": 1000.0,
    "compressibility_per_bar": COMPRESSIBILITY_OF_WATER,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of thermostats and barostats; ``None`` where there is a default."""

    friction_per_fs: float = 0.01
    relaxation_fs: float = 100.0
    chain_length: int | None = None
    barostat: str | None = None
    pressure_bar: float | None = None
    barostat_relaxation_fs: float | None = None
    compressibility_per_bar: float | None = None

    @property
    def named(self) -> list[str]:
        """Names of the options that were given, of those without a fixed default."""
        optional = (field.name for field in fields(self) if field.default is None)
        return [name for name in optional if getattr(self, name) is not None]

    @property
    def complete(self) -> dict[str, Any]:
        """All options by name, defaults for those that were not given.

        Raises:
            ValueError: there is no such barostat.
        """
        if self.barostat is not None:
            _require_known("barostat", self.barostat, BAROSTATS)
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return given | {
            name: default for name, default in _DEFAULTS.items() if given[name] is None
        }


def refuse_misplaced(
    given: Iterable[str],
    ensemble: str,
    thermostat: str,
    *,
    spell: Callable[[str], str] = str,
    equilibrates: bool = False,
) -> None:
    """Check that an ensemble takes the options that were given.

    Args:
        given: names of options.
        ensemble: one of `ENSEMBLES`.
        thermostat: one of `THERMOSTATS`; means nothing to nve.
        spell: gives the name of an option as the user writes it.
        equilibrates: whether Langevin dynamics comes before the run.

    Raises:
        ValueError: an ensemble or thermostat is unknown, or an option means nothing.
    """
    _require_known("ensemble", ensemble, ENSEMBLES)
    _require_known("thermostat", thermostat, THERMOSTATS)
    taken = {"friction_per_fs"} if equilibrates else set()
    what = ensemble
    if ensemble != "nve":
        taken |= {"thermostat", *THERMOSTATS[thermostat]}
        what = f"{ensemble} with the thermostat {thermostat}"
    if ensemble == "npt":
        taken |= set(OF_PRESSURE)
    for name in given:
        if name not in taken:
            raise ValueError(
                f"{spell(name)} means nothing to {what}; leave it out, or give "
                f"{_home_of(name, spell)}"
            )


def _home_of(name: str, spell: Callable[[str], str]) -> str:
    """Return what takes an option."""
    if name in OF_PRESSURE:
        return f"{spell('ensemble')} npt"
    if name == "thermostat":
        return f"{spell('ensemble')} nvt or npt"
    takers = [kind for kind, options in THERMOSTATS.items() if name in options]
    return f"{spell('ensemble')} nvt or npt and {spell('thermostat')} " + " or ".join(
        takers
    )


def _require_known(what: str, given: str, known: Iterable[str]) -> None:
    if given not in known:
        raise ValueError(f"the {what} {given!r} is unknown; give {', '.join(known)}")


def integrator_of(
    ensemble: str,
    thermostat: str,
    options: Options,
    *,
    timestep_fs: float,
    temperature: float,
) -> Integrator:
    """Return what makes the steps.

    Raises:
        ValueError: a number that makes no sense, or an unknown name.
    """
    if ensemble == "nve":
        return NVE(timestep_fs=timestep_fs)
    common: dict[str, Any] = {"timestep_fs": timestep_fs, "temperature": temperature}
    relaxation = {"relaxation_fs": options.relaxation_fs}
    made: Langevin | Bussi | NoseHoover
    if thermostat == "langevin":
        made = Langevin(**common, friction_per_fs=options.friction_per_fs)
    elif thermostat == "bussi":
        made = Bussi(**common, **relaxation)
    else:
        links = options.complete["chain_length"]
        made = NoseHoover(**common, **relaxation, chain_length=links)
    return made if ensemble == "nvt" else _at_pressure(made, options)


def _at_pressure(
    thermostat: Langevin | Bussi | NoseHoover, options: Options
) -> CellRescaling:
    chosen = options.complete
    return CellRescaling(
        thermostat=thermostat,
        barostat="flexible" if chosen["barostat"] == "flexible" else "isotropic",
        pressure_bar=chosen["pressure_bar"],
        relaxation_fs=chosen["barostat_relaxation_fs"],
        compressibility_per_bar=chosen["compressibility_per_bar"],
    )
