"""The guard: faults are found at the right step, and nobody else feels them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import covalent_radii
from md_faults import (
    FAULTY,
    STRETCHED,
    collapse,
    healthy,
    huge_force,
    no_dipole,
    no_energy,
    run_faulty,
    swirl,
)
from md_models import CPU, INTEGRATORS, Waters, waters
from scipy.stats import chi2

from molpool_calc.md.guard import (
    Limits,
    closeness_weights,
    kinetic_bounds,
    shortest_distances,
    usual_limits,
)
from molpool_calc.md.last_frames import LastFrames
from molpool_calc.md.state import make_system
from molpool_calc.md.stops import advise
from molpool_calc.md.trajectory import RunData, assemble, read_run
from molpool_calc.md.whole import whole_replicas
from molpool_calc.segments import segments_from_sizes
from molpool_calc.units import BOLTZMANN

OTHERS = [0, 2]
FIELDS = ("positions", "velocities", "dipoles", "energies", "kinetic", "heat")
THERMOSTATS = sorted(INTEGRATORS.keys() - {"nve"})
TIGHT = Limits(distance=0.8, force=40.0, temperatures=(0.0, 600.0), drift=50.0)


def closest(run: RunData) -> np.ndarray:
    """Shortest distance of the faulty replica over the sum of covalent radii."""
    radii = covalent_radii[[8, 1, 1]]
    x = run.positions[FAULTY]
    pairs = [(0, 1), (0, 2), (1, 2)]
    ratios = [
        np.linalg.norm(x[:, i] - x[:, j], axis=1) / (radii[i] + radii[j])
        for i, j in pairs
    ]
    return np.min(ratios, axis=0)


def drift(run: RunData) -> np.ndarray:
    conserved = (run.energies + run.kinetic - run.heat)[FAULTY]
    change = np.abs(conserved - conserved[0]) * 1e3 / 3
    return change / np.maximum(1.0, run.times_fs * 1e-3)


def temperature(run: RunData) -> np.ndarray:
    return 2 * run.kinetic[FAULTY] / (run.degrees_of_freedom[FAULTY] * BOLTZMANN)


def stretched(run: RunData) -> np.ndarray:
    x = run.positions[FAULTY]
    return np.linalg.norm(x[:, 1] - x[:, 0], axis=1)


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunData]:
    """Runs without limits, made once for each integrator and fault."""
    folder, known = tmp_path_factory.mktemp("unguarded"), dict[tuple, RunData]()

    def get(name: str, fault: Callable) -> RunData:
        key = (name, fault.__name__)
        if key not in known:
            run_faulty(folder / "-".join(key), name, fault)
            known[key] = read_run(folder / "-".join(key))
        return known[key]

    return get


HOT = 100.0
FAULTS = [
    (no_energy, Limits(), "not finite", stretched, STRETCHED),
    (no_dipole, Limits(), "not finite", stretched, STRETCHED),
    (huge_force, Limits(force=100.0), "largest force", stretched, STRETCHED),
    (collapse, Limits(distance=0.92), "shortest distance", closest, -0.92),
    (swirl, Limits(drift=50.0), "energy drift", drift, 50.0),
    (swirl, Limits(temperatures=(0.0, HOT)), "temperature", temperature, None),
]


@pytest.mark.parametrize(
    ("name", "fault", "limits", "quantity", "measure", "beyond"),
    [("nve", *fault) for fault in FAULTS]
    + [(name, *FAULTS[k]) for name in THERMOSTATS for k in (0, 5)],
)
def test_a_fault_is_found_at_its_step_and_stops_one_replica(
    tmp_path: Path,
    unguarded: Callable[..., RunData],
    name: str,
    fault: Callable,
    limits: Limits,
    quantity: str,
    measure: Callable[[RunData], np.ndarray],
    beyond: float | None,
) -> None:
    sound = unguarded(name, healthy)
    # until the fault is felt, a run without it is the same
    free = sound if measure is stretched else unguarded(name, fault)
    if beyond is None:
        freedom = free.degrees_of_freedom[FAULTY]
        beyond = HOT * (1 + 2 * np.sqrt(35 / freedom) + 70 / freedom)
    step = int(np.argmax(np.sign(beyond) * measure(free) > beyond))
    assert step > 1
    outcome = run_faulty(tmp_path / "r", name, fault, limits=limits)
    assert (outcome.status, outcome.steps_done) == ("finished", 80)
    (stop,) = outcome.stopped
    assert (stop.replica, stop.step, stop.quantity) == (FAULTY, step, quantity)
    if measure is not stretched:
        assert stop.value == pytest.approx(measure(free)[step], rel=1e-9)
        assert stop.limit == pytest.approx(abs(beyond))
    guarded = read_run(tmp_path / "r")
    for field in FIELDS:
        values = getattr(guarded, field)
        np.testing.assert_array_equal(values[OTHERS], getattr(sound, field)[OTHERS])
        before = getattr(free, field)[FAULTY, :step]
        np.testing.assert_array_equal(values[FAULTY, :step], before)
        assert np.isnan(values[FAULTY, step:]).all()
    assert guarded.good_steps.tolist() == [81, step, 81]


@pytest.mark.parametrize(
    ("name", "fault"),
    [("nve", no_energy), ("nve", swirl), *((name, swirl) for name in THERMOSTATS)],
)
def test_a_run_with_a_stopped_replica_goes_on_bit_for_bit(
    tmp_path: Path, name: str, fault: Callable
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = run_faulty(whole, name, fault, limits=TIGHT)
    assert len(expected.stopped) == 1
    step = expected.stopped[0].step

    def interrupt(at: int) -> Callable[[int], None]:
        def act(now: int) -> None:
            if now == at:
                raise KeyboardInterrupt

        return act

    for at in (step - 1, step + 3, 60):
        run_faulty(
            parts,
            name,
            fault,
            limits=TIGHT,
            resume=parts.exists(),
            progress=interrupt(at),
        )
    outcome = run_faulty(parts, name, fault, limits=TIGHT, resume=True)
    assert outcome.stopped == expected.stopped
    assert outcome.drift_mev_per_atom_per_ps == expected.drift_mev_per_atom_per_ps
    for file in ("checkpoint.npz", expected.stopped[0].file):
        assert (parts / file).read_bytes() == (whole / file).read_bytes(), file
    one, two = read_run(parts), read_run(whole)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))


def test_the_last_frames_lead_to_the_bad_one(
    tmp_path: Path, unguarded: Callable[..., RunData]
) -> None:
    outcome = run_faulty(tmp_path / "r", "nve", swirl, limits=Limits(drift=50.0))
    (stop,) = outcome.stopped
    assert stop.file == "stopped_replica_001.extxyz"
    frames = ase.io.read(tmp_path / "r" / stop.file, ":")
    free = unguarded("nve", swirl)
    assert [atoms.info["step"] for atoms in frames] == [*range(stop.step + 1)]
    assert [atoms.info["good"] for atoms in frames] == [True] * (len(frames) - 1) + [
        False
    ]
    for atoms in frames:
        step = atoms.info["step"]
        assert atoms.get_chemical_formula() == "H2O"
        assert atoms.info["time_fs"] == step * 1.0
        np.testing.assert_array_equal(atoms.positions, free.positions[FAULTY, step])
        atoms.set_masses([15.999, 1.008, 1.008])
        assert atoms.get_kinetic_energy() == pytest.approx(free.kinetic[FAULTY, step])


def test_no_more_than_the_last_hundred_frames_are_kept() -> None:
    system, state = waters(2, INTEGRATORS["nve"], Waters())
    frames = LastFrames(system)
    for step in range(130):
        frames.keep(replace(state, step=step, positions=state.positions + step))
    arrays = frames.arrays(120)
    assert arrays["recent_steps"].tolist() == [*range(30, 121)]
    again = LastFrames(system)
    again.restore(arrays)
    again.keep(replace(state, step=121, positions=state.positions + 121))
    kept = again.arrays(999)
    assert kept["recent_steps"].tolist() == [*range(30, 122)]
    moved = kept["recent_positions"] - state.positions
    assert torch.allclose(moved[:, 0, 0], kept["recent_steps"].double())


def test_the_frames_of_a_value_that_is_not_finite_can_be_read(tmp_path: Path) -> None:
    def explode(x: torch.Tensor, response: object) -> object:
        bad = torch.nan if float((x[1] - x[0]).norm()) > STRETCHED else 0.0
        return replace(response, forces=response.forces + bad)

    outcome = run_faulty(tmp_path / "r", "nve", explode)
    assert outcome.status == "stopped"
    assert len(outcome.stopped) == 3
    for stop in outcome.stopped:
        last = ase.io.read(tmp_path / "r" / stop.file, -1)
        assert not last.info["good"]
        assert np.isnan(last.get_momenta()).all()


def test_a_finished_file_holds_the_good_frames_of_each_replica(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    (stop,) = run_faulty(folder, "nve", swirl, limits=TIGHT).stopped
    assert not (folder / "frames.bin").exists()
    data = read_run(folder)
    with h5py.File(folder / "trajectory.h5") as file:
        for replica, length in ((0, 81), (1, stop.step), (2, 81)):
            group = file[f"particles/replica_{replica:03d}/position"]
            assert group["value"].shape == (length, 3, 3)
            assert group["step"][...].tolist() == list(range(length))
            assert np.isfinite(group["value"][...]).all()
    restored = run_faulty(folder, "nve", swirl, limits=TIGHT, n_steps=90, resume=True)
    longer = run_faulty(tmp_path / "one", "nve", swirl, limits=TIGHT, n_steps=90)
    assert restored.stopped == longer.stopped == (stop,)
    one, two = read_run(tmp_path / "one"), read_run(folder)
    np.testing.assert_array_equal(one.positions, two.positions)
    np.testing.assert_array_equal(data.positions, two.positions[:, :81])


def test_what_is_analysed_leaves_stopped_replicas_out(
    tmp_path: Path, unguarded: Callable[..., RunData]
) -> None:
    (stop,) = run_faulty(tmp_path / "r", "nve", swirl, limits=TIGHT).stopped
    recorded, sound = read_run(tmp_path / "r"), unguarded("nve", healthy)
    used = whole_replicas(recorded)
    assert used.good_steps.tolist() == [81, 81]
    for field in ("positions", "dipoles", "energies", "degrees_of_freedom"):
        expected = getattr(sound, field)[OTHERS]
        np.testing.assert_array_equal(getattr(used, field), expected)
    np.testing.assert_array_equal(used.times_fs, recorded.times_fs)
    assert whole_replicas(sound) is sound
    assert stop.step < 81


def test_of_a_run_without_survivors_the_common_part_is_kept(tmp_path: Path) -> None:
    def in_turn(x: torch.Tensor, response: object) -> object:
        energy = response.energy.clone()
        energy[response.energy > 0.02] = torch.nan
        return replace(response, energy=energy)

    outcome = run_faulty(tmp_path / "r", "langevin", in_turn)
    assert outcome.status == "stopped"
    ends = [stop.step for stop in outcome.stopped]
    assert len(set(ends)) == 3
    assert outcome.good_steps == min(ends) - 1
    used = whole_replicas(read_run(tmp_path / "r"))
    assert len(used.times_fs) == min(ends)
    assert used.positions.shape == (3, min(ends), 3, 3)
    assert np.isfinite(used.energies).all()
    assert np.isfinite(used.positions).all()


def test_sound_dynamics_stay_far_from_the_usual_limits(tmp_path: Path) -> None:
    for name in INTEGRATORS:
        limits = usual_limits(300.0)
        strict = replace(limits, distance=0.7, force=25.0, drift=10.0)
        outcome = run_faulty(tmp_path / name, name, healthy, limits=strict)
        assert outcome.stopped == ()


@pytest.mark.parametrize("freedom", [1, 3, 6, 21, 600])
def test_the_bounds_of_the_kinetic_energy_are_never_left(freedom: int) -> None:
    low, high = kinetic_bounds((300.0, 300.0 + 1e-9), np.array([float(freedom)]))
    scale = 0.5 * BOLTZMANN * 300.0
    assert 0 < chi2.sf(high[0] / scale, freedom) < np.exp(-35)
    assert chi2.cdf(low[0] / scale, freedom) < np.exp(-35)
    # nor are they useless: no more than twice as wide as the exact ones
    assert high[0] / scale < 2 * chi2.isf(np.exp(-35), freedom)


def crystal(n_atoms: int, cells: np.ndarray, pbc: list[bool]):
    system = make_system(
        atomic_numbers=torch.full((n_atoms * len(cells),), 18),
        masses=torch.ones(n_atoms * len(cells), dtype=torch.float64),
        positions=torch.rand((n_atoms * len(cells), 3), dtype=torch.float64),
        systems=segments_from_sizes([n_atoms] * len(cells), CPU),
        free="all",
        cell=torch.from_numpy(cells),
        pbc=torch.tensor([pbc] * len(cells)),
    )
    return system, closeness_weights(system)


@pytest.mark.parametrize("pbc", [[True] * 3, [True, False, True], [False] * 3])
def test_the_shortest_distance_is_that_of_the_nearest_images(pbc: list[bool]) -> None:
    rng = np.random.default_rng(1)
    cells = 9.0 * np.eye(3) + rng.uniform(-2, 2, (4, 3, 3))
    system, weights = crystal(6, cells, pbc)
    fractional = rng.uniform(-1, 2, (4, 6, 3))
    fractional[:, 1] = fractional[:, 0] + rng.uniform(-0.1, 0.1, (4, 3))
    fractional[:, 1] += pbc * rng.integers(-2, 3, (4, 3))
    positions = np.einsum("rai,rij->raj", fractional, cells)
    found = shortest_distances(
        system, torch.from_numpy(positions.reshape(-1, 3)), weights
    )
    for replica in range(4):
        atoms = Atoms([18] * 6, positions[replica], cell=cells[replica], pbc=pbc)
        distances = atoms.get_all_distances(mic=True)
        np.fill_diagonal(distances, np.inf)
        expected = distances.min() / (2 * covalent_radii[18])
        assert float(found[replica]) == pytest.approx(expected, rel=1e-9)


def test_a_first_state_beyond_a_limit_is_refused(tmp_path: Path) -> None:
    for limits, message in (
        (Limits(distance=1.3), r"Å apart, .* in replica 0 at step 0, where 1.3 is"),
        (Limits(temperatures=(0.0, 1.0)), "the temperature is .* K in replica 0 at st"),
    ):
        with pytest.raises(ValueError, match=message):
            run_faulty(tmp_path / "r", "nve", healthy, limits=limits)
        assert not (tmp_path / "r").exists()


def test_other_limits_are_refused_when_resuming(tmp_path: Path) -> None:
    run_faulty(tmp_path / "r", "nve", healthy, limits=TIGHT, n_steps=5)
    with pytest.raises(ValueError, match="another guard: it was"):
        run_faulty(tmp_path / "r", "nve", healthy, n_steps=9, resume=True)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"distance": 0.0}, "guard's distance is 0.0, but a limit must be positive"),
        ({"volumes": (2.0, 0.5)}, "volumes are 2 to 0.5"),
        ({"force": -1.0}, "guard's force is -1.0"),
        ({"temperatures": (300.0, 300.0)}, "temperatures are 300 to 300"),
    ],
)
def test_impossible_limits_are_refused(limits: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Limits(**limits)


@pytest.mark.parametrize(
    ("fault", "limits", "words"),
    [
        (collapse, Limits(distance=0.92), ("(O) and", "Å apart", "shorter time step")),
        (huge_force, Limits(force=100.0), ("the force on atom", "eV/Å", "time step")),
        (swirl, Limits(drift=50.0), ("meV/atom/ps", "shorter time step than 1 fs")),
        (swirl, Limits(temperatures=(0.0, HOT)), ("K in replica 1", "time step")),
    ],
)
def test_the_reason_names_the_cause_and_the_advice_what_to_do(
    tmp_path: Path, fault: Callable, limits: Limits, words: tuple[str, ...]
) -> None:
    (stop,) = run_faulty(tmp_path / "r", "nve", fault, limits=limits).stopped
    for word in (*words, f"replica 1 at step {stop.step}"):
        assert word in stop.sentence
    written = json.loads((tmp_path / "r" / "run.json").read_text())
    assert written["stopped"] == [stop.describe()]
    assert written["dynamics"]["guard"]["distance"] == limits.distance


def test_advice_fits_the_cause() -> None:
    def advice(quantity: str, *, drifted: float = 0.1, is_cold: bool = False) -> str:
        return advise(
            quantity, timestep_fs=0.5, drifted=drifted, is_cold=is_cold, file="F"
        )

    assert "the potential fails at the structures in F" in advice("largest force")
    assert "shorter time step than 0.5 fs" in advice("largest force", drifted=-40.0)
    assert "-40 meV/atom" in advice("not finite", drifted=-40.0)
    assert "from a relaxed structure" in advice("temperature")
    assert "at the right temperature" in advice("temperature", is_cold=True)
    assert "molpool audit" in advice("energy drift")
    assert "train on the frames of F" in advice("force spread")


def test_a_replica_that_is_held_moves_nobody(tmp_path: Path) -> None:
    """The force field is asked about finite positions only, after the stop too."""
    asked: list[bool] = []

    def watched(x: torch.Tensor, response: object) -> object:
        asked.append(bool(torch.isfinite(x).all()))
        bad = torch.nan if float((x[1] - x[0]).norm()) > STRETCHED else 0.0
        forces = response.forces.clone()
        forces[3 * FAULTY : 3 * FAULTY + 3] += bad
        return replace(response, forces=forces)

    (stop,) = run_faulty(tmp_path / "r", "langevin", watched).stopped
    assert len(asked) == 81 > stop.step
    assert all(asked)


def test_an_unfinished_run_knows_its_stops(tmp_path: Path) -> None:
    def die(step: int) -> None:
        if step == 50:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run_faulty(tmp_path / "r", "nve", swirl, limits=TIGHT, progress=die)
    data = read_run(tmp_path / "r")
    assert data.status == "running"
    (stop,) = json.loads((tmp_path / "r" / "run.json").read_text())["stopped"]
    assert data.good_steps.tolist() == [51, stop["step"], 51]
    assert assemble(tmp_path / "r").exists()
