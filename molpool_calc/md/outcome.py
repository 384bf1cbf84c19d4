"""How a run ended, and what its records say about its quality."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int

from molpool_calc.md.manifest import Manifest
from molpool_calc.md.records import Records, good_steps
from molpool_calc.md.stops import Stop
from molpool_calc.units import BAR, BOLTZMANN

Status = Literal["finished", "interrupted", "stopped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutcome:
    """What `simulate` returns; drift and temperature have a value per replica.

    ``drift_mev_per_atom_per_ps`` is the slope of the conserved energy (total energy
    less the heat from the thermostat) by linear regression over all recorded steps,
    resumed ones included; ``None`` with fewer than two of them, or where an integrator
    does not know the heat. Of a replica that the guard stopped, its good steps count.
    ``seconds`` were spent in this call and those
    before it that ended by themselves. Volume (Å³) and pressure are those of runs at
    constant pressure.

    ``stopped`` lists the replicas that the guard stopped. The status is ``stopped``
    only if no replica is left, or none had forces to go on with; a run in which some
    were stopped and the others came to the end is ``finished``. ``reason`` is a
    sentence about those that were stopped, or about the forces.
    """

    status: Status
    reason: str | None
    steps_done: int
    drift_mev_per_atom_per_ps: tuple[float, ...] | None
    mean_temperature: tuple[float, ...]
    seconds: float
    mean_volume: tuple[float, ...] | None = None
    mean_pressure_bar: tuple[float, ...] | None = None
    stopped: tuple[Stop, ...] = ()

    @property
    def good_steps(self) -> int:
        """The step up to which all replicas are good that can be analysed together.

        Replicas that were stopped do not count, unless all were.
        """
        ends = [stop.step - 1 for stop in self.stopped]
        if self.status != "stopped":
            return self.steps_done
        return min(ends, default=self.steps_done)

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
    lengths = good_steps(records)
    means, slopes = np.empty(len(lengths)), np.zeros(len(lengths))
    for length in np.unique(lengths):
        # a replica that was stopped is NaN from then on
        own, good = lengths == length, records[:length]
        kinetic = good["kinetic"][:, own]
        means[own] = 2.0 * kinetic.mean(axis=0) / (freedom[own] * BOLTZMANN)
        if length > 1:
            slopes[own] = energy_drift(
                good["step"],
                good["energy"][:, own] + kinetic - good["heat"][:, own],
                timestep_fs=dynamics["timestep_fs"],
                n_atoms=len(dynamics["atomic_numbers"]),
            )
    known = len(records) > 1 and dynamics.get("knows_heat", True)
    return {
        "drift_mev_per_atom_per_ps": tuple(slopes.tolist()) if known else None,
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
