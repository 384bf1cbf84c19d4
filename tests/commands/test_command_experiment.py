"""``--experiment`` of ``molpool ir`` and ``spectrum``: files, tables, refusals."""

import csv
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine
from jcamp_files import block, gaussian, write
from small_potentials import WITH_MINIMUM, small_potential

from molpool_calc.storage import save_potential

X = np.linspace(500.0, 3900.0, 1701)
SHORT = ("--picoseconds", "0.1", "--equilibration-ps", "0.005", "--temperature", "10")
SHORT += ("--guard", "off")  # random weights let atoms meet


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment") / "random"
    save_potential(small_potential(seed=WITH_MINIMUM), folder)
    return folder


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = [(1500.0, 100.0), (1746.0, 60.0), (2800.0, 80.0)]
    absorbance = sum(gaussian(X, x, 60.0, area) for x, area in lines)
    folder = tmp_path_factory.mktemp("experiment")
    return write(folder / "gas.jdx", block(X, absorbance, YUNITS="ABSORBANCE"))


def test_ir_compares_with_the_file_and_spectrum_repeats_it(
    molpool: CommandLine, potential: Path, measured: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ir"
    words = ["ir", "formaldehyde", "-p", potential, "--out", folder, *SHORT]
    options = ["--experiment", measured, "--scale-wavenumbers", "0.95"]
    called = molpool(*words, *options, "--json")
    assert called.code == 0, called.err
    result = called.json["experiment"]
    assert result["wavenumber_scale"] == 0.95
    assert result["title"] == "test gas"
    with (folder / "experiment.csv").open() as file:
        assert file.readline().startswith("# unit: cm-1 and km/mol")
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result["bands"]) > 0
    positions = [band["measured_cm1"] for band in result["bands"]]
    assert any(position is not None for position in positions)
    curve = (folder / "experiment_curve.csv").read_text().splitlines()
    assert curve[0].startswith("# unit: decadic absorbance")
    assert len(curve) == len(X) + 2
    written = (folder / "experiment.csv").read_bytes()
    spectrum = (folder / "spectrum_ir.csv").read_bytes()
    again = molpool("spectrum", folder, *options, "--plot")
    assert again.code == 0, again.err
    assert (folder / "experiment.csv").read_bytes() == written
    assert (folder / "spectrum_ir.csv").read_bytes() == spectrum, "never scaled"
    assert "× 0.95" in again.out
    assert "experiment: test gas, the test bench" in again.out
    assert (folder / "spectrum_ir.png").is_file()
    text = measured.read_text().replace("##STATE=gas\n", "")
    unstated = write(tmp_path / "unstated.jdx", text)
    called = molpool("spectrum", folder, "--experiment", unstated, "--json")
    assert "unstated.jdx: it states no phase" in called.err
    assert called.json["experiment"]["remarks"]


def test_a_wrong_experiment_is_refused_before_the_run(
    molpool: CommandLine, potential: Path, measured: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ir"
    words = ["ir", "formaldehyde", "-p", potential, "--out", folder, *SHORT]
    liquid = write(
        tmp_path / "liquid.jdx",
        measured.read_text().replace("##STATE=gas", "##STATE=liquid"),
    )
    sentence = molpool.refused(*words, "--experiment", liquid)
    assert "'liquid'" in sentence
    assert "give a spectrum of the gas" in sentence
    assert "there is no file" in molpool.refused(*words, "--experiment", "no.jdx")
    assert "add --experiment" in molpool.refused(*words, "--scale-wavenumbers", "0.9")
    two = [*words, "--experiment", measured, "--scale-wavenumbers", "3"]
    assert "between 0.5 and 2" in molpool.refused(*two)
    assert not folder.exists()


def test_other_kinds_of_spectra_have_no_experiment(
    molpool: CommandLine, measured: Path, tmp_path: Path
) -> None:
    words = ["spectrum", tmp_path, "--kind", "vdos", "--experiment", measured]
    assert "--experiment means nothing" in molpool.refused(*words)
