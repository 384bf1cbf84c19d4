"""The file of a run as ASE reads it: ``ase.io.read("DIR/trajectory.h5", ":")``.

One replica at a time: ``ase.io.read(path, ":", replica=3)``; without, it is the first.
"""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from molpool_calc.md.replica_frames import ReplicaFrames, read_replica
from molpool_calc.units import FEMTOSECOND


def read_molpool_h5md(
    file: BinaryIO,
    index: int | slice = -1,
    *,
    replica: int = 0,
) -> Iterator[Atoms]:
    """Yield frames with velocities, energy, dipole, and step and time in ``info``.

    The energies and dipoles are those recorded, results of a calculator that computes
    nothing.

    Args:
        file: open for reading bytes.
        index: of the frames.
        replica: whose frames; of one that was stopped, the good ones.

    Raises:
        ValueError: the file is damaged or foreign, or there is no such replica.
    """
    frames = read_replica(file, replica)
    places = np.arange(len(frames.steps))[index]
    for place in np.atleast_1d(places).tolist():
        yield _atoms(frames, place)


def _atoms(frames: ReplicaFrames, place: int) -> Atoms:
    atoms = Atoms(
        numbers=frames.atomic_numbers,
        masses=frames.masses,
        positions=frames.positions[place],
        cell=frames.cells[place],
        pbc=frames.pbc,
        info={
            "step": int(frames.steps[place]),
            "time_fs": float(frames.times_fs[place]),
        },
    )
    atoms.set_velocities(frames.velocities[place] / FEMTOSECOND)  # type: ignore[no-untyped-call]
    results = {"energy": float(frames.energies[place])}
    if frames.dipoles is not None:
        results["dipole"] = frames.dipoles[place]
    atoms.calc = SinglePointCalculator(atoms, **results)  # type: ignore[no-untyped-call]
    return atoms
