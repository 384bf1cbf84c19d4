"""A calculator of another program, as the command line names one, with a counter."""

from typing import ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class ChargedSprings(Calculator):
    """Two charged atoms on a spring; the dipole is charge times their distance.

    ``calls`` counts calculations of all calculators; the one with the number
    ``fails_at`` fails.
    """

    implemented_properties: ClassVar = ["energy", "forces", "dipole"]
    calls: ClassVar[list[int]] = [0]

    def __init__(self, charge=0.4, k=30.0, length=0.92, fails_at=None):
        super().__init__()
        self.charge, self.k, self.length, self.fails_at = charge, k, length, fails_at

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls[0] += 1
        if self.calls[0] == self.fails_at:
            raise RuntimeError("the electrons do not converge")
        bond = atoms.positions[1] - atoms.positions[0]
        distance = np.linalg.norm(bond)
        pull = self.k * (distance - self.length) * bond / distance
        self.results = {
            "energy": 0.5 * self.k * (distance - self.length) ** 2,
            "forces": np.array([pull, -pull]),
            "dipole": -self.charge * bond,
        }


class NoDipole(ChargedSprings):
    implemented_properties: ClassVar = ["energy", "forces"]


class Dipoles(ChargedSprings):
    implemented_properties: ClassVar = ["dipole"]


def not_a_calculator():
    return 3
