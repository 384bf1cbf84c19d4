"""Independent oscillators as a driver of i-PI, and runs of them."""

from math import pi, sqrt
from pathlib import Path

import numpy as np
from ase import Atoms

from molpool_calc.path_integrals.input import Forces
from molpool_calc.path_integrals.job import RingPolymerJob
from molpool_calc.path_integrals.run import run_with_forces
from molpool_calc.units import BOLTZMANN, FEMTOSECOND, INVERSE_CM

MASS = 1.008
WAVENUMBER = 3000.0
HBAR = INVERSE_CM / (2.0 * pi * 2.99792458e-5 / FEMTOSECOND)  # eV × internal time
OMEGA = WAVENUMBER * INVERSE_CM / HBAR
STIFFNESS = MASS * OMEGA**2  # eV/Å²

DRIVER = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from md_models import Wells
from molpool_calc.md.state import Response
from molpool_calc.path_integrals.driver import BeadDriver

__DRIVER_NAME__, __DRIVER_CLASS__ = "wells", "Driver"


class Driver(BeadDriver):
    def __init__(self, k, fatal_call=0, verbosity=None):
        self.left, wells = int(fatal_call), Wells(k=float(k))

        def field(n_beads):
            def respond(positions):
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                alone = wells(positions)
                return Response(
                    energy=alone.energy.view(n_beads, -1).sum(1),
                    forces=alone.forces,
                    dipole=positions.view(n_beads, -1, 3).sum(1),
                )

            return respond

        super().__init__(field)
"""


def run_wells(
    folder: Path,
    job: RingPolymerJob,
    *,
    n_atoms: int,
    stiffness: float = STIFFNESS,
    fatal_call: int = 0,
    resume: bool = False,
) -> None:
    """Run atoms that are alone in a harmonic well each; charge 1 e."""
    path = folder.with_suffix(".py")
    path.write_text(DRIVER, encoding="utf-8")
    atoms = Atoms(f"H{n_atoms}", np.zeros((n_atoms, 3)))
    parameters = {"k": repr(stiffness), "fatal_call": str(fatal_call)}
    run_with_forces(
        atoms,
        Forces(path=path, parameters=parameters),
        folder,
        job,
        header={"inputs": {"beads": job.beads, "seed": job.seed}},
        resume=resume,
    )


def mean_square(beads: int, temperature: float) -> float:
    """⟨x²⟩ in Å² of one coordinate of a bead, exactly for that number of beads.

    ``(1/βm) Σ_k 1/(ω² + ω_k²)``, ``ω_k = 2(P/βħ) sin(πk/P)``: the normal modes of the
    ring at the temperature PT (Parrinello & Rahman 1984, J. Chem. Phys. 80, 860).
    """
    thermal = BOLTZMANN * temperature
    k = np.arange(beads)
    ring = 2.0 * beads * thermal / HBAR * np.sin(pi * k / beads)
    return float(thermal / MASS * (1.0 / (OMEGA**2 + ring**2)).sum())


def quantum_mean_square(temperature: float) -> float:
    """Of infinitely many beads: ``ħ/(2mω) coth(βħω/2)``."""
    x = HBAR * OMEGA / (BOLTZMANN * temperature)
    return HBAR / (2.0 * MASS * OMEGA) / float(np.tanh(x / 2.0))


def gyration(beads: int, temperature: float) -> float:
    """Radius of gyration in Å of a free particle, ``ħ/2·(β/m·(1 - 1/P²))^½``."""
    beta = 1.0 / (BOLTZMANN * temperature)
    return HBAR / 2.0 * sqrt(beta / MASS * (1.0 - beads**-2))
