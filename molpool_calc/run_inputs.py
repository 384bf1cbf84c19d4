"""What a run depends on, as ``run.json`` states it and resumed runs compare it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ase import Atoms

from molpool_calc.foreign import foreign_calculator
from molpool_calc.provenance import Potentials, provenance

MEANS = {"n_steps", "compile"}
"""What may be another when a run goes on."""
_STATE = ("charge", "num_unpaired")
"""Recorded where they are not 0."""


def run_header(potential: Potentials, atoms: Atoms, job: Any) -> Mapping[str, Any]:
    """Return what ``run.json`` states of a run before its first step.

    Its ``inputs`` must be the same when the run is resumed; its length may grow.

    Args:
        potential: bundled name or folder, or several: a committee.
        atoms: the structure the run starts from.
        job: frozen record of everything else that decides the run.
    """
    origin = provenance(potential)
    foreign = {}
    if getattr(job, "forces", None) is not None:
        foreign = {
            "forces_versions": foreign_calculator(job.forces).identity()["versions"]
        }
    decided = {key: value for key, value in asdict(job).items() if key not in MEANS}
    structure = {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.round(6).tolist(),
        **{key: float(atoms.info[key]) for key in _STATE if atoms.info.get(key)},
    }
    return {
        **origin,
        "inputs": {**origin["potential"], **decided, **foreign, **structure},
    }
