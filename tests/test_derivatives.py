"""Derivatives against finite differences, and against an independent route."""

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
    predict,
    small_potential,
    water,
)
from torch import Tensor

from molpool_calc.derivatives import (
    detach,
    dipole_derivatives,
    evaluate,
    hessian,
    polarizability_derivatives,
    repeat_system,
)
from molpool_calc.edges import edges_from_positions
from molpool_calc.interfaces import AtomsBatch, Edges, Potential, Prediction
from molpool_calc.neighbors import complete_pairs, neighbor_list
from molpool_calc.potential import composition_of

STEP = 1e-4
RELATIVE = 1e-6


@pytest.fixture(params=["painn", "schnet"])
def network(request):
    return request.param


@pytest.fixture(params=["sum", "mean"])
def pooling(request):
    return request.param


def ion() -> Atoms:
    atoms = water()
    atoms.info["charge"] = 1.0
    return atoms


def pairs_of(batch: AtomsBatch):
    """The pairs of the undisplaced structure and a little more."""
    return neighbor_list(batch, CUTOFF + 0.1)


def assert_close(found: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    assert scale > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=RELATIVE * scale)


def differences(potential: Potential, batch: AtomsBatch, name: str) -> Tensor:
    """Central differences of order four, one row for each coordinate."""
    n = batch.positions.numel()
    moves = torch.cat([k * STEP * torch.eye(n).double() for k in (-2, -1, 1, 2)])
    copies, pairs = repeat_system(batch, pairs_of(batch), 4 * n)
    moved = replace(copies, positions=copies.positions + moves.view(-1, 3))
    prediction = evaluate(potential, moved, pairs, properties=frozenset({name}))
    return slope(getattr(prediction, name).view(4, n, -1))


def slope(at: Tensor) -> Tensor:
    """From the values at −2, −1, 1 and 2 steps."""
    return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * STEP)


def value(potential: Potential, batch: AtomsBatch, name: str) -> Tensor:
    prediction = evaluate(
        potential, batch, pairs_of(batch), properties=frozenset({name})
    )
    return getattr(prediction, name)


@pytest.mark.parametrize("structure", [ethanol, crystal])
def test_forces_are_the_negative_slope_of_the_energy(network, pooling, structure):
    potential = small_potential(network, pooling=pooling, heads=("energy",))
    batch = batch_of(structure())
    slopes = differences(potential, batch, "energy")
    assert_close(value(potential, batch, "forces").reshape(-1, 1), -slopes)


def in_a_box(*, pbc: bool | list[bool]) -> Atoms:
    atoms = crystal()
    atoms.pbc = pbc
    return atoms


@pytest.mark.parametrize(
    "pbc", [True, [True, False, True], False], ids=["bulk", "slab", "not periodic"]
)
def test_stress_is_the_slope_of_the_energy_with_strain_over_the_volume(network, pbc):
    """All nine components: an unsymmetric strain is a rotation and a symmetric one."""
    potential = small_potential(network, heads=("energy",))
    batch = batch_of(in_a_box(pbc=pbc))
    stress = value(potential, batch, "stress")[0]
    strains = torch.cat([k * STEP * torch.eye(9).double() for k in (-2, -1, 1, 2)])
    copies, pairs = repeat_system(batch, pairs_of(batch), len(strains))
    matrices = torch.eye(3).double() + strains.view(-1, 3, 3)
    positions = copies.positions[:, None] @ matrices[copies.systems.index]
    moved = replace(copies, positions=positions[:, 0], cell=copies.cell @ matrices)
    energy = evaluate(potential, moved, pairs, properties=frozenset({"energy"})).energy
    slopes = slope(energy.view(4, 3, 3))
    volume = abs(np.linalg.det(crystal().cell.array))
    assert_close(stress, slopes / volume)
    torch.testing.assert_close(stress, stress.T, rtol=0, atol=1e-15)


def test_a_compressed_pair_pushes_so_that_its_stress_is_negative():
    """Tensile positive: dE/dε < 0 where stretching lowers the energy."""

    class Repulsion:
        cutoff, species, properties = CUTOFF, frozenset({1}), frozenset({"energy"})

        def __call__(self, batch, neighbors, properties):
            distances = edges_from_positions(batch, neighbors).distances
            return Prediction(energy=(0.5 / distances).sum()[None].double())

    atoms = Atoms("H2", [[0, 0, 0], [1.0, 0, 0]], cell=[10, 10, 10])
    stress = predict(Repulsion(), atoms, properties={"stress"}).stress[0]
    expected = torch.zeros(3, 3, dtype=torch.float64)
    expected[0, 0] = -1.0 / 1000
    torch.testing.assert_close(stress, expected)


def test_stress_without_a_volume_is_refused():
    potential = small_potential(heads=("energy",))
    with pytest.raises(ValueError, match=r"three lattice vectors .*; give a cell"):
        predict(potential, water(), properties={"stress"})
    flat = crystal()
    flat.cell[2] = flat.cell[0] + flat.cell[1]
    flat.pbc = False
    flat.cell[2] *= 0
    with pytest.raises(ValueError, match="three lattice vectors"):
        predict(potential, flat, properties={"stress"})


def test_forces_without_an_energy_are_refused():
    with pytest.raises(ValueError, match="no energy head, so it has no forces"):
        predict(small_potential(heads=("dipole",)), water(), properties={"forces"})


@pytest.mark.parametrize("structure", [water, crystal])
def test_the_hessian_is_the_slope_of_the_forces(network, pooling, structure):
    potential = small_potential(network, pooling=pooling, heads=("energy",))
    batch = batch_of(structure())
    found = hessian(potential, batch, pairs_of(batch)).reshape(3 * len(structure()), -1)
    slopes = differences(potential, batch, "forces")
    assert_close(found, -slopes)
    torch.testing.assert_close(found, found.T, rtol=0, atol=1e-11)


def test_the_hessian_obeys_the_acoustic_sum_rule(network):
    """A translation of all atoms changes no force."""
    potential = small_potential(network, heads=("energy",))
    for structure in (ethanol, crystal):
        batch = batch_of(structure())
        total = hessian(potential, batch, pairs_of(batch)).sum(2)
        torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-11)


def test_the_hessian_turns_an_infinitesimal_rotation_into_the_turned_forces(network):
    """H·(ω × r) = −(ω × F), exact at any geometry, also off a minimum."""
    potential = small_potential(network, heads=("energy",))
    atoms = ethanol()
    batch = batch_of(atoms)
    h = hessian(potential, batch, complete_pairs(batch)).numpy()
    forces = value(potential, batch, "forces").numpy()
    axis = np.array([0.3, -0.5, 0.8])
    change = np.einsum("iajb,jb->ia", h, np.cross(axis, atoms.positions))
    np.testing.assert_allclose(change, -np.cross(axis, forces), atol=1e-10)


@pytest.mark.parametrize("rows_per_pass", [1, 4, 64])
def test_the_hessian_does_not_depend_on_how_many_rows_are_taken_at_once(rows_per_pass):
    potential, batch = small_potential(heads=("energy",)), batch_of(water())
    pairs = complete_pairs(batch)
    rows = hessian(potential, batch, pairs, rows_per_pass=rows_per_pass)
    torch.testing.assert_close(
        rows, hessian(potential, batch, pairs), rtol=0, atol=1e-12
    )


def test_second_derivatives_in_the_dense_layout_are_the_same():
    heads = ("energy", "dipole", "polarizability")
    potential, batch = small_potential(heads=heads), batch_of(water())
    for function in (hessian, dipole_derivatives, polarizability_derivatives):
        torch.testing.assert_close(
            function(potential, batch, dense_pairs(batch)),
            function(potential, batch, complete_pairs(batch)),
        )


@pytest.mark.parametrize("structure", [water, ion, ethanol])
def test_dipole_derivatives_are_the_slopes_of_the_dipole(network, structure):
    potential, batch = small_potential(network), batch_of(structure())
    found = dipole_derivatives(potential, batch, pairs_of(batch))
    slopes = differences(potential, batch, "dipole")
    assert_close(found.reshape(-1, 3), slopes)


@pytest.mark.parametrize("structure", [water, ion])
def test_dipole_derivatives_sum_to_zero(network, structure):
    """About the center of mass a translation leaves the dipole of an ion, too."""
    potential, batch = small_potential(network), batch_of(structure())
    total = dipole_derivatives(potential, batch, complete_pairs(batch)).sum(0)
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-12)


@pytest.mark.parametrize("structure", [water, ion])
def test_dipole_derivatives_turn_the_dipole(network, structure):
    """Σ_i P_i·(ω × r_i) = ω × μ."""
    potential, atoms = small_potential(network), structure()
    batch = batch_of(atoms)
    p = dipole_derivatives(potential, batch, complete_pairs(batch)).numpy()
    dipole = value(potential, batch, "dipole")[0].numpy()
    axis = np.array([0.3, -0.5, 0.8])
    change = np.einsum("iab,ia->b", p, np.cross(axis, atoms.positions))
    np.testing.assert_allclose(change, np.cross(axis, dipole), atol=1e-12)


def test_polarizability_derivatives_are_the_slopes_of_the_polarizability():
    potential = small_potential(heads=("polarizability",))
    batch = batch_of(ion())
    found = polarizability_derivatives(potential, batch, pairs_of(batch))
    slopes = differences(potential, batch, "polarizability")
    assert_close(found.reshape(-1, 9), slopes)
    torch.testing.assert_close(found, found.transpose(2, 3))
    total = found.sum(0)
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-12)


@pytest.mark.parametrize("structure", [ethanol, crystal])
def test_forces_and_stress_agree_with_those_from_edge_vectors(network, structure):
    """F_i and the virial from ∂E/∂r_ij alone, which no strain or cell enters."""
    potential = small_potential(network, heads=("energy",))
    batch = batch_of(structure())
    pairs = neighbor_list(batch, CUTOFF)
    edges = edges_from_positions(batch, pairs)
    vectors = edges.vectors.detach().requires_grad_()
    moving = replace(edges, vectors=vectors, distances=vectors.norm(dim=1))
    features = potential.network(composition_of(batch), moving)
    energy = potential.heads["energy"](features, batch, Prediction()).energy
    (pull,) = torch.autograd.grad(energy.sum(), vectors)
    forces = torch.zeros_like(batch.positions)
    forces.index_add_(0, pairs.center, pull)
    forces.index_add_(0, pairs.neighbor, -pull)
    result = predict(potential, structure())
    torch.testing.assert_close(result.forces, forces, rtol=0, atol=1e-12)
    if structure is crystal:
        virial = vectors.detach().T @ pull / abs(np.linalg.det(batch.cell[0].numpy()))
        torch.testing.assert_close(result.stress[0], virial, rtol=0, atol=1e-13)


def test_there_is_no_net_force_and_no_torque(network, pooling):
    atoms = ethanol()
    forces = predict(small_potential(network, pooling=pooling), atoms).forces.numpy()
    np.testing.assert_allclose(forces.sum(0), 0, atol=1e-12)
    torque = np.cross(atoms.positions, forces).sum(0)
    np.testing.assert_allclose(torque, 0, atol=1e-11)


@pytest.mark.parametrize("function", ["hessian", "dipole", "polarizability"])
@pytest.mark.parametrize("guard", [torch.no_grad, torch.enable_grad])
def test_second_derivatives_do_not_vanish_where_gradients_are_off(function, guard):
    potential = small_potential(heads=("energy", "dipole", "polarizability"))
    batch = batch_of(water())
    derivative = {
        "hessian": hessian,
        "dipole": dipole_derivatives,
        "polarizability": polarizability_derivatives,
    }[function]
    expected = derivative(potential, batch, complete_pairs(batch))
    with guard():
        found = derivative(potential, batch, complete_pairs(batch))
    assert torch.equal(found, expected)
    assert bool(found.any())


@pytest.mark.parametrize(
    "derivative", [hessian, dipole_derivatives, polarizability_derivatives]
)
def test_second_derivatives_of_one_atom_are_zero(derivative):
    potential = small_potential(heads=("energy", "dipole", "polarizability"))
    batch = batch_of(Atoms("O", [[1.0, 2.0, 3.0]]))
    found = derivative(potential, batch, complete_pairs(batch))
    assert found.shape[:2] == (1, 3)
    assert float(found.abs().max()) < 1e-14


@pytest.mark.parametrize(
    "derivative", [hessian, dipole_derivatives, polarizability_derivatives]
)
def test_second_derivatives_take_one_system_at_a_time(derivative):
    potential = small_potential(heads=("energy", "dipole", "polarizability"))
    batch = batch_of(water(), water())
    with pytest.raises(ValueError, match=r"of 2 systems .*; give one system at a time"):
        derivative(potential, batch, complete_pairs(batch))


def test_derivatives_of_what_is_not_there_are_refused():
    potential, batch = small_potential(heads=("energy",)), batch_of(water())
    with pytest.raises(ValueError, match="has no dipole; it has energies, energy"):
        dipole_derivatives(potential, batch, complete_pairs(batch))
    with pytest.raises(ValueError, match="has no polarizability"):
        polarizability_derivatives(potential, batch, complete_pairs(batch))


def test_a_force_loss_can_be_differentiated_with_respect_to_the_weights(network):
    """Two backward passes; only the last bias has no influence on forces."""
    potential = small_potential(network, heads=("energy",))
    batch = batch_of(ethanol())
    result = evaluate(
        potential,
        batch,
        complete_pairs(batch),
        properties=frozenset({"forces"}),
        create_graph=True,
    )
    loss = result.forces.square().mean()
    loss.backward()
    idle = {name for name, p in potential.named_parameters() if p.grad is None}
    zero = {
        n for n, p in potential.named_parameters() if n not in idle and not p.grad.any()
    }
    assert idle | zero == {"heads.energy.before.second.bias"}
    weight = potential.heads["energy"].before.first.weight
    slope, step = float(weight.grad[0, 0]), 1e-5

    def loss_at(shift):
        with torch.no_grad():
            weight[0, 0] += shift
        result = predict(potential, ethanol()).forces.square().mean()
        with torch.no_grad():
            weight[0, 0] -= shift
        return float(result)

    numerical = (loss_at(step) - loss_at(-step)) / (2 * step)
    assert abs(slope - numerical) < 1e-6 * max(abs(slope), 1e-3)


def test_repeated_systems_are_copies_one_after_another():
    batch = batch_of(crystal(), crystal()[::-1])
    pairs = neighbor_list(batch, CUTOFF)
    potential = small_potential(heads=("energy",))
    wanted = frozenset({"energy", "forces"})
    once = evaluate(potential, batch, pairs, properties=wanted)
    thrice = evaluate(potential, *repeat_system(batch, pairs, 3), properties=wanted)
    torch.testing.assert_close(thrice.energy, once.energy.repeat(3))
    torch.testing.assert_close(thrice.forces, once.forces.repeat(3, 1))


def test_detached_predictions_carry_no_graph():
    live = torch.ones(1, dtype=torch.float64, requires_grad=True) * 2
    detached = detach(Prediction(energy=live, others={"gap": live}))
    assert not detached.energy.requires_grad
    assert not detached.others["gap"].requires_grad
    assert detach(Prediction(energy=live)).others is None


def test_zero_length_pairs_do_not_go_unnoticed():
    """Two atoms at one place: PaiNN has no direction between them."""
    atoms = Atoms("HO", [[0, 0, 0], [0, 0, 0]])
    result = predict(small_potential(heads=("energy",)), atoms, properties={"forces"})
    assert not torch.isfinite(result.energy).all()


def test_an_edge_vector_points_from_center_to_the_image_of_the_neighbor():
    batch = batch_of(crystal())
    edges: Edges = edges_from_positions(batch, neighbor_list(batch, CUTOFF))
    lengths = torch.linalg.vector_norm(edges.vectors, dim=1)
    torch.testing.assert_close(edges.distances, lengths)
    assert float(lengths.max()) < CUTOFF
    fractional = (
        edges.vectors - batch.positions[edges.neighbor] + batch.positions[edges.center]
    ) @ torch.linalg.inv(batch.cell[0])
    torch.testing.assert_close(fractional, fractional.round(), rtol=0, atol=1e-12)
