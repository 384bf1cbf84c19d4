"""Published SchNet and PaiNN weights give what the original programs computed.

The references were computed by SchNetPack 2.2.0 and torch_geometric 2.8.1 in float64
from the same weights. They are not part of this repository: without the reference
folder beside it, these tests are skipped.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from safetensors.torch import load_file

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.compilation.build import build
from molpool_calc.compilation.package import Package
from molpool_calc.compilation.request import inputs_of, prediction_of, request_for
from molpool_calc.derivatives import evaluate
from molpool_calc.edges import edges_from_positions
from molpool_calc.engine import EagerEngine
from molpool_calc.importers import (
    SchNetPackModel,
    SchNetPackOffsets,
    SchNetPackOutput,
    SchNetPackUnits,
    import_schnetpack,
    potential_from_tensors,
)
from molpool_calc.interfaces import (
    AtomFeatures,
    AtomsBatch,
    NeighborList,
    Prediction,
)
from molpool_calc.native.code import Code
from molpool_calc.neighbors import complete_pairs
from molpool_calc.potential import NeuralPotential, composition_of
from molpool_calc.units import KCAL_PER_MOL

SHARED = Path(__file__).parents[2] / "shared"
pytestmark = pytest.mark.skipif(
    not (SHARED / "reference").is_dir(), reason="the reference folder is not here"
)

COPIES = [
    "painn_rmd17_ethanol_1",
    "painn_rmd17_ethanol_2",
    "painn_rmd17_ethanol_3",
    "painn_md17_ethanol_testmodel",
    "painn_md17_ethanol_hist",
    "painn_md17_aspirin_lammps",
    "schnet_rmd17_ethanol_hist_a",
    "schnet_rmd17_ethanol_hist_b",
]
RAW = [
    "painn_rmd17_ethanol_1",
    "painn_md17_ethanol_testmodel",
    "painn_md17_aspirin_lammps",
    "schnet_rmd17_ethanol_hist_a",
]
WANTED = frozenset({"energy", "energies", "forces"})
# what float64 rounding of energies of some 1e4 eV leaves, with a factor of ten to spare
MAX_ENERGY_ERROR = 1e-9  # eV
MAX_FORCE_ERROR = 1e-11  # eV/Å


@dataclass(frozen=True)
class Values:
    """Energies [frame], atomic energies and forces [frame, atom, ...]; eV and Å."""

    energy: np.ndarray
    atomic: np.ndarray
    forces: np.ndarray


def from_copy(name: str) -> NeuralPotential:
    hyper = json.loads((SHARED / "weights" / f"{name}.json").read_text())
    is_painn = hyper["representation"] == "PaiNN"
    assert hyper["radial_basis"] == "GaussianRBF"
    assert hyper["cutoff_fn"] == "CosineCutoff"
    assert hyper["output_activation"] == "silu"
    model = SchNetPackModel(
        representation=hyper["representation"],
        n_atom_basis=hyper["n_atom_basis"],
        n_interactions=hyper["n_interactions"],
        n_rbf=hyper["n_rbf"],
        n_filters=hyper["n_filters"],
        shared_filters=bool(hyper["shared_filters"]),
        epsilon=hyper["epsilon"] if is_painn else None,
        outputs=(SchNetPackOutput(kind="energy", prefix="output_modules.0"),),
        offsets=(
            SchNetPackOffsets(
                prefix="postprocessors.1", add_mean=True, add_atomrefs=False
            ),
        ),
    )
    return potential_from_tensors(
        model,
        load_file(SHARED / "weights" / f"{name}.safetensors"),
        units=SchNetPackUnits(energy=hyper["energy_unit"]),
        name=name,
        elements=["H", "C", "O"],
    )


def from_raw(name: str) -> NeuralPotential:
    path = SHARED / "weights" / "raw" / f"schnetpack_{name}.best_model"
    return import_schnetpack(path, unit="kcal/mol", name=name, elements=["H", "C", "O"])


def reference(name: str) -> dict[str, np.ndarray]:
    with np.load(SHARED / "reference" / f"{name}.npz") as arrays:
        return dict(arrays)


def first_frames(name: str, n_frames: int) -> dict[str, np.ndarray]:
    """The reference of an energy model, of some of its frames only."""
    frames = reference(name)
    varying = ("positions", "energy", "forces", "atomic")
    return {
        key: value[:n_frames] if key.startswith(varying) else value
        for key, value in frames.items()
    }


Runs = Callable[[NeuralPotential, AtomsBatch, NeighborList, frozenset[str]], Prediction]


def as_written(
    potential: NeuralPotential,
    batch: AtomsBatch,
    pairs: NeighborList,
    properties: frozenset[str],
) -> Prediction:
    return evaluate(potential, batch, pairs, properties=properties)


def frozen(
    potential: NeuralPotential,
    batch: AtomsBatch,
    pairs: NeighborList,
    properties: frozenset[str],
) -> Prediction:
    """As the eager engine runs it, which goes through many pairs in blocks."""
    engine = EagerEngine(deepcopy(potential), torch.device("cpu"), potential.dtype)
    return engine.evaluate(batch, pairs, properties)


@pytest.fixture(params=["as written", "frozen", "native"])
def runs(request: pytest.FixtureRequest) -> Runs:
    """Each way in which a network runs on the CPU without a minute of compilation."""
    if request.param == "as written":
        return as_written
    if request.param == "frozen":
        return frozen
    library = request.getfixturevalue("native_library")
    return lambda potential, *inputs: Code(library, potential).evaluate(*inputs)


def computed(
    potential: NeuralPotential, frames: dict[str, np.ndarray], runs: Runs = as_written
) -> Values:
    """All frames in one batch, with all pairs of each."""
    atoms = [Atoms(frames["numbers"], r) for r in frames["positions"]]
    batch = batch_from_atoms(atoms, dtype=potential.dtype, device=torch.device("cpu"))
    pairs = complete_pairs(batch)
    result = runs(potential, batch, pairs, WANTED)
    n = len(atoms)
    assert result.energy is not None
    assert result.energies is not None
    assert result.forces is not None
    return Values(
        energy=result.energy.numpy(),
        atomic=result.energies.numpy().reshape(n, -1),
        forces=result.forces.double().numpy().reshape(n, -1, 3),
    )


def errors(
    potential: NeuralPotential, name: str, runs: Runs = as_written, n_frames: int = 20
) -> tuple[float, float, float]:
    """Largest deviations of energies, atomic energies and forces from float64."""
    frames = first_frames(name, n_frames)
    values = computed(potential, frames, runs)
    mean = potential.heads["energy"].reference(torch.tensor(frames["numbers"])).numpy()
    atomic = frames["atomic_energy_without_mean_f64"] * KCAL_PER_MOL + mean
    energy = frames["energy_f64"] * KCAL_PER_MOL
    forces = frames["forces_f64"] * KCAL_PER_MOL
    return (
        float(np.abs(values.energy - energy).max()),
        float(np.abs(values.atomic - atomic).max()),
        float(np.abs(values.forces - forces).max()),
    )


def assert_published(
    potential: NeuralPotential, name: str, runs: Runs = as_written, n_frames: int = 20
) -> None:
    energy, atomic, forces = errors(potential, name, runs, n_frames)
    assert energy < MAX_ENERGY_ERROR
    assert atomic < MAX_ENERGY_ERROR
    assert forces < MAX_FORCE_ERROR


@pytest.mark.parametrize("name", COPIES)
def test_float64_gives_the_energies_and_forces_of_schnetpack(
    name: str, runs: Runs
) -> None:
    assert_published(from_copy(name).double(), name, runs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler about itself
@pytest.mark.parametrize(
    "name", ["painn_rmd17_ethanol_1", "schnet_rmd17_ethanol_hist_a"]
)
def test_a_compiled_package_gives_the_energies_and_forces_of_schnetpack(
    name: str, tmp_path: Path
) -> None:
    potential = from_copy(name).double().eval().requires_grad_(requires_grad=False)
    wanted = request_for(potential, WANTED, periodic=False)
    assert wanted is not None
    build(potential, wanted, tmp_path / "package.pt2")
    package = Package(tmp_path / "package.pt2", wanted, potential.dtype)

    def packaged(
        _potential: NeuralPotential,
        batch: AtomsBatch,
        pairs: NeighborList,
        _properties: frozenset[str],
    ) -> Prediction:
        return prediction_of(package.run(inputs_of(batch, pairs, wanted)), wanted)

    assert_published(potential, name, packaged)


@pytest.mark.parametrize("name", RAW)
def test_a_published_file_gives_the_energies_and_forces_of_schnetpack(
    name: str,
) -> None:
    # few frames, for its weights are those of the copy, as the next test shows
    assert_published(from_raw(name).double(), name, n_frames=2)


@pytest.mark.parametrize("name", RAW)
def test_a_published_file_has_the_weights_of_its_plain_copy_bit_for_bit(
    name: str,
) -> None:
    raw, copy = from_raw(name), from_copy(name)
    assert raw.spec.network == copy.spec.network
    assert raw.spec.heads == copy.spec.heads
    expected = copy.state_dict()
    assert raw.state_dict().keys() == expected.keys()
    for key, value in raw.state_dict().items():
        assert value.dtype == expected[key].dtype == torch.float32
        assert torch.equal(value.view(torch.int32), expected[key].view(torch.int32))


@pytest.mark.parametrize("name", COPIES)
def test_every_number_of_a_copy_is_in_the_potential(name: str) -> None:
    tensors = load_file(SHARED / "weights" / f"{name}.safetensors")
    published = {
        key: value
        for key, value in tensors.items()
        if not key.startswith(("postprocessors", "representation.cutoff_fn"))
    }
    ours = from_copy(name).state_dict()
    for ends in ("", "embedding.weight"):
        there = [v.double().sum() for k, v in published.items() if k.endswith(ends)]
        here = [v.double().sum() for k, v in ours.items() if k.endswith(ends)]
        assert sum(here) == pytest.approx(float(sum(there)), abs=1e-7)
    n_published = sum(value.numel() for value in published.values())
    assert sum(value.numel() for value in ours.values()) == n_published


@pytest.mark.parametrize("name", COPIES)
def test_float32_is_as_near_to_float64_as_the_original_is(
    name: str, runs: Runs
) -> None:
    energy, _, forces = errors(from_copy(name), name, runs)
    assert energy < 2e-4 * KCAL_PER_MOL
    assert forces < 1e-3 * KCAL_PER_MOL


@pytest.mark.parametrize(
    ("name", "kcal_per_mol"),
    [
        ("painn_rmd17_ethanol_1", -97087.79876297),
        ("painn_md17_ethanol_testmodel", -97208.37876561),
        ("schnet_rmd17_ethanol_hist_a", -97087.77644124),
        ("schnet_rmd17_ethanol_hist_b", -97087.79139328),
        ("painn_md17_aspirin_lammps", -406733.37419353),
    ],
)
def test_the_first_frame_has_the_energy_that_was_written_down(
    name: str, kcal_per_mol: float
) -> None:
    potential = from_copy(name).double()
    energy = computed(potential, first_frames(name, 1)).energy[0]
    assert energy / KCAL_PER_MOL == pytest.approx(kcal_per_mol, abs=1e-7)


def features_of(
    potential: NeuralPotential, numbers: np.ndarray, positions: np.ndarray
) -> AtomFeatures:
    """What the network alone gives for one molecule."""
    first = Atoms(numbers, positions)
    batch = batch_from_atoms([first], dtype=torch.float64, device=torch.device("cpu"))
    edges = edges_from_positions(batch, complete_pairs(batch))
    with torch.no_grad():
        features: AtomFeatures = potential.network(composition_of(batch), edges)
    return features


@pytest.mark.parametrize("name", COPIES)
def test_the_features_are_those_of_schnetpack(name: str) -> None:
    frames = reference(name)
    features = features_of(
        from_copy(name).double(), frames["numbers"], frames["positions"][0]
    )
    expected = frames["scalar_representation_frame0"]
    np.testing.assert_allclose(features.scalars, expected, rtol=0, atol=1e-11)
    if features.vectors is not None:
        expected = frames["vector_representation_frame0"]
        np.testing.assert_allclose(features.vectors, expected, rtol=0, atol=1e-11)


PERTURBED = [
    ("network.embedding.weight", (6, 0)),
    ("network.radial.basis.widths", (3,)),
    ("heads.energy.before.first.weight", (0, 0)),
]


@pytest.mark.parametrize(("tensor", "entry"), PERTURBED)
@pytest.mark.parametrize(
    "name", ["painn_rmd17_ethanol_1", "schnet_rmd17_ethanol_hist_a"]
)
def test_one_number_changed_by_a_thousandth_is_noticed(
    name: str, tensor: str, entry: tuple[int, ...]
) -> None:
    potential = from_copy(name).double()
    assert_published(potential, name, n_frames=2)
    with torch.no_grad():
        potential.state_dict()[tensor][entry] += 1e-3
    with pytest.raises(AssertionError):
        assert_published(potential, name, n_frames=2)


def tensor_potential(*kinds: str, use_vectors: bool = True) -> NeuralPotential:
    """The random model with a dipole and a polarizability, of 32 features."""
    prefixes = {
        "energy": "output_modules.0",
        "dipole": "output_modules.1" if use_vectors else "output_modules.2",
        "polarizability": "output_modules.4",
    }
    outputs = tuple(
        SchNetPackOutput(kind=kind, prefix=prefix, use_vectors=use_vectors)
        for kind, prefix in prefixes.items()
        if kind in kinds
    )
    tensors = load_file(
        SHARED / "reference" / "painn_tensor_random_weights.safetensors"
    )
    used = ("representation.", *(f"{output.prefix}." for output in outputs))
    return potential_from_tensors(
        SchNetPackModel(
            representation="PaiNN",
            n_atom_basis=32,
            n_interactions=3,
            n_rbf=20,
            outputs=outputs,
        ),
        {key: value for key, value in tensors.items() if key.startswith(used)},
        units=SchNetPackUnits(
            energy="eV", dipole="e*Angstrom", polarizability="e^2*Angstrom^2/eV"
        ),
        name="random",
    ).double()


def predicted(
    runs: Runs, potential: NeuralPotential, *properties: str
) -> dict[str, np.ndarray]:
    frames = reference("painn_tensor_random")
    atoms = [Atoms(frames["numbers"], r) for r in frames["positions"]]
    batch = batch_from_atoms(atoms, dtype=torch.float64, device=torch.device("cpu"))
    result = runs(potential, batch, complete_pairs(batch), frozenset(properties))
    return {name: getattr(result, name).numpy() for name in properties}


def test_energy_and_forces_of_the_tensor_model_are_those_of_schnetpack(
    runs: Runs,
) -> None:
    frames = reference("painn_tensor_random")
    found = predicted(runs, tensor_potential("energy"), "energy", "forces")
    np.testing.assert_allclose(
        found["energy"], frames["energy"][:, 0], rtol=0, atol=1e-12
    )
    forces = found["forces"].reshape(frames["forces"].shape)
    np.testing.assert_allclose(forces, frames["forces"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("use_vectors", "dipole", "charges"),
    [
        (True, "dipole_vec", "partial_charges"),
        (False, "dipole_scalar", "latent_charges_scalar"),
    ],
)
def test_the_dipole_and_its_charges_are_those_of_schnetpack(
    use_vectors: bool, dipole: str, charges: str, runs: Runs
) -> None:
    frames = reference("painn_tensor_random")
    potential = tensor_potential("dipole", use_vectors=use_vectors)
    found = predicted(runs, potential, "dipole", "charges")
    expected = frames[dipole].reshape(-1, 3)
    np.testing.assert_allclose(found["dipole"], expected, rtol=0, atol=1e-12)
    expected = frames[charges].reshape(-1)
    np.testing.assert_allclose(found["charges"], expected, rtol=0, atol=1e-12)


def test_the_polarizability_is_that_of_schnetpack_about_its_origin(
    runs: Runs,
) -> None:
    frames = reference("painn_tensor_random")
    potential = tensor_potential("polarizability")
    found = predicted(runs, potential, "polarizability")["polarizability"]
    readout = potential.heads["polarizability"].readout
    masses = Atoms(frames["numbers"]).get_masses()
    for k, positions in enumerate(frames["positions"]):
        with torch.no_grad():
            _, vectors = readout(features_of(potential, frames["numbers"], positions))
        # theirs takes positions as they are, ours from the centre of mass c:
        # the difference is Σ_i (ν_i cᵀ + c ν_iᵀ)
        center = masses @ positions / masses.sum()
        shift = np.outer(vectors.sum(0).numpy(), center)
        about_origin = found[k] + shift + shift.T
        expected = frames["polarizability"][k, 0]
        np.testing.assert_allclose(about_origin, expected, rtol=0, atol=1e-12)
        assert np.abs(shift).max() > 1e-8


def tensors_of_torch_geometric() -> dict[str, torch.Tensor]:
    """The same weights under SchNetPack's names."""
    path = SHARED / "reference" / "schnet_pyg_random_weights.safetensors"
    published = load_file(path)
    tensors = {
        "representation.embedding.weight": published["embedding.weight"],
        "representation.cutoff_fn.cutoff": torch.tensor([10.0]),
        "representation.radial_basis.offsets": published["distance_expansion.offset"],
        # the original was built in float64: its spacing is not that of its offsets,
        # which were rounded with the weights
        "representation.radial_basis.widths": torch.full(
            (50,), 10 / 49, dtype=torch.float64
        ),
    }
    names = {"lin1": "output_modules.0.outnet.0", "lin2": "output_modules.0.outnet.1"}
    for layer in range(6):
        theirs, ours = f"interactions.{layer}", f"representation.interactions.{layer}"
        names |= {
            f"{theirs}.mlp.0": f"{ours}.filter_network.0",
            f"{theirs}.mlp.2": f"{ours}.filter_network.1",
            f"{theirs}.conv.lin1": f"{ours}.in2f",
            f"{theirs}.conv.lin2": f"{ours}.f2out.0",
            f"{theirs}.lin": f"{ours}.f2out.1",
        }
    for old, new in names.items():
        for part in ("weight", "bias"):
            if f"{old}.{part}" in published:
                tensors[f"{new}.{part}"] = published[f"{old}.{part}"]
    return tensors


def test_schnet_of_torch_geometric_gives_its_energies_and_forces(runs: Runs) -> None:
    frames = reference("schnet_pyg_random")
    output = SchNetPackOutput(
        kind="energy", prefix="output_modules.0", activation="shifted-softplus"
    )
    model = SchNetPackModel(
        representation="SchNet",
        n_atom_basis=128,
        n_interactions=6,
        n_rbf=50,
        n_filters=128,
        outputs=(output,),
    )
    potential = potential_from_tensors(
        model,
        tensors_of_torch_geometric(),
        units=SchNetPackUnits(energy="eV"),
        name="pyg",
    )
    values = computed(potential, frames, runs)
    np.testing.assert_allclose(values.energy, frames["output"], rtol=0, atol=1e-12)
    forces = frames["neg_gradient"]
    np.testing.assert_allclose(values.forces, forces, rtol=0, atol=1e-12)
