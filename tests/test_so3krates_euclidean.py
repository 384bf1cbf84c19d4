"""The Euclidean transformer: symmetries, layouts, limits and wrong arguments."""

from dataclasses import replace

import pytest
import torch
from ase import Atoms
from small_potentials import batch_of, dense_pairs, ethanol, glycol, rotation, water
from torch import Tensor

from molpool_calc.atoms import CLOSED_SHELL, ChargeAndSpin, batch_from_atoms
from molpool_calc.edges import edges_from_positions
from molpool_calc.interfaces import AtomsBatch, NeighborList, Network
from molpool_calc.neighbors import complete_pairs, neighbor_list
from molpool_calc.networks import So3kratesEuclidean
from molpool_calc.networks.pair_attention import unordered_pairs
from molpool_calc.potential import composition_of

CUTOFF = 3.0
VARIANTS: dict[str, dict] = {
    "as SO3LR": {"n_heads": 2, "degrees": [1, 2], "n_neighbors": 5.0},
    "root of widths": {"n_heads": 2, "degrees": [1, 2]},
    "more heads": {"n_heads": 6, "degrees": [1, 3, 4], "residual_mlp_2": True},
    "bare": {
        "n_heads": 1,
        "degrees": [2],
        "charge_embedding": False,
        "spin_embedding": False,
        "layer_norm_1": False,
        "layer_norm_2": False,
        "residual_mlp_1": False,
        "radial_basis": "physnet",
        "cutoff_function": "cosine",
    },
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def network_of(variant: str = "as SO3LR", **changes: object) -> So3kratesEuclidean:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        arguments = {"n_features": 12, "n_interactions": 3, "n_rbf": 6}
        arguments |= {"cutoff": CUTOFF, **VARIANTS[variant], **changes}
        network = So3kratesEuclidean(**arguments)
        for parameter in network.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return network.double()


def features(
    network: Network, batch: AtomsBatch, pairs: NeighborList | None = None
) -> Tensor:
    if pairs is None:
        pairs = complete_pairs(batch)
    found = network(composition_of(batch), edges_from_positions(batch, pairs))
    assert found.vectors is None
    return found.scalars


def close(one: Tensor, other: Tensor, atol: float = 1e-11) -> None:
    size = 1.0 + float(other.detach().abs().max())
    assert float((one - other).detach().abs().max()) < atol * size


@every_variant
def test_it_is_a_network(variant: str) -> None:
    network = network_of(variant)
    assert isinstance(network, Network)
    assert features(network, batch_of(ethanol())).shape == (9, 12)
    assert not network.has_vectors


@every_variant
def test_features_do_not_change_with_rotation_reflection_and_place(
    variant: str,
) -> None:
    network, batch = network_of(variant), batch_of(ethanol())
    before = features(network, batch)
    turned = replace(batch, positions=batch.positions @ rotation() + 3.0)
    close(features(network, turned), before)
    mirrored = replace(batch, positions=batch.positions * torch.tensor([1.0, -1, 1]))
    close(features(network, mirrored), before)


@every_variant
def test_features_follow_a_permutation(variant: str) -> None:
    network, atoms = network_of(variant), ethanol()
    order = [4, 2, 8, 0, 1, 7, 3, 6, 5]
    before = features(network, batch_of(atoms))
    close(features(network, batch_of(atoms[order])), before[order])


@every_variant
def test_both_layouts_give_the_same_features_and_gradients(variant: str) -> None:
    network, batch = network_of(variant), batch_of(ethanol(), ethanol())
    batch.positions.data += 0.05 * torch.sin(torch.arange(54.0)).view(18, 3)
    found = []
    for pairs in (complete_pairs(batch), dense_pairs(batch)):
        positions = batch.positions.clone().requires_grad_()
        values = features(network, replace(batch, positions=positions), pairs)
        (gradient,) = torch.autograd.grad(values.sin().sum(), positions)
        found.append((values.detach(), gradient))
    close(found[0][0], found[1][0])
    close(found[0][1], found[1][1], 1e-9)
    assert float(found[0][1].abs().max()) > 1e-3


@every_variant
def test_pairs_beyond_the_cutoff_add_nothing(variant: str) -> None:
    network, batch = network_of(variant), batch_of(glycol())
    near, every = neighbor_list(batch, CUTOFF), complete_pairs(batch)
    assert len(near.center) < len(every.center)
    close(features(network, batch, near), features(network, batch, every), 1e-13)


@every_variant
def test_a_batch_is_as_its_systems(variant: str) -> None:
    network = network_of(variant)
    lonely = Atoms("O", [[0.0, 0.0, 0.0]])
    both = features(network, batch_of(ethanol(), lonely, water()))
    parts = [features(network, batch_of(a)) for a in (ethanol(), lonely, water())]
    close(both, torch.cat(parts))


@every_variant
def test_one_atom_has_finite_features_and_gradients(variant: str) -> None:
    network, batch = network_of(variant), batch_of(Atoms("C", [[0.5, 0.1, 0.2]]))
    batch.positions.requires_grad_()
    found = [
        features(network, batch, pairs)
        for pairs in (complete_pairs(batch), dense_pairs(batch))
    ]
    close(found[0], found[1])
    assert bool(torch.isfinite(found[0]).all())
    (gradient,) = torch.autograd.grad(found[1].sum(), batch.positions)
    assert gradient.tolist() == [[0.0, 0.0, 0.0]]


@every_variant
def test_derivatives_are_right_and_exist_twice(variant: str) -> None:
    network, batch = network_of(variant), batch_of(water())
    for pairs in (dense_pairs(batch), complete_pairs(batch)):

        def total(positions: Tensor, pairs: NeighborList = pairs) -> Tensor:
            moved = replace(batch, positions=positions)
            return features(network, moved, pairs)[:, :3].sin().sum()

        positions = batch.positions.clone().requires_grad_()
        assert torch.autograd.gradcheck(total, positions, fast_mode=True)
        assert torch.autograd.gradgradcheck(total, positions, fast_mode=True)


def test_features_are_smooth_where_an_atom_crosses_the_cutoff() -> None:
    network = network_of()

    def slope(distance: float) -> Tensor:
        atoms = Atoms("OHC", [[0, 0, 0], [0.9, 0.3, 0], [0, 0, distance]])
        batch = batch_of(atoms)
        positions = batch.positions.clone().requires_grad_()
        values = features(network, replace(batch, positions=positions))
        (gradient,) = torch.autograd.grad(values[0].sin().sum(), positions)
        return torch.cat((values[0].detach(), gradient[2]))

    step = 1e-5
    below, above = slope(CUTOFF - step), slope(CUTOFF + step)
    close(below, above, 1e-6)
    assert above[-3:].tolist() == [0.0, 0.0, 0.0]
    assert float((slope(CUTOFF - 0.5) - above).abs().max()) > 1e-4


def state_batch(*states: ChargeAndSpin) -> AtomsBatch:
    return batch_from_atoms(
        [water()] * len(states),
        dtype=torch.float64,
        device=torch.device("cpu"),
        states=list(states),
    )


def test_charge_and_spin_change_the_features_and_neutral_ones_do_not() -> None:
    network = network_of()
    batch = state_batch(CLOSED_SHELL, ChargeAndSpin(1, 0), ChargeAndSpin(-1, 0))
    neutral, cation, anion = features(network, batch).view(3, 3, -1)
    radical = features(network, state_batch(ChargeAndSpin(0, 1)))
    for one, other in ((neutral, cation), (cation, anion), (neutral, radical)):
        assert float((one - other).detach().abs().max()) > 1e-3
    embedded = network.embed(composition_of(state_batch(CLOSED_SHELL)))
    elements = network.embedding(state_batch(CLOSED_SHELL).atomic_numbers)
    close(embedded, elements / 3**0.5, 1e-15)


@pytest.mark.parametrize("n_systems", [1, 3])
@pytest.mark.parametrize("n_atoms", [2, 3, 4, 5, 9])
def test_one_direction_of_each_pair_stands_for_both(n_atoms, n_systems) -> None:
    batch = batch_of(*[Atoms(f"H{n_atoms}")] * n_systems)
    edges = edges_from_positions(batch, dense_pairs(batch))
    unordered = unordered_pairs(edges)
    assert unordered is not None
    value = torch.rand(n_systems, n_atoms, n_atoms)
    value = value + value.transpose(1, 2)
    found = unordered.both_ways(unordered.once(value.reshape(-1, 1))[None])
    others = ~torch.eye(n_atoms, dtype=torch.bool)
    assert torch.equal(found.view(value.shape)[:, others], value[:, others])
    assert len(unordered.chosen) == n_systems * n_atoms * (n_atoms // 2)


def test_what_no_geometry_changes_can_be_computed_once() -> None:
    network, batch = network_of(), batch_of(ethanol())
    once = network.embed(composition_of(batch))
    edges = edges_from_positions(batch, dense_pairs(batch))
    whole = network(composition_of(batch), edges).scalars
    assert torch.equal(network.interact(once, edges).scalars, whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_features": 0}, "n_features is 0, but must be positive"),
        ({"cutoff": -1.0}, "cutoff is -1.0, but must be positive"),
        ({"n_neighbors": 0.0}, "n_neighbors is 0.0, but must be positive"),
        ({"n_heads": 5}, "which n_heads = 5 does not divide; take a multiple of 5"),
        ({"degrees": [1, 2, 3], "n_features": 128}, "n_degrees = 3 does not divide"),
        ({"degrees": [2, 1]}, "degrees are"),
        ({"degrees": [5]}, "degrees are"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        So3kratesEuclidean(**arguments)
