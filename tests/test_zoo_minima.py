"""No bundled potential for quantum nuclei has a minimum deeper than its molecule."""

import numpy as np
import pytest
from ase import Atoms
from ase.optimize import FIRE
from jaxtyping import Float

from molpool_calc import MolPoolCalculator, bundled_names
from molpool_calc.molecules import read_system
from molpool_calc.statics import relax

N_STARTS = 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "painn-formaldehyde" not in bundled_names(), reason="it is not bundled yet"
    ),
]


def distorted(rng: np.random.Generator) -> Float[np.ndarray, "4 3"]:
    """C, O, H, H: bonds of 0.85 to 1.6 Å, every angle, H-H as short as 0.7 Å."""
    while True:
        lengths, angles = rng.uniform(0.85, 1.6, 2), rng.uniform(0.9, 3.0, 2)
        around = np.array([0.0, rng.uniform(0.4, 2 * np.pi - 0.4)])
        hydrogen = lengths[:, None] * np.stack(
            [
                np.sin(angles) * np.cos(around),
                np.sin(angles) * np.sin(around),
                np.cos(angles),
            ],
            axis=1,
        )
        carbonyl = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, rng.uniform(1.05, 1.5)]])
        apart = np.linalg.norm(hydrogen[0] - hydrogen[1])
        from_oxygen = np.linalg.norm(hydrogen - carbonyl[1], axis=1).min()
        if min(apart, from_oxygen) > 0.7:
            return np.concatenate([carbonyl, hydrogen])


def test_relaxations_of_distorted_formaldehyde_end_at_or_above_the_molecule() -> None:
    """At this formula nothing that is near formaldehyde lies below it.

    HCOH is 2.2 eV above, H2 and CO 0.2 eV without zero-point motion. Ring polymers
    find a spurious minimum within picoseconds.
    """
    minimum = relax(read_system("formaldehyde"), "painn-formaldehyde").energy
    calc = MolPoolCalculator("painn-formaldehyde", device="cpu", dtype="float64")
    rng = np.random.default_rng(0)
    ends = []
    for _ in range(N_STARTS):
        atoms = Atoms("COHH", distorted(rng))
        atoms.calc = calc
        FIRE(atoms, logfile=None).run(fmax=0.05, steps=100)
        ends.append(atoms.get_potential_energy() - minimum)
    assert min(ends) > -1e-3
    assert np.mean(np.array(ends) < 0.01) > 0.2  # and many find the molecule
