"""Resident memory along ASE dynamics: it must not grow.

python benchmarks/memory_of_dynamics.py [--steps 10000]
"""

import argparse
import time
from pathlib import Path

from ase.build import molecule
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.units import fs

from molpool_calc import MolPoolCalculator


def resident_mb() -> float:
    """Return the resident memory of this process in MiB (Linux)."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Print memory every tenth of the run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    steps = parser.parse_args().steps
    atoms = molecule("CH3CH2OH")
    atoms.calc = MolPoolCalculator("painn-ethanol", device="cpu")
    thermalize_momenta(atoms, temperature_K=300)
    run = VelocityVerlet(atoms, timestep=0.5 * fs)
    run.run(100)
    start = time.perf_counter()
    for part in range(10):
        print(f"{part * steps // 10:8d} steps  {resident_mb():.1f} MiB")
        run.run(steps // 10)
    elapsed = 1e3 * (time.perf_counter() - start) / steps
    print(f"{steps:8d} steps  {resident_mb():.1f} MiB, {elapsed:.2f} ms per step")


if __name__ == "__main__":
    main()
