"""Committees: their mean moves the atoms, their spread is recorded and guarded."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import write
from command_line import CommandLine
from md_faults import FAULTY, FaultyWaters, changed, healthy
from md_models import INTEGRATORS, waters
from small_potentials import crystal, rotation, small_potential

from molpool_calc.atoms import CLOSED_SHELL
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.harmonic_file import read_harmonic
from molpool_calc.md.committee import CommitteeForceField
from molpool_calc.md.guard import NO_LIMITS, Limits
from molpool_calc.md.outcome import RunOutcome
from molpool_calc.md.recorder import Recording
from molpool_calc.md.simulate import simulate
from molpool_calc.md.state import Response
from molpool_calc.md.trajectory import read_run
from molpool_calc.replicas import committee_of, make_replicas
from molpool_calc.storage import save_potential, weights_sha256

CUTOFFS = {"a": 4.0, "b": 3.5, "c": 4.0}
N_REPLICAS = 3


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of potentials with other weights, two of them with another cutoff."""
    place = tmp_path_factory.mktemp("members")
    for seed, (name, cutoff) in enumerate(CUTOFFS.items()):
        potential = small_potential(
            dtype=torch.float64, seed=seed, name=name, cutoff=cutoff, scalars=("gap",)
        )
        save_potential(potential, place / name)
    return {name: str(place / name) for name in CUTOFFS}


@pytest.fixture
def molpool(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def job(**changes: object) -> DynamicsJob:
    values = {"ensemble": "nve", "n_steps": 12, "n_replicas": 2, "temperature": 50.0}
    values |= {"every": 4, "timestep_fs": 0.2, "dtype": "float64", "guard": NO_LIMITS}
    return DynamicsJob(**{**values, **changes})


def answer(potentials: list[str], positions: np.ndarray) -> Response:
    """What a committee says of replicas of methanol at these positions."""
    calculator = MolPoolCalculator(potentials, dtype="float64", device="cpu")
    replicas = committee_of(
        [
            make_replicas(
                engine,
                molecule("CH3OH"),
                state=CLOSED_SHELL,
                n_replicas=N_REPLICAS,
                record=("gap",),
            )
            for engine in calculator.evaluator.engines
        ]
    )
    return replicas.force_field(torch.as_tensor(positions.reshape(-1, 3)))


def methanols() -> np.ndarray:
    shape = (N_REPLICAS, 6, 3)
    return molecule("CH3OH").positions + np.random.default_rng(0).normal(0, 0.05, shape)


def test_mean_and_spread_are_those_of_the_members_one_by_one(
    members: dict[str, str],
) -> None:
    places = methanols()
    found = answer(list(members.values()), places)
    committee = MolPoolCalculator(list(members.values()), dtype="float64", device="cpu")
    alone = [
        MolPoolCalculator(path, dtype="float64", device="cpu")
        for path in members.values()
    ]
    for replica, positions in enumerate(places):
        atoms = molecule("CH3OH")
        atoms.positions = positions
        own = slice(6 * replica, 6 * replica + 6)
        forces = np.array([calculator.get_forces(atoms) for calculator in alone])
        mean = forces.sum(0) / 3
        deviation = np.sqrt(((forces - mean) ** 2).sum(0) / 2)
        spread = max(np.sqrt((row**2).sum()) for row in deviation)
        assert spread > 0.1
        energies = [calculator.get_potential_energy(atoms) for calculator in alone]
        dipoles = [calculator.get_dipole_moment(atoms) for calculator in alone]
        gaps = [calculator.get_property("gap", atoms) for calculator in alone]
        assert abs(found.forces[own].numpy() - mean).max() < 1e-10
        assert float(found.energy[replica]) == pytest.approx(sum(energies) / 3)
        assert found.dipole is not None
        assert abs(found.dipole[replica].numpy() - sum(dipoles) / 3).max() < 1e-10
        assert float(found.others["gap"][replica]) == pytest.approx(sum(gaps) / 3)
        assert found.spread is not None
        assert float(found.spread[replica]) == pytest.approx(spread, rel=1e-9)
        committee.get_forces(atoms)
        stated = np.linalg.norm(committee.results_std["forces"], axis=1).max()
        assert float(found.spread[replica]) == pytest.approx(stated, rel=1e-9)


def test_a_spread_stays_as_it_is_when_the_molecule_turns(
    members: dict[str, str],
) -> None:
    first = answer([members["a"], members["b"]], methanols())
    turned = answer([members["a"], members["b"]], methanols() @ rotation().numpy())
    assert first.spread is not None
    assert turned.spread is not None
    assert float((first.spread - turned.spread).abs().max()) < 1e-10
    # the largest component, which it could have been, does not
    assert float((first.forces.abs().amax() - turned.forces.abs().amax()).abs()) > 1e-3


def test_identical_members_have_no_spread(members: dict[str, str]) -> None:
    one = answer([members["a"]], methanols())
    two = answer([members["a"], members["a"]], methanols())
    assert one.spread is None
    assert two.spread is not None
    assert torch.equal(two.spread, torch.zeros_like(two.spread))
    assert torch.equal(one.forces, two.forces)


REST = 0.9572  # Å, the O-H bond of the model of water
SLOPE = 5.0  # eV/Å²


def pulled(sign: float) -> Callable[[torch.Tensor, Response], Response]:
    """A force on one hydrogen atom of the faulty replica that grows with its bond."""

    def act(x: torch.Tensor, response: Response) -> Response:
        push = torch.zeros_like(x)
        push[1, 1] = sign * SLOPE * max(float((x[1] - x[0]).norm()) - REST, 0.0)
        return changed(response, forces=lambda forces: forces + push)

    return act


def run_committee(
    folder: Path, limits: Limits, *, n_steps: int = 80, resume: bool = False
) -> RunOutcome:
    """Three replicas of water, on one of which the two members disagree."""
    integrator = INTEGRATORS["langevin"]
    fields = [FaultyWaters(pulled(sign)) for sign in (1.0, -1.0)]
    field = CommitteeForceField(fields, N_REPLICAS)
    system, state = waters(N_REPLICAS, integrator, field)
    recording = Recording(
        folder=folder,
        every=1,
        checkpoint_every=40,
        header={"inputs": {"seed": 0}},
        resume=resume,
    )
    return simulate(
        field,
        system,
        state,
        integrator,
        n_steps=n_steps,
        recording=recording,
        guard=limits,
    )


FIELDS = ("positions", "velocities", "dipoles", "energies", "heat", "force_spreads")


def test_a_growing_disagreement_stops_one_replica_at_its_step(tmp_path: Path) -> None:
    run_committee(tmp_path / "free", NO_LIMITS)
    free = read_run(tmp_path / "free")
    x = free.positions[FAULTY]
    bond = np.linalg.norm(x[:, 1] - x[:, 0], axis=1)
    # of ±d the sample standard deviation is sqrt(2) d
    expected = 2**0.5 * SLOPE * np.maximum(bond - REST, 0.0)
    assert free.force_spreads is not None
    np.testing.assert_allclose(free.force_spreads[FAULTY], expected, atol=1e-12)
    limit = 0.15
    step = int(np.argmax(expected > limit))
    assert 1 < step < 60
    outcome = run_committee(tmp_path / "r", Limits(spread=limit))
    (stop,) = outcome.stopped
    assert (stop.replica, stop.step, stop.quantity) == (FAULTY, step, "force spread")
    assert stop.value == pytest.approx(expected[step], rel=1e-9)
    assert "the forces of the committee spread by" in stop.sentence
    assert "outside what the potentials were trained on" in stop.sentence
    guarded = read_run(tmp_path / "r")
    for name in FIELDS:
        ours, theirs = getattr(guarded, name), getattr(free, name)
        for replica in {0, 1, 2} - {FAULTY}:
            np.testing.assert_array_equal(ours[replica], theirs[replica], err_msg=name)
        np.testing.assert_array_equal(ours[FAULTY, :step], theirs[FAULTY, :step])
        assert np.isnan(ours[FAULTY, step:]).all(), name


def test_a_stopped_committee_goes_on_bit_for_bit(tmp_path: Path) -> None:
    limits = Limits(spread=0.15)
    (stop,) = run_committee(tmp_path / "whole", limits).stopped
    for n_steps in (stop.step - 1, stop.step + 3, 80):
        folder = tmp_path / "parts"
        run_committee(folder, limits, n_steps=n_steps, resume=folder.exists())
    for file in ("checkpoint.npz", stop.file):
        first, second = (tmp_path / name / file for name in ("whole", "parts"))
        assert first.read_bytes() == second.read_bytes(), file
    one, two = read_run(tmp_path / "whole"), read_run(tmp_path / "parts")
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_a_committee_of_one_kind_moves_as_its_members(tmp_path: Path) -> None:
    """Water without a fault: the mean of two equal answers is that answer."""
    field = FaultyWaters(healthy)
    both = CommitteeForceField([field, field], N_REPLICAS)
    _, state = waters(N_REPLICAS, INTEGRATORS["nve"], both)
    alone = field(state.positions)
    for name in ("energy", "forces", "dipole"):
        assert torch.equal(getattr(state.response, name), getattr(alone, name))


@pytest.mark.parametrize("ensemble", ["nve", "npt"])
def test_a_resumed_committee_is_the_run_done_in_one_go(
    members: dict[str, str], tmp_path: Path, ensemble: str
) -> None:
    atoms = crystal() if ensemble == "npt" else molecule("H2O")
    pair = (members["a"], members["b"])
    kind = {"ensemble": ensemble}
    run_dynamics(atoms, pair, tmp_path / "whole", job(**kind, n_steps=14))
    run_dynamics(atoms, pair, tmp_path / "parts", job(**kind, n_steps=7))
    run_dynamics(atoms, pair, tmp_path / "parts", job(**kind, n_steps=14), resume=True)
    one, two = read_run(tmp_path / "whole"), read_run(tmp_path / "parts")
    for name in ("positions", "velocities", "energies", "heat", "force_spreads"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    with h5py.File(tmp_path / "whole" / "trajectory.h5") as file:
        values = file["observables/force_spread/value"]
        assert values.attrs["unit"] == "eV Angstrom-1"
        assert np.array_equal(values[...].T, one.force_spreads)
        assert values[...].min() > 0.0


def test_run_json_names_every_member_and_a_wrong_one_is_refused(
    members: dict[str, str], tmp_path: Path
) -> None:
    atoms, folder = molecule("H2O"), tmp_path / "run"
    run_dynamics(atoms, (members["a"], members["b"]), folder, job())
    inputs = json.loads((folder / "run.json").read_text(encoding="utf-8"))["inputs"]
    hashes = [
        weights_sha256(
            small_potential(
                dtype=torch.float64,
                seed=seed,
                name=name,
                cutoff=CUTOFFS[name],
                scalars=("gap",),
            )
        )
        for seed, name in enumerate("ab")
    ]
    assert (inputs["potential"], inputs["sha256"]) == (["a", "b"], hashes)
    assert inputs["engine"] == ["eager", "eager"]
    longer = job(n_steps=20)
    for other, shown in (
        ((members["a"], members["c"]), r"\['a', 'b'\] and is now \['a', 'c'\]"),
        ((members["b"], members["a"]), r"\['a', 'b'\] and is now \['b', 'a'\]"),
        (members["a"], r"\['a', 'b'\] and is now 'a'"),
    ):
        with pytest.raises(ValueError, match=f"another potential: it was {shown}"):
            run_dynamics(atoms, other, folder, longer, resume=True)


def test_a_single_potential_in_a_list_is_that_potential(
    members: dict[str, str], tmp_path: Path
) -> None:
    run_dynamics(molecule("H2O"), [members["a"]], tmp_path / "run", job())
    run_dynamics(
        molecule("H2O"), members["a"], tmp_path / "run", job(n_steps=20), resume=True
    )
    assert read_run(tmp_path / "run").inputs["potential"] == "a"
    assert read_run(tmp_path / "run").force_spreads is None


def test_steps_of_ase_record_the_same_spread(
    members: dict[str, str], tmp_path: Path
) -> None:
    pair = (members["a"], members["b"])
    run_dynamics(molecule("H2O"), pair, tmp_path / "ours", job())
    run_dynamics(molecule("H2O"), pair, tmp_path / "ase", job(ase="VelocityVerlet"))
    ours, theirs = read_run(tmp_path / "ours"), read_run(tmp_path / "ase")
    np.testing.assert_allclose(ours.force_spreads, theirs.force_spreads, rtol=1e-8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-p", "a", "--guard-spread", "1"), "one potential has no spread"),
        (("-p", "a", "a"), "is given twice"),
        (("-p", "a", "b", "--forces", "ase.calculators.emt:EMT"), "no part; give one"),
        (("-p", "a", "b", "--guard-spread", "1e-9"), "the committee spread by"),
    ],
)
def test_what_makes_no_committee_is_one_sentence(
    members: dict[str, str],
    molpool: CommandLine,
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
) -> None:
    named = [members.get(word, word) for word in words]
    start = ("md", "water", "--steps", "3", "--out", tmp_path / "run")
    assert message in molpool.refused(*start, *named)
    assert not (tmp_path / "run").exists()


def test_members_for_other_spins_are_refused(members: dict[str, str]) -> None:
    open_shell = small_potential(seed=5, name="radicals", scalars=("gap",))
    spec = replace(open_shell.spec, num_unpaired=(0, 1))
    open_shell.spec = spec
    with pytest.raises(ValueError, match=r"radicals and a differ in .* spins"):
        MolPoolCalculator([members["a"], open_shell], device="cpu")


def test_an_infrared_spectrum_of_a_committee_names_it_everywhere(
    members: dict[str, str], molpool: CommandLine, tmp_path: Path
) -> None:
    folder, structure = tmp_path / "ir", tmp_path / "water.xyz"
    write(structure, molecule("H2O"))
    words = ["ir", structure, "-p", members["a"], members["b"], "--out", folder]
    words += ["--picoseconds", "0.03", "--equilibration-ps", "0.005", "--replicas", "2"]
    called = molpool(*words, "--temperature", "10", "--guard", "off", "--json")
    assert called.code == 0, called.err
    harmonic = read_harmonic(folder)
    assert harmonic is not None
    inputs = json.loads((folder / "run.json").read_text(encoding="utf-8"))["inputs"]
    assert harmonic.potential == inputs["potential"] == ["a", "b"]
    assert harmonic.sha256 == inputs["sha256"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "the committee of a, b" in page
    assert "force spread" in page
    assert "several were given" in molpool.refused(*words, "--beads", "4", "--force")
