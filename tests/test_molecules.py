"""Systems are found by file, by name and by SMILES; facts carry their source."""

import json
import sys
from importlib.resources import files
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from molpool_calc import bundled_names
from molpool_calc.molecules import (
    default_potential,
    experiment_of,
    molecule_names,
    read_system,
)

REFERENCE = Path(__file__).parents[2] / "shared" / "data" / "harmonic_reference.json"


def test_ethanol_is_the_trans_conformer() -> None:
    ethanol, trans = read_system("ethanol"), read_system("ethanol-trans")
    assert ethanol == trans
    # C C O H: the hydroxyl hydrogen is the last atom
    assert ethanol.get_dihedral(0, 1, 2, 8) == pytest.approx(180.0, abs=1.0)


def test_gauche_ethanol_is_turned_by_sixty_degrees() -> None:
    gauche = read_system("ethanol-gauche")
    turned = gauche.get_dihedral(0, 1, 2, 8)
    assert min(turned, 360 - turned) == pytest.approx(61.0, abs=1.0)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("ethanol", "C2H6O"),
        ("ethanol-gauche", "C2H6O"),
        ("formaldehyde", "CH2O"),
        ("methanol", "CH4O"),
        ("acetone", "C3H6O"),
        ("water", "H2O"),
        ("carbon-dioxide", "CO2"),
        ("ammonia", "H3N"),
    ],
)
def test_bundled_molecules_have_their_formula_and_bonds(
    name: str, formula: str
) -> None:
    atoms = read_system(name)
    assert atoms.symbols.get_chemical_formula() == formula
    distances = atoms.get_all_distances() + 9.0 * np.eye(len(atoms))
    assert distances.min() > 0.9
    assert distances.min(axis=0).max() < 1.5, "every atom is bonded"


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the reference data are not here")
@pytest.mark.parametrize("name", ["ethanol_trans", "ethanol_gauche", "formaldehyde"])
def test_geometries_are_those_of_the_reference(name: str) -> None:
    reference = json.loads(REFERENCE.read_text())[f"{name}|b3lyp/def2-svpd"]
    atoms = read_system(name.replace("_", "-"))
    assert atoms.get_chemical_symbols() == reference["symbols"]
    np.testing.assert_allclose(atoms.positions, reference["positions_A"], atol=1e-6)


def test_experiments_are_complete_and_have_sources() -> None:
    seen = 0
    for name in molecule_names():
        known = experiment_of(name)
        if known is None:
            continue
        seen += 1
        assert known.fundamentals_cm1 or known.peaks
        assert list(known.fundamentals_cm1) == sorted(known.fundamentals_cm1)
        assert bool(known.fundamentals_cm1) == bool(known.fundamentals_source)
        assert bool(known.peaks) == bool(known.peaks_source)
        assert bool(known.band_areas) == bool(known.band_areas_source)
        strengths = known.band_strengths_km_mol
        assert len(strengths) in (0, len(known.fundamentals_cm1))
        assert len(known.band_strength_errors_km_mol) in (0, len(strengths))
        text = known.fundamentals_source + known.peaks_source
        assert "recalled" not in text
        for position, height in known.peaks:
            assert 400 < position < 4000
            assert 0 < height <= 1
    assert seen >= 5


def test_no_fact_in_the_file_was_recalled() -> None:
    text = files("molpool_calc").joinpath("molecules.json").read_text("utf-8")
    assert "recalled" not in text
    assert ".jdx" not in text


def test_fundamentals_belong_to_one_conformer_and_peaks_to_the_gas() -> None:
    trans, gauche = experiment_of("ethanol"), experiment_of("ethanol-gauche")
    assert len(trans.fundamentals_cm1) == 3 * 9 - 6
    assert gauche.fundamentals_cm1 == ()
    assert trans.peaks == gauche.peaks
    assert max(trans.peaks, key=lambda peak: peak[1])[0] == pytest.approx(1066.3)


def test_formaldehyde_has_measured_band_strengths() -> None:
    known = experiment_of("formaldehyde")
    assert known.fundamentals_cm1[3] == 1746
    assert known.band_strengths_km_mol[3] == 74.0
    assert known.band_strength_errors_km_mol[3] == 5.3


def test_acetone_has_the_absolute_band_areas_of_its_quantitative_spectrum() -> None:
    known = experiment_of("acetone")
    total = sum(area for _, _, area in known.band_areas)
    assert total == pytest.approx(396.5, abs=0.5)
    assert (1700.0, 1950.0, 140.75) in known.band_areas
    assert "2.3 %" in known.band_areas_source
    ends = [high for _, high, _ in known.band_areas]
    assert [low for low, _, _ in known.band_areas][1:] == ends[:-1], "no gap"


def test_peaks_that_are_saturated_say_so() -> None:
    assert "saturated" in experiment_of("methanol").peaks_source
    assert "saturated" not in experiment_of("ethanol").peaks_source


def test_other_names_have_no_experiment_and_no_potential() -> None:
    assert experiment_of("some.xyz") is None
    assert experiment_of("ammonia") is None
    assert default_potential("some.xyz") is None
    assert default_potential("ammonia") is None


def test_default_potentials_are_bundled_ones() -> None:
    assert default_potential("ethanol") == "painn-ethanol"
    assert default_potential("ethanol-gauche") == "painn-ethanol"
    for name in ("formaldehyde", "methanol", "acetone"):
        assert default_potential(name) == f"painn-{name}"
    named = {default_potential(name) for name in molecule_names()} - {None}
    if not named <= set(bundled_names()):
        pytest.skip("not all of them are bundled yet")


def test_a_name_gives_a_new_structure_each_time() -> None:
    read_system("water").positions += 1.0
    assert read_system("water").positions[0, 2] == pytest.approx(0.11136)


def test_files_are_read_by_ase(tmp_path: Path) -> None:
    path = tmp_path / "two.xyz"
    ase.io.write(path, [molecule("H2O"), molecule("CH4")])
    assert len(read_system(str(path))) == 5, "the last frame"
    assert len(read_system(f"{path}@0")) == 3


def test_charges_in_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "ion.xyz"
    ase.io.write(path, Atoms("OH", [[0, 0, 0], [0, 0, 1]], info={"charge": -1}))
    assert read_system(str(path)).info["charge"] == -1


def test_a_folder_of_the_same_name_does_not_hide_a_molecule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ethanol").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(read_system("ethanol")) == 9


@pytest.mark.parametrize("text", ["ethanole", "", ".", "no/such/file.xyz", "a@b@c"])
def test_what_is_neither_file_nor_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"there is no structure .* ethanol, .*smiles"):
        read_system(text)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xyz", "3\n\nnonsense\n"),
        ("a.cif", "nonsense"),
        ("a.npz", "nonsense"),
        ("a.db", "nonsense, and too much of it for an empty data base" * 20),
        ("a.traj", "nonsense"),
        ("a.json", "{}"),
        ("a.xyz", ""),
        ("a", "nonsense"),
    ],
)
def test_files_that_ase_cannot_read_are_refused(
    tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=r"cannot be read as a structure"):
        read_system(str(path))


def test_several_frames_at_once_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.xyz"
    ase.io.write(path, [molecule("H2O"), molecule("CH4")])
    with pytest.raises(ValueError, match=r"holds several structures"):
        read_system(f"{path}@:")


def test_smiles_without_rdkit_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ImportError, match=r"pip install 'molpool-calc\[chem\]'"):
        read_system("smiles:CCO")


def test_smiles_become_molecules() -> None:
    pytest.importorskip("rdkit")
    ethanol = read_system("smiles:CCO")
    assert ethanol.symbols.get_chemical_formula() == "C2H6O"
    assert 1.3 < ethanol.get_distance(0, 1) < 1.6
    assert ethanol.info == {}
    again = read_system("smiles:CCO")
    np.testing.assert_array_equal(ethanol.positions, again.positions)


def test_charges_and_radicals_of_smiles_are_kept() -> None:
    pytest.importorskip("rdkit")
    assert read_system("smiles:[NH4+]").info == {"charge": 1}
    assert read_system("smiles:C[CH2]").info == {"num_unpaired": 1}


@pytest.mark.parametrize("smiles", ["", "xx", "C(C"])
def test_wrong_smiles_are_refused(smiles: str) -> None:
    pytest.importorskip("rdkit")
    with pytest.raises(ValueError, match=r"is no SMILES string"):
        read_system(f"smiles:{smiles}")
