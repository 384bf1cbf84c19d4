"""The loop: steps, records, checkpoints, interruption, and exact restarts.

A run is a function of its inputs: interrupted or killed and resumed, it leaves the same
bytes, since a checkpoint holds the state with all its randomness exactly. The step of a
state says how many records belong to it, so the streams are cut to it.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from molpool_calc.md.advance import Advance, Pace
from molpool_calc.md.checkpoint import CHECKPOINT, require_recorded, resumed_state
from molpool_calc.md.checks import Checks
from molpool_calc.md.failure import WriteFailure
from molpool_calc.md.guard import NO_LIMITS, Limits
from molpool_calc.md.integrators import Integrator
from molpool_calc.md.manifest import (
    Manifest,
    check_run,
    describe_run,
    read_manifest,
    require_same_inputs,
    write_manifest,
)
from molpool_calc.md.outcome import RunOutcome, Status, measure
from molpool_calc.md.recorder import Recorder, Recording, n_records
from molpool_calc.md.records import STEPS, read_records
from molpool_calc.md.run_files import remove_run
from molpool_calc.md.signals import stop_request
from molpool_calc.md.state import (
    ForceField,
    MDState,
    MDSystem,
    kinetic_energy,
    remove_rigid_motion,
)
from molpool_calc.md.trajectory import (
    assemble,
    layouts,
    load_records,
    remove_streams,
    restore_streams,
)
from molpool_calc.md.watch import Watch


def simulate(
    force_field: ForceField,
    system: MDSystem,
    state: MDState,
    integrator: Integrator,
    *,
    n_steps: int,
    recording: Recording,
    progress: Callable[[int], None] | None = None,
    guard: Limits = NO_LIMITS,
) -> RunOutcome:
    """Run until step ``n_steps``, recording on the way, and return how it ended.

    The first Ctrl-C (or SIGTERM) ends the run after the current step, with a
    checkpoint and a readable ``trajectory.h5``; a second one does not wait for the
    step. A replica with a value that is not finite, or beyond a limit of the guard, is
    stopped by itself: its numbers are NaN from that step on, and the others go on.

    Args:
        force_field: Gives energies, forces and dipoles.
        system: What stays constant.
        state: Where the run starts, as step 0 of it; a resumed run takes its last
            checkpoint instead.
        integrator: Makes the steps.
        n_steps: Counted from the start, also for a resumed run.
        recording: Where and how often to write.
        progress: Called after each step with its number.
        guard: What no replica may do.

    Returns:
        The outcome, also written to ``run.json``.

    Raises:
        ValueError: If the folder is in use, the first state is not finite, beyond a
            limit or in rigid motion, or a run is resumed with other inputs or files.
        WriteFailure: If what happens can no longer be written, as on a full disk.
    """
    started = time.perf_counter()
    check_run(recording.folder, resume=recording.resume, force=recording.force)
    manifest = describe_run(
        system,
        state,
        integrator,
        every=recording.every,
        n_steps=n_steps,
        header=recording.header,
        guard=guard,
    )
    checks = Checks(
        system,
        guard,
        manifest["dynamics"]["observables"],
        timestep_fs=integrator.timestep_fs,
        has_spread=state.response.spread is not None,
    )
    watch = Watch(system, checks, recording.folder)
    begin = _resume if recording.resume else _start
    start = begin(system, state, recording, manifest, watch)
    with stop_request() as request:
        recorder = Recorder(system, recording, manifest, start.recorded_step)
        try:
            with closing(recorder):
                pace = Pace(
                    step=lambda current: integrator(system, current, force_field),
                    ends=lambda step: step >= n_steps or request.received,
                    progress=progress,
                    together=recording.together,
                )
                advance = Advance(pace, start.state, recorder, watch)
                state = advance.run(is_recorded=start.recorded_step >= 0)
            seconds = start.seconds + time.perf_counter() - started
            return _conclude(recording.folder, manifest, state.step, watch, seconds)
        except OSError as error:
            raise WriteFailure(
                f"{recording.folder} could not be written on "
                f"({error.strerror or error}); steps up to {recorder.recorded} can be "
                "read, and once there is room --resume goes on from step "
                f"{recorder.checkpointed}"
            ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Start:
    """Where a run begins; ``recorded_step`` is -1 if nothing is recorded yet."""

    state: MDState
    recorded_step: int
    seconds: float


def _start(
    system: MDSystem,
    state: MDState,
    recording: Recording,
    manifest: Manifest,
    watch: Watch,
) -> _Start:
    """Check the first state, then make room; steps and heat begin at zero."""
    _require_sound(system, state, manifest)
    first = replace(state, step=0, heat=torch.zeros_like(state.heat))
    watch.begin(first)
    if recording.force:  # nothing refuses the new run any more
        remove_run(recording.folder)
    recording.folder.mkdir(parents=True, exist_ok=True)
    write_manifest(recording.folder, manifest)
    return _Start(state=first, recorded_step=-1, seconds=0.0)


def _require_sound(system: MDSystem, state: MDState, manifest: Manifest) -> None:
    """Raise ValueError for a first state from which a run would go wrong."""
    response = state.response
    for replica, why in response.failures:
        raise ValueError(f"{why} in the first state of replica {replica}; mend that")
    for name, values in (
        ("position", state.positions),
        ("momentum", state.momenta),
        ("energy", response.energy),
        ("force", response.forces),
        ("dipole", response.dipole),
        *response.others.items(),
    ):
        if values is not None and values.requires_grad:
            raise ValueError(
                f"the {name} of the first state requires gradients, which would pile "
                "up from step to step; detach what the force field returns"
            )
        if values is not None and not bool(torch.isfinite(values).all()):
            raise ValueError(
                f"a {name} of the first state is not finite; start from a relaxed "
                "structure of elements that the potential knows"
            )
    if system.free == "all":
        return
    dynamics = manifest["dynamics"]
    if "langevin" in (dynamics["integrator"], dynamics.get("thermostat")):
        raise ValueError(
            "the system was made for internal motion only, but Langevin dynamics "
            "excite all; make it with free='all'"
        )
    internal = remove_rigid_motion(system, state.positions, state.momenta)
    rigid = kinetic_energy(system, state.momenta - internal)
    if bool((rigid > 1e-6 * kinetic_energy(system, state.momenta)).any()):
        raise ValueError(
            "the first momenta hold rigid motion, but the system was made for internal "
            "motion only; apply remove_rigid_motion to them, or use free='all'"
        )


def _resume(
    system: MDSystem,
    state: MDState,
    recording: Recording,
    manifest: Manifest,
    watch: Watch,
) -> _Start:
    """Compare the inputs, then load the last checkpoint if the run got that far."""
    folder = recording.folder
    old = read_manifest(folder)
    require_same_inputs(folder, old, manifest)
    path = folder / CHECKPOINT
    if not path.exists():
        return _start(system, state, recording, manifest, watch)
    state, recent = resumed_state(path, begun=state)
    if manifest["n_steps"] < state.step:
        raise ValueError(
            f"the run in {folder} has done {state.step} steps already, but "
            f"{manifest['n_steps']} were asked for; ask for more"
        )
    records = load_records(folder, old)
    found = tuple(map(len, records))
    wanted = n_records(state.step, recording.every)
    if any(there < needed for there, needed in zip(found, wanted, strict=True)):
        raise ValueError(
            f"the streams in {folder} hold {found[0]} steps and {found[1]} frames, but "
            f"its checkpoint needs {wanted[0]} and {wanted[1]}; they are damaged: "
            "start the run again in another folder"
        )
    require_recorded(path, state, records[0][state.step])
    restore_streams(folder, old)
    watch.go_on(state, records[0][0], old.get("stopped", []))
    watch.frames.restore(recent)
    seconds = float(old.get("seconds", 0.0))
    stopped = [stop.describe() for stop in watch.stops]
    goes_on = {"steps_done": state.step, "seconds": seconds, "stopped": stopped}
    write_manifest(folder, {**manifest, **goes_on})
    return _Start(state=state, recorded_step=state.step, seconds=seconds)


def _conclude(
    folder: Path, manifest: Manifest, step: int, watch: Watch, seconds: float
) -> RunOutcome:
    """Write how the run ended and ``trajectory.h5``; then streams may go."""
    status: Status = "finished" if step >= manifest["n_steps"] else "interrupted"
    by_step, _ = layouts(manifest)
    outcome = RunOutcome(
        status="stopped" if watch.has_ended else status,
        reason=watch.reason,
        steps_done=step,
        seconds=seconds,
        stopped=watch.stops,
        **measure(read_records(folder / STEPS, by_step), manifest),
    )
    write_manifest(folder, {**manifest, **outcome.describe()})
    assemble(folder)
    if outcome.status == "finished":
        remove_streams(folder)
    return outcome
