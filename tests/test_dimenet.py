"""DimeNet++ against its equations written out, the published code, and physics."""

import json
from dataclasses import replace
from math import pi

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from scipy.special import eval_legendre, spherical_jn
from small_potentials import (
    batch_of,
    crystal,
    dense_pairs,
    ethanol,
    glycol,
    potential_of,
    predict,
    rotation,
    water,
)
from torch.nn.functional import silu

from molpool_calc.edges import edges_from_positions
from molpool_calc.interfaces import Composition, Edges, Network
from molpool_calc.neighbors import complete_pairs, neighbor_list
from molpool_calc.networks.dimenet import DimeNetPlusPlus
from molpool_calc.networks.spherical_bessel import BesselBases, bessel_roots
from molpool_calc.networks.triplets import legendre, triplets
from molpool_calc.potential import PotentialSpec

CUTOFF = 4.0
SMALL = {
    "n_features": 5,
    "n_hidden": 12,
    "n_int_embedding": 6,
    "n_basis_embedding": 4,
    "n_out_embedding": 10,
    "n_interactions": 2,
    "n_spherical": 5,
    "n_radial": 4,
    "cutoff": CUTOFF,
}
VARIANTS = ["pyg", "pooling-paper"]


@pytest.fixture(params=VARIANTS)
def variant(request):
    return request.param


def small(variant="pyg", *, dtype=torch.float64, **changes):
    spec = PotentialSpec(
        name="small",
        elements=(1, 6, 7, 8),
        network={"kind": "dimenet++", **SMALL, "variant": variant, **changes},
        heads={"energy": {"scale": 0.01}},
    )
    return potential_of(spec, dtype=dtype)


def composition_of(batch):
    return Composition(
        atomic_numbers=batch.atomic_numbers,
        total_charge=batch.total_charge,
        num_unpaired=batch.num_unpaired,
        systems=batch.systems,
    )


def features(network, *structures, pairs=None, dtype=torch.float64):
    batch = batch_of(*structures, dtype=dtype)
    pairs = neighbor_list(batch, network.cutoff) if pairs is None else pairs(batch)
    with torch.no_grad():
        return network(
            composition_of(batch), edges_from_positions(batch, pairs)
        ).scalars


# the bases


def test_roots_of_bessel_functions_are_roots_and_none_is_skipped():
    roots = bessel_roots(8, 7)
    np.testing.assert_allclose(roots[0], pi * np.arange(1, 8), rtol=1e-15)
    for l, row in enumerate(roots):
        assert np.abs(spherical_jn(l, row)).max() < 1e-15
        fine = np.linspace(0.5, row[-1] + 1e-6, 20_000)
        signs = np.sign(spherical_jn(l, fine))
        assert (signs[1:] != signs[:-1]).sum() == len(row)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_bases_are_those_of_the_paper_at_every_distance(dtype):
    bases = BesselBases(n_spherical=7, n_radial=6, cutoff=5.0, envelope_exponent=5)
    bases = bases.to(dtype)
    distances = torch.linspace(0.3, 4.99, 60, dtype=torch.float64)
    x = distances.numpy()[:, None] / 5.0
    envelope = 1 / x - 28 * x**5 + 48 * x**6 - 21 * x**7
    radial, spherical = bases(distances.to(dtype))
    tolerance = 3e-6 if dtype == torch.float64 else 3e-5  # learned ω are float32
    expected = envelope * np.sin(np.arange(1, 7) * pi * x)
    np.testing.assert_allclose(radial.detach(), expected, rtol=0, atol=tolerance)
    for l, row in enumerate(bessel_roots(7, 6)):
        norm = np.sqrt(0.5 * spherical_jn(l + 1, row) ** 2)
        angular = np.sqrt((2 * l + 1) / (4 * pi))
        expected = envelope * angular * spherical_jn(l, row * x) / norm
        found = spherical[:, 6 * l : 6 * l + 6].double().numpy()
        tolerance = 2e-9 if dtype == torch.float64 else 3e-5
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_bases_are_exactly_zero_with_their_slope_beyond_the_cutoff(dtype):
    bases = BesselBases(n_spherical=3, n_radial=2, cutoff=5.0, envelope_exponent=5)
    distances = torch.tensor([5.0, 5.001, 1.7e3, 1e13], dtype=dtype, requires_grad=True)
    values = torch.cat(bases.to(dtype)(distances), dim=1)
    (slope,) = torch.autograd.grad(values.sum(), distances)
    assert not values.any()
    assert not slope.any()


def test_bases_have_two_vanishing_derivatives_at_the_cutoff():
    bases = BesselBases(n_spherical=3, n_radial=2, cutoff=5.0, envelope_exponent=5)
    distance = torch.tensor([5.0 - 1e-5], dtype=torch.float64, requires_grad=True)
    for value in torch.cat(bases.double()(distance), dim=1)[0]:
        first = torch.autograd.grad(value, distance, create_graph=True)[0]
        second = torch.autograd.grad(first, distance, retain_graph=True)[0]
        assert abs(float(value.detach())) < 1e-10
        assert abs(float(first.detach())) < 1e-5
        assert abs(float(second)) < 1e-2


def test_bases_stay_finite_for_atoms_on_top_of_each_other():
    bases = BesselBases(n_spherical=7, n_radial=6, cutoff=5.0, envelope_exponent=5)
    values = bases(torch.tensor([0.0, 1e-9, 1e-3]))
    assert all(bool(torch.isfinite(v).all()) for v in values)


def test_legendre_polynomials_are_those_of_scipy():
    cosine = torch.linspace(-1, 1, 11, dtype=torch.float64)
    values = legendre(cosine, torch.full_like(cosine, 2.0), 7).numpy()
    for l in range(7):
        expected = 2.0 * eval_legendre(l, cosine.numpy())
        np.testing.assert_allclose(values[:, l], expected, rtol=0, atol=1e-14)


# the network


def by_hand(net, composition, edges, *, by_index=False):
    """The published code's formulas with a loop over all pairs of pairs."""
    radial, spherical = net.bases(edges.distances)
    n_l = net.n_spherical
    numbers, vectors = composition.atomic_numbers, edges.vectors
    ends = list(zip(edges.center.tolist(), edges.neighbor.tolist(), strict=True))
    chains = []  # (pair j→i, pair k→j, P_l of the angle)
    for p, (i, j) in enumerate(ends):
        for q, (middle, k) in enumerate(ends):
            returns = k == i if by_index else (vectors[p] + vectors[q]).norm() < 1e-4
            if middle != j or returns:
                continue
            if net.angle_at == "middle":
                a, b = -vectors[p], -vectors[q]  # R_i − R_j and R_j − R_k
            else:
                a, b = vectors[p], vectors[p] + vectors[q]
            angle = torch.atan2(torch.linalg.cross(a, b).norm(), a @ b)
            chains.append((p, q, eval_legendre(np.arange(n_l), np.cos(angle.item()))))
    atoms = net.embedding.weight[numbers]
    inner = silu(net.embed_radial(radial))
    m = torch.cat((atoms[edges.center], atoms[edges.neighbor], inner), dim=1)
    m = silu(net.embed_pair(m))
    total = output_by_hand(net, 0, m, radial, edges)
    for n, block in enumerate(net.interactions, start=1):
        own, other = block.source(m).chunk(2, dim=1)
        other = silu(other) * block.radial_second(block.radial_first(radial))
        other = silu(block.down(other))
        received = torch.zeros_like(other)
        for p, q, polynomials in chains:
            sbf = spherical[q].view(n_l, -1) * torch.from_numpy(polynomials)[:, None]
            filters = block.angular_second(block.angular_first(sbf.reshape(-1)))
            received[p] += other[q] * filters
        h = silu(own) + silu(block.up(received))
        for layer in block.before_skip:
            h = h + silu(layer.second(silu(layer.first(h))))
        h = silu(block.skip(h)) + m
        for layer in block.after_skip:
            h = h + silu(layer.second(silu(layer.first(h))))
        m = h
        total = total + output_by_hand(net, n, m, radial, edges)
    return total


def output_by_hand(net, n, m, radial, edges):
    out = net.outputs
    gated = m * (radial @ out.gate.weight[n].T)
    y = torch.zeros(edges.n_atoms, m.shape[1], dtype=m.dtype)
    y = y.index_add(0, edges.center, gated) @ out.up.weight[n].T
    for layer in out.hidden:
        y = silu(y @ layer.weight[n].T + layer.bias[n])
    return y @ out.last.weight[n].T


def edges_of(structure, cutoff):
    batch = batch_of(structure)
    return batch, edges_from_positions(batch, neighbor_list(batch, cutoff))


@pytest.mark.parametrize("structure", [water, crystal])
def test_the_network_is_what_its_equations_say(structure, variant):
    net = small(variant).network
    cutoff = 3.0 if structure is crystal else CUTOFF
    batch, edges = edges_of(structure(), cutoff)
    with torch.no_grad():
        expected = by_hand(net, composition_of(batch), edges)
        found = net(composition_of(batch), edges).scalars
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_the_network_has_as_many_parameters_as_published():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    published = DimeNetPlusPlus(n_features=1)
    assert count(published) == 1_885_830
    assert count(published.interactions[0]) == 166_912
    older = DimeNetPlusPlus(n_features=1, variant="pooling-paper")
    assert count(older.interactions[0]) == 133_888


def test_the_network_keeps_the_protocol():
    net = DimeNetPlusPlus(**SMALL)
    assert isinstance(net, Network)
    assert not net.has_vectors
    assert (net.cutoff, net.n_features, net.max_atomic_number) == (CUTOFF, 5, 94)


def test_the_last_layers_start_at_zero_only_for_a_single_feature():
    assert not DimeNetPlusPlus(n_features=1).outputs.last.weight.any()
    assert DimeNetPlusPlus(**SMALL).outputs.last.weight.all()
    assert not DimeNetPlusPlus(**SMALL, output_init="zeros").outputs.last.weight.any()


def test_matrices_start_orthogonal_with_the_variance_of_glorot():
    net = DimeNetPlusPlus(n_features=4)
    for matrix in (*net.interactions[1].source.weight.chunk(2), net.embed_pair.weight):
        product = (matrix @ matrix.T).detach()
        scale = product.diagonal().mean()
        torch.testing.assert_close(
            product / scale, torch.eye(len(product)), rtol=0, atol=1e-5
        )
        expected = 2 / sum(matrix.shape)
        assert float(matrix.detach().var()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("structure", [ethanol, water])
def test_dense_pairs_give_what_listed_pairs_give(structure, variant):
    potential = small(variant)
    asked = {"energy", "energies", "forces"}
    listed = predict(potential, structure(), structure(), properties=asked)
    batch = batch_of(structure(), structure())
    dense = predict(
        potential, structure(), structure(), properties=asked, pairs=dense_pairs(batch)
    )
    for name in asked:
        a, b = getattr(listed, name), getattr(dense, name)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("structure", [ethanol, crystal])
def test_forces_are_the_slope_of_the_energy(structure, variant):
    potential = small(variant)
    atoms, h = structure(), 2e-5
    forces = predict(potential, atoms, properties={"energy", "forces"}).forces
    for atom, axis in ((0, 0), (2, 1), (4, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * h
            energies.append(float(predict(potential, moved).energy))
        slope = (energies[0] - energies[1]) / (2 * h)
        assert float(forces[atom, axis]) == pytest.approx(-slope, abs=1e-6)


@pytest.mark.parametrize("structure", [ethanol, crystal])
def test_energies_do_not_turn_and_follow_permutations(structure, variant):
    net = small(variant).network
    atoms = structure()
    before = features(net, atoms)
    for matrix in (rotation(1), -rotation(2)):
        turned = atoms.copy()
        turned.positions = atoms.positions @ matrix.numpy().T + [3.0, -2.0, 5.0]
        turned.set_cell(atoms.cell.array @ matrix.numpy().T)
        torch.testing.assert_close(features(net, turned), before, rtol=0, atol=1e-10)
    order = np.random.default_rng(0).permutation(len(atoms))
    torch.testing.assert_close(
        features(net, atoms[order]), before[order], rtol=0, atol=1e-10
    )


def test_a_batch_gives_what_its_systems_give_one_by_one(variant):
    net = small(variant).network
    structures = [ethanol(), Atoms("O"), water(), glycol(), crystal()]
    one_by_one = torch.cat([features(net, atoms) for atoms in structures])
    together = features(net, *structures)
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-10)


def test_atoms_without_neighbors_have_finite_features_and_no_forces(variant):
    result = predict(small(variant), Atoms("O"), Atoms("C"))
    assert bool(torch.isfinite(result.energy).all())
    assert not result.forces.any()


@pytest.mark.parametrize("pairs", ["skin", "complete", "unsorted"])
def test_pairs_beyond_the_cutoff_change_nothing(variant, pairs):
    def unsorted(batch):
        exact = neighbor_list(batch, CUTOFF)
        far = (
            torch.linalg.vector_norm(
                edges_from_positions(batch, complete_pairs(batch)).vectors, dim=1
            )
            >= CUTOFF
        ).nonzero()[:5, 0]
        more = complete_pairs(batch)
        return replace(
            exact,
            center=torch.cat((exact.center, more.center[far])),
            neighbor=torch.cat((exact.neighbor, more.neighbor[far])),
        )

    make = {
        "skin": lambda batch: neighbor_list(batch, CUTOFF + 1.0),
        "complete": complete_pairs,
        "unsorted": unsorted,
    }[pairs]
    net = small(variant).network
    exact = features(net, glycol())
    found = features(net, glycol(), pairs=make)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


LINEAR = {
    "CO2": Atoms("OCO", [[-1.16, 0, 0], [0, 0, 0], [1.16, 0, 0]]),
    "HCN": Atoms("HCN", [[0, 0, -1.07], [0, 0, 0], [0, 0, 1.16]]),
    "C2H2": molecule("C2H2"),
    "H2": Atoms("HH", [[0, 0, 0], [0.3, 0.4, 0.5]]),
}


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("layout", ["listed", "dense"])
def test_second_derivatives_of_linear_molecules_are_finite_and_right(
    name, layout, variant
):
    net, atoms = small(variant).network, LINEAR[name]
    batch = batch_of(atoms)
    pairs = dense_pairs(batch) if layout == "dense" else complete_pairs(batch)

    def gradient(positions):
        moved = replace(batch, positions=positions)
        edges = edges_from_positions(moved, pairs)
        energy = net(composition_of(moved), edges).scalars.sum()
        return torch.autograd.grad(energy, positions, create_graph=True)[0].reshape(-1)

    positions = batch.positions.clone().requires_grad_()
    slopes = gradient(positions)
    rows = [torch.autograd.grad(s, positions, retain_graph=True)[0] for s in slopes]
    hessian = torch.stack(rows).reshape(len(slopes), -1)
    assert bool(torch.isfinite(hessian).all())
    torch.testing.assert_close(hessian, hessian.T, rtol=1e-12, atol=1e-9)
    h, step = 1e-5, torch.zeros_like(batch.positions)
    step[0, 1] = h  # bends the molecule
    ends = [gradient((batch.positions + s * step).requires_grad_()) for s in (1, -1)]
    numeric = (ends[0] - ends[1]).detach() / (2 * h)
    torch.testing.assert_close(hessian[1], numeric, rtol=1e-7, atol=1e-5)


def test_an_atom_at_the_cutoff_has_two_continuous_derivatives(variant):
    net = small(variant).network
    atoms = water()
    curvatures = []
    for offset in (-1e-4, 1e-4):
        moved = atoms + Atoms("N", [atoms.positions[0] + [0, 0, CUTOFF + offset]])
        batch = batch_of(moved)
        positions = batch.positions.clone().requires_grad_()
        edges = edges_from_positions(
            replace(batch, positions=positions), complete_pairs(batch)
        )
        energy = net(composition_of(batch), edges).scalars.sum()
        slope = torch.autograd.grad(energy, positions, create_graph=True)[0][3, 2]
        curvatures.append(torch.autograd.grad(slope, positions)[0][3, 2])
    assert abs(float(curvatures[0] - curvatures[1])) < 2e-2


def test_a_small_cell_has_the_energy_per_atom_of_a_large_one(variant):
    """Each atom sees images of itself: excluding them by index gives another energy."""
    potential = small(variant, cutoff=3.0)
    cell = bulk("C", "diamond", a=3.2)
    cell.positions[1] += 0.1
    large = cell.repeat((2, 2, 3))
    one = predict(potential, cell, properties={"energy", "forces"})
    many = predict(potential, large, properties={"energy", "forces"})
    factor = len(large) / len(cell)
    assert float(many.energy) == pytest.approx(factor * float(one.energy), abs=1e-9)
    torch.testing.assert_close(many.forces[:2], one.forces, rtol=0, atol=1e-9)
    net = potential.network
    batch, edges = edges_of(cell, 3.0)
    with torch.no_grad():
        wrong = by_hand(net, composition_of(batch), edges, by_index=True)
        right = net(composition_of(batch), edges).scalars
    assert float((wrong - right).abs().max()) > 1e-3


def test_float32_is_near_to_float64(variant):
    for atoms in (ethanol(), LINEAR["H2"], crystal()):
        double, single = (
            features(small(variant, dtype=d).network, atoms, dtype=d)
            for d in (torch.float64, torch.float32)
        )
        torch.testing.assert_close(single.double(), double, rtol=2e-5, atol=2e-5)


def test_triplets_of_pairs_in_one_direction_only_are_found():
    edges = Edges(
        center=torch.tensor([0, 1]),
        neighbor=torch.tensor([1, 2]),
        vectors=torch.tensor([[1.0, 0, 0], [0, 2.0, 0]]),
        distances=torch.tensor([1.0, 2.0]),
        n_atoms=3,
    )
    paths = triplets(edges, n_orders=3, angle_at="middle")
    found = paths.sum_arriving(torch.ones(2, 3, 1))
    # P_0 + P_1 + P_2 of a right angle for 2 → 1 → 0, and nothing arrives at 2
    torch.testing.assert_close(found, torch.tensor([[0.5], [0.0]]))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="n_spherical is 1, but must be from 2 to 16"):
        DimeNetPlusPlus(n_spherical=1)
    with pytest.raises(ValueError, match=r"cutoff is 0\.0, but must be positive"):
        DimeNetPlusPlus(cutoff=0.0)


def test_the_spec_goes_through_json():
    spec = small().spec
    again = replace(spec, network=json.loads(json.dumps(dict(spec.network))))
    assert potential_of(again).network.n_features == 5
