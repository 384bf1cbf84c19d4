"""How far atoms have to do with each other: extensivity and the radius of influence."""

from math import isfinite

import numpy as np
from ase import Atoms

from molpool_calc.audit.check import Check, unmeasured
from molpool_calc.audit.probe import Probe, distorted, joined

MAX_EXTENSIVITY = 1e-5
"""eV: what electrostatics of two neutral molecules 400 Å apart leaves is below."""
MIN_FAR, FAR_UNBOUNDED = 60.0, 400.0
NUDGE = 0.01  # Å
INFLUENCE = 1e-6  # eV/Å
N_GAPS = 12


def far(probe: Probe, atoms: Atoms) -> float:
    """Return a separation in Å at which nothing should be left between two systems."""
    reach = 2.0 * probe.cutoff if isfinite(probe.cutoff) else FAR_UNBOUNDED
    return max(MIN_FAR, reach) + float(np.ptp(atoms.positions, axis=0).max())


def extensivity(probe: Probe, atoms: Atoms, generator: np.random.Generator) -> Check:
    """Compare the energy of two systems far apart with the sum of their energies."""
    if not probe.has_forces:
        return unmeasured("eV")
    other = distorted(atoms, generator, 0.05)
    both = joined(atoms, other, far(probe, atoms))
    first, second, together = probe.together([atoms, other, both])
    error = together["energy"] - first["energy"] - second["energy"]
    change = np.abs(together["forces"][: len(atoms)] - first["forces"]).max()
    claimed = probe.potential.extensive
    return Check(
        value=max(abs(float(error)), float(change)),
        # without the claim there is nothing to fail
        limit=MAX_EXTENSIVITY if claimed else None,
        unit="eV, eV/Å",
        details={
            "energy_difference": float(error),
            "force_change": float(change),
            "claimed": claimed,
        },
    )


def influence_radius(
    probe: Probe, atoms: Atoms, generator: np.random.Generator
) -> Check:
    """Find the largest distance at which moving an atom changes another's force.

    Two copies of the structure stand at growing gaps; each atom of one is moved by
    ``NUDGE`` in a random direction, and the forces on the other are compared.
    """
    if not probe.has_forces:
        return unmeasured("Å")
    reach = 3.0 * min(probe.cutoff, 8.0)
    width = float(np.ptp(atoms.positions[:, 0]))
    gaps = [*np.linspace(2.0, reach, N_GAPS), far(probe, atoms)]
    largest, at_the_end = 0.0, 0.0
    for gap in gaps:
        at_the_end = _influence(probe, joined(atoms, atoms, width + gap), generator)
        largest = max(largest, at_the_end)
    details = {"bounded": at_the_end == 0.0, "force_change_above": INFLUENCE}
    return Check(value=largest, unit="Å", details=details)


def _influence(probe: Probe, both: Atoms, generator: np.random.Generator) -> float:
    """Return the largest distance from a moved atom to one whose force changes."""
    n = len(both) // 2
    directions = generator.normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    positions = np.tile(both.positions, (n + 1, 1, 1))
    positions[np.arange(n) + 1, np.arange(n)] += NUDGE * directions
    forces = probe.forces(both, positions)
    changes = np.linalg.norm(forces[1:, n:] - forces[0, n:], axis=2)
    apart = both.positions[:n, None] - both.positions[None, n:]
    distances = np.linalg.norm(apart, axis=2)
    return float((distances * (changes > INFLUENCE)).max())
