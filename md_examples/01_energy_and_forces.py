"""Energy, forces and dipole of ethanol; then of many structures at once."""

# %% A molecule and its calculator
import numpy as np
from ase.build import molecule
from ase.units import Debye

from molpool_calc import MolPoolCalculator


def main(structures: int = 100) -> dict[str, float]:
    """Print what the calculator gives, and return it."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = MolPoolCalculator("painn-ethanol")
    energy = atoms.get_potential_energy()
    forces = atoms.get_forces()
    dipole = np.linalg.norm(atoms.get_dipole_moment()) / Debye
    print(f"energy          {energy:.4f} eV")
    print(f"largest force   {np.linalg.norm(forces, axis=1).max():.4f} eV/Å")
    print(f"dipole moment   {dipole:.3f} D")

    # %% Many structures in few forward passes
    generator = np.random.default_rng(0)
    rattled = [atoms.copy() for _ in range(structures)]
    for copy in rattled:
        copy.positions += generator.normal(scale=0.02, size=copy.positions.shape)
    results = atoms.calc.calculate_many(rattled)
    spread = np.std([result["energy"] for result in results])
    print(f"energies of {structures} rattled copies spread by {spread:.3f} eV")
    return {"energy": energy, "dipole": float(dipole), "spread": float(spread)}


if __name__ == "__main__":
    main()
