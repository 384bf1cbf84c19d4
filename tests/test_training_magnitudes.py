"""Checks of magnitudes: a wrong unit is betrayed, a right one never is."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molpool_calc.training.data import (
    Units,
    read_dataset,
)
from molpool_calc.training.magnitudes import check_magnitudes
from molpool_calc.training.near_frames import work_and_energy

ETHANOL = Path(__file__).parent / "data" / "ethanol_120.npz"
SHARED = Path(__file__).parents[2] / "shared" / "data"
EV = Units(energy="eV", length="Angstrom", dipole="e*Angstrom")

# CODATA 2018, so not the constants of the package
EV_PER_KCAL_MOL = 0.0433641043
EV_PER_KJ_MOL = 0.0103642697
EV_PER_HARTREE = 27.2113862459
ANGSTROM_PER_BOHR = 0.529177210903
EANGSTROM_PER_DEBYE = 0.2081943


@pytest.fixture(scope="module")
def raw() -> dict[str, np.ndarray]:
    with np.load(ETHANOL, allow_pickle=False) as archive:
        return dict(archive)


def save(path: Path, arrays: Mapping[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


WRONG_UNITS = [
    ({"length": "Bohr"}, r"0\.5\d times the sums of their covalent radii"),
    ({"energy": "kcal/mol", "forces": "eV/Angstrom"}, "eV and kcal/mol were mixed up"),
    ({"energy": "kJ/mol", "forces": "eV/Angstrom"}, "eV and kJ/mol were mixed up"),
    ({"energy": "Hartree", "forces": "eV/Angstrom"}, "Hartree and eV were mixed up"),
    ({"forces": "kcal/mol/Angstrom"}, "eV and kcal/mol were mixed up"),
    ({"forces": "eV/Bohr"}, "Bohr and Å were mixed up"),
    ({"energy": "kcal/mol"}, r"bonds of hydrogen with 1\.\d+ eV/Å² of stiffness"),
    ({"energy": "kJ/mol"}, "bonds of hydrogen"),
    ({"energy": "Hartree"}, "bonds of hydrogen"),
    ({"dipole": "Debye"}, r"dipoles are 0\.1\d times what the bonds let expect"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_UNITS)
def test_wrong_unit_is_betrayed_by_magnitudes(changes, message):
    with pytest.raises(ValueError, match=message):
        read_dataset(ETHANOL, units=replace(EV, **changes))


@pytest.mark.parametrize(
    ("name", "factor", "message"),
    [
        ("R", 1 / ANGSTROM_PER_BOHR, r"1\.9\d times the sums of their covalent radii"),
        ("E", 1 / EV_PER_KCAL_MOL, "eV and kcal/mol were mixed up"),
        ("F", 1 / EV_PER_KCAL_MOL, "eV and kcal/mol were mixed up"),
        ("EF", 1 / EV_PER_KCAL_MOL, "bonds of hydrogen with 7.. eV"),
        ("EF", EV_PER_KJ_MOL / EV_PER_KCAL_MOL, "bonds of hydrogen with 8"),
        ("EF", 1 / EV_PER_HARTREE, r"bonds of hydrogen with 1\.2"),
        ("D", 1 / EANGSTROM_PER_DEBYE, r"dipoles are 3\.\d times what the bonds"),
        ("D", -1.0, "dipoles point from plus to minus"),
        ("F", -1.0, "the forces point uphill"),
    ],
)
def test_file_in_another_unit_is_not_read_as_ev(name, factor, message, raw, tmp_path):
    scaled = {**raw, **{key: raw[key] * factor for key in name}}
    path = save(tmp_path / "a.npz", scaled)
    with pytest.raises(ValueError, match=message):
        read_dataset(path, units=EV)
    read_dataset(path, units=EV, check_units=False)


def test_work_equals_minus_the_energy_change_of_a_spring():
    """A harmonic spring turned at random: the trapezoid of the work is exact."""
    rng = np.random.default_rng(5)
    n = 40
    axis = rng.normal(size=(n, 3))
    axis /= np.linalg.norm(axis, axis=1)[:, None]
    stretch = rng.normal(0.0, 0.05, n)
    ends = np.stack([-axis, axis], axis=1) * (0.5 * (0.74 + stretch))[:, None, None]
    pull = np.stack([axis, -axis], axis=1) * (30.0 * stretch)[:, None, None]
    dataset = replace(
        read_dataset(ETHANOL, units=EV),
        offsets=np.arange(0, 2 * n + 1, 2),
        numbers=np.ones(2 * n, dtype=int),
        positions=ends.reshape(-1, 3),
        forces=pull.reshape(-1, 3),
        energy=15.0 * stretch**2,
        dipole=None,
        split=None,
        cells=np.zeros((n, 3, 3)),
        pbc=np.zeros((n, 3), dtype=bool),
        charges=np.zeros(n),
    )
    work, energy = work_and_energy(dataset)
    assert len(work) == n // 2
    assert np.allclose(work, energy, rtol=0.0, atol=1e-10)
    check_magnitudes(dataset, "spring")


def test_argon_is_not_judged_by_bonds(tmp_path):
    dimer = {"Z": np.array([18, 18]), "R": np.array([[[0.0, 0, 0], [0.0, 0, 3.8]]])}
    read_dataset(save(tmp_path / "a.npz", dimer), units=EV)


def test_relaxed_structures_need_a_word(raw, tmp_path):
    still = {"Z": raw["Z"], "R": raw["R"][:1], "F": 1e-3 * raw["F"][:1]}
    path = save(tmp_path / "a.npz", still)
    with pytest.raises(ValueError, match="check_units = false if that is right"):
        read_dataset(path, units=EV)
    assert len(read_dataset(path, units=EV, check_units=False)) == 1


AQM = {"energy": "energy_eV", "forces": "forces_eV_A", "dipole": "dipole_eA"}
KCAL = {"energy": "energy_kcal", "forces": "forces_kcal"}
IONS = replace(EV, dipole_origin="coordinates")
SHARED_SETS = [
    ("ethanol_b3lyp_def2svpd.npz", 1721, {}, EV),
    ("formaldehyde_ccsdt_avtz.npz", 3500, {}, EV),
    ("organics_gfn2.npz", 47974, {}, EV),
    ("md17_ethanol_2000_a.npz", 2000, KCAL, replace(EV, energy="kcal/mol")),
    ("carbene_2200.npz", 2200, AQM, EV),
    ("aqm_small_10.xyz", 10, {}, EV),
    ("aimnet_test_214.h5", 195, {}, IONS),
    ("des15k_10percent_1272.npz", 1272, AQM, IONS),
    ("qm7x_226.npz", 100, {"energy": "ePBE0+MBD"}, EV),
    ("qm7x_250_small.npz", 2500, {}, EV),
]


@pytest.mark.parametrize(("name", "n_frames", "keys", "units"), SHARED_SETS)
def test_reference_sets_are_read_and_pass_the_checks(name, n_frames, keys, units):
    if not (SHARED / name).is_file():
        pytest.skip("needs the folder of reference data")
    dataset = read_dataset(SHARED / name, units=units, keys=keys)
    assert len(dataset) == n_frames
    assert dataset.energy is not None
    assert dataset.forces is not None


@pytest.mark.parametrize(("name", "n_frames", "keys", "units"), SHARED_SETS)
@pytest.mark.parametrize(("right", "wrong"), [("Angstrom", "Bohr"), ("eV", "kcal/mol")])
def test_reference_sets_betray_a_wrong_unit(name, n_frames, keys, units, right, wrong):
    if not (SHARED / name).is_file():
        pytest.skip("needs the folder of reference data")
    changed = (
        replace(units, length=wrong)
        if right == "Angstrom"
        else replace(units, energy="eV" if units.energy == wrong else wrong)
    )
    with pytest.raises(ValueError, match=r"check units\."):
        read_dataset(SHARED / name, units=changed, keys=keys)
