"""Cost of recording and guarding a step: time, and bytes on the disk.

``python benchmarks/recording.py``: 8 replicas of ethanol, NVE with the bundled
``painn-ethanol``, one thread. Parts are timed in turn, block by block, in processor
time; the fastest block counts, since other programs only ever make one longer.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.md.checks import Checks
from molpool_calc.md.guard import NO_LIMITS, usual_limits
from molpool_calc.md.integrators import NVE
from molpool_calc.md.manifest import describe_run
from molpool_calc.md.recorder import Recorder, Recording
from molpool_calc.md.trajectory import layouts
from molpool_calc.md.watch import Watch
from molpool_calc.molecules import read_system
from molpool_calc.replicas import make_replicas, thermal_state


def timed(parts: dict[str, Callable[[], object]], blocks: int, calls: int):
    """Return the shortest time of each part in µs, measured in alternating blocks."""
    found: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(blocks):
        for name, part in parts.items():
            start = time.process_time()
            for _ in range(calls):
                part()
            found[name].append((time.process_time() - start) / calls * 1e6)
    return {name: min(times) for name, times in found.items()}


def measure(n_replicas: int, compile_: str, blocks: int, calls: int) -> dict:
    """Return µs per step of each part, and bytes per step and frame."""
    atoms = read_system("ethanol")
    calculator = MolPoolCalculator("painn-ethanol", device="cpu", compile=compile_)
    replicas = make_replicas(
        calculator.evaluator.engines[0],
        atoms,
        state=calculator.charge_and_spin(atoms),
        n_replicas=n_replicas,
    )
    integrator = NVE(timestep_fs=0.5)
    system = replicas.system(integrator.free)
    state = thermal_state(replicas, system, 300.0, 0)
    field = replicas.force_field
    with tempfile.TemporaryDirectory() as place:
        recording = Recording(
            folder=Path(place), every=1, checkpoint_every=1000, header={"inputs": {}}
        )
        manifest = describe_run(
            system, state, integrator, every=1, n_steps=1, header=recording.header
        )

        def checks(limits) -> Checks:
            columns = manifest["dynamics"]["observables"]
            return Checks(system, limits, columns, timestep_fs=0.5, has_spread=False)

        guarded, bare = checks(usual_limits(300.0)), checks(NO_LIMITS)
        watch = Watch(system, guarded, Path(place))
        watch.begin(state)
        row = guarded.observe(state)
        recorder = Recorder(system, recording, manifest, -1)
        nobody = np.zeros(n_replicas, bool)
        numbers = watch.recorded(row)
        steps = iter(range(10**9))

        def record() -> None:
            recorder._steps.append(next(steps), numbers.tobytes())

        parts = {
            "force call": lambda: field(state.positions),
            "whole step": lambda: integrator(system, state, field),
            "observe": lambda: bare.observe(state),
            "observe and measure": lambda: guarded.observe(state),
            "judge": lambda: watch.admit(state, state, row),
            "record a step": record,
            "record a frame": lambda: recorder._append_frame(state, nobody),
            "checkpoint": lambda: recorder.checkpoint(state, watch.frames),
        }
        found = timed(parts, blocks, calls)
        recorder.close()
        by_step, by_frame = layouts(manifest)
        found["bytes of a step"] = by_step.itemsize
        found["bytes of a frame"] = by_frame.itemsize
    cost = found["observe and measure"] + found["judge"] + found["record a step"]
    cost += found["whole step"] - found["force call"]
    found["overhead, % of the force call"] = 100 * cost / found["force call"]
    guard = found["observe and measure"] - found["observe"] + found["judge"]
    found["guard, % of the force call"] = 100 * guard / found["force call"]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--compile", choices=("never", "cached", "now"), default="now")
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--calls", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.replicas, options.compile, options.blocks, options.calls)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
