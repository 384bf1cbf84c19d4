"""The calculator keeps ASE's contract, and falls in none of its known traps."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import (
    BaseCalculator,
    CalculationFailed,
    Calculator,
    PropertyNotImplementedError,
    all_properties,
)
from ase.calculators.fd import (
    FiniteDifferenceCalculator,
    calculate_numerical_forces,
    calculate_numerical_stress,
)
from ase.db import connect
from jaxtyping import TypeCheckError
from small_potentials import (
    crystal,
    ethanol,
    glycol,
    rattled,
    small_potential,
    water,
)

from molpool_calc import MolPoolCalculator, save_potential
from molpool_calc.neighbors import neighbor_list

ALL = ("energy", "dipole", "polarizability")
POTENTIALS = {
    "full": small_potential(heads=ALL, name="full"),
    "other": small_potential(heads=ALL, name="other", seed=1),
    "third": small_potential(heads=ALL, name="third", seed=2),
    "mean": small_potential(pooling="mean", name="mean"),
    "dipole": small_potential(heads=("dipole",), name="dipole"),
    "schnet": small_potential("schnet", name="schnet"),
}


def calculator(*names: str, **options: object) -> MolPoolCalculator:
    chosen = [POTENTIALS[name] for name in names or ("full",)]
    options = {"device": "cpu", "dtype": "float64", **options}
    return MolPoolCalculator(chosen if len(chosen) > 1 else chosen[0], **options)


@pytest.fixture
def calc():
    return calculator()


def with_calc(atoms: Atoms, calc: Calculator) -> Atoms:
    atoms.calc = calc
    return atoms


class Count:
    """Counts the forward passes of the (first) potential of a calculator."""

    def __init__(self, calc: MolPoolCalculator) -> None:
        self.n = 0
        calc.evaluator.engines[0].potential.register_forward_hook(self.add)

    def add(self, *_: object) -> None:
        self.n += 1


# --- results -----------------------------------------------------------------------


def test_results_have_the_types_and_shapes_of_ase(calc):
    atoms = with_calc(crystal(), calc)
    atoms.pbc = False
    for name in ("stress", "forces"):
        calc.get_property(name, atoms)
    calc.get_property("polarizability", atoms)
    results = calc.results
    assert type(results["energy"]) is float
    assert type(results["free_energy"]) is float
    assert results["energy"] == results["free_energy"]
    shapes = {
        "energies": (5,),
        "forces": (5, 3),
        "stress": (6,),
        "dipole": (3,),
        "charges": (5,),
        "polarizability": (3, 3),
    }
    assert results.keys() == shapes.keys() | {"energy", "free_energy"}
    for name, shape in shapes.items():
        assert type(results[name]) is np.ndarray, name
        assert results[name].dtype == np.float64, name
        assert results[name].shape == shape, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_float64_whatever_the_network(dtype):
    atoms = with_calc(water(), calculator(dtype=dtype))
    assert type(atoms.get_potential_energy()) is float
    assert atoms.get_forces().dtype == atoms.get_dipole_moment().dtype == np.float64
    assert atoms.calc.parameters["dtype"] == dtype


def test_the_default_dtype_of_a_calculator_is_float32():
    calc = MolPoolCalculator(POTENTIALS["full"], device="cpu")
    assert calc.parameters["dtype"] == "float32"
    exact = with_calc(ethanol(), calculator()).get_forces()
    rounded = with_calc(ethanol(), calc).get_forces()
    assert 0 < np.abs(rounded - exact).max() < 1e-4


def test_stress_stands_in_voigt_order_and_agrees_with_ase_strains(calc):
    atoms = with_calc(crystal(), calc)
    stress = atoms.get_stress()
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    np.testing.assert_allclose(stress, numerical, atol=1e-8)
    tensor = atoms.get_stress(voigt=False)
    np.testing.assert_allclose(stress[3:], [tensor[1, 2], tensor[0, 2], tensor[0, 1]])
    np.testing.assert_allclose(stress[:3], np.diag(tensor))
    assert len(set(np.round(np.abs(stress), 9))) == 6  # no two could be swapped


def test_forces_agree_with_ase_differences(calc):
    for structure in (ethanol(), crystal()):
        atoms = with_calc(structure, calc)
        numerical = calculate_numerical_forces(atoms, eps=1e-4)
        np.testing.assert_allclose(atoms.get_forces(), numerical, atol=1e-6)


def test_the_finite_difference_calculator_takes_it(calc):
    atoms = with_calc(crystal(), FiniteDifferenceCalculator(calc, 1e-4, 1e-5))
    wrapped = with_calc(crystal(), calc)
    np.testing.assert_allclose(atoms.get_forces(), wrapped.get_forces(), atol=1e-6)
    np.testing.assert_allclose(atoms.get_stress(), wrapped.get_stress(), atol=1e-7)


def test_implemented_properties_belong_to_the_instance():
    inherited = [list(c.implemented_properties) for c in (BaseCalculator, Calculator)]
    every = list(all_properties)
    full, mean, dipole = (calculator(n) for n in ("full", "mean", "dipole"))
    assert full.implemented_properties == [
        "charges",
        "dipole",
        "energies",
        "energy",
        "forces",
        "free_energy",
        "polarizability",
        "stress",
    ]
    assert {"stress", "energies"}.isdisjoint(mean.implemented_properties)
    assert dipole.implemented_properties == ["charges", "dipole"]
    full.implemented_properties.append("magic")
    assert "magic" not in calculator().implemented_properties
    assert MolPoolCalculator.implemented_properties == []
    assert [BaseCalculator.implemented_properties] == inherited[:1]
    assert [Calculator.implemented_properties] == inherited[1:]
    assert every == list(all_properties)


def test_a_mean_has_forces_but_no_stress():
    atoms = with_calc(crystal(), calculator("mean", allow_unsuitable_pooling=True))
    assert atoms.get_forces().shape == (5, 3)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_potential_energies()


def test_a_potential_without_energy_gives_its_dipole():
    atoms = with_calc(ethanol(), calculator("dipole"))
    expected = with_calc(ethanol(), calculator("dipole")).calc
    assert atoms.get_dipole_moment().shape == (3,)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_potential_energy()
    (result,) = expected.calculate_many([ethanol()])
    np.testing.assert_allclose(result["dipole"], atoms.get_dipole_moment())


def test_exported_properties_are_those_ase_knows(calc):
    atoms = with_calc(ethanol(), calc)
    calc.get_property("polarizability", atoms)
    exported = calc.export_properties()
    assert "polarizability" in calc.results
    assert "polarizability" not in exported
    properties = atoms.get_properties(["energy", "forces", "dipole"])
    assert properties["energy"] == atoms.get_potential_energy()
    np.testing.assert_array_equal(properties["forces"], atoms.get_forces())


def test_stress_may_be_exported_with_the_rest(calc):
    properties = with_calc(crystal(), calc).get_properties(["energy", "stress"])
    assert properties["stress"].shape == (6,)


# --- files -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["frames.traj", "frames.extxyz", "frames.json"])
@pytest.mark.parametrize("structure", [ethanol, crystal])
def test_files_of_ase_take_the_results_and_return_them(tmp_path, calc, name, structure):
    atoms = with_calc(structure(), calc)
    atoms.get_forces()
    if structure is ethanol:
        calc.get_property("polarizability", atoms)
    ase.io.write(tmp_path / name, atoms)
    read = ase.io.read(tmp_path / name)
    assert abs(read.get_potential_energy() - atoms.get_potential_energy()) < 1e-12
    np.testing.assert_allclose(read.get_forces(), atoms.get_forces(), atol=1e-8)
    if structure is ethanol:
        read_dipole = read.get_dipole_moment()
        np.testing.assert_allclose(read_dipole, atoms.get_dipole_moment(), atol=1e-8)
    else:
        np.testing.assert_allclose(read.get_stress(), atoms.get_stress(), atol=1e-8)


def test_a_data_base_of_ase_takes_the_calculator_and_its_parameters(tmp_path, calc):
    atoms = with_calc(ethanol(), calc)
    atoms.get_forces()
    with connect(tmp_path / "rows.json") as rows:
        rows.write(atoms)
    row = connect(tmp_path / "rows.json").get(1)
    assert row.calculator == "molpool"
    assert row.calculator_parameters["potential"] == ["full"]
    assert row.energy == atoms.get_potential_energy()


def test_parameters_are_plain_data(calc):
    assert json.loads(json.dumps(calc.todict())) == calc.todict()
    (weights,) = calc.todict()["sha256"]
    assert len(weights) == 64
    assert calc.todict() == {
        "potential": ["full"],
        "sha256": [weights],
        "device": "cpu",
        "dtype": "float64",
        "skin": 1.0,
        "charge": 0.0,
        "num_unpaired": 0.0,
    }


def test_options_cannot_be_set_later_without_effect(calc):
    with pytest.raises(ValueError, match="charge cannot be set later; make a new Mol"):
        calc.set(charge=1.0)


# --- cache -------------------------------------------------------------------------


def test_what_is_known_is_not_computed_again(calc):
    count, atoms = Count(calc), with_calc(ethanol(), calc)
    forces = atoms.get_forces()
    assert count.n == 1
    for _ in range(2):
        atoms.get_potential_energy()
        atoms.get_potential_energy(force_consistent=True)
        atoms.get_potential_energies()
        atoms.get_dipole_moment()
        atoms.get_charges()
    assert count.n == 1
    np.testing.assert_array_equal(forces, atoms.get_forces())
    assert not calc.calculation_required(atoms, ["energy", "forces"])
    assert calc.calculation_required(atoms, ["stress"])


def test_forces_after_the_energy_are_added_to_the_results(calc):
    count, atoms = Count(calc), with_calc(crystal(), calc)
    energy = atoms.get_potential_energy()
    atoms.get_forces()
    assert count.n == 2
    atoms.get_stress()
    assert count.n == 2  # periodic: the stress comes with the forces
    assert {"energy", "forces", "stress", "energies"} <= calc.results.keys()
    assert atoms.get_potential_energy() == energy
    calc.get_property("charges", atoms)
    assert count.n == 2


def test_a_later_polarizability_keeps_the_other_results(calc):
    atoms = with_calc(ethanol(), calc)
    forces = atoms.get_forces()
    value = calc.get_property("polarizability", atoms)
    np.testing.assert_allclose(value, value.T)
    assert calc.results["forces"] is not None
    np.testing.assert_array_equal(atoms.get_forces(), forces)


CHANGES = {
    "positions": lambda a: a.positions.__setitem__((0, 0), 0.123),
    "one bit": lambda a: a.positions.__iadd__(1e-9),
    "numbers": lambda a: a.numbers.__setitem__(0, 7),
    "symbols": lambda a: a.symbols.__setitem__(1, "C"),
    "set_positions": lambda a: a.set_positions(a.positions * [1.01, 1, 1]),
    "cell": lambda a: a.cell.__setitem__((0, 0), 5.5),
    "set_cell": lambda a: a.set_cell(a.cell * 1.05),
    "pbc": lambda a: a.pbc.__setitem__(1, False),
    "charge": lambda a: a.info.__setitem__("charge", 1.0),
    "pop": lambda a: a.pop(),
    "append": lambda a: a.append("H"),
    "order": lambda a: a.set_atomic_numbers(a.numbers[::-1]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed_and_gives_what_a_new_calculator_gives(calc, change):
    count, atoms = Count(calc), with_calc(crystal(), calc)
    before = atoms.get_forces()
    CHANGES[change](atoms)
    assert calc.calculation_required(atoms, ["energy"])
    after = atoms.get_forces()
    assert count.n == 2
    fresh = with_calc(atoms.copy(), calculator())
    np.testing.assert_array_equal(after, fresh.get_forces())
    np.testing.assert_array_equal(atoms.get_charges(), fresh.get_charges())
    assert atoms.get_potential_energy() == fresh.get_potential_energy()
    if change != "charge":
        assert before.shape != after.shape or (before != after).any()
    else:
        assert atoms.get_charges().sum() == pytest.approx(1.0)


def test_what_the_potential_does_not_read_is_no_change(calc):
    count, atoms = Count(calc), with_calc(ethanol(), calc)
    atoms.get_forces()
    atoms.info["comment"] = "unrelated"
    atoms.info["charge"] = 0
    atoms.set_initial_charges(np.ones(9))
    atoms.set_momenta(np.ones((9, 3)))
    atoms.set_tags(range(9))
    assert calc.check_state(atoms) == []
    atoms.get_forces()
    assert count.n == 1


def test_the_number_of_unpaired_electrons_is_watched(calc):
    atoms = with_calc(ethanol(), calc)
    atoms.get_forces()
    atoms.info["num_unpaired"] = 0
    assert calc.check_state(atoms) == []
    atoms.info["num_unpaired"] = 1
    assert calc.check_state(atoms) == ["info"]
    with pytest.raises(
        ValueError, match="has 1 unpaired electrons, but full was train"
    ):
        atoms.get_forces()


def test_the_charge_of_the_structure_wins_over_that_of_the_calculator():
    calc = calculator(charge=-1.0)
    atoms = with_calc(ethanol(), calc)
    assert atoms.get_charges().sum() == pytest.approx(-1)
    atoms.info["charge"] = 1
    assert atoms.get_charges().sum() == pytest.approx(1)
    del atoms.info["charge"]
    assert atoms.get_charges().sum() == pytest.approx(-1)


def test_returned_arrays_are_copies(calc):
    atoms = with_calc(ethanol(), calc)
    expected = atoms.get_forces().copy()
    atoms.get_forces()[:] = 0
    atoms.get_dipole_moment()[:] = 0
    np.testing.assert_array_equal(atoms.get_forces(), expected)
    assert atoms.get_dipole_moment().any()


def test_positions_changed_in_place_do_not_reach_what_the_calculator_remembers(calc):
    atoms = with_calc(ethanol(), calc)
    atoms.get_forces()
    remembered = calc.atoms
    atoms.positions += 1
    assert np.abs(remembered.positions - atoms.positions).min() > 0.9
    assert np.abs(calc.atoms.positions - atoms.positions).min() > 0.9


def test_without_atoms_the_last_structure_is_meant(calc):
    atoms = with_calc(crystal(), calc)
    atoms.info["charge"] = 1.0
    energy = atoms.get_potential_energy()
    assert calc.get_potential_energy() == energy
    np.testing.assert_array_equal(calc.get_stress(), atoms.get_stress())
    calc.reset()
    with pytest.raises(ValueError, match="no structure was given; pass atoms"):
        calc.calculate()


def test_structures_of_different_length_may_take_turns_on_one_calculator(calc):
    structures = [ethanol(), water(), glycol(), crystal(), Atoms("H"), ethanol()]
    for atoms in [*structures, *reversed(structures)]:
        shared = with_calc(atoms.copy(), calc).get_forces()
        alone = with_calc(atoms.copy(), calculator()).get_forces()
        np.testing.assert_array_equal(shared, alone)


def test_subclasses_of_atoms_are_taken(calc):
    class Named(Atoms):
        def copy(self):
            raise AssertionError("a copy of a whole structure is slow, and not needed")

    expected = with_calc(ethanol(), calc).get_forces()
    atoms = Named(ethanol())
    np.testing.assert_array_equal(with_calc(atoms, calc).get_forces(), expected)


def test_a_failure_leaves_no_results_of_another_structure():
    """Also if the caller goes past ASE's cache by calling ``calculate``."""
    calc = calculator("full", "other", uncertainty=1e-9)
    calc.uncertainty = 1e9
    first, second = ethanol(), ethanol()[::-1]
    with_calc(first, calc).get_forces()
    calc.uncertainty = 1e-9
    with pytest.raises(CalculationFailed):
        calc.calculate(second, ["forces"])
    assert calc.results == {}
    assert calc.atoms is None
    calc.uncertainty = 1e9
    first.positions[0, 0] += 0.05
    fresh = with_calc(first.copy(), calculator("full", "other"))
    np.testing.assert_array_equal(first.get_forces(), fresh.get_forces())


def test_a_structure_put_into_the_calculator_by_hand_is_not_mixed_with_the_last(calc):
    with_calc(ethanol(), calc).get_forces()
    reversed_order = ethanol()[::-1]
    calc.atoms = reversed_order
    calc.results = {}
    expected = with_calc(reversed_order.copy(), calculator()).get_forces()
    np.testing.assert_array_equal(calc.get_forces(reversed_order), expected)


# --- what must not be asked --------------------------------------------------------


def test_stress_without_a_cell_is_refused(calc):
    atoms = with_calc(ethanol(), calc)
    with pytest.raises(
        PropertyNotImplementedError, match=r"three lattice vectors; set"
    ):
        atoms.get_stress()
    atoms.cell = [5, 5, 0]
    with pytest.raises(
        PropertyNotImplementedError, match=r"three lattice vectors; set"
    ):
        atoms.get_stress()


def test_stress_in_a_cell_that_is_not_periodic_is_given(calc):
    """i-PI asks so: the slope with strain, over the volume of the cell."""
    atoms = with_calc(ethanol(), calc)
    atoms.cell = [10, 10, 10]
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    np.testing.assert_allclose(atoms.get_stress(), numerical, atol=1e-8)


@pytest.mark.parametrize("name", ["dipole", "polarizability"])
@pytest.mark.parametrize("pbc", [True, [True, False, False]])
def test_the_dipole_of_a_periodic_system_is_refused(calc, name, pbc):
    atoms = with_calc(crystal(), calc)
    atoms.pbc = pbc
    message = f"the {name} of a periodic system depends on .*; make the molecule whole"
    for ask in (atoms.get_potential_energy, atoms.get_forces, atoms.get_charges):
        with pytest.raises(PropertyNotImplementedError, match=message):
            calc.get_property(name, atoms)
        ask()  # nothing computed besides may bring it in
        assert name not in calc.results
    derivatives = {
        "dipole": calc.get_dipole_derivatives,
        "polarizability": calc.get_polarizability_derivatives,
    }
    with pytest.raises(PropertyNotImplementedError, match=message):
        derivatives[name](atoms)
    assert name not in calc.calculate_many([atoms])[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_position_is_named_by_its_atom(calc, value):
    atoms = with_calc(ethanol(), calc)
    atoms.get_forces()
    atoms.positions[4, 1] = value
    for ask in (
        atoms.get_forces,
        lambda: calc.calculate_many([atoms]),
        lambda: calc.get_hessian(atoms),
    ):
        with pytest.raises(ValueError, match=r"^atom 4 is at \[.*must be finite"):
            ask()
    assert calc.results == {}


def test_an_unknown_element_is_named(calc):
    atoms = with_calc(Atoms("OBr", [[0, 0, 0], [0, 0, 1.8]]), calc)
    with pytest.raises(
        ValueError, match=r"element 35 \(Br\) is not covered by full, w"
    ):
        atoms.get_potential_energy()


@pytest.mark.parametrize("charge", [2, -3, 0.5])
def test_a_charge_that_was_not_trained_is_refused(calc, charge):
    atoms = with_calc(ethanol(), calc)
    atoms.info["charge"] = charge
    message = rf"has the charge {charge}, but full was trained on charges -1, 0, \+1;"
    with pytest.raises(ValueError, match=message):
        atoms.get_potential_energy()


def test_no_atoms_are_refused(calc):
    with pytest.raises(ValueError, match="the structure has no atoms"):
        with_calc(Atoms(), calc).get_potential_energy()


def test_broken_weights_fail_the_calculation():
    broken = small_potential(heads=ALL)
    broken.network.embedding.weight.data[1] = torch.nan
    calc = MolPoolCalculator(broken, device="cpu")
    with pytest.raises(
        CalculationFailed, match="came out as NaN or infinite; look for"
    ):
        with_calc(ethanol(), calc).get_forces()
    with pytest.raises(CalculationFailed, match="NaN"):
        calc.calculate_many([ethanol()])
    assert calc.results == {}


def test_atoms_at_one_place_fail_the_calculation(calc):
    atoms = with_calc(Atoms("HO", [[0, 0, 0], [0, 0, 0]]), calc)
    with pytest.raises(CalculationFailed, match="atoms on top of each other"):
        atoms.get_forces()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu-9"}, "device 'tpu-9' is unknown; give auto, cpu or cuda"),
        ({"device": "meta"}, "device 'meta' is unknown; give auto, cpu or cuda"),
        ({"dtype": "float16"}, "dtype 'float16' is unknown; give float32 or float64"),
        ({"skin": -1.0}, "the skin is -1.0, but must be 0 or more"),
        ({"uncertainty": 0.1}, "uncertainty=0.1 limits the spread of a committee's"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        calculator(**options)


@pytest.mark.parametrize("options", [{"neighbors": "magic"}, {"compile": "always"}])
def test_a_wrong_choice_is_refused_at_construction(options):
    """With a sentence by the package, by the type checker under test."""
    with pytest.raises((ValueError, TypeCheckError), match=r"magic|always"):
        calculator(**options)


def test_unknown_potentials_and_no_potentials_are_refused():
    with pytest.raises(ValueError, match="there is no potential 'painn-gold'"):
        MolPoolCalculator("painn-gold")
    with pytest.raises(ValueError, match="no potential was given; give at least one"):
        MolPoolCalculator([])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(
        ValueError, match="'cuda' was asked for, but torch finds no GPU"
    ):
        calculator(device="cuda")


# --- sources and copies ------------------------------------------------------------


def test_folders_names_and_potentials_give_the_same(tmp_path):
    save_potential(POTENTIALS["full"], tmp_path / "folder")
    forces = [
        with_calc(ethanol(), MolPoolCalculator(s, device="cpu")).get_forces()
        for s in (tmp_path / "folder", str(tmp_path / "folder"), POTENTIALS["full"])
    ]
    np.testing.assert_array_equal(forces[0], forces[1])
    np.testing.assert_array_equal(forces[0], forces[2])


def test_a_potential_handed_over_is_left_as_it_was():
    potential = small_potential()
    MolPoolCalculator(potential, device="cpu", dtype="float32")
    assert potential.dtype == torch.float64
    assert all(parameter.requires_grad for parameter in potential.parameters())


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c)), copy.copy],
    ids=["deepcopy", "pickle", "copy"],
)
def test_copies_give_the_same(calc, duplicate):
    atoms = with_calc(ethanol(), calc)
    forces = atoms.get_forces()
    twin = duplicate(calc)
    assert twin.results.keys() == calc.results.keys()
    assert not twin.calculation_required(atoms, ["forces"])
    for structure in (rattled(ethanol(), seed=9), ethanol()[::-1], water()):
        np.testing.assert_array_equal(
            with_calc(structure.copy(), twin).get_forces(),
            with_calc(structure.copy(), calculator()).get_forces(),
        )
    np.testing.assert_array_equal(atoms.get_forces(), forces)
    atoms.positions[0] += 0.1
    expected = with_calc(atoms.copy(), calculator()).get_forces()
    np.testing.assert_array_equal(atoms.get_forces(), expected)


def test_a_pickle_works_in_another_process(tmp_path, calc):
    """As workflow tools send a calculator: the file it came from is not needed."""
    save_potential(POTENTIALS["full"], tmp_path / "folder")
    calc = MolPoolCalculator(tmp_path / "folder", device="cpu", dtype="float64")
    atoms = with_calc(ethanol(), calc)
    expected = atoms.get_potential_energy()
    atoms.calc = copy.deepcopy(calc)
    atoms.calc.reset()
    (tmp_path / "folder" / "weights.safetensors").unlink()
    (tmp_path / "atoms.pickle").write_bytes(pickle.dumps(atoms))
    code = (
        "import pickle, sys\n"
        "atoms = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(repr(atoms.get_potential_energy()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "atoms.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(expected, abs=1e-9)


# --- committees --------------------------------------------------------------------


def test_a_committee_gives_the_mean_and_the_spread():
    names = ("full", "other", "third")
    members = [with_calc(ethanol(), calculator(name)) for name in names]
    energies = [atoms.get_potential_energy() for atoms in members]
    forces = np.stack([atoms.get_forces() for atoms in members])
    atoms = with_calc(ethanol(), calculator(*names))
    assert type(atoms.get_potential_energy()) is float
    assert atoms.get_potential_energy() == pytest.approx(np.mean(energies), abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), forces.mean(0), atol=1e-12)
    spread = atoms.calc.results_std
    assert spread["energy"] == pytest.approx(np.std(energies, ddof=1), abs=1e-9)
    np.testing.assert_allclose(spread["forces"], forces.std(0, ddof=1), atol=1e-12)
    assert atoms.calc.parameters["potential"] == list(names)
    hessians = [calculator(name).get_hessian(ethanol()) for name in names]
    found = atoms.calc.get_hessian(ethanol())
    np.testing.assert_allclose(found, np.mean(hessians, axis=0), atol=1e-11)
    (many,) = atoms.calc.calculate_many([ethanol()])
    np.testing.assert_allclose(many["forces"], atoms.get_forces(), atol=1e-10)


def test_one_potential_has_no_spread(calc):
    with_calc(ethanol(), calc).get_forces()
    assert calc.results_std == {}


def test_a_committee_that_disagrees_fails_also_where_only_energies_are_asked():
    calc = calculator("full", "other", uncertainty=1e-6)
    message = r"forces spread by .* eV/Å, more than the 1e-06 allowed; the structure is"
    for ask in ("get_potential_energy", "get_forces", "get_dipole_moment"):
        with pytest.raises(CalculationFailed, match=message):
            getattr(with_calc(ethanol(), calc), ask)()
    with pytest.raises(CalculationFailed, match=message):
        calc.calculate_many([ethanol()])
    agreeing = calculator("full", "full", uncertainty=1e-6)
    assert with_calc(ethanol(), agreeing).get_forces().any()
    assert np.abs(agreeing.results_std["forces"]).max() < 1e-12


def test_members_of_a_committee_must_agree_in_what_they_cover():
    neutral = small_potential(name="neutral", total_charges=(0,), heads=ALL)
    for other in (POTENTIALS["dipole"], POTENTIALS["schnet"], neutral):
        with pytest.raises(
            ValueError, match=f"{other.spec.name} and full differ in ele"
        ):
            MolPoolCalculator([POTENTIALS["full"], other], device="cpu")
    mixed = [POTENTIALS["schnet"], POTENTIALS["mean"]]
    with pytest.raises(ValueError, match="mean and schnet differ in"):
        MolPoolCalculator(mixed, device="cpu")


# --- many structures and second derivatives ----------------------------------------


def test_many_structures_give_what_a_loop_gives_in_their_order(calc, monkeypatch):
    monkeypatch.setattr("molpool_calc.evaluator.MAX_ATOMS_PER_BATCH", 20)
    ion = ethanol()
    ion.info["charge"] = 1.0
    structures = [water(), crystal(), glycol(), ion, Atoms("O"), crystal(), ethanol()]
    found = calc.calculate_many(structures)
    assert len(found) == len(structures)
    for atoms, results in zip(structures, found, strict=True):
        alone = with_calc(atoms, calculator())
        alone.get_forces()
        assert results.keys() == alone.calc.results.keys()
        for name, value in alone.calc.results.items():
            np.testing.assert_allclose(results[name], value, atol=1e-10, err_msg=name)
        assert type(results["energy"]) is float


def test_no_structures_give_no_results(calc):
    assert calc.calculate_many([]) == []


def test_many_structures_leave_the_results_of_the_calculator(calc):
    atoms = with_calc(ethanol(), calc)
    forces = atoms.get_forces()
    count = Count(calc)
    calc.calculate_many([water(), crystal()])
    calc.get_hessian(water())
    count.n = 0
    np.testing.assert_array_equal(atoms.get_forces(), forces)
    assert count.n == 0
    atoms.positions[0] += 0.01
    expected = with_calc(atoms.copy(), calculator()).get_forces()
    np.testing.assert_array_equal(atoms.get_forces(), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_second_derivatives_have_their_shapes_and_float64_whatever_the_calculator(
    dtype,
):
    calc = calculator(dtype=dtype)
    hessian = calc.get_hessian(water())
    assert hessian.shape == (9, 9)
    assert hessian.dtype == np.float64
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-11)
    np.testing.assert_allclose(hessian, calculator().get_hessian(water()), atol=1e-6)
    assert calc.get_dipole_derivatives(water()).shape == (3, 3, 3)
    assert calc.get_polarizability_derivatives(water()).shape == (3, 3, 3, 3)


def test_the_hessian_of_the_calculator_is_the_slope_of_its_forces(calc):
    atoms, step = with_calc(crystal(), calc), 1e-4
    hessian = calc.get_hessian(atoms)
    for row, (atom, axis) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0)]):
        atoms.positions[atom, axis] += step
        plus = atoms.get_forces()
        atoms.positions[atom, axis] -= 2 * step
        slope = -(plus - atoms.get_forces()) / (2 * step)
        atoms.positions[atom, axis] += step
        np.testing.assert_allclose(hessian[row], slope.ravel(), atol=1e-5)


def test_the_neighbor_search_and_the_skin_do_not_change_results():
    expected = with_calc(glycol(), calculator()).get_forces()
    for options in (
        {"neighbors": "matscipy"},
        {"neighbors": "ase"},
        {"neighbors": "dense"},
        {"skin": 0.0},
        {"compile": "never"},
    ):
        found = with_calc(glycol(), calculator(**options)).get_forces()
        np.testing.assert_array_equal(found, expected)


def test_the_calculator_reads_its_cutoff_from_the_widest_member():
    wide = small_potential(heads=ALL, name="wide", cutoff=6.0)
    calc = MolPoolCalculator([POTENTIALS["full"], wide], device="cpu", dtype="float64")
    assert calc.evaluator.cutoff == 6.0
    alone = [
        with_calc(glycol(), MolPoolCalculator(p, device="cpu", dtype="float64"))
        for p in (POTENTIALS["full"], wide)
    ]
    mean = np.mean([atoms.get_forces() for atoms in alone], axis=0)
    np.testing.assert_allclose(with_calc(glycol(), calc).get_forces(), mean, atol=1e-12)


def test_the_docstring_names_every_option():
    for option in ("device", "dtype", "compile", "skin", "neighbors", "uncertainty"):
        assert f"{option}:" in str(MolPoolCalculator.__doc__)
    assert Path(sys.modules[MolPoolCalculator.__module__].__file__).name == (
        "calculator.py"
    )
    assert callable(neighbor_list)


def test_parameters_state_the_hash_of_the_potential_folder(tmp_path):
    save_potential(small_potential(dtype=torch.float32), tmp_path)
    stated = json.loads((tmp_path / "potential.json").read_text())["sha256"]
    for dtype in ("float32", "float64"):
        calc = MolPoolCalculator(tmp_path, device="cpu", dtype=dtype)
        assert calc.parameters["sha256"] == [stated]
