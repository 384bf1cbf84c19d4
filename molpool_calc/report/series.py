"""Energies and temperatures along a run, thinned so that no extreme is lost."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int

from molpool_calc.md.manifest import Manifest
from molpool_calc.md.trajectory import RunData
from molpool_calc.report.numbers import resolved
from molpool_calc.units import BOLTZMANN

_BIN_FS = 50.0
"""Least length of a bin: some periods of a vibration, so that its mean says how hot."""
_MOST_BINS = 400
_FEWEST_BINS = 40
# Of all replicas together, so that the page of a run of hundreds stays small.
_ALL_BINS = 12_000


class Envelope(NamedTuple):
    """Mean, least and greatest value in each of consecutive bins of steps."""

    mean: Float64[np.ndarray, "replicas bins"]
    low: Float64[np.ndarray, "replicas bins"]
    high: Float64[np.ndarray, "replicas bins"]


def envelope(values: Float[np.ndarray, "replicas steps"], n_bins: int) -> Envelope:
    """Return the envelope of a series in at most ``n_bins`` bins of steps."""
    starts = _starts(values.shape[1], n_bins)
    counts = np.diff([*starts, values.shape[1]])
    return Envelope(
        mean=np.add.reduceat(values, starts, axis=1) / counts,
        low=np.minimum.reduceat(values, starts, axis=1),
        high=np.maximum.reduceat(values, starts, axis=1),
    )


def series_data(run: RunData, manifest: Manifest) -> dict[str, Any]:
    """Return the charts of a run over time, ready for JSON.

    Temperature, potential energy above the lowest of the run, conserved energy
    (total less the heat of a thermostat) since the start, spread of the forces of a
    committee, and recorded properties.
    """
    n_replicas, n_steps = run.energies.shape
    most = min(_ALL_BINS // n_replicas, _MOST_BINS)
    n_bins = int(np.clip(n_steps * run.timestep_fs // _BIN_FS, _FEWEST_BINS, most))
    starts = _starts(n_steps, n_bins)
    ends = np.array([*starts[1:], n_steps]) - 1
    times = (run.times_fs[starts] + run.times_fs[ends]) / 2e3
    freedom = np.maximum(run.degrees_of_freedom, 1.0)[:, None]
    conserved = run.energies + run.kinetic - run.heat
    per_atom = 1e3 / len(run.atomic_numbers)
    units, spreads = manifest.get("units", {}), run.force_spreads
    shown = [
        ("temperature", "K", 2.0 * run.kinetic / (freedom * BOLTZMANN)),
        ("potential energy", "eV", run.energies - np.nanmin(run.energies)),
        ("conserved energy", "meV/atom", per_atom * (conserved - conserved[:, :1])),
        *([] if spreads is None else [("force spread", "eV/Å", spreads)]),
        *((name, units.get(name, ""), values) for name, values in run.others.items()),
    ]
    return {
        "times": resolved(times),
        "range": [0.0, float(max(run.times_fs[-1], run.timestep_fs)) / 1e3],
        "n_replicas": n_replicas,
        "charts": [
            {
                "name": name,
                "unit": unit,
                **{
                    part: resolved(found)
                    for part, found in envelope(values, n_bins)._asdict().items()
                },
            }
            for name, unit, values in shown
        ],
    }


def _starts(n_steps: int, n_bins: int) -> Int[np.ndarray, " bins"]:
    """Return the first step of each bin; bins differ in length by one at most."""
    n = min(n_steps, n_bins)
    return np.arange(n) * n_steps // n
