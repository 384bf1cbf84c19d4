"""The infrared absorption of liquid water, from SO3LR weights of your own.

Make the potential first: ``molpool import so3lr params.pkl --out so3lr
--long-range-cutoff 12``; then ``python 08_infrared_of_water.py so3lr``.
"""

# %% A box of water at its density, on a lattice and turned at random
import sys
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule

from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.run_spectrum import spectrum_of_run
from molpool_calc.spectra import total_integral
from molpool_calc.statics import relax

VOLUME = 29.9  # Å³ of a molecule at 1 g/cm³


def box(n_along: int) -> Atoms:
    """Return ``n_along``³ molecules in a periodic cube."""
    rng, spacing = np.random.default_rng(0), VOLUME ** (1 / 3)
    water = Atoms(cell=3 * [n_along * spacing], pbc=True)
    for place in np.ndindex(n_along, n_along, n_along):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3), center="COM")
        one.translate(spacing * np.array(place))
        water += one
    return water


def main(potential: str, steps: int = 20_000, n_along: int = 3) -> dict[str, float]:
    """Print where it absorbs most and how much in all, and return them."""
    start = relax(box(n_along), potential, fmax=0.5, steps=50).atoms
    # %% Constant energy after equilibration; the rate of the dipole at every step
    job = DynamicsJob(
        ensemble="nve",
        n_steps=steps,
        n_replicas=2,
        equilibration_ps=5e-5 * steps,
        record=("dipole_flux",),
    )
    with tempfile.TemporaryDirectory() as folder:
        run_dynamics(start, potential, Path(folder) / "run", job)
        spectrum = spectrum_of_run(Path(folder) / "run")  # α·n in cm⁻¹
    strongest = float(spectrum.wavenumbers[spectrum.intensity.argmax()])
    print(f"strongest absorption at {strongest:.0f} cm-1, {spectrum.unit}")
    return {"strongest": strongest, "integrated": total_integral(spectrum).value}


if __name__ == "__main__":
    main(sys.argv[1])
