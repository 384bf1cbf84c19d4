"""The audit: it finds what is broken, and nothing where nothing is."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from small_potentials import (
    crystal,
    potential_of,
    small_potential,
    small_spec,
    water,
)
from torch import Tensor, nn

from molpool_calc.audit import CHECKS, NAMES, Dynamics, audit
from molpool_calc.audit.probe import Probe
from molpool_calc.audit.smoothness import smoothness
from molpool_calc.interfaces import AtomFeatures, Composition, Edges
from molpool_calc.potential import NeuralPotential, PotentialSpec

CPU = torch.device("cpu")
SHORT = Dynamics(picoseconds=0.005)
ATTENTION = {"kind": "attention", "n_hidden": 16, "n_heads": 2}
ALONE = {"batch_independence", "padding_independence"}


def failed(found: dict) -> set[str]:
    return {name for name in NAMES if found[name]["passed"] is False}


@pytest.fixture(scope="module")
def sound() -> dict:
    """Of a potential with nothing wrong."""
    return audit(small_potential(), water(), dynamics=SHORT)


def test_a_sound_potential_passes(sound):
    assert sound["passed"]
    assert failed(sound) == set()
    judged = {name for name in NAMES if sound[name]["passed"]}
    assert judged == set(NAMES) - {"influence_radius", "nve_drift"}
    assert sound["system"] == "H2O"
    assert sound["n_atoms"] == 3


def test_the_influence_of_a_local_potential_ends(sound):
    """Two rounds of messages over 4 Å: as far as 8 Å, if atoms are there to pass on."""
    radius = sound["influence_radius"]
    assert 4.0 < radius["value"] < 12.0
    assert radius["bounded"]


def test_the_potential_and_the_structure_are_left_as_they_were():
    potential, atoms = small_potential(dtype=torch.float32), water()
    weights = {key: value.clone() for key, value in potential.state_dict().items()}
    positions = atoms.positions.copy()
    audit(potential, atoms, dynamics=SHORT)
    assert (atoms.positions == positions).all()
    for key, value in potential.state_dict().items():
        assert value.dtype == weights[key].dtype
        assert torch.equal(value, weights[key])
    assert all(parameter.requires_grad for parameter in potential.parameters())


class Broken(nn.Module):
    """A network with something added to its first feature."""

    def __init__(
        self, network: nn.Module, change: Callable[[Composition, Edges], Tensor]
    ) -> None:
        super().__init__()
        self.network, self.change = network, change
        self.cutoff, self.has_vectors = network.cutoff, network.has_vectors

    def forward(self, composition: Composition, edges: Edges) -> AtomFeatures:
        features = self.network(composition, edges)
        added = nn.functional.pad(
            self.change(composition, edges)[:, None],
            (0, features.scalars.shape[1] - 1),
        )
        return AtomFeatures(scalars=features.scalars + added, vectors=features.vectors)


def broken(change: Callable[[Composition, Edges], Tensor]) -> NeuralPotential:
    potential = small_potential(heads=("energy",))
    potential.network = Broken(potential.network, change)
    return potential


def summed(edges: Edges, values: Tensor) -> Tensor:
    near = torch.where(edges.distances < 3.9, values, torch.zeros_like(values))
    return values.new_zeros(edges.n_atoms).index_add(0, edges.center, near)


def points_up(composition: Composition, edges: Edges) -> Tensor:
    weight = torch.exp(-edges.distances.square())
    return 0.01 * summed(edges, edges.vectors[:, 2] * weight)


def counts_atoms_in_order(composition: Composition, edges: Edges) -> Tensor:
    return 1e-3 * composition.systems.slot.to(edges.distances.dtype)


def counts_atoms_of_the_batch(composition: Composition, edges: Edges) -> Tensor:
    count = len(composition.atomic_numbers)
    return torch.full((count,), 1e-3 * count, dtype=edges.distances.dtype)


def pads(composition: Composition, edges: Edges) -> Tensor:
    count = composition.systems.max_size
    n_atoms = len(composition.atomic_numbers)
    return torch.full((n_atoms,), 1e-3 * count, dtype=edges.distances.dtype)


def hides_from_gradients(composition: Composition, edges: Edges) -> Tensor:
    return 0.1 * summed(edges, torch.exp(-edges.distances.square()).detach())


def cuts_hard(composition: Composition, edges: Edges) -> Tensor:
    return 1e-3 * summed(edges, (edges.distances < 2.7).to(edges.distances.dtype))


def bends(composition: Composition, edges: Edges) -> Tensor:
    return 1e-2 * summed(edges, (2.7 - edges.distances).relu())


LAWS = [name for name in CHECKS if name not in {"smoothness", "influence_radius"}]


def found_by(potential: NeuralPotential, *names: str) -> set[str]:
    """Which of the checks fail."""
    probe = Probe(potential, CPU)
    return {
        name
        for name in names
        if CHECKS[name](probe, water(), np.random.default_rng(0)).passed is False
    }


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (points_up, {"equivariance"}),
        (counts_atoms_in_order, {"permutation", "extensivity"}),
        (counts_atoms_of_the_batch, {*ALONE, "finite_difference_forces"}),
        (pads, {"padding_independence"}),
        (hides_from_gradients, {"finite_difference_forces"}),
    ],
)
def test_what_is_broken_is_found(change, found):
    assert found_by(broken(change), *LAWS) == found


@pytest.mark.parametrize("change", [cuts_hard, bends])
def test_what_jumps_is_found(change):
    """All else is in order."""
    assert found_by(broken(change), *CHECKS) == {"smoothness"}


def test_a_false_claim_of_being_extensive_is_found():
    potential = small_potential(pooling="mean")
    assert found_by(potential, *LAWS) == set()
    potential.extensive = True
    assert found_by(potential, *LAWS) == {"extensivity"}


def test_a_pooling_that_weighs_atoms_has_influence_at_any_distance():
    honest = audit(small_potential(pooling="softmax"), water(), dynamics=SHORT)
    assert honest["passed"]
    assert honest["extensivity"]["passed"] is None
    assert abs(honest["extensivity"]["energy_difference"]) > 1e-3
    assert not honest["influence_radius"]["bounded"]


def jump(**options: object) -> float:
    potential = small_potential(**options)
    check = smoothness(Probe(potential, CPU), water(), np.random.default_rng(0))
    assert check.passed == (check.value <= 1e-6)
    return check.value


@pytest.mark.parametrize("cutoff_function", ["cosine", "polynomial", "mollifier"])
def test_cutoff_functions_are_smooth_enough(cutoff_function):
    """The cosine has a kink in its force constants only."""
    assert jump(cutoff_function=cutoff_function) < 1e-7


def test_the_activation_of_an_attention_decides_whether_it_is_smooth():
    assert jump(pooling={**ATTENTION, "activation": "silu"}) < 1e-7
    assert jump(pooling={**ATTENTION, "activation": "relu"}, seed=1) > 1e-4


def scalar_only() -> NeuralPotential:
    spec = small_spec(heads=())
    heads = {"gap": {"kind": "scalar", "pooling": "mean"}}
    arguments = {**vars(spec), "heads": heads}
    return potential_of(PotentialSpec(**arguments))


def test_without_energy_what_needs_forces_is_not_measured():
    found = audit(scalar_only(), water(), dynamics=SHORT)
    unmeasured = {name for name in NAMES if found[name]["value"] is None}
    assert unmeasured == {
        *("finite_difference_forces", "smoothness", "extensivity"),
        *("influence_radius", "nve_drift"),
    }
    assert found["passed"]
    assert "gap" in found["equivariance"]["of"]


def test_the_result_is_the_same_each_time():
    first, second = (audit(scalar_only(), water(), dynamics=SHORT) for _ in range(2))
    assert first == second


def test_one_atom_can_be_audited():
    assert audit(small_potential(), Atoms("O"), dynamics=SHORT)["passed"]


def test_a_change_of_the_process_is_found(monkeypatch):
    def draws(probe, atoms, generator):
        torch.rand(1)
        return CHECKS["permutation"](probe, atoms, generator)

    monkeypatch.setitem(CHECKS, "equivariance", draws)
    with torch.random.fork_rng(devices=[]):
        found = audit(scalar_only(), water(), dynamics=SHORT)
    assert failed(found) == {"globals_unchanged"}
    assert found["globals_unchanged"]["changed"] == ["torch_random"]


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (crystal(), "the structure is periodic, but an audit moves molecules"),
        (Atoms("Br"), r"element 35 \(Br\) is not covered by small"),
        (Atoms(), "the structure has no atoms"),
    ],
)
def test_structures_that_cannot_be_audited_are_refused(atoms, message):
    with pytest.raises(ValueError, match=message):
        audit(small_potential(), atoms)


def test_a_short_run_is_measured_but_not_judged(sound):
    assert sound["nve_drift"]["value"] is not None
    assert sound["nve_drift"]["limit"] is None
