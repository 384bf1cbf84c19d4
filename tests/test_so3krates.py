"""So3krates in its local and non-local forms: laws of physics, and the equations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from small_potentials import (
    batch_of,
    crystal,
    dense_pairs,
    ethanol,
    rattled,
    rotation,
    water,
)
from torch import Tensor, nn

from molpool_calc.edges import edges_from_positions
from molpool_calc.interfaces import AtomsBatch, Composition, NeighborList
from molpool_calc.neighbors import neighbor_list
from molpool_calc.networks.coupling import coupling_tensors, couplings
from molpool_calc.networks.pair_layout import PairLayout
from molpool_calc.networks.so3krates import So3krates
from molpool_calc.networks.so3krates_nonlocal import Reach, So3kratesNonlocal
from molpool_calc.networks.spherical import SphericalHarmonics

SMALL = {"n_features": 12, "n_interactions": 2, "n_heads": 4, "n_rbf": 6, "cutoff": 3.0}
OPTIONS = {
    "plain": {},
    "rich": {
        "residual_mlp_1": True,
        "residual_mlp_2": True,
        "layer_norm": True,
        "sphc_normalization": 4.0,
        "degrees": (1, 2, 4),
        "radial_basis": "bernstein",
        "cutoff_function": "exponential",
    },
    "published local": {"chi_cut": None},
    "fixed": {"chi_cut": 0.4},
    "dynamic": {"chi_cut": "dynamic", "degrees": (1, 2)},
}
LOCAL = ("plain", "rich", "published local")
EVERYWHERE = 1e5


def network(kind: str = "plain", **options: object) -> nn.Module:
    """Every weight random, biases too; the coordinates turn clearly."""
    cls = So3kratesNonlocal if "chi_cut" in OPTIONS[kind] else So3krates
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = cls(**(SMALL | OPTIONS[kind] | options)).double()
        for parameter in made.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def all_pairs(batch: AtomsBatch) -> NeighborList:
    """Listed, every atom with every other of its molecule."""
    index = batch.systems.index
    same = index[:, None] == index[None, :]
    center, neighbor = (same & ~torch.eye(len(index), dtype=bool)).nonzero(
        as_tuple=True
    )
    return NeighborList(center=center, neighbor=neighbor, shift=None)


def features(
    net: nn.Module,
    batch: AtomsBatch,
    pairs: NeighborList | None = None,
    positions: Tensor | None = None,
) -> Tensor:
    positions = batch.positions if positions is None else positions
    batch = replace(batch, positions=positions)
    composition = Composition(
        atomic_numbers=batch.atomic_numbers,
        total_charge=batch.total_charge,
        num_unpaired=batch.num_unpaired,
        systems=batch.systems,
    )
    edges = edges_from_positions(batch, all_pairs(batch) if pairs is None else pairs)
    return net(composition, edges).scalars


def energy_and_gradient(
    net: nn.Module, batch: AtomsBatch, pairs: NeighborList | None = None
) -> tuple[Tensor, Tensor]:
    positions = batch.positions.clone().requires_grad_()
    found = features(net, batch, pairs, positions)
    weights = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view_as(found)
    (gradient,) = torch.autograd.grad((found * weights).sum(), positions)
    return found.detach(), gradient


def assert_same(found: object, expected: object, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", OPTIONS)
def test_features_do_not_change_when_a_molecule_is_moved_turned_or_mirrored(kind):
    net, batch = network(kind), batch_of(ethanol())
    expected, gradient = energy_and_gradient(net, batch)
    assert expected.abs().max() > 1e-2
    for turn in (rotation(), -rotation(1)):
        moved = replace(batch, positions=batch.positions @ turn + 3.0)
        found, turned = energy_and_gradient(net, moved)
        assert_same(found, expected)
        assert_same(turned, gradient @ turn)


@pytest.mark.parametrize("kind", OPTIONS)
def test_features_follow_the_order_of_the_atoms(kind):
    net, atoms = network(kind), ethanol()
    order = np.random.default_rng(0).permutation(len(atoms))
    expected = features(net, batch_of(atoms))[order]
    assert_same(features(net, batch_of(atoms[order])), expected)


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_dense_layout_gives_what_listed_pairs_give(kind):
    net, batch = network(kind), batch_of(ethanol(), rattled(ethanol(), seed=4))
    assert_same(
        energy_and_gradient(net, batch, dense_pairs(batch)),
        energy_and_gradient(net, batch),
    )


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_batch_gives_what_its_molecules_give_alone(kind):
    net, structures = network(kind), [ethanol(), water(), Atoms("O")]
    together = energy_and_gradient(net, batch_of(*structures))[0]
    alone = [features(net, batch_of(atoms)) for atoms in structures]
    assert_same(together, torch.cat(alone))


@pytest.mark.parametrize("kind", LOCAL)
def test_pairs_beyond_the_cutoff_add_exactly_nothing(kind):
    net, batch = network(kind), batch_of(ethanol())
    near = neighbor_list(batch, SMALL["cutoff"])
    assert len(near.center) < len(all_pairs(batch).center)
    assert_same(
        energy_and_gradient(net, batch), energy_and_gradient(net, batch, near), 1e-14
    )


@pytest.mark.parametrize("kind", LOCAL)
def test_a_crystal_gives_what_a_larger_cell_of_it_gives(kind):
    net, small = network(kind), batch_of(crystal())
    large = batch_of(crystal().repeat((2, 1, 1)))
    found, expected = (
        features(net, batch, neighbor_list(batch, SMALL["cutoff"]))
        for batch in (large, small)
    )
    assert_same(found, expected.repeat(2, 1))


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("dense", [True, False])
def test_derivatives_are_those_of_finite_differences(kind, dense):
    net, batch = network(kind, n_interactions=1), batch_of(water())
    pairs = dense_pairs(batch) if dense else None

    def of_positions(positions: Tensor) -> Tensor:
        found = features(net, batch, pairs, positions)
        return (found * torch.linspace(-1, 1, 36).view(3, 12)).sum()

    positions = batch.positions.clone().requires_grad_()
    assert torch.autograd.gradcheck(of_positions, (positions,), fast_mode=True)
    assert torch.autograd.gradgradcheck(of_positions, (positions,), fast_mode=True)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("kind", OPTIONS)
def test_all_is_finite_for_one_atom_far_atoms_and_symmetric_molecules(kind, dense):
    net, dtype = network(kind).float(), torch.float32
    far = Atoms("OH", [[0, 0, 0], [0, 0, 700.0]])
    for atoms in (Atoms("O"), far, molecule("H2"), molecule("CH4"), molecule("C2H2")):
        batch = batch_of(atoms, dtype=dtype)
        pairs = dense_pairs(batch) if dense else None
        positions = batch.positions.clone().requires_grad_()
        total = features(net, batch, pairs, positions).sum()
        (gradient,) = torch.autograd.grad(
            total, positions, create_graph=True, materialize_grads=True
        )
        assert torch.isfinite(total)
        assert torch.isfinite(gradient).all()
        if gradient.requires_grad:
            (second,) = torch.autograd.grad(
                gradient.square().sum(), positions, materialize_grads=True
            )
            assert torch.isfinite(second).all()


@pytest.mark.parametrize("kind", OPTIONS)
def test_all_weights_get_a_gradient(kind):
    net = network(kind)
    features(net, batch_of(ethanol())).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("n_layers", "n_published"), [(3, 319213), (6, 607537)])
def test_the_number_of_parameters_is_the_published_one(n_layers, n_published):
    net = So3krates(n_interactions=n_layers)
    head = 132 * 132 + 132 + 132 + 1
    assert sum(p.numel() for p in net.parameters()) + head == n_published


def far_fragments(angle: float) -> AtomsBatch:
    """Two waters twenty Å apart, one of them turned about the line between them."""
    first, second = water(), rattled(molecule("H2O"), seed=8)
    first.rotate(angle, (0.3, 0.2, 1.0), center="COM")
    second.positions += [0, 0, 20.0]
    return batch_of(first + second)


@pytest.mark.parametrize("chi_cut", [None, 0.9, "dynamic"])
def test_only_the_non_local_form_sees_beyond_the_cutoffs(chi_cut):
    net = network("fixed", chi_cut=chi_cut)
    first, second = features(net, far_fragments(0)), features(net, far_fragments(50))
    change = (second - first)[3:].abs().max()
    assert change == 0 if chi_cut is None else change > 1e-6
    assert net.cutoff == (3.0 if chi_cut is None else np.inf)


@pytest.mark.parametrize("chi_cut", [0.3, "dynamic"])
@pytest.mark.parametrize("dense", [True, False])
def test_reach_is_the_cutoff_of_the_share_among_the_others(chi_cut, dense):
    batch = batch_of(ethanol(), rattled(ethanol(), seed=5))
    pairs = dense_pairs(batch) if dense else all_pairs(batch)
    layout = PairLayout(edges_from_positions(batch, pairs))
    distances = np.random.default_rng(2).uniform(0.1, 2.0, len(pairs.center))
    distances[(pairs.center == pairs.neighbor).numpy()] = 1e-4
    spread = layout.spread(torch.from_numpy(distances))
    found = Reach(chi_cut)(spread, layout, batch.systems).reshape(-1)
    radius = 1 / 9 if chi_cut == "dynamic" else chi_cut
    for pair, (i, j) in enumerate(zip(pairs.center, pairs.neighbor, strict=True)):
        row = [
            np.exp(distances[other])
            for other, (center, neighbor) in enumerate(
                zip(pairs.center, pairs.neighbor, strict=True)
            )
            if center == i and neighbor != i
        ]
        y = min(np.exp(distances[pair]) / sum(row) / radius, 1.0)
        expected = 0.0 if i == j else 1 - 28 * y**6 + 48 * y**7 - 21 * y**8
        assert float(found[pair]) == pytest.approx(expected, abs=1e-12)


def test_couplings_keep_the_parity():
    assert couplings((1,)) == []
    assert couplings((1, 2)) == [(1, 2, 1)]
    assert couplings((1, 2, 3)) == [
        (1, 2, 1),
        (1, 2, 3),
        (1, 3, 2),
        (2, 3, 1),
        (2, 3, 3),
    ]


def test_couplings_are_orthonormal_and_turn_with_the_sphere():
    degrees = (1, 2, 3, 4)
    harmonics = SphericalHarmonics(degrees).double()
    rng, turn = np.random.default_rng(0), rotation()
    u = torch.from_numpy(rng.normal(size=(60, 3)))
    u /= u.norm(dim=1, keepdim=True)
    # the matrix by which harmonics turn
    matrix = torch.linalg.lstsq(harmonics(u), harmonics(u @ turn)).solution
    a, b = torch.from_numpy(rng.normal(size=(2, 24)))
    for (_, _, third), tensor in zip(
        couplings(degrees), coupling_tensors(degrees), strict=True
    ):
        overlap = torch.einsum("abc,abd->cd", tensor, tensor)
        assert_same(overlap.diagonal(), overlap.diagonal().round())
        assert_same(overlap, torch.diag(overlap.diagonal()))
        assert overlap.trace() == pytest.approx(2 * third + 1)
        coupled = torch.einsum("a,b,abc->c", a, b, tensor)
        turned = torch.einsum("a,b,abc->c", a @ matrix, b @ matrix, tensor)
        assert_same(turned, coupled @ matrix)


def test_the_coupling_of_one_and_two_to_one_is_a_matrix_times_a_vector():
    """Degree 2 as a traceless symmetric matrix, degree 1 as a vector."""
    (tensor,) = coupling_tensors((1, 2))
    harmonics = SphericalHarmonics((1, 2)).double()
    u = torch.eye(3, dtype=torch.float64)[[0, 2]]
    v = torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64)
    first, second = harmonics(u), harmonics(v).expand(2, -1)
    coupled = torch.einsum("na,nb,abc->nc", first, second, tensor)[:, [2, 0, 1]]
    product = v * (u @ v.T) - u / 3
    ratio = (coupled * product).sum() / product.square().sum()
    assert_same(coupled, ratio * product)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 10}, "n_features is 10, but must be a multiple of n_heads, 4"),
        ({"n_features": 16}, "multiple of the number of degrees, 3"),
        ({"degrees": (0, 1)}, "ascending whole numbers"),
        ({"cutoff": -1.0}, "cutoff is -1.0, but must be positive"),
        ({"n_interactions": 0}, "n_interactions is 0"),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "fixed"])
def test_wrong_arguments_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        network(kind, **options)


@pytest.mark.parametrize("chi_cut", [0.0, 1.5, -0.1])
def test_a_wrong_chi_cut_is_named(chi_cut):
    with pytest.raises(ValueError, match=r"chi_cut is .*, but must be above 0"):
        network("fixed", chi_cut=chi_cut)


def cumulene(dihedral: float, n: int = 9) -> Atoms:
    """H₂C=(C=)ₙ₋₂CH₂ with one of its rotors turned."""
    along, half = 1.28 * np.arange(n), np.deg2rad(58.5)
    positions = [[0.0, 0.0, z] for z in along]
    for end, angle, sign in ((0, 0.0, -1), (n - 1, dihedral, 1)):
        for side in (-1.09 * np.sin(half), 1.09 * np.sin(half)):
            z = along[end] + sign * 1.09 * np.cos(half)
            positions.append([side * np.cos(angle), side * np.sin(angle), z])
    return Atoms(f"C{n}H4", positions)


@pytest.mark.slow
def test_the_non_local_form_learns_the_dihedral_of_a_cumulene():
    """The two rotors are ten Å apart, and two layers of 2.2 Å join no halves."""
    angles = np.random.default_rng(0).uniform(0, np.pi, 32)
    train, test = (batch_of(*map(cumulene, half)) for half in np.split(angles, 2))
    pairs = dense_pairs(train)
    target, wanted = torch.from_numpy(0.5 * np.cos(2 * angles)).chunk(2)

    def error(chi_cut: float | None, n_steps: int) -> float:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = So3kratesNonlocal(
                n_features=16,
                n_interactions=2,
                degrees=(1, 2),
                n_heads=2,
                cutoff=2.2,
                n_rbf=8,
                chi_cut=chi_cut,
            ).double()
            head = nn.Linear(16, 1).double()
        weights = [*net.parameters(), *head.parameters()]
        adam = torch.optim.Adam(weights)
        rate = torch.optim.lr_scheduler.OneCycleLR(adam, 1e-2, total_steps=n_steps)

        def energies(batch: AtomsBatch) -> Tensor:
            return head(features(net, batch, pairs)).view(16, -1).sum(1)

        for _ in range(n_steps):
            adam.zero_grad()
            (energies(train) - target).square().mean().backward()
            adam.step()
            rate.step()
        return float((energies(test) - wanted).detach().square().mean().sqrt())

    spread = float(wanted.std())
    local, non_local = error(None, 150), error(0.5, 300)
    assert local > 0.9 * spread, (local, spread)
    assert non_local < spread / 8, (non_local, spread)
