"""Structures become batches and come back; wrong ones are named in one sentence."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from molpool_calc.atoms import (
    CLOSED_SHELL,
    ChargeAndSpin,
    atoms_from_batch,
    batch_from_atoms,
    charge_and_spin_of,
    check_positions,
    check_species,
)

CPU = torch.device("cpu")
STATE = ChargeAndSpin(3.0, 2.0)


def structures():
    ion = molecule("NH3")
    ion.info["charge"] = 1.0
    ion.set_cell(np.eye(3))  # a dummy cell that is not periodic
    slab = Atoms("Cu2", [[0, 0, 0], [0.5, 0.25, 4]], cell=[2, 3, 0], pbc=(1, 1, 0))
    return [molecule("H2O"), ion, slab, bulk("NaCl", "rocksalt", a=5.6)]


@pytest.mark.parametrize("count", [1, 4])
def test_structures_survive_the_way_to_a_batch_and_back(count):
    originals = structures()[-count:]
    batch = batch_from_atoms(originals, dtype=torch.float64, device=CPU)
    returned = atoms_from_batch(batch)
    assert len(returned) == count
    for a, b in zip(originals, returned, strict=True):
        assert a.numbers.tolist() == b.numbers.tolist()
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.cell.array, b.cell.array)
        np.testing.assert_array_equal(a.pbc, b.pbc)
        assert b.info["charge"] == a.info.get("charge", 0.0)


def test_a_batch_lists_atoms_system_by_system():
    batch = batch_from_atoms(structures()[:2], dtype=torch.float32, device=CPU)
    assert batch.atomic_numbers.tolist() == [8, 1, 1, 7, 1, 1, 1]
    assert batch.systems.index.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert batch.systems.slot.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert (batch.systems.n_segments, batch.systems.max_size) == (2, 4)
    assert batch.total_charge.tolist() == [0.0, 1.0]
    assert batch.positions.dtype == batch.cell.dtype == torch.float32
    assert batch.atomic_numbers.dtype == torch.int64
    assert not batch.cell[0].any()


def test_a_batch_of_one_equals_the_first_of_a_batch_of_two():
    one = batch_from_atoms(structures()[:1], dtype=torch.float64, device=CPU)
    two = batch_from_atoms(structures()[:2], dtype=torch.float64, device=CPU)
    torch.testing.assert_close(one.positions, two.positions[:3], rtol=0, atol=0)
    torch.testing.assert_close(one.systems.index, two.systems.index[:3])
    torch.testing.assert_close(one.systems.slot, two.systems.slot[:3])
    assert one.cell.shape == (1, 3, 3)
    assert one.pbc.tolist() == [[False] * 3]


@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_shares_no_memory_with_the_structures(count):
    atoms = structures()[:count]
    batch = batch_from_atoms(atoms, dtype=torch.float64, device=CPU)
    before = atoms[0].positions.copy()
    batch.positions.add_(1)
    batch.cell.add_(1)
    batch.atomic_numbers.add_(1)
    np.testing.assert_array_equal(atoms[0].positions, before)
    assert atoms[0].numbers.tolist() == [8, 1, 1]
    assert not atoms[0].cell.array.any()


def test_given_charges_win_over_those_of_the_structures():
    ion = structures()[1]
    batch = batch_from_atoms(
        [ion], dtype=torch.float64, device=CPU, states=[ChargeAndSpin(-2.0, 1.0)]
    )
    assert batch.total_charge.tolist() == [-2.0]
    assert batch.num_unpaired.tolist() == [1.0]


@pytest.mark.parametrize(
    ("count", "states"), [(0, None), (1, [CLOSED_SHELL, CLOSED_SHELL])]
)
def test_as_many_charges_as_structures_are_demanded(count, states):
    with pytest.raises(ValueError, match="one charge for each"):
        batch_from_atoms(
            structures()[:count], dtype=torch.float64, device=CPU, states=states
        )


def test_an_unknown_element_is_named_with_what_the_potential_knows():
    with pytest.raises(ValueError, match=r"^element") as error:
        check_species(np.array([6, 1, 35]), frozenset({8, 1, 6}), "painn-ethanol")
    assert str(error.value) == (
        "element 35 (Br) is not covered by painn-ethanol, which knows H, C, O; "
        "see molpool list"
    )


def test_several_unknown_elements_are_all_named():
    message = r"^elements 9 \(F\), 400 \(\?\) are not covered by x, which knows H;"
    with pytest.raises(ValueError, match=message):
        check_species(np.array([400, 1, 9, 9]), frozenset({1}), "x")


def test_known_elements_and_finite_positions_pass():
    water = molecule("H2O")
    check_species(water.numbers, frozenset({1, 8}), "x")
    check_positions(water.positions)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_position_that_is_not_finite_is_named_by_its_atom(value):
    positions = molecule("CH4").positions
    positions[3, 1] = value
    with pytest.raises(ValueError, match=r"^atom 3 is at \[.*must be finite"):
        check_positions(positions)


def test_a_structure_without_atoms_is_refused():
    with pytest.raises(ValueError, match="has no atoms; give one with at least one"):
        check_positions(Atoms().positions)


@pytest.mark.parametrize(
    "value", [1, -1.0, np.float32(1), np.int64(-1), np.array(2.0), np.array(1)]
)
def test_the_total_charge_is_read_from_info(value):
    found = charge_and_spin_of(Atoms("H", info={"charge": value}), STATE)
    assert found == (float(value), 2.0)
    found = charge_and_spin_of(Atoms("H", info={"num_unpaired": value}), STATE)
    assert found == (3.0, float(value))


def test_the_total_charge_falls_back_to_the_default():
    assert charge_and_spin_of(Atoms("H"), STATE) == STATE
    assert charge_and_spin_of(Atoms("H", info={"charge": None}), STATE) == STATE


@pytest.mark.parametrize(
    "value", ["+1", np.nan, np.inf, True, [1.0], np.array([1.0]), 1j]
)
def test_a_total_charge_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="must be one finite number in e"):
        charge_and_spin_of(Atoms("H", info={"charge": value}))
    with pytest.raises(ValueError, match="must be one finite number;"):
        charge_and_spin_of(Atoms("H", info={"num_unpaired": value}))
