"""Random structures on which packages are traced and verified."""

from math import ceil

import numpy as np
import torch
from ase import Atoms

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.interfaces import AtomsBatch, NeighborList
from molpool_calc.neighbors import neighbor_list
from molpool_calc.potential import NeuralPotential

SPACING = 1.3
"""Å between the points of the lattice on which atoms are put at random."""
JITTER = 0.15


def random_batch(
    potential: NeuralPotential, n_systems: int, n_atoms: int, *, periodic: bool
) -> tuple[AtomsBatch, NeighborList]:
    """Return systems of the potential's elements, no two atoms too close, and pairs."""
    rng = np.random.default_rng([n_systems, n_atoms])
    elements = sorted(potential.species)
    spec = potential.spec
    structures = []
    for _ in range(n_systems):
        side = max(2, ceil((1.5 * n_atoms) ** (1 / 3)))
        points = SPACING * np.indices((side,) * 3).reshape(3, -1).T
        chosen = points[rng.permutation(len(points))[:n_atoms]]
        structures.append(
            Atoms(
                rng.choice(elements, n_atoms),
                chosen + rng.uniform(-JITTER, JITTER, chosen.shape),
                cell=side * SPACING * np.eye(3) if periodic else None,
                pbc=periodic,
                info={"charge": spec.total_charges[-1]},
            )
        )
    batch = batch_from_atoms(
        structures, dtype=potential.dtype, device=torch.device("cpu")
    )
    return batch, neighbor_list(batch, potential.cutoff)
