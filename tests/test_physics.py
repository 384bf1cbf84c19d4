"""Slow physics of the bundled potentials, against the outside world.

That energy is conserved for 20 ps is measured on the main job, see test_readme.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from molpool_calc import bundled_names
from molpool_calc.infrared import run_infrared
from molpool_calc.infrared_job import InfraredJob
from molpool_calc.molecules import read_system
from molpool_calc.run_spectrum import spectrum_of_run
from molpool_calc.spectra import band_integral
from molpool_calc.statics import harmonic_spectrum, relax

ACETONE = Path(__file__).parent / "data" / "acetone_harmonic.json"
HARMONIC = Path(__file__).parents[2] / "shared" / "data" / "harmonic_reference.json"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not {"painn-ethanol", "painn-formaldehyde"} <= set(bundled_names()),
        reason="the bundled potentials are not there yet",
    ),
]


def test_cold_dynamics_of_formaldehyde_meet_the_harmonic_limit(tmp_path: Path) -> None:
    """At 30 K, bands stand where the vibrations are and integrate to their strength."""
    job = InfraredJob(
        temperature=30.0,
        picoseconds=7.0,
        replicas=24,
        equilibration_ps=0.6,
        friction_per_fs=0.02,
        resolution=8.0,
    )
    result = run_infrared(
        read_system("formaldehyde"),
        "painn-formaldehyde",
        tmp_path / "ir",
        job,
        title="30 K",
    )
    spectrum = spectrum_of_run(
        tmp_path / "ir", resolution=8.0, biased=False, correct_verlet_shift=True
    )
    harmonic = result.harmonic
    inside = 0
    for wavenumber, strength in zip(
        harmonic.wavenumbers_cm1, harmonic.ir_km_mol, strict=True
    ):
        window = np.abs(spectrum.wavenumbers - wavenumber) < 30
        top = spectrum.wavenumbers[window][spectrum.intensity[window].argmax()]
        band = band_integral(spectrum, wavenumber - 33, wavenumber + 33)
        print(f"{wavenumber:8.1f} {top:8.1f}  {strength:7.2f} {band}")
        assert abs(top - wavenumber) < job.resolution
        assert band.lower is not None
        assert band.upper is not None
        inside += band.lower <= strength <= band.upper
        width = band.upper - band.lower
        assert band.lower - width < strength < band.upper + width
    # six intervals of 95 %: more than one outside has a chance of 3 %
    assert inside >= 5


@pytest.mark.parametrize("conformer", ["ethanol_trans", "ethanol_gauche", "methanol"])
def test_vibrations_are_those_of_dft(conformer: str) -> None:
    if not HARMONIC.is_file():
        pytest.skip("the reference vibrations are not there")
    table = json.loads(HARMONIC.read_text(encoding="utf-8"))
    entry = table[f"{conformer}|b3lyp/def2-svpd"]
    potential = f"painn-{conformer.partition('_')[0]}"
    relaxed = relax(Atoms(entry["symbols"], entry["positions_A"]), potential)
    found = harmonic_spectrum(relaxed.atoms, potential)
    difference = found.wavenumbers_cm1 - np.array(entry["freq_cm1"])
    total = found.ir_km_mol.sum() / np.sum(entry["ir_km_mol"])
    print(
        f"{conformer}: largest {np.abs(difference).max():.1f} cm-1, total {total:.3f}"
    )
    assert np.abs(difference).max() < 10
    assert total == pytest.approx(1, abs=0.1)


def test_vibrations_of_acetone_are_those_of_dft() -> None:
    """The methyl torsions, soft and noisy in the reference itself, are left out."""
    entry = json.loads(ACETONE.read_text(encoding="utf-8"))
    relaxed = relax(Atoms(entry["symbols"], entry["positions_A"]), "painn-acetone")
    found = harmonic_spectrum(relaxed.atoms, "painn-acetone")
    expected = np.array(entry["freq_cm1"])
    difference = (found.wavenumbers_cm1 - expected)[expected > 300]
    total = found.ir_km_mol.sum() / np.sum(entry["ir_km_mol"])
    print(f"largest {np.abs(difference).max():.1f} cm-1, total {total:.3f}")
    assert np.abs(difference).max() < 12
    assert total == pytest.approx(1, abs=0.05)
