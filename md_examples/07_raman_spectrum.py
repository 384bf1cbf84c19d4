"""The Raman spectrum of ethanol along dynamics, and its harmonic limit.

The commands ``molpool md ethanol --record polarizability …`` and ``molpool spectrum …
--kind raman`` do the first part, ``molpool vib ethanol`` the second.
"""

# %% Dynamics with the polarizability at every step
import tempfile
from pathlib import Path

from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.molecules import read_system
from molpool_calc.run_spectrum import spectrum_of_run
from molpool_calc.spectra import Scattering, plot_spectrum
from molpool_calc.statics import harmonic_spectrum, relax


def main(steps: int = 20_000) -> dict[str, float]:
    """Print strongest shift, depolarization and activities, and return them."""
    relaxed = relax(read_system("ethanol"), "painn-ethanol").atoms
    harmonic = harmonic_spectrum(relaxed, "painn-ethanol")
    job = DynamicsJob(
        ensemble="nve",
        n_steps=steps,
        temperature=300.0,
        n_replicas=4,
        equilibration_ps=0.2,
        record=("polarizability",),
    )
    with tempfile.TemporaryDirectory() as folder:
        run_dynamics(relaxed, "painn-ethanol", Path(folder) / "run", job)

        # %% Cross sections for a green laser, all polarizations beside them
        spectrum = spectrum_of_run(
            Path(folder) / "run", kind="raman", scattering=Scattering(laser_nm=532.0)
        )
    plot_spectrum(spectrum, "ethanol_raman.png", title="ethanol, 300 K, 532 nm")
    top = int(spectrum.intensity.argmax())
    strongest = float(spectrum.wavenumbers[top])
    ratio = float(spectrum.components["depolarization_ratio"][top])
    activity = float(harmonic.raman_a4_amu.max())
    print(f"strongest at {strongest:.0f} cm-1, depolarization ratio {ratio:.2f}")
    print(f"largest harmonic activity {activity:.0f} A^4/amu")
    return {"strongest": strongest, "depolarization": ratio, "activity": activity}


if __name__ == "__main__":
    main()
