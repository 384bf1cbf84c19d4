"""Small potentials with random weights, and structures to try them on."""

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from torch import Tensor

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.derivatives import evaluate
from molpool_calc.interfaces import (
    AtomsBatch,
    NeighborList,
    Potential,
    Prediction,
)
from molpool_calc.neighbors import neighbor_list
from molpool_calc.potential import NeuralPotential, PotentialSpec

CPU = torch.device("cpu")
CUTOFF = 4.0
ELEMENTS = (1, 6, 7, 8)
REFERENCE = {1: -13.6, 6: -1030.25, 7: -1485.5, 8: -2042.125}
WITH_MINIMUM = 2
"""Seed of the weights of PaiNN that have a minimum near formaldehyde."""
SIZES = {"n_features": 12, "n_interactions": 2, "n_rbf": 6}
ATTENTION = {"n_heads": 3, "degrees": [1, 2]}
NETWORKS = {
    "painn": {"kind": "painn", **SIZES},
    "schnet": {"kind": "schnet", **SIZES},
    "so3krates": {"kind": "so3krates", **SIZES, **ATTENTION},
    "so3krates-euclidean": {"kind": "so3krates-euclidean", **SIZES, **ATTENTION},
    "so3krates-nonlocal": {"kind": "so3krates-nonlocal", **SIZES, **ATTENTION},
    "dimenet++": {
        "kind": "dimenet++",
        "n_features": 12,
        "n_hidden": 8,
        "n_int_embedding": 6,
        "n_basis_embedding": 4,
        "n_out_embedding": 8,
        "n_interactions": 1,
        "n_spherical": 3,
        "n_radial": 3,
        "n_output_layers": 1,
    },
}
WITH_VECTORS = frozenset({"painn"})
OWN_CUTOFF_FUNCTION = frozenset({"dimenet++"})
"""Networks that have one cutoff function and no argument for it."""

POOLINGS = {
    "sum": "sum",
    "mean": "mean",
    "log-sum-exp": "log-sum-exp",
    "softmax": "softmax",
    "weighted-average": {"kind": "weighted-average", "n_layers": 2},
    "orbital-weighted-average": {"kind": "orbital-weighted-average", "n_layers": 2},
    "attention": {
        "kind": "attention",
        "n_hidden": 8,
        "n_heads": 2,
        "n_seeds": 2,
        "n_encoder_blocks": 1,
    },
}


def small_spec(
    network: str = "painn",
    *,
    heads: tuple[str, ...] = ("energy", "dipole"),
    scalars: tuple[str, ...] = (),
    pooling: str | dict = "sum",
    correction: str | dict | None = None,
    cutoff: float = CUTOFF,
    name: str = "small",
    total_charges: tuple[int, ...] = (-1, 0, 1),
    **arguments: object,
) -> PotentialSpec:
    """A narrow network; a dipole head without vectors where there are none.

    ``scalars`` names further molecular properties, pooled as the energy is, or as the
    pooling of its ``correction`` if there is one; ``arguments`` are of the network.
    """
    usual = {"cutoff": cutoff}
    if network not in OWN_CUTOFF_FUNCTION:
        usual["cutoff_function"] = "cosine"
    energy = {
        "pooling": pooling,
        "scale": 0.5,
        "reference_energies": {str(z): e for z, e in REFERENCE.items()},
    }
    if correction is not None:
        energy["correction"] = {"pooling": correction}
    of_heads = {
        "energy": energy,
        "dipole": {"use_vectors": network in WITH_VECTORS},
        "polarizability": {"scale": 2.0},
        "hirshfeld": {},
    }
    of_scalars = {"kind": "scalar", "pooling": correction or pooling, "shift": 0.3}
    return PotentialSpec(
        name=name,
        elements=ELEMENTS,
        network={**NETWORKS[network], **usual, **arguments},
        heads={
            **{head: of_heads[head] for head in heads},
            **dict.fromkeys(scalars, of_scalars),
        },
        total_charges=total_charges,
    )


def potential_of(
    spec: PotentialSpec, *, dtype: torch.dtype = torch.float64, seed: int = 0
) -> NeuralPotential:
    """Every weight random, the biases too, which training starts at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        potential = NeuralPotential(spec)
        for parameter in potential.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return potential.to(dtype)


def small_potential(
    network: str = "painn",
    *,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **options: object,
) -> NeuralPotential:
    return potential_of(small_spec(network, **options), dtype=dtype, seed=seed)


def rattled(atoms: Atoms, seed: int = 0, stdev: float = 0.08) -> Atoms:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(0, stdev, (len(atoms), 3))
    return atoms


def ethanol() -> Atoms:
    """Without symmetry, and not at the origin."""
    atoms = rattled(molecule("CH3CH2OH"))
    atoms.positions += [1.5, -0.7, 0.4]
    return atoms


def water() -> Atoms:
    return rattled(molecule("H2O"), seed=1)


def glycol() -> Atoms:
    """Fifteen atoms: more than the complete pair lists are made for."""
    first, second = ethanol(), rattled(molecule("CH3OH"), seed=2)
    second.positions += [2.5, 2.0, 1.0]
    return first + second


def ammonium() -> Atoms:
    """An ion."""
    atoms = Atoms("NH4", positions=np.zeros((5, 3)), info={"charge": 1})
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    atoms.positions[1:] = 0.6 * corners
    return rattled(atoms, seed=4)


def crystal() -> Atoms:
    """Triclinic and smaller than two cutoffs: atoms see images of themselves."""
    cell = [[4.6, 0.3, -0.2], [0.7, 4.9, 0.4], [-0.5, 0.6, 5.2]]
    scaled = np.random.default_rng(3).uniform(-0.3, 1.3, (5, 3))
    scaled[:, 0] = np.linspace(-0.2, 0.9, 5)
    return Atoms("CONHH", scaled_positions=scaled, cell=cell, pbc=True)


def batch_of(*structures: Atoms, dtype: torch.dtype = torch.float64) -> AtomsBatch:
    return batch_from_atoms(list(structures), dtype=dtype, device=CPU)


def dense_pairs(batch: AtomsBatch) -> NeighborList:
    """Every atom with every atom of its molecule, itself included."""
    n = batch.systems.max_size
    first = n * torch.arange(batch.systems.n_segments)[:, None, None]
    center, neighbor = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    return NeighborList(
        center=(first + center).reshape(-1),
        neighbor=(first + neighbor).reshape(-1),
        shift=None,
        n_dense=n,
    )


def predict(
    potential: Potential,
    *structures: Atoms,
    properties: frozenset[str] | set[str] | None = None,
    dtype: torch.dtype = torch.float64,
    pairs: NeighborList | None = None,
) -> Prediction:
    """Everything the potential gives, forces too, and stress in cells."""
    batch = batch_of(*structures, dtype=dtype)
    if properties is None:
        properties = set(potential.properties) | {"forces"}
        if all(atoms.cell.rank == 3 for atoms in structures):
            properties |= {"stress"}
    if pairs is None:
        pairs = neighbor_list(batch, potential.cutoff)
    return evaluate(potential, batch, pairs, properties=frozenset(properties))


def fields(prediction: Prediction) -> dict[str, Tensor]:
    """What a prediction holds, scalar properties and weights of atoms among it."""
    names = Prediction.__dataclass_fields__
    values = {name: getattr(prediction, name) for name in names}
    weights = values.pop("weights") or {}
    values |= values.pop("others") or {}
    values |= {f"{head}_weights": value for head, value in weights.items()}
    return {name: v for name, v in values.items() if isinstance(v, Tensor)}


def rotation(seed: int = 0) -> Tensor:
    """A proper rotation about no particular axis."""
    matrix = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, 3)))
    q, _ = torch.linalg.qr(matrix)
    return q * torch.sign(torch.linalg.det(q))


def tiny_cell(side: float) -> Atoms:
    """Two atoms in a skewed cell, which see their own images where it is small."""
    structure = Atoms("OC", [[0.0, 0.1, 0.0], [1.2, 0.0, 0.3]], pbc=True)
    structure.set_cell([[side, 0.2, 0.0], [0.0, side, 0.3], [0.1, 0.0, side]])
    return structure


def assert_same(
    found: Prediction, true: Prediction, names: frozenset[str], tolerance: float
) -> None:
    """Deviations relative to the largest value of each property, and to 1."""
    for name in names:
        expected = getattr(true, name)
        scale = 1.0 + float(expected.abs().max())
        off = float((getattr(found, name) - expected).abs().max())
        assert off <= tolerance * scale, name
