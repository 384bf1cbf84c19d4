"""Steps on a GPU: each engine, batches of replicas, boxes of water; SchNetPack beside.

    python benchmarks/gpu.py [--painn best_model] [--so3lr params.pkl]
        [--peer-python peers/schnetpack/bin/python] [--out benchmarks/results/gpu.json]

``best_model`` is a SchNetPack >= 2 model file of ethanol, which the peer runs as well
(it unpickles it, so give one that you trust); without it random weights of the same
size are taken, which take as long. Rows are those of ``molpool bench``: medians of
alternating blocks, the peer beside, and the floor, which is counted work over the rates
measured on this card. A replica-step is one step of Langevin dynamics of one of many
replicas that move together, what is recorded of it brought to the host; the peer's is
the bare forward and backward pass of the same batch, its pairs found beforehand.
"""

import gc
import json
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from molpool_calc.atoms import CLOSED_SHELL
from molpool_calc.bench.machine import machine, versions
from molpool_calc.bench.peer import Peer, PeerFailure
from molpool_calc.bench.row import Bench, Job, peer_job
from molpool_calc.bench.steps import FRICTION_PER_FS, TEMPERATURE, TIMESTEP_FS
from molpool_calc.bench.systems import bench_system
from molpool_calc.bench.timing import Clock, Steps, alternate, clock
from molpool_calc.compilation.engine import Compile, make_engine, prepare
from molpool_calc.importers import import_schnetpack, import_so3lr
from molpool_calc.md.checks import Checks
from molpool_calc.md.guard import NO_LIMITS
from molpool_calc.md.integrators import Langevin
from molpool_calc.potential import NeuralPotential, PotentialSpec
from molpool_calc.replicas import make_replicas, thermal_state

GPU = torch.device("cuda")
WORKER = Path(__file__).with_name("peers") / "schnetpack.py"
ENGINES: tuple[Compile, ...] = ("never", "graph", "now")
RECORDED = ("energy", "kinetic", "heat")
PUBLISHED = {"kind": "painn", "n_features": 128, "n_interactions": 3, "n_rbf": 20}
WATERS = ("water-64", "water-512", "water-4096")
LONG_RANGE_CUTOFF = 12.0
"""Å, of SO3LR's electrostatics and dispersion."""

SHOWN = ("ms_per_step", "peer_ms_per_step", "ratio", "floor_ms", "failure")

Row = dict[str, Any]


def painn(path: Path | None) -> NeuralPotential:
    """Return the published potential, or one of its size with random weights."""
    if path is not None:
        return import_schnetpack(path, unit="kcal/mol", elements=("H", "C", "O"))
    return NeuralPotential(
        PotentialSpec(
            name="painn-random",
            elements=(1, 6, 8),
            network={**PUBLISHED, "cutoff": 5.0},
            heads={"energy": {"pooling": "sum"}},
        )
    )


def replica_steps(potential: NeuralPotential, n_replicas: int, mode: Compile) -> Steps:
    """Return steps of Langevin dynamics of replicas of ethanol; one replica is one."""
    atoms = bench_system("ethanol")
    engine = make_engine(deepcopy(potential), GPU, torch.float32, mode)
    forces = frozenset({"energy", "forces"})
    prepare(engine, forces, periodic=False, n_atoms=len(atoms))
    replicas = make_replicas(engine, atoms, state=CLOSED_SHELL, n_replicas=n_replicas)
    integrator = Langevin(
        timestep_fs=TIMESTEP_FS,
        temperature=TEMPERATURE,
        friction_per_fs=FRICTION_PER_FS,
    )
    system = replicas.system(integrator.free)
    checks = Checks(
        system, NO_LIMITS, RECORDED, timestep_fs=TIMESTEP_FS, has_spread=False
    )
    states = [thermal_state(replicas, system, TEMPERATURE, seed=0)]

    def steps(n_steps: int) -> None:
        for _ in range(0, n_steps, n_replicas):
            states[0] = integrator(system, states[0], replicas.force_field)
            checks.observe(states[0])

    return steps


def peer_facts(path: Path | None) -> dict[str, Any]:
    """Return which model the peer runs."""
    if path is not None:
        return {"model_file": str(path.resolve()), "unit": "kcal/mol"}
    return {"network": {**PUBLISHED, "cutoff": 5.0}}


def replica_row(
    potential: NeuralPotential,
    n: int,
    mode: Compile,
    peer: Peer | None,
    facts: Mapping[str, Any],
    seconds: float,
) -> Row:
    """Return replica-steps per second, and the peer's for the bare batch."""
    clocks: dict[str, Clock] = {"own": clock(replica_steps(potential, n, mode))}
    failed: Row = {}
    if peer is not None:
        job = Job(
            system="ethanol",
            atoms=bench_system("ethanol"),
            potential=potential,
            what="batch",
            batch=n,
            device="cuda",
        )
        try:
            peer.prepare({**peer_job(job, 1), **facts})
            clocks["peer"] = peer.seconds
        except PeerFailure as failure:
            failed = {"peer_failure": str(failure)}
    found = {name: times.median for name, times in alternate(clocks, seconds).items()}
    return {
        "system": "ethanol",
        "what": f"replica-step of {n} replicas",
        "engine": mode,
        "ms_per_step": found["own"],
        "replica_steps_per_s": 1e3 / found["own"],
        "peer_ms_per_step": found.get("peer"),
        "ratio": found["peer"] / found["own"] if "peer" in found else None,
        **failed,
    }


def jobs(arguments: Namespace) -> Iterator[tuple[str, Callable[[Peer | None], Row]]]:
    """Yield what is to be timed, with a title."""
    bench = Bench(seconds=arguments.seconds)
    potential = painn(arguments.painn)
    facts = peer_facts(arguments.painn)

    def row(job: Job) -> Callable[[Peer | None], Row]:
        return lambda peer: bench.row(job, peer, peer_facts=facts)

    def replicas(n: int, mode: Compile) -> Callable[[Peer | None], Row]:
        return lambda peer: replica_row(
            potential, n, mode, peer, facts, arguments.seconds
        )

    def job(name: str, source: NeuralPotential, what: str, mode: Compile) -> Job:
        structure: Atoms = bench_system(name)
        return Job(
            system=name,
            atoms=structure,
            potential=source,
            what=what,
            device="cuda",
            compile=mode,
        )

    for mode in ENGINES:
        asked = job("ethanol", potential, "langevin", mode)
        yield f"ethanol, {mode}", row(asked)
    for n in (1, 64, 1024):
        for mode in ENGINES:
            yield f"{n} replicas, {mode}", replicas(n, mode)
    for name in WATERS:
        yield f"painn {name}", row(job(name, potential, "forces", "graph"))
    if arguments.so3lr is not None:
        long_range = import_so3lr(arguments.so3lr, long_range_cutoff=LONG_RANGE_CUTOFF)
        for name in WATERS:
            yield f"so3lr {name}", row(job(name, long_range, "forces", "graph"))


def main() -> None:
    """Print a line for each row, and write all where asked."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--painn", type=Path)
    parser.add_argument("--so3lr", type=Path)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of titles")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    context: AbstractContextManager[Peer | None] = nullcontext()
    if not arguments.no_peer:
        context = Peer(WORKER, arguments.peer_python)
    rows: list[Row] = []
    with context as peer:
        for title, make in jobs(arguments):
            if any(part in title for part in arguments.only):
                measured = measure(make, None if title.startswith("so3lr") else peer)
                rows.append({"title": title, **measured})
                shown = {k: v for k, v in measured.items() if k in SHOWN and v}
                print(title, shown, flush=True)
                write(rows, arguments.out)


def measure(make: Callable[[Peer | None], Row], peer: Peer | None) -> Row:
    """Return a row, or why there is none: the others are worth something."""
    try:
        return make(peer)
    except Exception as error:
        traceback.print_exc()
        return {"failure": f"{type(error).__name__}: {error}"}
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def write(rows: list[Row], out: Path | None) -> None:
    """Write all rows so far."""
    if out is None:
        return
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "versions": versions(),
        "rows": rows,
    }
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
