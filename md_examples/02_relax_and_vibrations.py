"""Relax formaldehyde and analyse its harmonic vibrations."""

# %% Relax with any ASE optimiser; float64 lets forces fall to 1e-4 eV/Å
import numpy as np
from ase.build import molecule
from ase.optimize import BFGS

from molpool_calc import MolPoolCalculator
from molpool_calc.spectra import harmonic_analysis


def main(steps: int = 200) -> dict[str, float]:
    """Print the vibrations, and return the extremes."""
    atoms = molecule("H2CO")
    calc = atoms.calc = MolPoolCalculator("painn-formaldehyde", dtype="float64")
    BFGS(atoms, logfile=None).run(fmax=1e-4, steps=steps)

    # %% Hessian and dipole derivatives are analytic
    hessian = calc.get_hessian(atoms)
    polar_tensors = calc.get_dipole_derivatives(atoms).reshape(3 * len(atoms), 3)
    vibrations = harmonic_analysis(
        atoms.positions, atoms.get_masses(), hessian, polar_tensors
    )
    print("   cm-1   km/mol")
    for wavenumber, strength in zip(
        vibrations.wavenumbers_cm1, vibrations.ir_km_mol, strict=True
    ):
        print(f"{wavenumber:7.1f}  {strength:7.1f}")
    print(f"zero-point energy {vibrations.zpe_ev:.4f} eV")

    # %% The C=O stretch is the strongest band between 1700 and 1850 cm-1
    carbonyl = float(
        vibrations.wavenumbers_cm1[np.abs(vibrations.wavenumbers_cm1 - 1775).argmin()]
    )
    return {"carbonyl": carbonyl, "zpe": vibrations.zpe_ev}


if __name__ == "__main__":
    main()
