"""An absolute infrared spectrum of formaldehyde from four replicas.

The command ``molpool ir formaldehyde`` does this and more; here are the parts.
"""

# %% Replicas that start from canonical ensembles of their own
import tempfile
from pathlib import Path

from ase.build import molecule

from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.md.trajectory import read_run
from molpool_calc.spectra import (
    Estimator,
    infrared_spectrum,
    plot_infrared,
    total_integral,
)


def main(steps: int = 20_000) -> dict[str, float]:
    """Print the strongest absorption and the integral, and return them."""
    job = DynamicsJob(
        ensemble="nve",
        n_steps=steps,
        temperature=300.0,
        n_replicas=4,
        equilibration_ps=0.5,
    )
    with tempfile.TemporaryDirectory() as folder:
        run_dynamics(molecule("H2CO"), "painn-formaldehyde", Path(folder) / "run", job)
        run = read_run(Path(folder) / "run")

    # %% Dipoles [replicas, steps, 3] in e·Å give km/mol per cm-1
    resolution = max(8.0, 120_000 / steps)
    spectrum = infrared_spectrum(
        run.dipoles,
        timestep_fs=run.timestep_fs,
        temperature=300.0,
        estimator=Estimator(resolution=resolution),
    )
    plot_infrared(spectrum, "formaldehyde.png", title="formaldehyde, 300 K")
    strongest = float(spectrum.wavenumbers[spectrum.intensity.argmax()])
    total = total_integral(spectrum)
    print(f"strongest absorption at {strongest:.0f} cm-1")
    print(
        f"integrated {total.value:.0f} km/mol ({total.lower:.0f} to {total.upper:.0f})"
    )
    return {"strongest": strongest, "integrated": total.value}


if __name__ == "__main__":
    main()
