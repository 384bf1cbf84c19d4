import doctest
import json
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from md_models import CPU, INTEGRATORS, Faulty, Waters, run, waters

from molpool_calc import md
from molpool_calc.md.checkpoint import load_checkpoint
from molpool_calc.md.failure import ForceFailure
from molpool_calc.md.recorder import Recording
from molpool_calc.md.simulate import simulate
from molpool_calc.md.state import Response
from molpool_calc.md.trajectory import read_run

STREAMS = ("steps.bin", "frames.bin")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_current_step(
    tmp_path: Path, number: int
) -> None:
    before = signal.getsignal(number)

    def interrupt(response: Response) -> Response:
        os.kill(os.getpid(), number)
        return response

    outcome = run(tmp_path / "r", "nve", 80, force_field=Faulty(31, interrupt))
    assert (outcome.status, outcome.steps_done) == ("interrupted", 30)
    assert signal.getsignal(number) is before
    data = read_run(tmp_path / "r")
    assert data.status == "interrupted"
    assert len(data.times_fs) == 31
    assert (tmp_path / "r" / "trajectory.h5").exists()
    assert load_checkpoint(tmp_path / "r" / "checkpoint.npz", CPU).step == 30


def test_a_second_signal_does_not_wait_for_the_step(tmp_path: Path) -> None:
    def insist(response: Response) -> Response:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return response

    outcome = run(tmp_path / "r", "nve", 80, force_field=Faulty(31, insist))
    assert (outcome.status, outcome.steps_done) == ("interrupted", 29)
    assert len(read_run(tmp_path / "r").times_fs) == 30


def test_forces_that_fail_stop_the_run_at_its_last_step(tmp_path: Path) -> None:
    def fail(response: Response) -> Response:
        raise ForceFailure("the electrons do not converge")

    folder = tmp_path / "r"
    outcome = run(folder, "langevin", 80, force_field=Faulty(31, fail))
    reason = "the electrons do not converge, so that the run stopped at step 29"
    assert (outcome.status, outcome.steps_done) == ("stopped", 29)
    assert (outcome.reason, outcome.good_steps) == (reason, 29)
    assert outcome.stopped == ()
    written = json.loads((folder / "run.json").read_text())
    assert (written["status"], written["reason"]) == ("stopped", reason)
    assert load_checkpoint(folder / "checkpoint.npz", CPU).step == 29
    assert (folder / "trajectory.h5").exists()
    assert len(read_run(folder).times_fs) == 30
    assert run(folder, "langevin", 80, resume=True).status == "finished"
    run(tmp_path / "whole", "langevin", 80)
    whole, parts = read_run(tmp_path / "whole"), read_run(folder)
    np.testing.assert_array_equal(whole.positions, parts.positions)
    np.testing.assert_array_equal(whole.energies, parts.energies)


@pytest.mark.parametrize("what", ["energy", "forces", "dipole"])
def test_a_value_that_is_not_finite_stops_its_replica_alone(
    tmp_path: Path, what: str
) -> None:
    def spoil(response: Response) -> Response:
        values = getattr(response, what).clone()
        values[-1] = torch.inf if what == "forces" else torch.nan
        return replace(response, **{what: values})

    folder = tmp_path / "r"
    outcome = run(folder, "nve", 80, force_field=Faulty(51, spoil), every=1)
    assert (outcome.status, outcome.steps_done) == ("finished", 80)
    (stop,) = outcome.stopped
    assert (stop.replica, stop.step, stop.quantity) == (1, 50, "not finite")
    named = "kinetic energy" if what == "forces" else what
    assert stop.reason == f"the {named} of replica 1 at step 50 is not finite"
    assert "shorter time step" in stop.advice
    assert outcome.reason == f"1 of 2 replicas stopped, first: {stop.sentence}"
    data = read_run(folder)
    assert data.good_steps.tolist() == [81, 50]
    for values in (data.energies, data.kinetic, data.heat, data.dipoles):
        assert np.isfinite(values[1, :50]).all()
        assert np.isnan(values[1, 50:]).all()
    for values in (data.positions, data.velocities):
        assert np.isfinite(values[1, :50]).all()
        assert np.isnan(values[1, 50:]).all()
    written = json.loads((folder / "run.json").read_text())
    assert written["stopped"] == [stop.describe()]
    assert written["reason"] == outcome.reason
    run(tmp_path / "whole", "nve", 80, every=1)
    whole = read_run(tmp_path / "whole")
    np.testing.assert_array_equal(data.dipoles[0], whole.dipoles[0])
    np.testing.assert_array_equal(data.positions[0], whole.positions[0])
    np.testing.assert_array_equal(data.dipoles[1, :50], whole.dipoles[1, :50])


def test_a_run_ends_before_the_step_that_stops_its_last_replica(
    tmp_path: Path,
) -> None:
    def spoil(response: Response) -> Response:
        return replace(response, energy=response.energy * torch.nan)

    folder = tmp_path / "r"
    outcome = run(folder, "nve", 80, force_field=Faulty(51, spoil), every=1)
    assert (outcome.status, outcome.steps_done) == ("stopped", 49)
    assert [stop.replica for stop in outcome.stopped] == [0, 1]
    data = read_run(folder)
    assert data.status == "stopped"
    assert data.good_steps.tolist() == [50, 50]
    assert data.positions.shape[1] == len(data.times_fs) == 50
    assert np.isfinite(data.positions).all()
    assert json.loads((folder / "run.json").read_text())["reason"] == outcome.reason
    run(tmp_path / "whole", "nve", 80, every=1)
    assert run(folder, "nve", 80, every=1, resume=True).status == "finished"
    whole = read_run(tmp_path / "whole")
    np.testing.assert_array_equal(read_run(folder).dipoles, whole.dipoles)


def test_a_first_state_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    def spoil(response: Response) -> Response:
        return replace(response, energy=response.energy * torch.nan)

    with pytest.raises(ValueError, match="a energy of the first state is not"):
        run(tmp_path / "r", "nve", 80, force_field=Faulty(1, spoil))
    assert not (tmp_path / "r").exists()


def test_tensors_that_require_gradients_are_refused(tmp_path: Path) -> None:
    def attach(response: Response) -> Response:
        return replace(response, forces=response.forces.requires_grad_())

    with pytest.raises(ValueError, match=r"requires gradients.*; detach what"):
        run(tmp_path / "r", "nve", 80, force_field=Faulty(1, attach))


def test_rigid_motion_that_the_system_rules_out_is_refused(tmp_path: Path) -> None:
    recording = Recording(
        folder=tmp_path / "r", every=1, checkpoint_every=9, header={"inputs": {}}
    )
    internal, _ = waters(2, INTEGRATORS["nve"], Waters())
    everything, thermal = waters(2, INTEGRATORS["langevin"], Waters())
    with pytest.raises(ValueError, match=r"hold rigid motion.*remove_rigid_motion"):
        simulate(
            Waters(),
            internal,
            thermal,
            INTEGRATORS["nve"],
            n_steps=3,
            recording=recording,
        )
    with pytest.raises(ValueError, match=r"Langevin dynamics excite all.*free='all'"):
        simulate(
            Waters(),
            internal,
            thermal,
            INTEGRATORS["langevin"],
            n_steps=3,
            recording=recording,
        )
    assert not (tmp_path / "r").exists()
    outcome = simulate(
        Waters(),
        everything,
        thermal,
        INTEGRATORS["nve"],
        n_steps=3,
        recording=recording,
    )
    assert outcome.status == "finished"


def test_a_run_counts_from_the_state_it_is_given(tmp_path: Path) -> None:
    system, state = waters(2, INTEGRATORS["bussi"], Waters())
    for _ in range(30):
        state = INTEGRATORS["bussi"](system, state, Waters())
    recording = Recording(
        folder=tmp_path / "r", every=4, checkpoint_every=9, header={"inputs": {}}
    )
    simulate(
        Waters(), system, state, INTEGRATORS["nve"], n_steps=10, recording=recording
    )
    data = read_run(tmp_path / "r")
    assert data.frame_steps.tolist() == [0, 4, 8]
    assert data.times_fs[0] == 0.0
    assert not data.heat.any()
    np.testing.assert_array_equal(data.positions[0, 0], state.positions[:3])


def test_a_dipole_that_goes_missing_is_refused(tmp_path: Path) -> None:
    def drop(response: Response) -> Response:
        return replace(response, dipole=None)

    with pytest.raises(TypeError, match="gave a dipole at first and then none"):
        run(tmp_path / "r", "nve", 80, force_field=Faulty(10, drop))


def test_a_run_is_neither_overwritten_nor_resumed_by_mistake(tmp_path: Path) -> None:
    run(tmp_path / "r", "nve", 5)
    with pytest.raises(ValueError, match="already holds a run"):
        run(tmp_path / "r", "nve", 5)
    with pytest.raises(ValueError, match="holds no run to resume"):
        run(tmp_path / "other", "nve", 5, resume=True)


def test_intervals_must_be_positive(tmp_path: Path) -> None:
    for every, checkpoint_every in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="every is 0, but it counts steps"):
            Recording(
                folder=tmp_path,
                every=every,
                checkpoint_every=checkpoint_every,
                header={"inputs": {}},
            )


def test_the_outcome_is_told_and_written(tmp_path: Path) -> None:
    steps: list[int] = []
    outcome = run(tmp_path / "r", "nve", 60, progress=steps.append)
    assert steps == list(range(1, 61))
    assert (outcome.status, outcome.reason, outcome.steps_done) == (
        "finished",
        None,
        60,
    )
    data = read_run(tmp_path / "r")
    conserved = data.energies + data.kinetic
    slope = np.polyfit(data.times_fs * 1e-3, conserved.T, 1)[0] * 1e3 / 3
    np.testing.assert_allclose(outcome.drift_mev_per_atom_per_ps, slope, rtol=1e-6)
    written = json.loads((tmp_path / "r" / "run.json").read_text())
    assert written["status"] == "finished"
    assert written["drift_mev_per_atom_per_ps"] == pytest.approx(slope.tolist())
    assert written["seconds"] == outcome.seconds > 0.0
    assert written["version"] == "0"
    assert written["inputs"]["potential"] == "abc"


def test_the_example_of_the_package_runs() -> None:
    assert doctest.testmod(md).failed == 0
    assert doctest.testmod(md).attempted > 10


def test_a_run_of_no_steps_records_its_start(tmp_path: Path) -> None:
    outcome = run(tmp_path / "r", "nve", 0)
    assert outcome.status == "finished"
    assert outcome.drift_mev_per_atom_per_ps is None
    assert len(read_run(tmp_path / "r").times_fs) == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_steps(tmp_path: Path) -> None:
    peaks: list[int] = []

    def watch(step: int) -> None:
        if step in (1000, 10_000):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    system, state = waters(2, INTEGRATORS["langevin"], Waters())
    recording = Recording(
        folder=tmp_path / "r",
        every=10,
        checkpoint_every=500,
        header={"inputs": {}},
    )
    simulate(
        Waters(),
        system,
        state,
        INTEGRATORS["langevin"],
        n_steps=10_000,
        recording=recording,
        progress=watch,
    )
    assert peaks[1] - peaks[0] < 2000  # kB
