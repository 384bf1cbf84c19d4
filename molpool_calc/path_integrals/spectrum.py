"""Infrared spectra of ring polymers."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from molpool_calc.estimates import Fineness, Samples, estimate
from molpool_calc.md.manifest import read_manifest
from molpool_calc.md.run_files import MANIFEST
from molpool_calc.path_integrals.read import ring_dipoles
from molpool_calc.path_integrals.run import replica_folder
from molpool_calc.spectra import Spectrum, infrared_spectrum

_USUAL = Fineness()


def holds_rings(folder: Path) -> bool:
    """Return whether a folder holds a run of ring polymers."""
    return (folder / MANIFEST).is_file() and "beads" in read_manifest(folder)[
        "dynamics"
    ]


def quantum_spectrum(folder: Path, fineness: Fineness = _USUAL) -> Spectrum:
    """Return the infrared spectrum of a run of ring polymers.

    The dipole of the ring, averaged over its beads, has the Kubo-transformed
    correlation function (Craig & Manolopoulos 2004, J. Chem. Phys. 121, 3368), of
    which ``A(ν̃) = N_A/(6ε₀ck_BT)·F[⟨µ̇(0)·µ̇(t)⟩]`` is the absorption without any
    further correction: the factor ``x/(1-exp(-x))`` that turns it into the standard
    one is exact. The frequency shift of the time step is corrected.

    Thermostatted dynamics has no resonances with the modes of the ring, but widens
    bands, the more the higher their wavenumber (Rossi et al. 2014): positions and
    integrals mean something, widths do not.

    Args:
        folder: of the run, finished or not.
        fineness: resolution and range; by default 8 cm⁻¹, or what a shorter run can
            give.

    Raises:
        ValueError: no run, or too short.
    """
    stated = read_manifest(folder)["dynamics"]
    series = [
        ring_dipoles(replica_folder(folder, k) / "production.dipole", stated["beads"])
        for k in range(stated["replicas"])
    ]
    n_samples = min(len(one) for one in series)
    interval = stated["stride"] * stated["timestep_fs"]
    dipoles = np.stack([one[:n_samples] for one in series])
    samples = Samples(
        f"the run in {folder}",
        interval,
        n_samples - 2,  # a central difference has no value at the two ends
        lambda estimator: infrared_spectrum(
            dipoles,
            timestep_fs=interval,
            temperature=stated["temperature"],
            estimator=estimator,
            verlet_timestep_fs=stated["timestep_fs"],
            correct_verlet_shift=True,
        ),
    )
    spectrum = estimate(samples, fineness)
    facts = {"nuclei": stated["method"], "beads": stated["beads"]}
    metadata = MappingProxyType({**spectrum.metadata, **facts})
    return replace(spectrum, metadata=metadata)
