"""What a step of ``molpool ir ethanol`` costs beside its forces.

``python benchmarks/overhead.py``: NVE of replicas of ethanol with ``painn-ethanol``,
guarded, recorded and with checkpoints, as ``molpool ir`` runs it. The time inside the
engine is taken out call by call; what is left is integration, conversion, guard,
records, frames and checkpoints. Prints a Markdown table of µs per step of all replicas:
the mean over the run, and the median between two calls, which leaves out what is done
for several steps together, and what other programs took.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.dynamics import recording_of_run
from molpool_calc.infrared_job import InfraredJob
from molpool_calc.interfaces import AtomsBatch, NeighborList, Prediction
from molpool_calc.md.simulate import simulate
from molpool_calc.molecules import read_system
from molpool_calc.replicas import make_replicas, thermal_state
from molpool_calc.statics import relax

POTENTIAL = "painn-ethanol"
FIRST = 50
"""Steps that warm up."""


class TimedEngine:
    """Notes when an engine is entered and left."""

    def __init__(self, engine) -> None:
        self._engine = engine
        self.potential, self.device, self.dtype = (
            engine.potential,
            engine.device,
            engine.dtype,
        )
        self.times: list[tuple[float, float]] = []

    def evaluate(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Prediction:
        """Return what the engine does."""
        entered = time.perf_counter()
        prediction = self._engine.evaluate(batch, neighbors, properties)
        self.times.append((entered, time.perf_counter()))
        return prediction


def measure(n_replicas: int, n_steps: int, compile_: str) -> dict[str, float]:
    """Return µs per step inside and outside of the engine."""
    calculator = MolPoolCalculator(POTENTIAL, device="cpu", compile=compile_)
    atoms = relax(read_system("ethanol"), POTENTIAL, device="cpu").atoms
    job = InfraredJob(replicas=n_replicas, picoseconds=n_steps * 0.5e-3).dynamics
    engine = TimedEngine(calculator.evaluator.engines[0])
    replicas = make_replicas(
        engine,
        atoms,
        state=calculator.charge_and_spin(atoms),
        n_replicas=n_replicas,
    )
    system = replicas.system(job.integrator.free)
    with tempfile.TemporaryDirectory() as place:
        recording = recording_of_run(
            calculator, POTENTIAL, atoms, job, Path(place) / "run", resume=False
        )
        # as often as in 20 ps
        recording = replace(recording, checkpoint_every=2000)
        state = thermal_state(replicas, system, 300.0, 0)
        engine.times.clear()
        simulate(
            replicas.force_field,
            system,
            state,
            job.integrator,
            n_steps=n_steps,
            recording=recording,
            guard=job.limits,
        )
    entered, left = 1e6 * np.array(engine.times[FIRST:]).T
    outside = entered[1:] - left[:-1]
    return {
        "inside": float(np.median(left - entered)),
        "median": float(np.median(outside)),
        "mean": float(outside.mean()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--steps", type=int, default=3000, help="with one replica")
    parser.add_argument("--compile", choices=("never", "cached", "now"), default="now")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| replicas | engine, µs | beside it, mean, µs | median between two calls |")
    print("|---:|---:|---:|---:|")
    for n_replicas in options.replicas:
        n_steps = max(400, options.steps // n_replicas)
        found = measure(n_replicas, n_steps, options.compile)
        print(
            f"| {n_replicas} | {found['inside']:.0f} | {found['mean']:.0f} "
            f"| {found['median']:.0f} |"
        )
    print(f"\nload {os.getloadavg()[0]:.1f}, {options.threads} thread(s)")


if __name__ == "__main__":
    main()
