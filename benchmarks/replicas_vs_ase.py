"""Replicas in one batch against a Python loop of ASE runs, per replica and step.

``python benchmarks/replicas_vs_ase.py``: NVE of ethanol with ``painn-ethanol``, one
thread. The batch is MolPool's integrator over all replicas at once; the loop makes the
same steps with ASE's ``VelocityVerlet`` and one ``MolPoolCalculator`` for each replica.
Parts are timed in alternating blocks of one run, in processor time; the fastest block
counts, since other programs only ever make one longer. Prints a Markdown table, and
writes all times as JSON with ``--out``.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import ase
import numpy as np
import torch
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.units import fs

from molpool_calc._version import __version__
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.md.integrators import NVE
from molpool_calc.molecules import read_system
from molpool_calc.replicas import make_replicas, thermal_state

TIMESTEP_FS = 0.5
TEMPERATURE = 300.0
POTENTIAL = "painn-ethanol"

Part = Callable[[int], None]
"""Makes a number of steps of all replicas."""


class Batch:
    """All replicas moved by one call of the force field."""

    def __init__(self, n_replicas: int, compile_: str) -> None:
        atoms = read_system("ethanol")
        calculator = MolPoolCalculator(POTENTIAL, device="cpu", compile=compile_)
        replicas = make_replicas(
            calculator.evaluator.engines[0],
            atoms,
            state=calculator.charge_and_spin(atoms),
            n_replicas=n_replicas,
        )
        self._integrator = NVE(timestep_fs=TIMESTEP_FS)
        self._system = replicas.system(self._integrator.free)
        self._field = replicas.force_field
        self._state = thermal_state(replicas, self._system, TEMPERATURE, 0)

    def steps(self, n_steps: int) -> None:
        """Make steps, each with one force call."""
        for _ in range(n_steps):
            self._state = self._integrator(self._system, self._state, self._field)

    def forces(self, n_steps: int) -> None:
        """Make the force calls alone, where the steps have come to."""
        for _ in range(n_steps):
            self._field(self._state.positions)


def loop_of_ase(n_replicas: int, compile_: str) -> Part:
    """Return what moves replicas one after the other, as a script with ASE would."""
    runs = []
    for seed in range(n_replicas):
        atoms = read_system("ethanol")
        atoms.calc = MolPoolCalculator(POTENTIAL, device="cpu", compile=compile_)
        thermalize_momenta(
            atoms, temperature_K=TEMPERATURE, rng=np.random.default_rng(seed)
        )
        runs.append(VelocityVerlet(atoms, timestep=TIMESTEP_FS * fs))

    def steps(n_steps: int) -> None:
        for run in runs:
            run.run(n_steps)

    return steps


def timed(parts: dict[str, Part], n_replicas: int, blocks: int, steps: int) -> dict:
    """Return the shortest time of each part in µs per replica and step."""
    found: dict[str, list[float]] = {name: [] for name in parts}
    for block in range(blocks + 1):  # the first one warms up
        for name, part in parts.items():
            start = time.process_time()
            part(steps)
            elapsed = time.process_time() - start
            if block > 0:
                found[name].append(1e6 * elapsed / steps / n_replicas)
    return {name: min(times) for name, times in found.items()}


def measure(n_replicas: int, compile_: str, blocks: int, steps: int) -> dict:
    """Return the times of batch, force call and loop, and their ratios."""
    batch = Batch(n_replicas, compile_)
    parts = {
        "batch": batch.steps,
        "force call": batch.forces,
        "loop": loop_of_ase(n_replicas, compile_),
    }
    found = timed(parts, n_replicas, blocks, steps)
    overhead = 100 * (found["batch"] / found["force call"] - 1)
    return {
        "compile": compile_,
        "replicas": n_replicas,
        **found,
        "loop / batch": found["loop"] / found["batch"],
        "overhead, %": overhead,
    }


def table(rows: list[dict]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| engine | replicas | ASE loop, µs | batch, µs | ratio | force call, µs "
        "| overhead of the step, % |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        engine = "eager" if row["compile"] == "never" else "compiled"
        lines.append(
            f"| {engine} | {row['replicas']} | {row['loop']:.0f} | {row['batch']:.0f} "
            f"| {row['loop / batch']:.2f} | {row['force call']:.0f} "
            f"| {row['overhead, %']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--compile", nargs="+", default=["now", "never"])
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument(
        "--replica-steps", type=int, default=640, help="of each part in a block"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for compile_ in options.compile:
        for n_replicas in options.replicas:
            steps = max(1, options.replica_steps // n_replicas)
            rows.append(measure(n_replicas, compile_, options.blocks, steps))
    print("µs of processor time per replica and step, fastest block\n")
    print(table(rows))
    machine = {"load": os.getloadavg(), "processor": platform.machine()}
    versions = {
        "molpool-calc": __version__,
        "torch": torch.__version__,
        "ase": ase.__version__,
    }
    print(f"\nload {machine['load'][0]:.1f}, {versions}")
    if options.out is not None:
        result = {"machine": machine, "versions": versions, "rows": rows}
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
