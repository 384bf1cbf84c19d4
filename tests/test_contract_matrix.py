"""What every potential owes its users: network × pooling × dtype, random weights.

The combinations that every change should see run by default, the rest of the full
cross with ``-m slow``: the same tests, other parameters.
"""

import copy
from dataclasses import replace
from functools import cache
from math import isfinite

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from small_potentials import (
    CUTOFF,
    NETWORKS,
    POOLINGS,
    REFERENCE,
    WITH_VECTORS,
    ammonium,
    batch_of,
    crystal,
    dense_pairs,
    ethanol,
    fields,
    glycol,
    predict,
    rattled,
    rotation,
    small_potential,
    water,
)

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.derivatives import evaluate, hessian, repeat_system
from molpool_calc.interfaces import NeighborList
from molpool_calc.neighbors import complete_pairs, neighbor_list

TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-5}
TENSOR_RANK = {"forces": 1, "dipole": 1, "stress": 2, "polarizability": 2}
OF_ATOMS = {"forces", "energies", "charges", "energy_weights", "gap_weights"}
ENERGIES = {name: {"pooling": pooling} for name, pooling in POOLINGS.items()} | {
    "sum + attention": {"pooling": "sum", "correction": POOLINGS["attention"]}
}


@cache
def potential_with(network, pooling, dtype):
    """All heads the network allows, the gap pooled as the energy is."""
    tensors = ("dipole", "polarizability") if network in WITH_VECTORS else ("dipole",)
    return small_potential(
        network,
        heads=("energy", *tensors),
        scalars=("gap",),
        **ENERGIES[pooling],
        dtype=getattr(torch, dtype),
    )


def is_quick(network, pooling, dtype):
    """Whether every run of the tests has this combination."""
    usual = pooling in {"sum", "attention"}
    if dtype == "float32":
        return usual and network in {"painn", "so3krates-euclidean"}
    return usual or network == "painn"


CROSS = [(n, p, d) for n in NETWORKS for p in ENERGIES for d in ("float64", "float32")]


def marked(cases):
    """The combinations, those that not every run has marked as slow."""
    return [
        pytest.param(
            case, id=" ".join(case), marks=() if is_quick(*case) else pytest.mark.slow
        )
        for case in cases
    ]


@pytest.fixture(params=marked(CROSS))
def potential(request):
    return potential_with(*request.param)


@pytest.fixture(params=marked([case for case in CROSS if case[2] == "float64"]))
def exact_potential(request):
    return potential_with(*request.param)


@pytest.fixture(params=["sum", "mean", "attention"])
def pooling(request):
    return request.param


def is_local(potential):
    """Whether pairs end somewhere; without an end there are no crystals."""
    return isfinite(potential.cutoff)


def structures(potential):
    return [ethanol(), crystal()] if is_local(potential) else [ethanol()]


def wanted(potential):
    return set(potential.properties) | {"forces"}


def predicted(potential, *atoms, **options):
    return fields(predict(potential, *atoms, dtype=potential.dtype, **options))


def assert_same(first, second, dtype, what=""):
    """Equal within rounding, and finite."""
    assert first.keys() == second.keys()
    for name in first:
        a, b = first[name].double(), second[name].double()
        assert torch.isfinite(a).all(), f"{name} {what}"
        torch.testing.assert_close(
            a,
            b,
            rtol=0,
            atol=TOLERANCES[dtype],
            msg=lambda m, n=name: f"{n} {what}: {m}",
        )


def without(values, *names):
    return {name: value for name, value in values.items() if name not in names}


def turned(values, matrix):
    """Tensors as they are seen after the coordinates are multiplied by ``matrix``."""
    result = dict(values)
    for name in values.keys() & TENSOR_RANK.keys():
        m = matrix.to(values[name].dtype)
        value = values[name] @ m.T
        result[name] = value if TENSOR_RANK[name] == 1 else m @ value
    return result


def transformed(atoms, matrix):
    atoms = atoms.copy()
    atoms.positions = atoms.positions @ matrix.numpy().T
    atoms.set_cell(atoms.cell.array @ matrix.numpy().T, scale_atoms=False)
    return atoms


MATRICES = {
    "rotation": rotation(1),
    "improper rotation": -rotation(2),
    "reflection": torch.diag(torch.tensor([1.0, 1.0, -1.0])).double(),
}


def test_tensors_turn_with_the_structure(potential):
    for atoms in structures(potential):
        # a lattice of images has no dipole, and so nothing that turns
        skip = ("dipole", "polarizability") if atoms.pbc.any() else ()
        before = without(predicted(potential, atoms), *skip)
        for name, matrix in MATRICES.items():
            after = without(predicted(potential, transformed(atoms, matrix)), *skip)
            assert_same(turned(before, matrix), after, potential.dtype, name)


def test_a_translation_changes_nothing(potential):
    for atoms in structures(potential):
        there = atoms.copy()
        there.positions += [3.0, -2.0, 5.0]
        before, after = predicted(potential, atoms), predicted(potential, there)
        assert_same(before, after, potential.dtype)


def test_a_wrapped_atom_changes_nothing_but_the_dipole(potential):
    if not is_local(potential):
        pytest.skip("no crystals without a cutoff")
    moved = crystal()
    moved.positions[1] += np.array([1, -2, 0]) @ moved.cell.array
    here, there = (
        without(predicted(potential, atoms), "dipole", "polarizability")
        for atoms in (crystal(), moved)
    )
    assert_same(here, there, potential.dtype)


def test_values_follow_a_permutation_of_the_atoms(potential):
    for atoms in structures(potential):
        order = np.random.default_rng(0).permutation(len(atoms))
        before, after = predicted(potential, atoms), predicted(potential, atoms[order])
        for name in before.keys() & OF_ATOMS:
            before[name] = before[name][order]
        assert_same(before, after, potential.dtype)


def test_a_batch_gives_what_its_systems_give_one_by_one(potential):
    """Systems of different sizes, among them a lone atom, an ion and a crystal."""
    some = [ethanol(), Atoms("O"), water(), ammonium(), glycol()]
    some += [crystal()] if is_local(potential) else []
    asked = wanted(potential)
    together = predicted(potential, *some, properties=asked)
    alone = [predicted(potential, atoms, properties=asked) for atoms in some]
    joined = {name: torch.cat([p[name] for p in alone]) for name in together}
    assert_same(together, joined, potential.dtype)


@pytest.mark.parametrize("network", ["painn", "so3krates-euclidean", "dimenet++"])
def test_stresses_of_a_batch_are_those_of_its_systems(network, pooling):
    potential = potential_with(network, pooling, "float64")
    larger = crystal()
    larger.set_cell(larger.cell.array * 1.1, scale_atoms=True)
    together = predict(potential, crystal(), larger).stress
    torch.testing.assert_close(together[:1], predict(potential, crystal()).stress)
    torch.testing.assert_close(together[1:], predict(potential, larger).stress)


def test_pairs_beyond_the_cutoff_change_nothing(potential):
    """A skin, all pairs, the dense layout, and rows that only fill up a list."""
    atoms, dtype, asked = glycol(), potential.dtype, frozenset(wanted(potential))
    batch = batch_of(atoms, dtype=dtype)
    exact = neighbor_list(batch, potential.cutoff)
    expected = fields(evaluate(potential, batch, exact, properties=asked))
    large = replace(batch, cell=1e4 * torch.eye(3, dtype=dtype)[None])
    more = {"dense": (batch, dense_pairs(batch))}
    if is_local(potential):
        more["skin"] = (batch, neighbor_list(batch, CUTOFF + 1.0))
        more["complete"] = (batch, complete_pairs(batch))
        more["padding"] = (large, padded(exact, dtype))
    for kind, (given, pairs) in more.items():
        assert len(pairs.center) > len(exact.center)
        found = fields(evaluate(potential, given, pairs, properties=asked))
        assert_same(expected, found, dtype, kind)


def padded(pairs, dtype):
    """The list with fifty pairs of the first two atoms, ten kilometers away."""
    count = len(pairs.center)
    shift = torch.zeros((count + 50, 3), dtype=dtype)
    shift[count:, 1] = 1e9
    return NeighborList(
        center=torch.cat((pairs.center, torch.zeros(50, dtype=torch.int64))),
        neighbor=torch.cat((pairs.neighbor, torch.ones(50, dtype=torch.int64))),
        shift=shift,
    )


@pytest.mark.parametrize("symbol", ["H", "O"])
def test_one_atom_has_an_energy_and_no_force(potential, symbol):
    atoms, tolerance = Atoms(symbol, [[1.0, 2.0, 3.0]]), TOLERANCES[potential.dtype]
    listed = predicted(potential, atoms)
    dense = predicted(potential, atoms, pairs=dense_pairs(batch_of(atoms)))
    for result in (listed, dense):
        assert all(torch.isfinite(value).all() for value in result.values())
        assert not result["forces"].any()
        assert float(result["dipole"].abs().max()) < tolerance
        assert not result["charges"].any()
        if "gap_weights" in result:
            assert float((result["gap_weights"] - 1).abs()) < tolerance
    assert_same(listed, dense, potential.dtype)


def test_two_far_fragments_add_up_where_and_only_where_it_is_said(potential):
    far = water()
    far.positions += [60.0, 0, 0]
    parts = predicted(potential, ethanol(), far, properties=wanted(potential))
    whole = predicted(potential, ethanol() + far, properties=wanted(potential))
    difference = float(parts["energy"].sum() - whole["energy"])
    tolerance = 1e-5 if potential.dtype == torch.float32 else 1e-9
    assert (abs(difference) < tolerance) == potential.extensive
    assert ("energies" in whole) == ("energies" in potential.properties)
    if potential.extensive:
        for name in ("forces", "energies"):
            torch.testing.assert_close(
                whole[name], parts[name], rtol=0, atol=2 * tolerance
            )


def test_two_far_fragments_average_where_the_pooling_is_a_mean():
    potential = small_potential(pooling="mean", heads=("energy",))
    assert not potential.extensive
    far = ethanol()
    far.positions += [60.0, 0, 0]
    single, double = predict(potential, ethanol()), predict(potential, ethanol() + far)
    elements = sum(REFERENCE[z] for z in far.numbers)
    torch.testing.assert_close(single.energy - elements, double.energy - 2 * elements)
    torch.testing.assert_close(single.forces, 2 * double.forces[:9])
    assert double.energies is None
    assert "energies" not in potential.properties


STEP = 5e-4
"""Å: the error of the fourth order, and rounding, are both far below 1e-6."""
STENCIL = {-2: 1.0, -1: -8.0, 1: 8.0, 2: -1.0}


def by_differences(potential, atoms):
    """−∂E/∂r from energies, of all coordinates in one batch.

    Without the energies of the elements, of which thousands of eV would round.
    """
    potential = copy.deepcopy(potential)
    potential.heads["energy"].reference.values.zero_()
    n, batch = 3 * len(atoms), batch_of(atoms)
    pairs = neighbor_list(batch, potential.cutoff + 0.1)
    copies, many = repeat_system(batch, pairs, len(STENCIL) * n)
    steps = STEP * torch.tensor(list(STENCIL), dtype=torch.float64)
    moves = steps[:, None, None] * torch.eye(n, dtype=torch.float64)
    moved = replace(copies, positions=copies.positions + moves.view(-1, 3))
    with torch.no_grad():
        energy = potential(moved, many, frozenset({"energy"})).energy
    weights = torch.tensor(list(STENCIL.values()), dtype=torch.float64) / (12 * STEP)
    return -(weights @ energy.view(len(STENCIL), n)).view(-1, 3)


def test_forces_are_the_slope_of_the_energy(exact_potential):
    some = [rattled(molecule("CH3OH"), seed=2)]
    some += [crystal()] if is_local(exact_potential) else []
    for atoms in some:
        forces = predict(exact_potential, atoms, properties={"forces"}).forces
        largest = float(forces.abs().max())
        assert largest > 1e-3
        error = float((forces - by_differences(exact_potential, atoms)).abs().max())
        assert error < 1e-6 * largest


def test_second_derivatives_are_finite_and_symmetric(potential):
    """Also where an atom has no pair within the cutoff."""
    atoms = water() + Atoms("O", [[60.0, 0, 0]])
    batch = batch_of(atoms, dtype=potential.dtype)
    for pairs in (neighbor_list(batch, potential.cutoff), dense_pairs(batch)):
        matrix = hessian(potential, batch, pairs).reshape(12, 12).double()
        assert torch.isfinite(matrix).all()
        assert float(matrix[:9, :9].abs().max()) > 1e-3
        scale = float(matrix.abs().max())
        tolerance = 10 * TOLERANCES[potential.dtype] * max(1.0, scale)
        torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_atomic_energies_sum_to_the_energy(dtype):
    potential = small_potential(dtype=dtype)
    result = predict(potential, glycol(), dtype=dtype)
    assert result.energies.dtype == result.energy.dtype == torch.float64
    # added up in float64, whatever the dtype of the network
    assert abs(float(result.energies.sum() - result.energy[0])) < 1e-9


def test_float32_keeps_energy_differences_despite_large_element_energies():
    """5000 eV in float32 would be rounded to 0.0005 eV."""
    double, single = small_potential(), small_potential(dtype=torch.float32)
    moved = rattled(ethanol(), seed=5, stdev=0.002)
    exact = predict(double, moved).energy - predict(double, ethanol()).energy
    rounded = (
        predict(single, moved, dtype=torch.float32).energy
        - predict(single, ethanol(), dtype=torch.float32).energy
    )
    assert abs(float(exact - rounded)) < 1e-5


def test_dtypes_are_those_of_the_potential_and_energies_float64(potential):
    of_energies = {"energy", "energies", "gap"}
    for atoms in structures(potential):
        for name, value in predicted(potential, atoms).items():
            in_double = name in of_energies
            assert value.dtype == (torch.float64 if in_double else potential.dtype), (
                name
            )
            assert not value.requires_grad, name


def test_only_what_was_asked_for_is_computed(potential):
    result = predicted(potential, water(), properties={"energy"})
    assert result.keys() <= {"energy", "energies"}
    assert predicted(potential, water(), properties={"gap"}).keys() == {"gap"}


def test_weights_of_atoms_sum_to_one(potential):
    result = predicted(potential, water(), ethanol(), properties=wanted(potential))
    for name in result.keys() & {"energy_weights", "gap_weights"}:
        sums = torch.stack([part.sum() for part in result[name].split([3, 9])])
        tolerance = TOLERANCES[potential.dtype]
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=tolerance)


def test_inputs_are_not_changed(potential):
    make = crystal if is_local(potential) else ethanol
    batch = batch_of(make(), make(), dtype=potential.dtype)
    pairs = neighbor_list(batch, potential.cutoff)
    originals = [batch.positions, batch.cell, batch.atomic_numbers, pairs.center]
    originals += [] if pairs.shift is None else [pairs.shift]
    copies = [tensor.clone() for tensor in originals]
    properties = wanted(potential) | ({"stress"} if make is crystal else set())
    evaluate(potential, batch, pairs, properties=frozenset(properties))
    for tensor, before in zip(originals, copies, strict=True):
        assert torch.equal(tensor, before)
        assert not tensor.requires_grad
        assert tensor.grad is None
    assert all(parameter.grad is None for parameter in potential.parameters())


def test_the_state_of_torch_does_not_matter_and_stays(potential):
    """Default dtype, gradients on or off, and random numbers."""
    atoms = structures(potential)[-1]
    generator = torch.random.get_rng_state()
    before = predicted(potential, atoms)
    assert torch.equal(generator, torch.random.get_rng_state())
    normal, found = torch.get_default_dtype(), {}
    for hostile in (torch.float64, torch.float32, torch.bfloat16):
        torch.set_default_dtype(hostile)
        try:
            found[str(hostile)] = predicted(potential, atoms)
        finally:
            torch.set_default_dtype(normal)
    for guard in (torch.no_grad, torch.enable_grad):
        with guard():
            found[guard.__name__] = predicted(potential, atoms)
    for state, after in found.items():
        assert before.keys() == after.keys()
        for name, value in before.items():
            assert torch.equal(value, after[name]), f"{name} with {state}"
            assert value.dtype == after[name].dtype, f"{name} with {state}"


@pytest.mark.gpu
@pytest.mark.parametrize("case", CROSS, ids=" ".join)
def test_a_gpu_gives_what_the_cpu_gives(case):
    potential = potential_with(*case)
    asked, dtype = frozenset(wanted(potential)), potential.dtype
    there = copy.deepcopy(potential).cuda()
    for atoms in structures(potential):
        expected = predicted(potential, atoms, properties=asked)
        batch = batch_from_atoms([atoms], dtype=dtype, device=torch.device("cuda"))
        pairs = neighbor_list(batch, there.cutoff)
        found = fields(evaluate(there, batch, pairs, properties=asked))
        assert all(value.is_cuda for value in found.values())
        assert_same(expected, {k: v.cpu() for k, v in found.items()}, dtype)
