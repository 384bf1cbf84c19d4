"""What every potential owes its users: network x pooling x heads, random weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from small_potentials import (
    CUTOFF,
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
from molpool_calc.derivatives import evaluate
from molpool_calc.interfaces import NeighborList
from molpool_calc.neighbors import complete_pairs, neighbor_list

TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-5}
HEADS = {
    ("painn", "energy, dipole, polarizability"): (
        "energy",
        "dipole",
        "polarizability",
    ),
    ("painn", "energy"): ("energy",),
    ("schnet", "energy, dipole"): ("energy", "dipole"),
}
TENSOR_RANK = {"forces": 1, "dipole": 1, "stress": 2, "polarizability": 2}


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    return getattr(torch, request.param)


@pytest.fixture(params=["sum", "mean"])
def pooling(request):
    return request.param


@pytest.fixture(params=HEADS, ids=" ".join)
def potential(request, pooling, dtype):
    network, _ = request.param
    heads = HEADS[request.param]
    return small_potential(network, pooling=pooling, heads=heads, dtype=dtype)


def assert_same(first, second, dtype, skip=()):
    """Equal within rounding; energies relative to what the network contributes."""
    assert first.keys() == second.keys()
    for name in first.keys() - set(skip):
        a, b = first[name].double(), second[name].double()
        torch.testing.assert_close(
            a, b, rtol=0, atol=TOLERANCES[dtype], msg=lambda m, n=name: f"{n}: {m}"
        )


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


@pytest.mark.parametrize("structure", [ethanol, crystal])
@pytest.mark.parametrize(
    "matrix",
    [rotation(1), -rotation(2), torch.diag(torch.tensor([1.0, 1.0, -1.0])).double()],
    ids=["rotation", "improper rotation", "reflection"],
)
def test_tensors_turn_with_the_structure(potential, dtype, structure, matrix):
    before = fields(predict(potential, structure(), dtype=dtype))
    after = fields(predict(potential, transformed(structure(), matrix), dtype=dtype))
    # a lattice of images has no dipole, and so nothing that turns
    skip = ("dipole", "polarizability") if structure is crystal else ()
    assert_same(turned(before, matrix), after, dtype, skip)


@pytest.mark.parametrize("structure", [ethanol, crystal])
def test_a_translation_changes_nothing(potential, dtype, structure):
    here, there = structure(), structure()
    there.positions += [3.0, -2.0, 5.0]
    assert_same(
        fields(predict(potential, here, dtype=dtype)),
        fields(predict(potential, there, dtype=dtype)),
        dtype,
    )


def test_a_wrapped_atom_changes_nothing_but_the_dipole(potential, dtype):
    moved = crystal()
    moved.positions[1] += np.array([1, -2, 0]) @ moved.cell.array
    assert_same(
        fields(predict(potential, crystal(), dtype=dtype)),
        fields(predict(potential, moved, dtype=dtype)),
        dtype,
        skip=("dipole", "polarizability"),
    )


@pytest.mark.parametrize("structure", [ethanol, crystal])
def test_values_follow_a_permutation_of_the_atoms(potential, dtype, structure):
    atoms = structure()
    order = np.random.default_rng(0).permutation(len(atoms))
    before = fields(predict(potential, atoms, dtype=dtype))
    after = fields(predict(potential, atoms[order], dtype=dtype))
    for name in before.keys() & {"forces", "energies", "charges"}:
        before[name] = before[name][order]
    assert_same(before, after, dtype)


def test_a_batch_gives_what_its_systems_give_one_by_one(potential, dtype):
    structures = [ethanol(), Atoms("O"), water(), glycol(), crystal()]
    together = fields(
        predict(potential, *structures, dtype=dtype, properties=wanted(potential))
    )
    one_by_one = [
        fields(predict(potential, s, dtype=dtype, properties=wanted(potential)))
        for s in structures
    ]
    joined = {name: torch.cat([p[name] for p in one_by_one]) for name in together}
    assert_same(together, joined, dtype)


def wanted(potential):
    return set(potential.properties) | {"forces"}


def test_stresses_of_a_batch_are_those_of_its_systems(pooling):
    potential = small_potential(pooling=pooling)
    larger = crystal()
    larger.set_cell(larger.cell.array * 1.1, scale_atoms=True)
    together = predict(potential, crystal(), larger).stress
    torch.testing.assert_close(together[:1], predict(potential, crystal()).stress)
    torch.testing.assert_close(together[1:], predict(potential, larger).stress)


@pytest.mark.parametrize("kind", ["skin", "complete", "dense", "padding"])
def test_pairs_beyond_the_cutoff_change_nothing(potential, dtype, kind):
    atoms = glycol()
    batch = batch_of(atoms, dtype=dtype)
    exact = neighbor_list(batch, CUTOFF)
    more = {
        "skin": lambda: neighbor_list(batch, CUTOFF + 1.0),
        "complete": lambda: complete_pairs(batch),
        "dense": lambda: dense_pairs(batch),
        "padding": lambda: padded(exact, dtype),
    }[kind]()
    assert len(more.center) > len(exact.center)
    if kind == "padding":
        large = 1e4 * torch.eye(3, dtype=dtype)
        batch = replace(batch, cell=large[None])
    asked = frozenset(wanted(potential))
    assert_same(
        fields(predict(potential, atoms, dtype=dtype, properties=asked)),
        fields(evaluate(potential, batch, more, properties=asked)),
        dtype,
    )


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


@pytest.mark.parametrize("function", ["cosine", "polynomial", "mollifier"])
@pytest.mark.parametrize("network", ["painn", "schnet"])
@pytest.mark.parametrize("distance", [CUTOFF, np.nextafter(CUTOFF, 9), CUTOFF + 0.3])
def test_a_pair_at_or_beyond_the_cutoff_counts_for_nothing_bit_for_bit(
    network, function, distance
):
    potential = small_potential(network, cutoff_function=function)
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, distance]])
    pairs = complete_pairs(batch_of(atoms))
    none = NeighborList(center=pairs.center[:0], neighbor=pairs.center[:0], shift=None)
    with_pair = fields(predict(potential, atoms, pairs=pairs))
    without = fields(predict(potential, atoms, pairs=none))
    assert with_pair.keys() == without.keys()
    for name, value in without.items():
        assert torch.equal(with_pair[name], value), name


@pytest.mark.parametrize("network", ["painn", "schnet"])
def test_a_pair_just_below_the_cutoff_counts(network):
    potential = small_potential(network)
    far = Atoms("CO", [[0, 0, 0], [0, 0, CUTOFF + 0.1]])
    near = Atoms("CO", [[0, 0, 0], [0, 0, CUTOFF - 0.1]])
    difference = predict(potential, near).energy - predict(potential, far).energy
    assert abs(float(difference)) > 1e-6


@pytest.mark.parametrize("function", ["cosine", "polynomial", "mollifier"])
@pytest.mark.parametrize("network", ["painn", "schnet"])
def test_energy_and_forces_are_continuous_at_the_cutoff(network, function):
    potential = small_potential(network, cutoff_function=function)

    def at(distance):
        atoms = Atoms("OCN", [[0, 0, 0], [0, 0, 1.2], [0, distance, 0]])
        return predict(potential, atoms)

    outside, bulk = at(CUTOFF + 1e-7), at(CUTOFF - 0.5)
    gaps = []
    for step in (1e-3, 1e-4):
        inside = at(CUTOFF - step)
        gaps.append(float((inside.forces - outside.forces).abs().max()))
        assert float((inside.energy - outside.energy).abs().max()) < 10 * step**2
    assert float((bulk.forces - outside.forces).abs().max()) > 1e-3
    # the jump in the force vanishes at least linearly as the cutoff is approached
    assert gaps[1] < 0.2 * gaps[0] + 1e-9
    assert gaps[0] < 1e-2


@pytest.mark.parametrize("symbol", ["H", "O"])
def test_one_atom_has_an_energy_and_no_force(potential, dtype, symbol):
    result = predict(potential, Atoms(symbol, [[1.0, 2.0, 3.0]]), dtype=dtype)
    assert torch.isfinite(result.energy).all()
    assert not result.forces.any()
    if result.dipole is not None:
        assert float(result.dipole.abs().max()) < TOLERANCES[dtype]
        assert not result.charges.any()


def test_two_far_fragments_add_up_where_the_pooling_is_a_sum(dtype):
    for network in ("painn", "schnet"):
        potential = small_potential(network, dtype=dtype, heads=("energy",))
        assert potential.extensive
        far = water()
        far.positions += [60.0, 0, 0]
        parts = predict(potential, ethanol(), far, dtype=dtype)
        whole = predict(potential, ethanol() + far, dtype=dtype)
        torch.testing.assert_close(
            whole.energy, parts.energy.sum(0, keepdim=True), rtol=0, atol=1e-5
        )
        torch.testing.assert_close(whole.forces, parts.forces, rtol=0, atol=2e-5)


def test_two_far_fragments_average_where_the_pooling_is_a_mean():
    potential = small_potential(pooling="mean", heads=("energy",))
    assert not potential.extensive
    far = ethanol()
    far.positions += [60.0, 0, 0]
    single, double = predict(potential, ethanol()), predict(potential, ethanol() + far)
    elements = 2 * -1030.25 + 6 * -13.6 - 2042.125
    torch.testing.assert_close(single.energy - elements, double.energy - 2 * elements)
    torch.testing.assert_close(single.forces, 2 * double.forces[:9])
    assert double.energies is None
    assert "energies" not in potential.properties


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


def test_dtypes_are_those_of_the_potential_and_energies_float64(potential, dtype):
    for name, value in fields(predict(potential, crystal(), dtype=dtype)).items():
        expected = torch.float64 if name in {"energy", "energies"} else dtype
        assert value.dtype == expected, name
        assert not value.requires_grad, name


def test_only_what_was_asked_for_is_computed(potential, dtype):
    result = fields(predict(potential, water(), dtype=dtype, properties={"energy"}))
    assert result.keys() <= {"energy", "energies"}


def test_inputs_are_not_changed(potential, dtype):
    batch = batch_of(crystal(), crystal(), dtype=dtype)
    pairs = neighbor_list(batch, CUTOFF)
    originals = [batch.positions, batch.cell, batch.atomic_numbers, pairs.shift]
    copies = [tensor.clone() for tensor in originals]
    properties = frozenset(wanted(potential) | {"stress"})
    evaluate(potential, batch, pairs, properties=properties)
    for tensor, copy in zip(originals, copies, strict=True):
        assert torch.equal(tensor, copy)
        assert not tensor.requires_grad
        assert tensor.grad is None
    assert all(parameter.grad is None for parameter in potential.parameters())


def test_the_random_generator_is_not_touched(potential, dtype):
    before = torch.random.get_rng_state()
    predict(potential, ethanol(), dtype=dtype)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("hostile", [torch.float64, torch.float32, torch.bfloat16])
def test_the_default_dtype_does_not_matter(potential, dtype, hostile):
    before = fields(predict(potential, crystal(), dtype=dtype))
    normal = torch.get_default_dtype()
    torch.set_default_dtype(hostile)
    try:
        after = fields(predict(potential, crystal(), dtype=dtype))
    finally:
        torch.set_default_dtype(normal)
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
        assert value.dtype == after[name].dtype, name


@pytest.mark.gpu
@pytest.mark.parametrize("structure", [ethanol, crystal])
def test_a_gpu_gives_what_the_cpu_gives(potential, dtype, structure):
    batch = batch_of(structure(), dtype=dtype)
    pairs = neighbor_list(batch, CUTOFF)
    asked = frozenset(wanted(potential))
    expected = fields(evaluate(potential, batch, pairs, properties=asked))
    there = batch_from_atoms([structure()], dtype=dtype, device=torch.device("cuda"))
    pairs = neighbor_list(there, CUTOFF)
    found = fields(evaluate(potential.cuda(), there, pairs, properties=asked))
    assert all(value.is_cuda for value in found.values())
    assert_same(expected, {k: v.cpu() for k, v in found.items()}, dtype)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.enable_grad])
def test_the_mode_of_gradients_does_not_matter(potential, dtype, guard):
    before = fields(predict(potential, crystal(), dtype=dtype))
    with guard():
        after = fields(predict(potential, crystal(), dtype=dtype))
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
