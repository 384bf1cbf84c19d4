"""Geometry optimisation, as ``relax`` and ``vib`` need it."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.optimize import BFGS

from molpool_calc.commands.console import Console


@dataclass(frozen=True, kw_only=True, slots=True)
class Relaxation:
    """How an optimisation ended; forces in eV/Å."""

    fmax: float
    n_steps: int
    converged: bool


def relax(atoms: Atoms, *, fmax: float, max_steps: int, console: Console) -> Relaxation:
    """Move the atoms to a minimum of their calculator's energy.

    Args:
        atoms: moved in place; its cell stays.
        fmax: largest force on an atom at the end.
        max_steps: of the optimiser (BFGS).
        console: shows the progress.
    """
    demand_forces(atoms)
    optimizer = BFGS(atoms, logfile=None)
    with console.progress(None, "relaxing", "steps") as bar:
        converged = False
        for converged in optimizer.irun(fmax=fmax, steps=max_steps):
            bar.update(optimizer.nsteps - bar.n)
            bar.set_postfix_str(f"largest force {largest_force(atoms):.2g} eV/Å")
    return Relaxation(
        fmax=largest_force(atoms),
        n_steps=optimizer.nsteps,
        converged=bool(converged),
    )


def largest_force(atoms: Atoms) -> float:
    """Return the norm of the largest force on any atom, eV/Å."""
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def demand_forces(atoms: Atoms) -> None:
    """Raise ValueError where the calculator of the atoms has no forces."""
    if "forces" not in atoms.calc.implemented_properties:
        name = ", ".join(atoms.calc.parameters["potential"])
        raise ValueError(
            f"{name} has no energy and so no forces; take a potential with an energy "
            "head (see molpool info)"
        )
