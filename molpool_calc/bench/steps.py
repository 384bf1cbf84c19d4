"""What is timed of MolPool, each as a function that makes a number of steps."""

from collections.abc import Iterator, Sequence
from itertools import cycle

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin

from molpool_calc.bench.timing import Steps
from molpool_calc.calculator import MolPoolCalculator

TIMESTEP_FS, TEMPERATURE, FRICTION_PER_FS = 0.5, 300.0, 0.01
MOVE = 1e-3
"""Å; far below the skin, so that a kept neighbor list holds."""
N_PLACES = 8


def langevin_steps(atoms: Atoms, calculator: MolPoolCalculator) -> Steps:
    """Return steps of ASE's Langevin dynamics of a copy of the structure."""
    copy = atoms.copy()  # type: ignore[no-untyped-call]
    copy.calc = calculator
    dynamics = Langevin(
        copy,
        TIMESTEP_FS * units.fs,
        temperature_K=TEMPERATURE,
        friction=FRICTION_PER_FS / units.fs,
        fixcm=False,  # what ASE advises; the drift of the center costs nothing
        rng=np.random.default_rng(0),
    )

    def steps(n_steps: int) -> None:
        dynamics.run(n_steps)  # type: ignore[no-untyped-call]

    return steps


def force_calls(atoms: Atoms, calculator: MolPoolCalculator) -> Steps:
    """Return calls for energy and forces of a copy whose atoms move before each."""
    copy = atoms.copy()  # type: ignore[no-untyped-call]
    copy.calc = calculator
    places = moved(atoms)

    def steps(n_steps: int) -> None:
        for _ in range(n_steps):
            copy.positions = next(places)
            copy.get_forces()  # first, as in dynamics: the energy comes with them
            copy.get_potential_energy()

    return steps


def batch_calls(atoms: Atoms, calculator: MolPoolCalculator, size: int) -> Steps:
    """Return calls for energy and forces of ``size`` such structures at once.

    A step is one structure, so that times of different sizes compare; steps are
    rounded up to whole batches.
    """
    places = moved(atoms)
    batches = cycle([_copies(atoms, places, size) for _ in range(2)])

    def steps(n_steps: int) -> None:
        for _ in range(0, n_steps, size):
            calculator.calculate_many(next(batches))

    return steps


def moved(atoms: Atoms) -> Iterator[np.ndarray]:
    """Yield the positions, and some close to them, again and again."""
    shape = (N_PLACES, len(atoms), 3)
    moves = np.random.default_rng(0).normal(scale=MOVE, size=shape)
    moves[0] = 0.0
    return cycle([atoms.positions + move for move in moves])


def _copies(atoms: Atoms, places: Iterator[np.ndarray], size: int) -> Sequence[Atoms]:
    copies = [atoms.copy() for _ in range(size)]  # type: ignore[no-untyped-call]
    for copy in copies:
        copy.positions = next(places)
    return copies
