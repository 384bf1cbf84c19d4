"""What message kernels give beside the networks as written; run by ``test_kernels``.

``python kernel_checks.py cpu`` needs Triton's interpreter (``TRITON_INTERPRET=1``),
``cuda`` a GPU. Prints JSON: what was found, by network and dtype.
"""

import json
import sys

import torch

from molpool_calc.interfaces import Composition, Edges, Segments
from molpool_calc.kernels import pairs
from molpool_calc.networks import PaiNN, SchNet, So3krates, So3kratesEuclidean

CUTOFF, N_FAR = 4.0, 3
PAINN = {"n_interactions": 2, "n_rbf": 5, "cutoff": CUTOFF}
NETWORKS = {
    "painn": lambda: PaiNN(n_features=20, **PAINN),
    "painn-shared": lambda: PaiNN(
        n_features=16, radial_basis="bessel", shared_filters=True, **PAINN
    ),
    "schnet": lambda: SchNet(
        n_features=16, n_filters=36, n_interactions=2, n_rbf=5, cutoff=CUTOFF
    ),
    "so3krates": lambda: So3krates(
        n_features=12, n_heads=2, degrees=(1, 2), n_interactions=2, n_rbf=5, cutoff=4.0
    ),
    "so3krates-euclidean": lambda: So3kratesEuclidean(
        n_features=24,
        n_interactions=2,
        n_heads=3,
        degrees=(1, 3),
        n_rbf=5,
        cutoff=CUTOFF,
        charge_embedding=False,
        spin_embedding=False,
    ),
}


def kernels(*, on):
    pairs.runs_on = lambda _device: on
    pairs.FEWEST_PAIRS = 0


def edges_of(positions):
    """All pairs of atoms, those beyond the cutoff too, and padding, not in order."""
    n = positions.shape[0]
    center, neighbor = (1 - torch.eye(n)).nonzero(as_tuple=True)
    zeros = torch.zeros(N_FAR, dtype=torch.int64)
    center, neighbor = torch.cat((center, zeros)), torch.cat((neighbor, zeros))
    center, neighbor = center.to(positions.device), neighbor.to(positions.device)
    vectors = positions.index_select(0, neighbor) - positions.index_select(0, center)
    away = torch.zeros_like(vectors)
    away[-N_FAR:] = 1e3
    vectors = vectors + away
    return Edges(
        center=center,
        neighbor=neighbor,
        vectors=vectors,
        distances=torch.linalg.vector_norm(vectors, dim=1),
        n_atoms=n,
    )


class Case:
    def __init__(self, name, dtype, device):
        torch.manual_seed(3)
        network = NETWORKS[name]()
        for parameter in network.parameters():  # biases are zero at first
            parameter.data += 0.05 * torch.randn_like(parameter)
        self.network = network.to(device, dtype).requires_grad_(False)
        positions = torch.rand(5, 3, dtype=torch.float64) * 3.5
        positions[4] += 100.0  # an atom without neighbors
        self.positions = positions.to(device, dtype)
        n = positions.shape[0]
        index = torch.zeros(n, dtype=torch.int64)
        self.composition = Composition(
            atomic_numbers=torch.tensor([1, 6, 8, 1, 7], device=device),
            total_charge=torch.zeros(1, device=device),
            num_unpaired=torch.zeros(1, device=device),
            systems=Segments(
                index=index.to(device),
                slot=torch.arange(n, device=device),
                n_segments=1,
                max_size=n,
            ),
        )

    def energy(self, positions):
        features = self.network(self.composition, edges_of(positions))
        rows = [features.scalars]
        if features.vectors is not None:
            rows += list(features.vectors.unbind(1))
        weights = torch.linspace(-1, 1, rows[0].shape[1], dtype=torch.float64)
        energy = sum((row @ weights.to(row)).tanh().sum() for row in rows)
        return energy, torch.cat(rows).detach()

    def first(self):
        positions = self.positions.clone().requires_grad_()
        energy, rows = self.energy(positions)
        return rows, torch.autograd.grad(energy, positions)[0]

    def second(self, direction):
        positions = self.positions.clone().requires_grad_()
        energy, _ = self.energy(positions)
        (slope,) = torch.autograd.grad(energy, positions, create_graph=True)
        return torch.autograd.grad((slope * direction).sum(), positions)[0]

    def slope_of_differences(self, direction, step=3e-5):
        with torch.no_grad():
            ends = [
                self.energy(self.positions + sign * step * direction)[0]
                for sign in (1, -1)
            ]
        return float(ends[0] - ends[1]) / (2 * step)


def off(found, expected):
    return float((found.double() - expected).abs().max() / expected.abs().max())


def check(name, device):
    single, double = (Case(name, t, device) for t in (torch.float32, torch.float64))
    double.positions = single.positions.double()
    for parameter, source in zip(
        double.network.parameters(), single.network.parameters(), strict=True
    ):
        parameter.data = source.data.double()
    kernels(on=False)
    rows, slope = double.first()
    direction = torch.randn_like(slope)
    curvature = double.second(direction)
    kernels(on=True)
    found = {}
    for label, case in (("float32", single), ("float64", double)):
        first = case.first()
        found[label] = {"values": off(first[0], rows), "gradient": off(first[1], slope)}
    again = [single.energy(single.positions)[1] for _ in range(2)]
    found["same_bits"] = torch.equal(*again)
    along = double.slope_of_differences(direction)
    exact = float((first[1] * direction).sum())
    found["finite_differences"] = abs(along - exact) / abs(exact)
    found["second"] = off(double.second(direction), curvature)
    return found


if __name__ == "__main__":
    names = sys.argv[2:] or list(NETWORKS)
    print(json.dumps({name: check(name, sys.argv[1]) for name in names}))
