"""Reading of data: units, origins, and files that are refused."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from molpool_calc.training.data import (
    Dataset,
    Units,
    read_dataset,
)

ETHANOL = Path(__file__).parent / "data" / "ethanol_120.npz"
EV = Units(energy="eV", length="Angstrom", dipole="e*Angstrom")

# CODATA 2018, so not the constants of the package
EV_PER_KJ_MOL = 0.0103642697
EV_PER_HARTREE = 27.2113862459
ANGSTROM_PER_BOHR = 0.529177210903
EANGSTROM_PER_DEBYE = 0.2081943


@pytest.fixture(scope="module")
def ethanol() -> Dataset:
    return read_dataset(ETHANOL, units=EV)


@pytest.fixture(scope="module")
def raw() -> dict[str, np.ndarray]:
    with np.load(ETHANOL, allow_pickle=False) as archive:
        return dict(archive)


def save(path: Path, arrays: Mapping[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def assert_close(one: Dataset, other: Dataset) -> None:
    for name in ("positions", "energy", "forces", "dipole"):
        assert np.allclose(getattr(one, name), getattr(other, name), rtol=3e-7), name


def test_npz_gives_the_arrays_of_the_file(ethanol, raw):
    assert len(ethanol) == 120
    assert np.array_equal(ethanol.numbers, np.tile(raw["Z"], 120))
    assert np.array_equal(ethanol.positions.reshape(120, 9, 3), raw["R"])
    assert np.array_equal(ethanol.forces.reshape(120, 9, 3), raw["F"])
    assert np.array_equal(ethanol.energy, raw["E"])
    assert np.array_equal(ethanol.dipole, raw["D"])
    assert np.array_equal(ethanol.split, raw["split"])
    assert ethanol.polarizability is None
    assert not ethanol.pbc.any()
    assert not ethanol.charges.any()
    assert ethanol.positions.dtype == ethanol.forces.dtype == np.float64
    assert ethanol.sha256 == hashlib.sha256(ETHANOL.read_bytes()).hexdigest()


def test_units_are_converted_by_the_constants_of_nature(raw, ethanol, tmp_path):
    path = save(
        tmp_path / "a.npz",
        {
            "Z": raw["Z"],
            "R": raw["R"] / ANGSTROM_PER_BOHR,
            "E": raw["E"] / EV_PER_HARTREE,
            "F": raw["F"] / EV_PER_HARTREE * ANGSTROM_PER_BOHR,
            "D": raw["D"] / EANGSTROM_PER_DEBYE,
        },
    )
    units = Units(energy="Hartree", length="Bohr", dipole="Debye")
    assert_close(read_dataset(path, units=units), ethanol)
    as_kj = save(tmp_path / "b.npz", {**raw, "F": raw["F"] / EV_PER_KJ_MOL})
    units = replace(EV, forces="kJ/mol/Angstrom")
    assert_close(read_dataset(as_kj, units=units), ethanol)


def test_polarizability_of_water_has_its_textbook_volume(tmp_path):
    water = {
        "Z": np.array([8, 1, 1]),
        "R": np.array([[[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0, -0.757, -0.469]]]),
        "alpha": 9.83 * np.eye(3)[None],  # Bohr³; 1.45 Å³ is in every table
    }
    path = save(tmp_path / "a.npz", water)
    units = Units(length="Angstrom", polarizability="a.u.")
    alpha = read_dataset(path, units=units).polarizability
    assert alpha[0, 0, 0] * 14.3996 == pytest.approx(1.457, abs=2e-3)
    for wrong in ("Angstrom^3", "e^2*Angstrom^2/eV"):
        with pytest.raises(ValueError, match="polarizabilities are"):
            read_dataset(path, units=replace(units, polarizability=wrong))


def test_dipoles_of_ions_are_moved_to_the_centre_of_mass(tmp_path):
    ion = {
        "Z": np.array([8, 1]),
        "R": np.array([[[1.0, 0.0, 0.0], [1.0, 0.0, 0.97]]]),
        "D": np.array([[0.3, 0.0, 0.1]]),
        "charge": np.array([-1]),
    }
    path = save(tmp_path / "a.npz", ion)
    moved = read_dataset(path, units=replace(EV, dipole_origin="coordinates"))
    center = Atoms([8, 1], ion["R"][0]).get_center_of_mass()
    assert np.allclose(moved.dipole, ion["D"] + center)
    kept = read_dataset(path, units=replace(EV, dipole_origin="center of mass"))
    assert np.array_equal(kept.dipole, ion["D"])
    with pytest.raises(ValueError, match="1 ions, whose dipoles depend on the origin"):
        read_dataset(path, units=EV)


def test_gradients_become_forces_with_a_minus_sign(raw, ethanol, tmp_path):
    arrays = {key: raw[key] for key in "ZRED"}
    path = save(tmp_path / "a.npz", {**arrays, "gradient": -raw["F"]})
    dataset = read_dataset(path, units=EV, keys={"forces": "-gradient"})
    assert_close(dataset, ethanol)


def faulty(raw: Mapping[str, np.ndarray], **changes: Any) -> dict[str, Any]:
    changed = {**raw, **changes}
    return {key: value for key, value in changed.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "keys", "message"),
    [
        ({"R": None}, {}, "nothing recognised as positions; .* it holds D, E, F, Z"),
        ({"Z": None}, {}, "nothing recognised as numbers"),
        ({}, {"energy": "e_total"}, "no 'e_total', which keys name as energy"),
        ({}, {"enregy": "E"}, "unknown quantity 'enregy'"),
        ({}, {"polarizability": "E"}, r"add units\.polarizability"),
        ({"energies": np.zeros(120)}, {}, "E and energies, which could both be energy"),
        ({"E": np.zeros(119)}, {}, r"energy has shape \(119,\), but \(120,\)"),
        ({"D": np.zeros((120, 1))}, {}, r"dipole has shape \(120, 1\)"),
        ({"F": np.zeros((120, 8, 3))}, {}, r"forces has shape \(120, 8, 3\)"),
        ({"Z": np.zeros(8, dtype=int)}, {}, r"numbers has shape \(8,\)"),
        ({"R": np.zeros((120, 27))}, {}, r"numbers has shape|but \(120, 3\)"),
        ({"Z": np.full(9, 200)}, {}, "atomic numbers from 200 to 200"),
        ({"Z": np.zeros(9, dtype=int)}, {}, "frames without atoms"),
        ({"E": np.full(120, np.nan)}, {}, "120 rows of energy that are not finite"),
        ({"E": np.array([None] * 120)}, {}, "'E' is an array of Python objects"),
    ],
)
def test_faulty_file_is_refused_in_a_sentence(changes, keys, message, raw, tmp_path):
    path = save(tmp_path / "a.npz", faulty(raw, **changes))
    with pytest.raises(ValueError, match=message):
        read_dataset(path, units=EV, keys=keys)


def test_missing_and_unknown_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no data file"):
        read_dataset(tmp_path / "absent.npz", units=EV)
    (tmp_path / "a.what").write_text("what")
    with pytest.raises(ValueError, match="of no format that is known"):
        read_dataset(tmp_path / "a.what", units=EV)


def test_unknown_units_are_refused():
    with pytest.raises(ValueError, match=r"units\.energy = 'kcal' is not known; write"):
        Units(energy="kcal", length="Angstrom")
    with pytest.raises(ValueError, match=r"units\.dipole_origin = 'nowhere'"):
        replace(EV, dipole_origin="nowhere")


def test_properties_without_a_unit_are_not_read():
    dataset = read_dataset(ETHANOL, units=Units(length="Angstrom"))
    assert dataset.energy is dataset.forces is dataset.dipole is None
