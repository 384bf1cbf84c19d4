"""Cold dynamics of the bundled potentials give their harmonic spectra, mode by mode.

Every vibration gets a replica of its own that starts at the minimum with the energy
k_B T at 1 K in this vibration alone. No energy is drawn at random and no bands overlap,
so that position and strength of each are compared without statistical error.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from molpool_calc import MolPoolCalculator, bundled_names, load_potential
from molpool_calc.md.integrators import NVE
from molpool_calc.md.recorder import Recording
from molpool_calc.md.simulate import simulate
from molpool_calc.md.state import initial_state
from molpool_calc.molecules import read_system
from molpool_calc.replicas import make_replicas
from molpool_calc.run_spectrum import spectrum_of_run
from molpool_calc.spectra import HarmonicSpectrum, Scattering, Spectrum
from molpool_calc.spectra.correlation import CM_PER_FS
from molpool_calc.statics import harmonic_spectrum, relax
from molpool_calc.units import BOLTZMANN

TIMESTEP_FS = 0.5
N_STEPS = 3600
RESOLUTION = 25.0
COLD = 1.0
POLARIZABILITY = "polarizability"

pytestmark = pytest.mark.slow


def run_cold(name: str, folder: Path, record: tuple[str, ...]) -> HarmonicSpectrum:
    """Run NVE with a replica for each vibration; return the vibrations."""
    relaxed = relax(read_system(name), f"painn-{name}", fmax=1e-6).atoms
    harmonic = harmonic_spectrum(relaxed, f"painn-{name}")
    calculator = MolPoolCalculator(f"painn-{name}", dtype="float64", compile="never")
    n_modes = len(harmonic.modes)
    replicas = make_replicas(
        calculator.evaluator.engines[0],
        relaxed,
        state=calculator.charge_and_spin(relaxed),
        n_replicas=n_modes,
        record=record,
    )
    # velocity Verlet is slower by cos(ΩΔt/2) where its positions are right
    half_angle = np.pi * CM_PER_FS * TIMESTEP_FS * harmonic.wavenumbers_cm1
    motion = harmonic.modes * np.sqrt(1 - half_angle**2)[:, None, None]
    weights = np.sqrt(2 * BOLTZMANN * COLD * relaxed.get_masses())
    momenta = torch.from_numpy((weights[:, None] * motion).reshape(-1, 3))
    state = initial_state(
        replicas.force_field,
        positions=replicas.positions,
        momenta=momenta,
        generator=torch.Generator(),
    )
    simulate(
        replicas.force_field,
        replicas.system("internal"),
        state,
        NVE(timestep_fs=TIMESTEP_FS),
        n_steps=N_STEPS,
        recording=Recording(
            folder=folder,
            every=100,
            checkpoint_every=N_STEPS,
            header={"inputs": {"temperature": COLD}},
        ),
    )
    return harmonic


def line(spectrum: Spectrum, mode: int, wavenumber: float) -> tuple[float, float]:
    """Return top (cm⁻¹) and area of the one line of a replica."""
    x, y = spectrum.wavenumbers, spectrum.units_intensity[mode]
    near = np.abs(x - wavenumber) < 4 * RESOLUTION
    top = int(np.flatnonzero(near)[y[near].argmax()])
    curvature, slope, _ = np.polyfit(
        x[top - 1 : top + 2] - x[top], y[top - 1 : top + 2], 2
    )
    return float(x[top] - slope / (2 * curvature)), float(
        np.trapezoid(y[near], x[near])
    )


def require_lines(
    spectrum: Spectrum, harmonic: HarmonicSpectrum, strengths: np.ndarray
) -> None:
    """Compare all lines above a thousandth of the strongest."""
    compared = 0
    for mode, wavenumber in enumerate(harmonic.wavenumbers_cm1.tolist()):
        if strengths[mode] < 1e-3 * strengths.max():
            continue
        top, area = line(spectrum, mode, wavenumber)
        print(f"{wavenumber:8.2f} {top:8.2f}  {strengths[mode]:8.3f} {area:8.3f}")
        assert top == pytest.approx(wavenumber, abs=1.5)
        assert area == pytest.approx(strengths[mode], rel=0.02)
        compared += 1
    assert compared > len(strengths) // 2


@pytest.mark.parametrize("name", ["formaldehyde", "ethanol"])
def test_cold_dynamics_give_every_harmonic_line(name: str, tmp_path: Path) -> None:
    if f"painn-{name}" not in bundled_names():
        pytest.skip(f"painn-{name} is not there yet")
    has_raman = POLARIZABILITY in load_potential(f"painn-{name}").properties
    folder = tmp_path / "run"
    harmonic = run_cold(name, folder, (POLARIZABILITY,) if has_raman else ())
    common = {"biased": False, "correct_verlet_shift": True, "resolution": RESOLUTION}
    infrared = spectrum_of_run(folder, kind="ir", **common)
    require_lines(infrared, harmonic, harmonic.ir_km_mol)
    if has_raman:
        activity = Scattering(quantity="activity")
        raman = spectrum_of_run(folder, kind="raman", scattering=activity, **common)
        require_lines(raman, harmonic, harmonic.raman_a4_amu)
