"""Blocks of pairs on the CPU give what the network gives as written."""

import pytest
import torch
from small_potentials import batch_of, crystal, potential_of, small_spec

from molpool_calc.derivatives import evaluate, hessian
from molpool_calc.edges import edges_from_positions
from molpool_calc.kernels import blocks
from molpool_calc.neighbors import neighbor_list

ASKED = frozenset({"energy", "forces", "stress", "dipole"})


def frozen_potential():
    potential = potential_of(small_spec("painn"), dtype=torch.float64)
    return potential.requires_grad_(requires_grad=False)


@pytest.fixture
def periodic():
    batch = batch_of(crystal(), crystal())
    return batch, neighbor_list(batch, frozen_potential().cutoff)


@pytest.mark.parametrize("n_pairs", [1, 7, 10**6])
def test_blocks_of_any_size_give_what_the_network_gives(n_pairs, periodic, monkeypatch):
    potential = frozen_potential()
    expected = evaluate(potential, *periodic, properties=ASKED)
    monkeypatch.setattr(blocks, "FEWEST_PAIRS", 1)
    monkeypatch.setattr(blocks, "PAIRS_OF_BLOCK", n_pairs)
    found = evaluate(potential, *periodic, properties=ASKED)
    for name in ASKED:
        one, other = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_second_derivatives_are_those_of_the_network_as_written(monkeypatch):
    batch = batch_of(crystal())
    potential = frozen_potential()
    pairs = neighbor_list(batch, potential.cutoff)
    expected = hessian(potential, batch, pairs)
    monkeypatch.setattr(blocks, "FEWEST_PAIRS", 1)
    torch.testing.assert_close(
        hessian(potential, batch, pairs), expected, rtol=0, atol=1e-11
    )


def test_blocks_are_whole_atoms_and_all_pairs(periodic):
    edges = edges_from_positions(*periodic)
    cut = blocks.cut(edges, 7)
    assert cut.blocks[0].atoms.start == 0
    assert cut.blocks[-1].atoms.stop == edges.n_atoms
    for block, following in zip(cut.blocks, [*cut.blocks[1:], None], strict=True):
        centers = edges.center[block.pairs]
        inside = (centers >= block.atoms.start) & (centers < block.atoms.stop)
        assert inside.all()
        if following is not None:
            assert block.atoms.stop == following.atoms.start
            assert block.pairs.stop == following.pairs.start
    assert cut.blocks[-1].pairs.stop == len(edges.center)


def test_blocks_are_for_many_sorted_pairs_and_frozen_weights(periodic, monkeypatch):
    edges = edges_from_positions(*periodic)
    assert blocks.blocks_of_pairs(edges, frozen=True) is None
    monkeypatch.setattr(blocks, "FEWEST_PAIRS", 1)
    assert blocks.blocks_of_pairs(edges, frozen=True) is not None
    assert blocks.blocks_of_pairs(edges, frozen=False) is None
    batch, pairs = periodic
    backward = torch.arange(len(pairs.center)).flip(0)
    turned = type(pairs)(
        center=pairs.center[backward],
        neighbor=pairs.neighbor[backward],
        shift=pairs.shift[backward],
    )
    assert (
        blocks.blocks_of_pairs(edges_from_positions(batch, turned), frozen=True) is None
    )
