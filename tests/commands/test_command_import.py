"""``molpool import``."""

from pathlib import Path

import pytest
from command_line import CommandLine


def test_import_writes_a_potential_that_computes(
    molpool: CommandLine, tmp_path: Path
) -> None:
    raw = Path(__file__).parents[3] / "shared" / "weights" / "raw"
    file = raw / "schnetpack_painn_rmd17_ethanol_1.best_model"
    if not file.is_file():
        pytest.skip("the published weights are not here")
    out = tmp_path / "spk"
    words = ["import", "schnetpack", file, "--out", out]
    assert "unit" in molpool.refused(*words)
    assert not (out / "potential.json").exists()
    elements = ["--elements", "H", "C", "O"]
    called = molpool(*words, "--unit", "kcal/mol", *elements, "--json")
    assert called.code == 0
    assert called.json["name"] == "spk"
    assert called.json["elements"] == ["H", "C", "O"]
    assert called.json["sha256"] == molpool("info", out, "--json").json["sha256"]
    assert (out / "README.md").is_file()
    assert "--force" in molpool.refused(*words, "--unit", "kcal/mol")
    vibrations = molpool("vib", "ethanol", "-p", out, "--json").json
    assert len(vibrations["wavenumbers_cm1"]) == 21
    assert 3600 < vibrations["wavenumbers_cm1"][-1] < 4000


def test_import_refuses_what_is_no_model(molpool: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "best_model"
    words = ["import", "schnetpack", file, "--unit", "eV", "--out", tmp_path / "p"]
    assert "there is no file" in molpool.refused(*words)
    file.write_bytes(b"no model")
    assert "best_model" in molpool.refused(*words)
    assert not (tmp_path / "p" / "potential.json").exists()


def test_import_of_so3lr_states_its_long_range_cutoff(
    molpool: CommandLine, tmp_path: Path
) -> None:
    raw = Path(__file__).parents[3] / "shared" / "weights" / "raw"
    if not (raw / "so3lr_params.pkl").is_file():
        pytest.skip("the published weights are not here")
    out = tmp_path / "so3lr"
    words = ["import", "so3lr", raw / "so3lr_params.pkl", "--out", out]
    assert "larger cutoff" in molpool.refused(*words, "--long-range-cutoff", "1")
    assert not (out / "potential.json").exists()
    called = molpool(*words, "--long-range-cutoff", "12", "--json")
    assert called.code == 0
    assert called.json["name"] == "so3lr"
    assert called.json["elements"] == ["H", "C", "N", "O", "F", "P", "S", "Cl"]
    assert "here 12 Å" in called.json["description"]
