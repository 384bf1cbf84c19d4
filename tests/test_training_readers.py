"""Readers: every format and naming gives the same frames."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols

from molpool_calc.training.data import (
    Dataset,
    Units,
    read_dataset,
)

ETHANOL = Path(__file__).parent / "data" / "ethanol_120.npz"
EV = Units(energy="eV", length="Angstrom", dipole="e*Angstrom")

# CODATA 2018, so not the constants of the package
EV_PER_KCAL_MOL = 0.0433641043
ANGSTROM_PER_BOHR = 0.529177210903


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


def frames(dataset: Dataset) -> list[Atoms]:
    made = []
    for i in range(len(dataset)):
        part = dataset.atoms_of(i)
        atoms = Atoms(dataset.numbers[part], dataset.positions[part])
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=dataset.energy[i],
            forces=dataset.forces[part],
            dipole=dataset.dipole[i],
        )
        made.append(atoms)
    return made


def assert_same(one: Dataset, other: Dataset, tolerance: float = 1e-12) -> None:
    assert np.array_equal(one.offsets, other.offsets)
    assert np.array_equal(one.numbers, other.numbers)
    for name in ("positions", "cells", "pbc", "charges", "energy", "forces", "dipole"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            assert np.allclose(mine, theirs, rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize(
    "names",
    [
        {"Z": "z", "R": "R", "E": "E", "F": "F", "D": "D"},
        {
            "Z": "nuclear_charges",
            "R": "coords",
            "E": "energies",
            "F": "forces",
            "D": "mu",
        },
        {
            "Z": "numbers",
            "R": "positions",
            "E": "energy",
            "F": "forces",
            "D": "dipole",
        },
    ],
)
def test_usual_names_are_recognised(names, raw, ethanol, tmp_path):
    path = save(tmp_path / "a.npz", {names[key]: raw[key] for key in names})
    assert_same(read_dataset(path, units=EV), ethanol)


def test_q_is_a_total_charge_only_where_there_is_one_per_frame(raw, tmp_path):
    units = replace(EV, dipole_origin="center of mass")
    charges = -np.ones(120)
    path = save(tmp_path / "a.npz", {**raw, "Q": charges})
    assert np.array_equal(read_dataset(path, units=units).charges, charges)
    path = save(tmp_path / "b.npz", {**raw, "Q": np.ones((120, 9))})
    assert not read_dataset(path, units=EV).charges.any()


def test_energies_may_stand_in_a_column(raw, ethanol, tmp_path):
    path = save(tmp_path / "a.npz", {**raw, "E": raw["E"][:, None]})
    assert_same(read_dataset(path, units=EV), ethanol)


def test_padding_and_offsets_say_the_same(tmp_path):
    rng = np.random.default_rng(1)
    sizes = np.array([3, 1, 4])
    numbers, positions = rng.integers(1, 9, (3, 4)), rng.normal(size=(3, 4, 3))
    forces = rng.normal(size=(3, 4, 3))
    present = np.arange(4) < sizes[:, None]
    shared = {"E": np.arange(3.0), "D": rng.normal(size=(3, 3))}
    padded = {"Z": numbers * present, "R": positions, "F": forces}
    ragged = {
        "Z": numbers[present],
        "R": positions[present],
        "F": forces[present],
        "offsets": np.array([0, 3, 4, 8]),
    }
    one, other = (
        read_dataset(
            save(tmp_path / f"{i}.npz", {**arrays, **shared}),
            units=EV,
            check_units=False,
        )
        for i, arrays in enumerate((padded, ragged))
    )
    assert one.sizes.tolist() == [3, 1, 4]
    assert_same(one, other)


@pytest.mark.parametrize("suffix", ["extxyz", "traj", "db"])
def test_formats_of_ase_agree_with_npz(suffix, ethanol, tmp_path):
    path = tmp_path / f"a.{suffix}"
    few = ethanol.select(np.arange(20))
    if suffix == "db":
        database = ase.db.connect(path)
        for atoms in frames(few):
            database.write(atoms)
    else:
        ase.io.write(path, frames(few))
    assert_same(read_dataset(path, units=EV), few, 2e-8)


def test_extxyz_of_mace_is_read_with_its_charges(tmp_path):
    path = tmp_path / "a.extxyz"
    path.write_text(
        "2\nProperties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-3.0 "
        'charge=-1 split=valid pbc="F F F"\nO 0 0 0 0 0 1\nH 0 0 0.97 0 0 -1\n'
    )
    dataset = read_dataset(path, units=EV, check_units=False)
    assert dataset.numbers.tolist() == [8, 1]
    assert dataset.energy.tolist() == [-3.0]
    assert dataset.charges.tolist() == [-1.0]
    assert dataset.split.tolist() == ["valid"]
    assert dataset.forces.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]


def test_cells_are_read_and_scaled(tmp_path):
    path = tmp_path / "a.extxyz"
    crystal = Atoms("Cu4", scaled_positions=np.eye(4, 3) / 2, cell=[7, 7, 7], pbc=True)
    ase.io.write(path, [crystal])
    units = Units(energy="eV", length="Bohr")
    dataset = read_dataset(path, units=units, check_units=False)
    assert dataset.pbc.all()
    assert np.allclose(dataset.cells, [7 * ANGSTROM_PER_BOHR * np.eye(3)])


def test_schnetpack_database_is_read_from_its_data(ethanol, tmp_path):
    path = tmp_path / "a.db"
    few = ethanol.select(np.arange(12))
    database = ase.db.connect(path)
    database.metadata = {
        "_property_unit_dict": {"energy": "kcal/mol", "forces": "kcal/mol/Ang"},
        "_distance_unit": "Ang",
    }
    for i, atoms in enumerate(frames(few)):
        bare = Atoms(atoms.numbers, atoms.positions)
        labels = {
            "energy": few.energy[i : i + 1] / EV_PER_KCAL_MOL,
            "forces": atoms.calc.results["forces"] / EV_PER_KCAL_MOL,
        }
        database.write(bare, data=labels)
    units = Units(energy="kcal/mol", length="Angstrom")
    assert_same(read_dataset(path, units=units), replace(few, dipole=None), 1e-7)
    with pytest.raises(ValueError, match="states 'kcal/mol' as its unit of energy"):
        read_dataset(path, units=EV)


def test_sgdml_file_contradicting_the_recipe_is_refused(raw, tmp_path):
    labelled = {**raw, "r_unit": "Ang", "e_unit": "kcal/mol"}
    with pytest.raises(ValueError, match=r"e_unit|unit of energy, but units\.energy"):
        read_dataset(save(tmp_path / "a.npz", labelled), units=EV)


@pytest.mark.parametrize("grouped", [True, False])
def test_hdf5_flat_or_grouped_agrees_with_npz(grouped, raw, ethanol, tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for start in (0, 60) if grouped else (0,):
            stop = start + 60 if grouped else 120
            group = file.create_group(f"set/{start}") if grouped else file
            symbols = np.array(chemical_symbols)[raw["Z"]]
            group["species"] = symbols.astype("S")
            group["coord"] = raw["R"][start:stop]
            for key in "EFD":
                group[key] = raw[key][start:stop]
            group["split"] = raw["split"][start:stop].astype("S")
    dataset = read_dataset(path, units=EV)
    assert_same(dataset, ethanol)
    assert dataset.split.tolist() == ethanol.split.tolist()


def test_offsets_that_do_not_fit_are_refused(tmp_path):
    arrays = {"Z": np.ones(4, dtype=int), "R": np.zeros((4, 3))}
    for offsets in ([0, 3], [1, 4], [0, 2, 2, 4]):
        path = save(tmp_path / "a.npz", {**arrays, "offsets": np.array(offsets)})
        with pytest.raises(ValueError, match="must rise from 0 to the number of atoms"):
            read_dataset(path, units=EV)


def test_frames_with_different_labels_are_refused(ethanol, tmp_path):
    some = frames(ethanol.select(np.arange(3)))
    del some[1].calc.results["forces"]
    ase.io.write(tmp_path / "a.extxyz", some)
    with pytest.raises(ValueError, match="frame 0 holds forces, frame 1 does not"):
        read_dataset(tmp_path / "a.extxyz", units=EV)
