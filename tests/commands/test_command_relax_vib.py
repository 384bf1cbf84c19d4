"""``molpool relax`` and ``molpool vib`` against exact and published values."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.vibrations import Infrared
from command_line import CommandLine
from small_potentials import small_potential
from tiny_recipes import SpringWater

from molpool_calc import bundled_names
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.molecules import experiment_of
from molpool_calc.storage import save_potential
from molpool_calc.units import DEBYE

REFERENCE = Path(__file__).parents[3] / "shared" / "data" / "harmonic_reference.json"


def test_relax_finds_the_minimum(
    molpool: CommandLine, water: Path, tmp_path: Path
) -> None:
    out = tmp_path / "relaxed.xyz"
    called = molpool("relax", "water", "-p", water, "--out", out, "--json")
    assert (called.code, called.err) == (0, "")
    result = called.json
    assert result["converged"]
    assert result["fmax"] < 0.01
    assert result["n_steps"] > 0
    relaxed = ase.io.read(out)
    exact = SpringWater().minimum().get_all_distances()
    np.testing.assert_allclose(relaxed.get_all_distances(), exact, atol=0.02)
    assert relaxed.get_potential_energy() == pytest.approx(result["energy_ev"])
    calculator = MolPoolCalculator(water, device="cpu", dtype="float64")
    forces = calculator.get_forces(relaxed)
    assert np.linalg.norm(forces, axis=1).max() == pytest.approx(
        result["fmax"], abs=1e-5
    )


def test_relax_says_so_where_it_did_not_converge(
    molpool: CommandLine, water: Path, tmp_path: Path
) -> None:
    out = tmp_path / "relaxed.xyz"
    called = molpool(
        *("relax", "water", "-p", water, "--out", out, "--json"),
        *("--fmax", "1e-9", "--steps", "1"),
    )
    assert called.code == 0
    assert not called.json["converged"]
    assert called.json["n_steps"] == 1
    assert called.sentence.startswith("not converged")
    assert out.exists()


def test_vib_agrees_with_finite_differences_of_ase(
    molpool: CommandLine, water: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--fmax", "1e-6", "--out", "w.extxyz"]
    assert molpool("relax", "water", "-p", water, *options).code == 0
    called = molpool("vib", "w.extxyz", "-p", water, "--no-relax", "--json")
    assert (called.code, called.err) == (0, "")
    result = called.json
    atoms = ase.io.read("w.extxyz")
    atoms.calc = MolPoolCalculator(water, device="cpu", dtype="float64")
    infrared = Infrared(atoms, delta=0.002, nfree=4)
    infrared.run()
    expected = infrared.get_frequencies().real[6:]
    np.testing.assert_allclose(result["wavenumbers_cm1"], expected, rtol=1e-4)
    # (D/Å)²/amu to km/mol
    strengths = 42.2561 * infrared.intensities[6:]
    np.testing.assert_allclose(result["ir_km_mol"], strengths, rtol=1e-3, atol=0.01)
    moment = np.linalg.norm(atoms.get_dipole_moment()) / DEBYE
    assert result["dipole_debye"] == pytest.approx(moment, rel=1e-6)
    zero_point = 0.5 * expected.sum() * 1.2398419739e-4
    assert result["zpe_ev"] == pytest.approx(zero_point, rel=1e-4)


def test_vib_writes_what_it_found(
    molpool: CommandLine, water: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "water"
    result = molpool("vib", "water", "-p", water, "--out", out, "--json").json
    content = json.loads(Path(result["file"]).read_text(encoding="utf-8"))
    for name in ("wavenumbers_cm1", "ir_km_mol", "raman_a4_amu", "zpe_ev"):
        np.testing.assert_allclose(content[name], result[name], rtol=1e-12)
    assert content["symbols"] == ["O", "H", "H"]
    # ∂µ/∂Q gives the intensity: 42.2561 km/mol per (D/Å)²/amu
    slopes = np.array(content["dipole_derivatives_e_per_sqrt_amu"]) / DEBYE
    np.testing.assert_allclose(
        42.2561 * (slopes**2).sum(axis=1), content["ir_km_mol"], rtol=1e-4
    )
    # the one mode that breaks the symmetry has the ratio 3/4 (Long 2002, ch. 5)
    ratios = sorted(content["depolarization"])
    assert ratios[2] == pytest.approx(0.75, abs=1e-5)
    assert ratios[1] < 0.749


def test_vib_resembles_what_was_learned(molpool: CommandLine, water: Path) -> None:
    result = molpool("vib", "water", "-p", water, "--json").json
    exact = SpringWater().harmonic()
    np.testing.assert_allclose(
        result["wavenumbers_cm1"], exact.wavenumbers_cm1, rtol=0.15
    )
    assert sum(result["ir_km_mol"]) == pytest.approx(exact.ir_km_mol.sum(), rel=0.5)
    labels = [mode["label"] for mode in result["motions"]]
    assert labels[0] == "HOH bend"
    assert sorted(labels[1:]) == ["H2O a-stretch", "H2O s-stretch"]
    # the breathing of all three springs dominates the Raman spectrum
    assert np.argmax(result["raman_a4_amu"]) == 2
    assert result["fmax"] <= 1e-4


def test_vib_prints_a_table_with_the_measured_fundamentals(
    molpool: CommandLine, water: Path
) -> None:
    lines = molpool("vib", "water", "-p", water).out.splitlines()
    header = next(line for line in lines if line.startswith("mode"))
    assert header.split() == ["mode", "wavenumber", "infrared", "Raman", "experiment"]
    rows = [line.split() for line in lines if line.startswith("   ")][1:]
    assert [row[-1] for row in rows] == ["1595", "3657", "3756"]
    assert any("Shimanouchi" in line for line in lines)
    assert "HOH bend" in lines[lines.index("motions of the modes:") + 1]


def test_vib_gives_imaginary_wavenumbers_as_negative_numbers(
    molpool: CommandLine, potential: Path, methanol: Path
) -> None:
    called = molpool("vib", methanol, "-p", potential, "--no-relax", "--json")
    assert called.code == 0
    result = called.json
    assert len(result["wavenumbers_cm1"]) == len(result["ir_km_mol"]) == 12
    assert result["raman_a4_amu"] is None
    assert min(result["wavenumbers_cm1"]) < 0
    first, second = called.err.splitlines()
    assert "imaginary" in first
    assert "leave out --no-relax" in second


def test_vib_is_stopped_where_there_is_no_minimum_to_be_found(
    molpool: CommandLine, potential: Path, methanol: Path
) -> None:
    called = molpool("vib", methanol, "-p", potential, "--steps", "1", "--json")
    assert called.code == 3
    assert called.json["status"] == "stopped"
    assert called.sentence.startswith("the relaxation did not reach 0.0001 eV/Å")


def test_vib_without_a_dipole_head_has_wavenumbers_only(
    molpool: CommandLine, tmp_path: Path
) -> None:
    save_potential(
        small_potential(heads=("energy",), total_charges=(0,)), tmp_path / "p"
    )
    words = ["vib", "methanol", "-p", tmp_path / "p", "--no-relax"]
    result = molpool(*words, "--json").json
    assert len(result["wavenumbers_cm1"]) == 12
    assert result["ir_km_mol"] is None
    assert result["dipole_debye"] is None
    assert "infrared" not in molpool(*words).out


def test_a_molecule_never_seen_in_training_gets_a_remark(
    molpool: CommandLine, water: Path, tmp_path: Path
) -> None:
    atoms = molecule("H2")
    ase.io.write(tmp_path / "h2.xyz", atoms)
    called = molpool("vib", tmp_path / "h2.xyz", "-p", water, "--no-relax", "--json")
    assert "trained on H2O and has never seen H2" in called.err.splitlines()[0]


@pytest.mark.skipif(
    "painn-formaldehyde" not in bundled_names(), reason="not bundled yet"
)
def test_formaldehyde_agrees_with_experiment(molpool: CommandLine) -> None:
    result = molpool("vib", "formaldehyde", "--json").json
    measured = experiment_of("formaldehyde")
    # fundamentals are lowered by anharmonicity, most for the C-H stretches
    ratio = np.divide(result["wavenumbers_cm1"], measured.fundamentals_cm1)
    assert ratio.min() > 1.0
    assert ratio.max() < 1.07
    difference = np.subtract(result["ir_km_mol"], measured.band_strengths_km_mol)
    assert (abs(difference) < 3 * np.array(measured.band_strength_errors_km_mol)).all()
    assert result["experiment_cm1"] == list(measured.fundamentals_cm1)


@pytest.mark.skipif(
    "painn-ethanol" not in bundled_names() or not REFERENCE.is_file(),
    reason="the potential or the reference data are not here",
)
@pytest.mark.parametrize("conformer", ["trans", "gauche"])
def test_ethanol_agrees_with_density_functional_theory(
    molpool: CommandLine, conformer: str
) -> None:
    result = molpool("vib", f"ethanol-{conformer}", "--json").json
    reference = json.loads(REFERENCE.read_text())
    expected = reference[f"ethanol_{conformer}|b3lyp/def2-svpd"]
    difference = np.subtract(result["wavenumbers_cm1"], expected["freq_cm1"])
    assert abs(difference).mean() < 5
    assert abs(difference).max() < 15
    assert result["dipole_debye"] == pytest.approx(expected["dipole_D"], abs=0.03)
    assert sum(result["ir_km_mol"]) == pytest.approx(
        sum(expected["ir_km_mol"]), rel=0.05
    )
