"""``molpool list`` and ``molpool info``."""

import json
from pathlib import Path

import pytest
from command_line import CommandLine

from molpool_calc import storage
from molpool_calc.storage import load_potential
from molpool_calc.units import DEBYE


def test_list_describes_every_bundled_potential(
    molpool: CommandLine, monkeypatch: pytest.MonkeyPatch, water: Path
) -> None:
    monkeypatch.setattr(storage, "bundled_folder", lambda: water.parent)
    result = molpool("list", "--json").json
    (described,) = result["potentials"]
    expected = {"name", "network", "pooling", "elements", "level_of_theory"}
    expected |= {"properties", "errors", "n_parameters"}
    assert described.keys() == expected
    assert (described["network"], described["pooling"]) == ("painn", "sum")
    assert described["elements"] == ["H", "O"]
    assert {"energy", "forces", "dipole"} <= set(described["properties"])
    assert described["errors"]["forces"]["unit"] == "eV/Angstrom"
    assert "ethanol" in result["molecules"]


def test_list_prints_errors_in_the_units_of_its_header(
    molpool: CommandLine, monkeypatch: pytest.MonkeyPatch, water: Path
) -> None:
    monkeypatch.setattr(storage, "bundled_folder", lambda: water.parent)
    lines = molpool("list").out.splitlines()
    assert lines[0].split()[-3:] == ["energy", "forces", "dipole"]
    assert lines[1].split() == ["meV", "meV/Å", "mD"]
    errors = load_potential(water).spec.errors
    shown = [float(word) for word in lines[3].split()[-3:]]
    meant = [1e3 * errors[name]["mae"] for name in ("energy", "forces", "dipole")]
    meant[2] /= DEBYE
    assert shown == pytest.approx(meant, rel=0.006)


def test_list_works_without_potentials(
    molpool: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(storage, "bundled_folder", lambda: tmp_path)
    assert molpool("list", "--json").json["potentials"] == []
    assert "no bundled potentials" in molpool("list").out


def test_info_says_what_list_says_and_more(molpool: CommandLine, water: Path) -> None:
    called = molpool("info", water, "--json")
    assert called.code == 0
    result = called.json
    on_disk = json.loads((water / "potential.json").read_text())
    assert result["sha256"] == on_disk["sha256"]
    assert result["cutoff"] == 4.0
    assert result["units"]["energy"] == "eV"
    assert result["n_parameters"] == on_disk["n_parameters"]
    assert result["errors"] == on_disk["errors"]
    card = molpool("info", water).out
    assert on_disk["sha256"] in card
    assert "H, O" in card
