"""The temperature for which the intensities of a recorded run count."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from molpool_calc.md.trajectory import RunData
from molpool_calc.units import BOLTZMANN

Origin = Literal["stated", "inputs of the run", "kinetic energy of the run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTemperature:
    """A temperature in K, and where it comes from."""

    kelvin: float
    origin: Origin


def temperature_of_run(
    run: RunData, folder: Path, stated: float | None
) -> RunTemperature:
    """Return what was stated, else the temperature at which the atoms of a run move.

    That is the one of the ensemble from which its replicas were drawn. A run at
    constant energy that was not equilibrated was not drawn from one: from a minimum,
    half of the kinetic energy of its first momenta becomes potential energy, so that
    ``T = 2⟨K⟩/(fk_B)`` of the run itself counts, with its ``f`` degrees of freedom.

    Args:
        run: whose replicas are good throughout.
        folder: of the run, for the error.
        stated: in K, by the caller.

    Raises:
        ValueError: nothing states a temperature.
    """
    if stated is not None:
        return RunTemperature(kelvin=float(stated), origin="stated")
    if _begins_unequilibrated(run):
        freedom = max(float(run.degrees_of_freedom.mean()), 1.0)
        kelvin = 2.0 * float(run.kinetic.mean()) / (freedom * BOLTZMANN)
        return RunTemperature(kelvin=kelvin, origin="kinetic energy of the run")
    nominal = run.temperature or run.inputs.get("temperature")
    if nominal is None:
        raise ValueError(
            f"the run in {folder} states no temperature; give one with --temperature"
        )
    return RunTemperature(kelvin=float(nominal), origin="inputs of the run")


def _begins_unequilibrated(run: RunData) -> bool:
    """Return whether a run at constant energy states that nothing came before it."""
    picoseconds = run.inputs.get("equilibration_ps")
    if run.ensemble != "nve" or picoseconds is None:
        return False
    return round(1e3 * float(picoseconds) / run.timestep_fs) == 0
