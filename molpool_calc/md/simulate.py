"""The loop: steps, records, checkpoints, interruption, and exact restarts.

A run is a function of its inputs: done in one go, interrupted and resumed, or killed
and resumed, it leaves the same bytes, since all randomness travels in the state and a
checkpoint holds the state exactly. The number of records that belong to a state
follows from its step, so the streams are cut to it when a run goes on.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import torch

from molpool_calc.md.checkpoint import CHECKPOINT, load_checkpoint
from molpool_calc.md.integrators import Integrator
from molpool_calc.md.manifest import (
    Manifest,
    check_output,
    describe_run,
    read_manifest,
    require_same_inputs,
    write_manifest,
)
from molpool_calc.md.outcome import RunOutcome, Status, measure
from molpool_calc.md.recorder import Recorder, Recording, n_records
from molpool_calc.md.records import STEPS, read_records
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


def simulate(
    force_field: ForceField,
    system: MDSystem,
    state: MDState,
    integrator: Integrator,
    *,
    n_steps: int,
    recording: Recording,
    progress: Callable[[int], None] | None = None,
) -> RunOutcome:
    """Run until step ``n_steps``, recording on the way, and return how it ended.

    The first Ctrl-C (or SIGTERM) ends the run after the current step, with a
    checkpoint and a readable ``trajectory.h5``; a second one does not wait for the
    step. A value that is not finite ends it too, before it is recorded.

    Args:
        force_field: Gives energies, forces and dipoles.
        system: What stays constant.
        state: Where the run starts, as step 0 of it; a resumed run takes its last
            checkpoint instead.
        integrator: Makes the steps.
        n_steps: Counted from the start, also for a resumed run.
        recording: Where and how often to write.
        progress: Called after each step with its number.

    Returns:
        The outcome, also written to ``run.json``.

    Raises:
        ValueError: If the folder is in use, the first state is not finite or has
            rigid motion that the system rules out, or a run is resumed with other
            inputs, fewer steps, or damaged files.
    """
    started = time.perf_counter()
    check_output(recording.folder, resume=recording.resume, force=False)
    manifest = describe_run(
        system,
        state,
        integrator,
        every=recording.every,
        n_steps=n_steps,
        header=recording.header,
    )
    begin = _resume if recording.resume else _start
    start = begin(system, state, recording, manifest)
    with _stop_request() as request:
        recorder = Recorder(system, recording, manifest, start.recorded_step)
        with closing(recorder):
            state, reason = _advance(
                lambda current: integrator(system, current, force_field),
                start,
                recorder,
                ends=lambda step: step >= n_steps or request.received,
                every=recording.checkpoint_every,
                progress=progress,
            )
        seconds = start.seconds + time.perf_counter() - started
        return _conclude(recording.folder, manifest, state.step, reason, seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Start:
    """Where a run begins; ``recorded_step`` is -1 if nothing is recorded yet."""

    state: MDState
    recorded_step: int
    seconds: float


def _start(
    system: MDSystem, state: MDState, recording: Recording, manifest: Manifest
) -> _Start:
    """Check the first state, then make the folder; steps and heat begin at zero."""
    _require_sound(system, state, manifest)
    recording.folder.mkdir(parents=True, exist_ok=True)
    write_manifest(recording.folder, manifest)
    first = replace(state, step=0, heat=torch.zeros_like(state.heat))
    return _Start(state=first, recorded_step=-1, seconds=0.0)


def _require_sound(system: MDSystem, state: MDState, manifest: Manifest) -> None:
    """Raise ValueError for a first state from which a run would go wrong."""
    response = state.response
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
    system: MDSystem, state: MDState, recording: Recording, manifest: Manifest
) -> _Start:
    """Compare the inputs, then load the last checkpoint if the run got that far."""
    folder = recording.folder
    old = read_manifest(folder)
    require_same_inputs(folder, old, manifest)
    if not (folder / CHECKPOINT).exists():
        return _start(system, state, recording, manifest)
    state = load_checkpoint(folder / CHECKPOINT, state.positions.device)
    if manifest["n_steps"] < state.step:
        raise ValueError(
            f"the run in {folder} has done {state.step} steps already, but "
            f"{manifest['n_steps']} were asked for; ask for more"
        )
    restore_streams(folder, old)
    found = tuple(len(records) for records in load_records(folder, old))
    wanted = n_records(state.step, recording.every)
    if any(there < needed for there, needed in zip(found, wanted, strict=True)):
        raise ValueError(
            f"the streams in {folder} hold {found[0]} steps and {found[1]} frames, but "
            f"its checkpoint needs {wanted[0]} and {wanted[1]}; they are damaged: "
            "start the run again in another folder"
        )
    seconds = float(old.get("seconds", 0.0))
    goes_on = {**manifest, "steps_done": state.step, "seconds": seconds}
    write_manifest(folder, goes_on)
    return _Start(state=state, recorded_step=state.step, seconds=seconds)


def _advance(
    step: Callable[[MDState], MDState],
    start: _Start,
    recorder: Recorder,
    *,
    ends: Callable[[int], bool],
    every: int,
    progress: Callable[[int], None] | None,
) -> tuple[MDState, str | None]:
    """Return the last good state, and the reason if a bad one follows it.

    A KeyboardInterrupt may come at any point: the state is that of the last complete
    step, and the checkpoint cuts what was recorded beyond it.
    """
    state, reason = start.state, None
    if start.recorded_step < 0:
        recorder.record(state)
        recorder.checkpoint(state)
    try:
        while not ends(state.step):
            following = step(state)
            reason = recorder.record(following)
            if reason is not None:
                break
            state = following
            if state.step % every == 0:
                recorder.checkpoint(state)
            if progress is not None:
                progress(state.step)
    except KeyboardInterrupt:
        pass
    recorder.checkpoint(state)
    return state, reason


def _conclude(
    folder: Path, manifest: Manifest, step: int, reason: str | None, seconds: float
) -> RunOutcome:
    """Write how the run ended and ``trajectory.h5``; then streams may go."""
    status: Status = "finished" if step >= manifest["n_steps"] else "interrupted"
    by_step, _ = layouts(manifest)
    outcome = RunOutcome(
        status=status if reason is None else "stopped",
        reason=reason,
        steps_done=step,
        seconds=seconds,
        **measure(read_records(folder / STEPS, by_step), manifest),
    )
    write_manifest(folder, {**manifest, **outcome.describe()})
    assemble(folder)
    if outcome.status == "finished":
        remove_streams(folder)
    return outcome


class _StopRequest:
    """Notes the first SIGINT or SIGTERM, and raises KeyboardInterrupt at the second."""

    received = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.received:
            raise KeyboardInterrupt
        self.received = True


@contextmanager
def _stop_request() -> Iterator[_StopRequest]:
    """Listen for signals; only the main thread gets them, others hear of none."""
    request = _StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, request) for number in numbers]
    try:
        yield request
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
