"""How a run ended, and what its records say about its quality."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int

from molpool_calc.md.manifest import Manifest
from molpool_calc.md.records import Records
from molpool_calc.units import BAR, BOLTZMANN

Status = Literal["finished", "interrupted", "stopped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutcome:
    """What `simulate` returns; drift and temperature have a value per replica.

    ``drift_mev_per_atom_per_ps`` is the slope of the conserved energy (total energy
    less the heat from the thermostat) by linear regression over all recorded steps,
    resumed ones included; ``None`` with fewer than two of them. ``seconds`` were
    spent in this call and those before it that ended by themselves. Volume (Å³) and
    pressure are those of runs at constant pressure.
    """

    status: Status
    reason: str | None
    steps_done: int
    drift_mev_per_atom_per_ps: tuple[float, ...] | None
    mean_temperature: tuple[float, ...]
    seconds: float
    mean_volume: tuple[float, ...] | None = None
    mean_pressure_bar: tuple[float, ...] | None = None

    def describe(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def energy_drift(
    steps: Int[np.ndarray, " steps"],
    conserved: Float64[np.ndarray, "steps replicas"],
    *,
    timestep_fs: float,
    n_atoms: int,
) -> Float64[np.ndarray, " replicas"]:
    """Return the slope of the conserved energy of each replica in meV/atom/ps.

    Args:
        steps: At least two different ones.
        conserved: In eV.
        timestep_fs: Turns steps into time.
        n_atoms: Of one replica.
    """
    times = steps * (timestep_fs * 1e-3)
    centred = times - times.mean()
    per_ps = centred @ (conserved - conserved.mean(axis=0)) / (centred @ centred)
    drift: Float64[np.ndarray, " replicas"] = 1e3 / n_atoms * per_ps
    return drift


def measure(records: Records, manifest: Manifest) -> dict[str, Any]:
    """Return drift and mean temperature of each replica, under their JSON names."""
    dynamics = manifest["dynamics"]
    freedom = np.maximum(dynamics["degrees_of_freedom"], 1.0)
    means = 2.0 * records["kinetic"].mean(axis=0) / (freedom * BOLTZMANN)
    drift = None
    if len(records) > 1:
        slopes = energy_drift(
            records["step"],
            records["energy"] + records["kinetic"] - records["heat"],
            timestep_fs=dynamics["timestep_fs"],
            n_atoms=len(dynamics["atomic_numbers"]),
        )
        drift = tuple(slopes.tolist())
    return {
        "drift_mev_per_atom_per_ps": drift,
        "mean_temperature": tuple(means.tolist()),
        **_means_of_cells(records),
    }


def _means_of_cells(records: Records) -> dict[str, tuple[float, ...]]:
    """Return mean volume and pressure of each replica where these were recorded."""
    if "volume" not in (records.dtype.names or ()):
        return {}
    # a replica that was stopped is NaN from then on
    volumes = np.nanmean(records["volume"], axis=0)
    pressures = np.nanmean(records["pressure"], axis=0) / BAR
    return {
        "mean_volume": tuple(volumes.tolist()),
        "mean_pressure_bar": tuple(pressures.tolist()),
    }
