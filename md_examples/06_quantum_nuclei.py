"""Quantum nuclei: zero-point energy and the C-H stretch of formaldehyde with i-PI.

Needs the extra ``[ipi]``. The command ``molpool ir formaldehyde --beads 16`` does this
and the classical run to compare with; here are the parts.
"""

# %% Every nucleus becomes a ring of beads, all of them one batch for the network
import tempfile
from pathlib import Path

import numpy as np
from ase.build import molecule

from molpool_calc.path_integrals.job import RingPolymerJob
from molpool_calc.path_integrals.read import read_properties
from molpool_calc.path_integrals.run import replica_folder, run_ring_polymers
from molpool_calc.path_integrals.spectrum import quantum_spectrum
from molpool_calc.spectra import peaks, plot_infrared
from molpool_calc.statics import relax

C_H_STRETCHES = (2400.0, 3400.0)  # cm-1; where to look for them


def main(steps: int = 20_000, beads: int = 16) -> dict[str, float]:
    """Print the quantum energy and the C-H stretch, and return them."""
    minimum = relax(molecule("H2CO"), "painn-formaldehyde")
    job = RingPolymerJob(
        beads=beads,
        temperature=300.0,
        picoseconds=0.25e-3 * steps,
        replicas=2,
        equilibration_ps=min(1.0, 0.25e-3 * steps),
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run_ring_polymers(minimum.atoms, "painn-formaldehyde", run, job)
        spectrum = quantum_spectrum(run)
        energies = [
            read_properties(replica_folder(run, k) / "production.properties")
            for k in range(job.replicas)
        ]

    # %% Half of the zero-point energy, 0.73 eV, is potential; classical are 0.08 eV
    potential = np.mean([one["potential"].mean() for one in energies])
    above = float(potential) - minimum.energy
    print(f"mean potential energy above the minimum  {above:.3f} eV")
    low, high = C_H_STRETCHES
    found = [peak for peak in peaks(spectrum) if low < peak[0] < high]
    stretch = max(found, key=lambda peak: peak[1])[0] if found else np.nan
    print(f"C-H stretch at {stretch:.0f} cm-1 (measured 2782 and 2843)")
    plot_infrared(spectrum, "quantum.png", title="formaldehyde, quantum nuclei")
    return {"potential": above, "stretch": stretch}


if __name__ == "__main__":
    main()
