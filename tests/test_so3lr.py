"""SO3LR gives what the original program computed from the same weights.

The references were computed with the original JAX code in float64. They are not part
of this repository: without the reference folder beside it, these tests are skipped.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from molpool_calc.atoms import ChargeAndSpin, batch_from_atoms
from molpool_calc.derivatives import evaluate
from molpool_calc.edges import edges_from_positions
from molpool_calc.importers import import_so3lr
from molpool_calc.interfaces import AtomsBatch, NeighborList, Prediction
from molpool_calc.neighbors import complete_pairs, dense_pairs, neighbor_list
from molpool_calc.potential import NeuralPotential, composition_of
from molpool_calc.storage import load_potential, save_potential

SHARED = Path(__file__).parents[2] / "shared"
pytestmark = pytest.mark.skipif(
    not (SHARED / "reference").is_dir(), reason="the reference folder is not here"
)
WEIGHTS = SHARED / "weights" / "raw" / "so3lr_params.pkl"

MOLECULES = (
    "ammonia",
    "ammonium_plus",
    "aspirin",
    "benzene",
    "ethanol",
    "formaldehyde",
    "methane",
    "methyl_radical",
    "water",
    "water_dimer",
)
SETTINGS = {"lr12": 12.0, "lr1000": 1000.0, "lrNone": None}
TERMS = {
    "zbl": "atomic_zbl_repulsion",
    "electrostatics": "atomic_electrostatic_energy",
    "dispersion": "atomic_dispersion_energy",
}
WANTED = frozenset({"energy", "forces", "charges", "dipole", "hirshfeld_ratios"})
LAYOUTS = {"dense": dense_pairs, "listed": complete_pairs}
MAX_ERROR = 1e-9  # eV, eV/Å, e, e·Å; rounding leaves 1e-13


@cache
def so3lr(cutoff: float | None) -> NeuralPotential:
    return import_so3lr(WEIGHTS, long_range_cutoff=cutoff).double()


@cache
def references() -> dict[str, np.ndarray]:
    with np.load(SHARED / "reference" / "so3lr_jax_molecules.npz") as arrays:
        return dict(arrays)


def value(molecule: str, name: str) -> np.ndarray:
    return references()[f"{molecule}/{name}"]


def atoms_of(molecule: str) -> Atoms:
    return Atoms(value(molecule, "numbers"), value(molecule, "positions"))


def state_of(molecule: str) -> ChargeAndSpin:
    charge, unpaired = value(molecule, "charge"), value(molecule, "num_unpaired")
    return ChargeAndSpin(float(charge), float(unpaired))


def batch_of(*molecules: str, dtype: torch.dtype = torch.float64) -> AtomsBatch:
    return batch_from_atoms(
        [atoms_of(molecule) for molecule in molecules],
        dtype=dtype,
        device=torch.device("cpu"),
        states=[state_of(molecule) for molecule in molecules],
    )


def error(found: torch.Tensor | None, expected: np.ndarray) -> float:
    assert found is not None
    assert tuple(found.shape) == expected.shape
    return float(np.abs(found.numpy() - expected).max())


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("molecule", MOLECULES)
def test_a_molecule_is_as_in_the_original(molecule: str, setting: str) -> None:
    potential, batch = so3lr(SETTINGS[setting]), batch_of(molecule)
    # an ion's dipole is about its centre of mass here, about the origin there
    centre = state_of(molecule).charge * atoms_of(molecule).get_center_of_mass()
    for layout in LAYOUTS.values():
        found = evaluate(potential, batch, layout(batch), properties=WANTED)
        assert found.dipole is not None

        def there(name: str) -> np.ndarray:
            return value(molecule, f"{setting}/{name}")

        assert error(found.energy, there("energy")[None]) < MAX_ERROR
        assert error(found.forces, there("forces")) < MAX_ERROR
        assert error(found.charges, there("partial_charges")) < MAX_ERROR
        assert error(found.hirshfeld_ratios, there("hirshfeld_ratios")) < MAX_ERROR
        assert error(found.dipole[0], there("dipole_vec") - centre) < MAX_ERROR


def terms_of(
    potential: NeuralPotential, batch: AtomsBatch, pairs: NeighborList
) -> dict[str, torch.Tensor]:
    """Energies of every term on every atom."""
    edges = edges_from_positions(batch, pairs)
    with torch.no_grad():
        features = potential.network(composition_of(batch), edges)
        prediction = Prediction()
        for head in potential.heads.values():
            prediction = head(features, batch, prediction)
        return {
            name: term(batch, edges, prediction)
            for name, term in potential.terms.items()
        }


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("molecule", MOLECULES)
def test_every_energy_term_is_as_in_the_original(molecule: str, setting: str) -> None:
    batch = batch_of(molecule)
    found = terms_of(so3lr(SETTINGS[setting]), batch, dense_pairs(batch))
    for name, theirs in TERMS.items():
        expected = value(molecule, f"{setting}/{theirs}").reshape(-1)
        assert error(found[name], expected) < MAX_ERROR
        assert found[name].any()


@pytest.mark.parametrize("molecule", ["water", "ethanol"])
def test_the_features_are_as_in_the_original(molecule: str) -> None:
    network, batch = so3lr(None).network, batch_of(molecule)
    edges = edges_from_positions(batch, complete_pairs(batch))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: seen.append(out))
        for layer in network.layers
    ]
    with torch.no_grad():
        network(composition_of(batch), edges)
    for hook in hooks:
        hook.remove()
    assert len(seen) == 3
    for layer, (scalars, euclidean) in enumerate(seen):
        expected = value(molecule, f"debug/layers_{layer}_x")
        assert error(scalars, expected) < 1e-11
        expected = value(molecule, f"debug/layers_{layer}_ev")
        assert error(euclidean, expected) < 1e-11


def test_a_batch_is_as_its_molecules_one_by_one() -> None:
    potential, batch = so3lr(12.0), batch_of(*MOLECULES)
    found = evaluate(potential, batch, complete_pairs(batch), properties=WANTED)
    energies = np.array([value(name, "lr12/energy") for name in MOLECULES])
    forces = np.concatenate([value(name, "lr12/forces") for name in MOLECULES])
    assert error(found.energy, energies) < MAX_ERROR
    assert error(found.forces, forces) < MAX_ERROR


def test_single_precision_is_near() -> None:
    potential = import_so3lr(WEIGHTS)
    assert potential.dtype == torch.float32
    for molecule in ("ethanol", "aspirin"):
        batch = batch_of(molecule, dtype=torch.float32)
        found = evaluate(potential, batch, dense_pairs(batch), properties=WANTED)
        assert error(found.energy, value(molecule, "lrNone/energy")[None]) < 1e-4
        assert error(found.forces, value(molecule, "lrNone/forces")) < 1e-4


def test_a_saved_potential_is_the_same(tmp_path: Path) -> None:
    save_potential(import_so3lr(WEIGHTS, long_range_cutoff=12.0), tmp_path)
    potential = load_potential(tmp_path).double()
    assert potential.cutoff == 12.0
    batch = batch_of("aspirin")
    found = evaluate(potential, batch, dense_pairs(batch), properties=WANTED)
    assert error(found.energy, value("aspirin", "lr12/energy")[None]) < MAX_ERROR
    assert error(found.forces, value("aspirin", "lr12/forces")) < MAX_ERROR


def test_moving_far_fragments_apart_leaves_charge_and_electrostatics_only() -> None:
    """The charges of the parts are not their own: SO3LR is not quite extensive."""
    potential = so3lr(12.0)
    both = atoms_of("water") + atoms_of("ethanol")
    both.positions[3:] += 60.0
    batch = batch_from_atoms([both], dtype=torch.float64, device=torch.device("cpu"))
    found = evaluate(potential, batch, complete_pairs(batch), properties=WANTED)
    alone = value("water", "lr12/energy") + value("ethanol", "lr12/energy")
    assert found.energy is not None
    assert 1e-9 < abs(float(found.energy[0]) - alone) < 2e-2


def water_box() -> tuple[dict[str, np.ndarray], Atoms]:
    with np.load(SHARED / "reference" / "so3lr_jax_water64_pbc.npz") as arrays:
        box = dict(arrays)
    atoms = Atoms(box["numbers"], box["positions"], cell=box["cell"], pbc=True)
    return box, atoms


def test_periodic_water_is_as_in_the_original() -> None:
    box, atoms = water_box()
    potential = so3lr(12.0)
    batch = batch_from_atoms([atoms], dtype=torch.float64, device=torch.device("cpu"))
    pairs = neighbor_list(batch, potential.cutoff)
    assert len(pairs.center) == int(box["n_pairs_lr"])
    wanted = frozenset({"energy", "forces", "stress", "hirshfeld_ratios"})
    found = evaluate(potential, batch, pairs, properties=wanted)
    assert error(found.energy, box["energy"][None]) < 1e-9
    assert error(found.forces, box["forces"]) < 1e-9
    assert error(found.hirshfeld_ratios, box["hirshfeld_ratios"]) < 1e-9
    assert error(found.stress, box["stress_3x3"][None]) < 1e-11
