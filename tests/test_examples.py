"""Every example runs, with few steps, and gives a number that is right."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from molpool_calc import bundled_names
from molpool_calc.cli import main

SO3LR = Path(__file__).parents[2] / "shared" / "weights" / "raw" / "so3lr_params.pkl"
FOLDER = Path(__file__).parents[1] / "md_examples"
needs_zoo = pytest.mark.skipif(
    not {"painn-ethanol", "painn-formaldehyde"} <= set(bundled_names()),
    reason="the bundled potentials are not there yet",
)


def example(name: str) -> Callable[..., dict[str, float]]:
    main: Callable[..., dict[str, float]] = runpy.run_path(str(FOLDER / name))["main"]
    return main


def result_alone(name: str, place: Path, **arguments: int) -> dict[str, float]:
    """Of a long example, run as users do: run-time type checks would double its time.

    The values are of NumPy or Python; JSON holds either to the last digit.
    """
    code = (
        f"import json, runpy\nmain = runpy.run_path({str(FOLDER / name)!r})['main']\n"
        f"result = main(**{arguments!r})\n"
        "print(json.dumps({key: float(value) for key, value in result.items()}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@needs_zoo
def test_energy_and_forces_of_ethanol() -> None:
    result = example("01_energy_and_forces.py")(structures=10)
    # B3LYP/def2-SVPD: 1.67 D (trans) and 1.80 D (gauche); the start is unrelaxed trans
    assert 1.4 < result["dipole"] < 2.0
    assert 0.01 < result["spread"] < 1.0


@needs_zoo
def test_relaxation_and_vibrations_of_formaldehyde() -> None:
    result = example("02_relax_and_vibrations.py")()
    # CCSD(T) harmonic C=O stretch 1776 cm-1; zero-point energy 0.7254 eV
    assert result["carbonyl"] == pytest.approx(1776, abs=5)
    assert result["zpe"] == pytest.approx(0.7254, abs=0.002)


@needs_zoo
def test_dynamics_of_ethanol_conserves_energy() -> None:
    result = example("03_molecular_dynamics.py")(steps=200)
    assert abs(result["drift"]) < 5  # 0.2 ps: fluctuations, not drift
    assert 50 < result["temperature"] < 1200


@needs_zoo
def test_infrared_spectrum_of_formaldehyde(tmp_path: Path) -> None:
    result = result_alone("04_infrared_spectrum.py", tmp_path, steps=400)
    assert 2600 < result["strongest"] < 3200 or 1600 < result["strongest"] < 1900
    assert 50 < result["integrated"] < 900
    assert (tmp_path / "formaldehyde.png").stat().st_size > 10_000


@needs_zoo
def test_orbital_gaps_from_an_attention_based_pooling() -> None:
    gaps = example("05_choose_a_pooling.py")()
    # minus the ionization energies 10.48, 9.24 and 9.70 eV, affinities below zero
    assert 10.5 < gaps["CH3CH2OH"] < 12.5
    assert 9.5 < gaps["C6H6"] < 11.0
    assert 10.0 < gaps["CH3COCH3"] < 11.8


@needs_zoo
def test_zero_point_energy_of_formaldehyde_from_ring_polymers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ipi")
    monkeypatch.chdir(tmp_path)
    result = example("06_quantum_nuclei.py")(steps=400, beads=4)
    # half of the zero-point energy is 0.36 eV with all beads, and 0.08 eV classically
    assert 0.15 < result["potential"] < 0.6
    assert (tmp_path / "quantum.png").stat().st_size > 10_000


@needs_zoo
def test_raman_spectrum_of_ethanol(tmp_path: Path) -> None:
    result = result_alone("07_raman_spectrum.py", tmp_path, steps=600)
    assert 2700 < result["strongest"] < 3300  # C-H stretches
    assert 0.0 <= result["depolarization"] < 0.75
    # B3LYP/def2-SVPD: 176 A^4/amu, the symmetric C-H stretch at 3034 cm-1
    assert result["activity"] == pytest.approx(176, rel=0.1)
    assert (tmp_path / "ethanol_raman.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(not SO3LR.is_file(), reason="the weights of SO3LR are not here")
def test_infrared_spectrum_of_liquid_water(tmp_path: Path) -> None:
    words = ["import", "so3lr", str(SO3LR), "--long-range-cutoff", "12"]
    assert main([*words, "--out", str(tmp_path / "so3lr")]) == 0
    run = example("08_infrared_of_water.py")
    result = run(str(tmp_path / "so3lr"), steps=60, n_along=2)
    assert 3000 < result["strongest"] < 3900 or 300 < result["strongest"] < 900
    # the measured bands of the liquid integrate to a few 1e6 cm-2
    assert 5e5 < result["integrated"] < 2e7


def test_every_example_is_listed_and_short() -> None:
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in sorted(FOLDER.glob("*.py")):
        assert path.name in listed
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 70
