"""``molpool ir --beads``: both spectra in one folder, and what it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small_potentials import WITH_MINIMUM, small_potential

from molpool_calc.cli import main
from molpool_calc.commands.quantum import table_of
from molpool_calc.md.manifest import FORMAT, write_manifest
from molpool_calc.path_integrals import run
from molpool_calc.path_integrals.infrared import lowest_energy
from molpool_calc.path_integrals.job import RingPolymerJob
from molpool_calc.path_integrals.run import replica_folder
from molpool_calc.spectra import Spectrum, read_spectrum
from molpool_calc.spectra.shifts import band_shifts
from molpool_calc.storage import save_potential


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("potential")
    save_potential(small_potential(dtype=torch.float32, seed=WITH_MINIMUM), folder)
    return str(folder)


def words(potential: str, folder: Path, *more: str) -> list[str]:
    start = ["ir", "formaldehyde", "-p", potential, "--out", str(folder)]
    short = ["--picoseconds", "0.03", "--equilibration-ps", "0.005"]
    # random weights let atoms meet
    return [*start, *short, "--temperature", "10", "--guard", "off", *more]


def test_both_spectra_are_written_and_compared(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ipi")
    folder = tmp_path / "ir"
    rings = ["--beads", "2", "--quantum-picoseconds", "0.03", "--quantum-replicas", "1"]
    rings += ["--replicas", "2", "--no-report"]
    assert main([*words(potential, folder, *rings), "--json"]) == 0
    output = capsys.readouterr()
    quantum = json.loads(output.out)["quantum"]
    assert quantum["beads"] == 2
    assert 1.0 < quantum["centroid_temperature_k"] < 60.0  # 10 K for 0.03 ps
    assert {"peaks", "integrated_km_mol", "bands", "advised_beads"} <= quantum.keys()
    assert "2 beads were used" in output.err
    spectrum = read_spectrum(folder / "spectrum_ir_quantum.csv")
    assert spectrum.unit == "km/mol per cm-1"
    assert spectrum.metadata["beads"] == 2
    assert spectrum.metadata["verlet_timestep_fs"] == 0.25
    classical = read_spectrum(folder / "spectrum_ir.csv")
    assert "beads" not in classical.metadata
    # the spectrum can be made again, and coarser
    place = folder / "quantum"
    assert main(["spectrum", str(place)]) == 0
    again = (place / "spectrum_ir.csv").read_bytes()
    assert again == (folder / "spectrum_ir_quantum.csv").read_bytes()
    wide = ["--resolution", "2000", "--window", "hann", "--plot", "--json"]
    capsys.readouterr()
    assert main(["spectrum", str(place), *wide]) == 0
    stated = json.loads(capsys.readouterr().out)["metadata"]
    assert (stated["resolution_cm1"], stated["window"]) == (2000.0, "hann")
    assert stated["beads"] == 2
    # going on where everything is done changes nothing
    first = (folder / "spectrum_ir_quantum.csv").read_bytes()
    assert main(words(potential, folder, *rings, "--resume")) == 0
    assert "quantum nuclei: 2 beads" in capsys.readouterr().out
    assert (folder / "spectrum_ir_quantum.csv").read_bytes() == first
    other = ["--beads", "3", *rings[2:], "--resume"]
    assert main(words(potential, folder, *other)) == 2
    assert "another beads" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "vdos"], "records dipoles only .* give --kind ir"),
        (["--temperature", "300"], "--temperature means nothing .* run states it"),
        (["--assign"], "--assign means nothing to the run of ring polymers"),
    ],
)
def test_what_rings_do_not_have_is_refused_in_a_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    stated = {"format": FORMAT, "status": "running", "inputs": {}, "n_steps": 8}
    write_manifest(tmp_path, {**stated, "dynamics": {"beads": 2}})
    assert main(["spectrum", str(tmp_path), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert {path.name for path in tmp_path.iterdir()} == {"run.json"}


def test_without_ipi_nothing_is_computed(
    potential: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "find_spec", lambda _name: None)
    assert main(words(potential, tmp_path / "ir", "--beads", "4")) == 2
    assert "pip install 'molpool-calc[ipi]'" in capsys.readouterr().err
    assert not (tmp_path / "ir").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--beads", "0"], "beads is 0"),
        (["--quantum-replicas", "2"], "give --beads"),
        (["--beads", "2", "--quantum-picoseconds", "-1"], "picoseconds is -1"),
    ],
)
def test_wrong_options_are_refused_before_the_run(
    potential: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert main(words(potential, tmp_path / "ir", *options)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "ir").exists()


def line(position: float, n_units: int, spread: float) -> Spectrum:
    x = np.arange(500.0, 4000.0, 1.0)
    moves = spread * np.linspace(-1.0, 1.0, n_units)
    units = np.array([np.exp(-(((x - position - d) / 20.0) ** 2)) for d in moves])
    units += np.exp(-(((x - 1500.0) / 20.0) ** 2))
    return Spectrum(
        wavenumbers=x,
        intensity=units.mean(axis=0),
        lower=None,
        upper=None,
        units_intensity=units,
        unit="km/mol per cm-1",
        metadata={},
    )


def test_the_shift_of_a_band_is_measured_with_its_error() -> None:
    modes = [1510.0, 3000.0, 3050.0]
    still, moved = band_shifts(line(3000.0, 4, 3.0), line(2950.0, 4, 3.0), modes)
    assert still.shift == pytest.approx(0.0, abs=0.1)
    assert moved.modes == (3000.0, 3050.0)
    assert moved.shift == pytest.approx(-50.0, abs=0.5)
    # units at ±3 and ±1: deviation 2.582, 3.182 of Student for 3, two spectra
    assert moved.error == pytest.approx(2.582 * 3.182 / 2 * 2**0.5, rel=0.02)
    alone = band_shifts(line(3000.0, 1, 0.0), line(2950.0, 4, 3.0), modes)
    assert alone[0].error is None


def test_bands_that_are_not_there_are_left_out() -> None:
    bands = band_shifts(line(3000.0, 2, 1.0), line(3000.0, 2, 1.0), [800.0, 1500.0])
    assert [band.modes for band in bands] == [(1500.0,)]


@pytest.mark.parametrize(("depth", "warns"), [(0.06, True), (-0.3, False)])
def test_rings_below_the_minimum_show_a_hole_of_the_potential(
    tmp_path: Path, depth: float, warns: bool
) -> None:
    job = RingPolymerJob(beads=4, replicas=2, picoseconds=0.1)
    for replica, lowest in enumerate((-10.0 - depth, -9.5)):
        folder = replica_folder(tmp_path, replica)
        folder.mkdir(parents=True)
        rows = f"0 {lowest + 0.2}\n1 {lowest}\n"
        head = "# column 1 --> step : s\n# column 2 --> potential{electronvolt} : V\n"
        (folder / "production.properties").write_text(head + rows)
    assert lowest_energy(tmp_path, job) == pytest.approx(min(-10.0 - depth, -9.5))
    found = {
        **dict.fromkeys(("beads", "replicas", "picoseconds", "seconds"), 1),
        **dict.fromkeys(("centroid_temperature_k", "integrated_km_mol"), 1.0),
        "bands": [],
        "lowest_energy_ev": lowest_energy(tmp_path, job) + 10.0,
    }
    lines = " ".join(table_of({"quantum": found}))
    assert ("0.060 eV below the relaxed structure" in lines) is warns
