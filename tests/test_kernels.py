"""Message kernels: filters in pieces, pairs in both orders, and the kernels themselves.

The kernels run in a process of their own, as Triton's interpreter is chosen before
anything is imported.
"""

import json
import os
import pickle
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from molpool_calc.interfaces import Edges
from molpool_calc.kernels import pairs, sorted_pairs
from molpool_calc.kernels.filters import PIECES
from molpool_calc.kernels.pairs import sort_pairs
from molpool_calc.networks import PaiNN, SchNet, So3kratesEuclidean

CHECKS = Path(__file__).parent / "kernel_checks.py"
NETWORKS = ["painn", "painn-shared", "schnet", "so3krates", "so3krates-euclidean"]


def filters_of(network):
    if isinstance(network, So3kratesEuclidean):
        return [each for both in network._of_distance for each in both]
    return network._of_distance


def polynomial(filters, distances):
    """The filter from its table, as the kernels evaluate it."""
    table = filters.table()
    at = distances * (table.shape[0] / filters.cutoff)
    piece = at.long()
    powers = (at - piece - 0.5)[:, None] ** torch.arange(table.shape[1])
    return torch.einsum("pk,pkf->pf", powers, table[piece])


SIZES = {"n_interactions": 2, "cutoff": 5.0}
WIDE = [
    lambda: PaiNN(n_features=32, n_rbf=20, **SIZES),
    lambda: PaiNN(n_features=32, n_rbf=20, radial_basis="bessel", **SIZES),
    lambda: SchNet(n_features=32, n_rbf=25, **SIZES),
    lambda: So3kratesEuclidean(n_features=32, n_rbf=32, **SIZES),
    lambda: So3kratesEuclidean(
        n_features=32, n_rbf=32, radial_basis="physnet", **SIZES
    ),
]


@pytest.mark.parametrize("dtype", PIECES)
@pytest.mark.parametrize("make", WIDE)
def test_pieces_are_the_filter_and_its_slope_to_rounding(make, dtype):
    torch.manual_seed(1)
    network, exact = make().to(dtype), make().double()
    exact.load_state_dict(network.state_dict())
    epsilon = torch.finfo(dtype).eps
    for found, true in zip(filters_of(network), filters_of(exact), strict=True):
        distances = torch.rand(300, dtype=dtype) * 4.4 + 0.5
        x = distances.double().requires_grad_()
        with torch.no_grad():
            value = polynomial(found, distances)
        expected = true(x)
        assert (value - expected).abs().max() < 32 * epsilon * expected.abs().max()
        moved = distances.clone().requires_grad_()
        weights = torch.randn(value.shape[1], dtype=torch.float64)
        along = (polynomial(found, moved).double() @ weights).sum()
        (slope,) = torch.autograd.grad(along, moved)
        (steep,) = torch.autograd.grad((expected @ weights).sum(), x)
        # in float64, a slope is a difference of rounded values of a narrow piece
        tolerance = {torch.float32: 1e-5, torch.float64: 1e-10}[dtype]
        assert (slope - steep).abs().max() < tolerance * steep.abs().max()


def test_a_table_is_made_anew_when_a_weight_changes_only():
    network = PaiNN(n_features=8, n_interactions=1, n_rbf=4).double()
    (filters,) = network._of_distance
    table = filters.table()
    assert filters.table() is table
    with torch.no_grad():
        network.filters[0].weight += 0.1
    distances = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert filters.table() is not table
    assert torch.allclose(polynomial(filters, distances), filters(distances))
    assert filters.table().dtype == torch.float64
    assert network.float()._of_distance[0].table().dtype == torch.float32


def test_copies_of_a_network_have_filters_of_their_own_weights():
    network = SchNet(n_features=8, n_interactions=1, n_rbf=4)
    network._of_distance[0].table()
    for copy in (deepcopy(network), pickle.loads(pickle.dumps(network))):
        (filters,) = copy._of_distance
        assert filters.modules[0] is copy.radial
        assert filters.modules[1] is copy.interactions[0].filter


def random_edges(n_atoms, n_pairs):
    center, neighbor = torch.randint(n_atoms, (2, n_pairs))
    vectors = 3 * torch.randn(n_pairs, 3)
    return Edges(
        center=center,
        neighbor=neighbor,
        vectors=vectors,
        distances=vectors.norm(dim=1),
        n_atoms=n_atoms,
    )


def test_both_orders_hold_the_pairs_of_each_atom_inside_the_cutoff():
    torch.manual_seed(0)
    edges = random_edges(7, 60)
    found = sort_pairs(edges, 5.0)
    near = (edges.distances < 5.0).nonzero()[:, 0].tolist()
    assert 0 < len(near) < 60
    for ends, order, first in (
        (edges.center, found.by_center, found.first_of_center),
        (edges.neighbor, found.by_neighbor, found.first_of_neighbor),
    ):
        for atom in range(7):
            own = order[first[atom] : first[atom + 1]].tolist()
            assert own == [pair for pair in near if ends[pair] == atom]


def test_kernels_are_for_many_listed_pairs_and_frozen_weights(monkeypatch):
    network = PaiNN(n_features=8, n_interactions=1, n_rbf=4)
    filters, edges = network._of_distance, random_edges(7, 60)
    assert sorted_pairs(edges, filters) is None
    monkeypatch.setattr(pairs, "runs_on", lambda _device: True)
    assert sorted_pairs(edges, filters) is None
    monkeypatch.setattr(pairs, "FEWEST_PAIRS", 60)
    assert sorted_pairs(edges, filters) is None
    network.requires_grad_(False)
    assert sorted_pairs(edges, filters) is not None
    assert sorted_pairs(replace(edges, n_dense=7), filters) is None


def found_on(device, names=()):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if device == "cpu":
        environment["TRITON_INTERPRET"] = "1"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(CHECKS), device, *names],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def interpreted():
    pytest.importorskip("triton")
    return found_on("cpu")


def check(found):
    assert found["float32"]["values"] < 1e-6
    assert found["float32"]["gradient"] < 1e-5
    assert found["float64"]["values"] < 1e-12
    assert found["float64"]["gradient"] < 1e-11
    assert found["finite_differences"] < 1e-6
    assert found["second"] < 1e-10
    assert found["same_bits"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_give_what_the_network_gives_as_written(interpreted, name):
    """Values, gradients, finite differences, second derivatives, the same bits."""
    check(interpreted[name])


@pytest.mark.gpu
@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_on_a_gpu_give_what_the_network_gives_as_written(name):
    pytest.importorskip("triton")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    check(found_on("cuda", [name])[name])
