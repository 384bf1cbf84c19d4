"""Dynamics with ASE's own integrators: heat with Langevin, then conserve energy."""

# %% Any integrator of ase.md takes the calculator
import numpy as np
from ase.build import molecule
from ase.md.bussi import Bussi
from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.units import fs

from molpool_calc import MolPoolCalculator


def main(steps: int = 20_000) -> dict[str, float]:
    """Print temperature and drift, and return them."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = MolPoolCalculator("painn-ethanol")
    generator = np.random.default_rng(0)
    thermalize_momenta(atoms, temperature_K=600, rng=generator)
    Stationary(atoms)
    ZeroRotation(atoms)
    heating = Bussi(atoms, 0.5 * fs, temperature_K=300, taut=50 * fs, rng=generator)
    heating.run(steps // 4)
    print(f"temperature after heating  {atoms.get_temperature():.0f} K")

    # %% Constant energy: record the total energy as the run goes on
    energies: list[float] = []
    run = VelocityVerlet(atoms, timestep=0.5 * fs)
    run.attach(lambda: energies.append(atoms.get_total_energy()), interval=10)
    run.run(steps)
    times_ps = 0.005 * np.arange(len(energies))
    drift = 1e3 * np.polyfit(times_ps, energies, 1)[0] / len(atoms)
    print(f"drift of the total energy  {drift:+.4f} meV/atom/ps")
    return {"drift": float(drift), "temperature": float(atoms.get_temperature())}


if __name__ == "__main__":
    main()
