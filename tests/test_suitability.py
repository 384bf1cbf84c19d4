"""Which poolings may drive dynamics: of one molecule, audited and smooth, or a sum."""

from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from small_potentials import (
    crystal,
    ethanol,
    glycol,
    potential_of,
    small_potential,
    small_spec,
    water,
)

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.infrared import run_infrared
from molpool_calc.infrared_job import InfraredJob
from molpool_calc.potential import NeuralPotential, PotentialSpec
from molpool_calc.storage import (
    audit_of,
    load_potential,
    save_audit,
    save_potential,
    weights_sha256,
)
from molpool_calc.suitability import count_molecules, why_no_stress, why_unsuitable

ATTENTION = {"kind": "attention", "n_hidden": 16, "n_heads": 2}
RELU = {**ATTENTION, "activation": "relu"}
SMOOTH = {"smoothness": {"passed": True, "value": 1e-9}}
JUMPING = {"smoothness": {"passed": False, "value": 0.02}}


def corrected(pooling: object, **energy: object) -> NeuralPotential:
    """A sum with a correction."""
    spec = small_spec()
    heads = {**spec.heads, "energy": {"correction": {"pooling": pooling}, **energy}}
    return potential_of(PotentialSpec(**{**vars(spec), "heads": heads}))


def two_waters() -> Atoms:
    second = water()
    second.positions += [8.0, 0.0, 0.0]
    return water() + second


def in_a_box() -> Atoms:
    atoms = water()
    atoms.set_cell([9.0, 9.0, 9.0])
    atoms.pbc = True
    return atoms


@pytest.mark.parametrize("atoms", [ethanol(), two_waters(), in_a_box(), crystal()])
@pytest.mark.parametrize("audit", [None, SMOOTH, JUMPING])
def test_a_sum_is_suitable_for_everything(atoms, audit):
    assert why_unsuitable(small_potential(), atoms, audit) is None


@pytest.mark.parametrize("pooling", ["mean", "softmax", ATTENTION])
def test_a_smooth_pooling_is_suitable_for_one_molecule_once_audited(pooling):
    potential = small_potential(pooling=pooling)
    assert why_unsuitable(potential, ethanol(), SMOOTH) is None
    assert why_unsuitable(potential, Atoms("O"), SMOOTH) is None


@pytest.mark.parametrize(
    ("pooling", "atoms", "audit", "reason"),
    [
        ("mean", ethanol(), None, "no audit of its weights .* run molpool audit first"),
        (ATTENTION, ethanol(), JUMPING, "its audit found jumps of 0.02 eV/Å of the"),
        (ATTENTION, ethanol(), {}, "by attention, and its audit found jumps of the"),
        (ATTENTION, two_waters(), SMOOTH, "so that the 2 molecules given would act"),
        ("mean", in_a_box(), SMOOTH, "no meaning for the periodic structure given"),
        (
            RELU,
            ethanol(),
            SMOOTH,
            r"whose slope jumps \(attention, ReLU\), so that its",
        ),
        ({"kind": "weighted-average", "activation": "relu"}, ethanol(), SMOOTH, "ReLU"),
    ],
)
def test_the_reason_is_one_sentence(pooling, atoms, audit, reason):
    potential = small_potential(pooling=pooling)
    found = why_unsuitable(potential, atoms, audit)
    assert found is not None
    with pytest.raises(ValueError, match=reason):
        raise ValueError(found)
    assert found.startswith("small pools its energy")
    assert "allow_unsuitable_pooling" in found
    assert ". " not in found


def test_a_smooth_correction_of_a_sum_needs_no_audit():
    potential = corrected(ATTENTION)
    assert why_unsuitable(potential, ethanol(), None) is None
    reason = why_unsuitable(potential, two_waters(), SMOOTH)
    assert reason is not None
    assert reason.startswith("small adds a pooled correction to its energy")
    assert "2 molecules" in reason
    assert why_unsuitable(potential, in_a_box(), SMOOTH) is not None


def test_a_correction_that_jumps_is_unsuitable():
    reason = why_unsuitable(corrected(RELU), ethanol(), SMOOTH)
    assert reason is not None
    assert "sum + attention, ReLU" in reason


def test_a_correction_of_something_else_than_a_sum_needs_an_audit():
    """A sum of embeddings is not extensive, for a network comes after it."""
    potential = corrected(ATTENTION, design="embedding")
    assert why_unsuitable(potential, ethanol(), None) is not None
    assert why_unsuitable(potential, ethanol(), SMOOTH) is None


def test_a_sum_of_a_network_without_cutoff_is_suitable_for_one_molecule():
    """Its atoms act on each other at any distance; its forces need no audit."""
    potential = small_potential("so3krates-nonlocal")
    assert why_unsuitable(potential, ethanol(), None) is None
    for atoms, what in ((two_waters(), "2 molecules"), (in_a_box(), "periodic")):
        reason = why_unsuitable(potential, atoms, None)
        assert reason is not None
        assert reason.startswith("the network of small has no cutoff, and its energy")
        assert what in reason
        assert "take a potential whose network has a cutoff" in reason
    assert "no cutoff" in why_no_stress(potential)
    local = small_potential("so3krates-nonlocal", chi_cut=None)
    assert why_unsuitable(local, two_waters(), None) is None


def test_there_is_nothing_to_refuse_without_an_energy():
    potential = small_potential(heads=("dipole",))
    assert why_unsuitable(potential, two_waters(), None) is None


@pytest.mark.parametrize(
    ("atoms", "n_molecules"),
    [
        (ethanol(), 1),
        (molecule("C6H6"), 1),
        (two_waters(), 2),
        (glycol(), 2),
        (Atoms("He"), 1),
        (Atoms("HeHe", [[0, 0, 0], [0, 0, 5.0]]), 2),
        (molecule("C60"), 1),
    ],
)
def test_molecules_are_what_bonds_connect(atoms, n_molecules):
    assert count_molecules(atoms) == n_molecules


@pytest.mark.parametrize("pooling", ["mean", ATTENTION])
def test_the_calculator_refuses_forces_and_nothing_else(pooling):
    atoms = ethanol()
    atoms.calc = MolPoolCalculator(small_potential(pooling=pooling), device="cpu")
    atoms.get_potential_energy()
    atoms.get_dipole_moment()
    with pytest.raises(ValueError, match="run molpool audit first"):
        atoms.get_forces()
    atoms.calc.calculate_many([atoms])


def test_what_is_allowed_gives_the_same_forces():
    potential = small_potential(pooling="mean")
    first = MolPoolCalculator(potential, device="cpu", allow_unsuitable_pooling=True)
    assert first.get_forces(two_waters()).shape == (6, 3)


def test_a_committee_is_as_suitable_as_its_members():
    members = [small_potential(pooling="mean", seed=seed) for seed in (0, 1)]
    with pytest.raises(ValueError, match="run molpool audit first"):
        MolPoolCalculator(members, device="cpu").get_forces(water())


def test_only_a_new_system_is_looked_at(folder, monkeypatch):
    """A step of dynamics costs nothing."""
    calls = []
    monkeypatch.setattr(
        "molpool_calc.suitability.why_unsuitable",
        lambda *arguments: calls.append(arguments),
    )
    atoms = water()
    atoms.calc = MolPoolCalculator(folder, device="cpu")
    for _ in range(3):
        atoms.positions += 0.01
        atoms.get_forces()
    assert len(calls) == 1
    ethanol_too = ethanol()
    ethanol_too.calc = atoms.calc
    ethanol_too.get_forces()
    assert len(calls) == 2


def test_the_missing_stress_of_a_mean_says_why():
    atoms = in_a_box()
    atoms.calc = MolPoolCalculator(small_potential(pooling="mean"), device="cpu")
    with pytest.raises(PropertyNotImplementedError, match="its energy does not grow"):
        atoms.get_stress()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A potential with a mean, audited."""
    potential = small_potential(pooling="mean", dtype=torch.float32)
    save_potential(potential, tmp_path / "mean")
    save_audit(tmp_path / "mean", {**SMOOTH, "sha256": weights_sha256(potential)})
    return tmp_path / "mean"


def test_an_audit_is_believed_for_its_own_weights_only(folder):
    assert audit_of(folder)["smoothness"] == SMOOTH["smoothness"]
    other = small_potential(pooling="mean", dtype=torch.float32, seed=1)
    save_potential(other, folder)
    assert audit_of(folder) is None
    with pytest.raises(ValueError, match="the audit is not of the weights in"):
        save_audit(folder, {**SMOOTH, "sha256": "0"})


@pytest.mark.parametrize("content", ["", "[]", "{", '{"sha256": 1}'])
def test_a_damaged_audit_is_none(folder, content):
    (folder / "audit.json").write_text(content)
    assert audit_of(folder) is None


def test_an_audited_mean_runs(folder, tmp_path):
    job = DynamicsJob(ensemble="nve", n_steps=2)
    run_dynamics(water(), str(folder), tmp_path / "run", job, device="cpu")
    assert load_potential(folder).smooth


def test_dynamics_of_two_molecules_is_refused_and_can_be_allowed(folder, tmp_path):
    job = DynamicsJob(ensemble="nve", n_steps=2)
    with pytest.raises(ValueError, match="2 molecules given"):
        run_dynamics(two_waters(), str(folder), tmp_path / "run", job, device="cpu")
    assert not (tmp_path / "run").exists()
    allowed = DynamicsJob(ensemble="nve", n_steps=2, allow_unsuitable_pooling=True)
    run_dynamics(two_waters(), str(folder), tmp_path / "run", allowed, device="cpu")


def test_the_infrared_job_is_refused_before_anything_is_done(folder, tmp_path):
    job = InfraredJob(picoseconds=0.05, replicas=1)
    (folder / "audit.json").unlink()
    with pytest.raises(ValueError, match="run molpool audit first"):
        run_infrared(water(), str(folder), tmp_path / "ir", job, title="")
    assert not (tmp_path / "ir").exists()
    assert InfraredJob(allow_unsuitable_pooling=True).dynamics.allow_unsuitable_pooling
