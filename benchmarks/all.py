"""Fill the whole speed table: every row beside its peer, in alternating blocks.

    sh benchmarks/make_peers.sh peers
    python benchmarks/all.py --peers peers --checkpoints FOLDER [--quick] [--only NAME]

FOLDER holds the published files that ``workbench.CHECKPOINTS`` names. Writes
``results/NAME.json`` with machine, versions and load, then the tables of ``README.md``
and ``speed.png`` from all results there. A row that cannot run here says why and leaves
an earlier result alone. ``--quick`` measures less and writes nothing without ``--out``.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import cases_of_runs as runs
import cases_of_steps as steps
from report import (
    PICTURE,
    README,
    RESULTS,
    goal_lines,
    row_lines,
    write_picture,
    write_tables,
)
from workbench import CannotRun, Result, Workbench

from molpool_calc.bench.machine import machine, versions
from molpool_calc.bench.peer import PeerFailure
from molpool_calc.bench.row import Bench
from molpool_calc.bench.systems import bench_system
from molpool_calc.compilation.engine import prepare
from molpool_calc.engine import DTYPES, resolve_device
from molpool_calc.evaluator import Evaluator

CASES: dict[str, Callable[[Workbench], Result]] = {
    "ethanol-painn": steps.ethanol_painn,
    "ethanol-schnet": steps.ethanol_schnet,
    "aspirin-painn": steps.aspirin_painn,
    "water-painn": steps.water_painn,
    "ethanol-batch": steps.ethanol_batch,
    "so3lr": steps.so3lr,
    "dimenet": steps.dimenet,
    "training": runs.training,
    "scaling": runs.scaling,
    "infrared": runs.infrared,
    "batches": steps.ethanol_batches,
    "xtb": steps.xtb,
    "first-call": runs.first_call,
    "gpu": runs.gpu,
}
"""By the name of their file in ``results``, in the order of the tables."""
COMPILED = (
    *(("painn", "float32", False), ("painn", "float64", False)),
    *(("schnet", "float32", False), ("schnet", "float64", False)),
    *(("aspirin", "float32", False), ("painn", "float32", True)),
    ("so3lr", "float32", False),
)
"""What is compiled beforehand, two at a time: checkpoint, dtype, periodic."""
SECONDS, QUICK_SECONDS = 4.0, 0.8


def main() -> None:
    """Measure what was asked for."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, default=Path("peers"))
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    out = arguments.out or (None if arguments.quick else RESULTS)
    with tempfile.TemporaryDirectory() as scratch:
        bench = make_workbench(arguments, Path(scratch))
        if not arguments.quick:
            compile_beforehand(bench)
        for name in arguments.only:
            measure(name, bench, out)
    if out == RESULTS:
        write_tables(RESULTS, README)
        write_picture(RESULTS, PICTURE)


def make_workbench(arguments: Namespace, scratch: Path) -> Workbench:
    """Return the workbench that the arguments ask for."""
    return Workbench(
        peers=arguments.peers,
        checkpoints=arguments.checkpoints,
        scratch=scratch,
        cores=os.cpu_count() or 1,
        quick=arguments.quick,
        bench=Bench(QUICK_SECONDS if arguments.quick else SECONDS, say),
    )


def say(sentence: str) -> None:
    """Print on stderr, so that a long run shows where it is."""
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {sentence}\n")


def compile_beforehand(bench: Workbench) -> None:
    """Compile what the rows need on all cores, since one compiler uses one."""

    def build(job: tuple[str, str, bool]) -> None:
        what, dtype, periodic = job
        try:
            potential = bench.published(what)
        except CannotRun:
            return
        evaluator = Evaluator(
            [potential],
            device=resolve_device("cpu"),
            dtype=DTYPES[dtype],
            skin=1.0,
            compile="now",
        )
        wanted = {"energy", "forces"} | ({"stress"} if periodic else set())
        found = prepare(evaluator.engines[0], frozenset(wanted), periodic=periodic)
        say(f"{found}: {what} {dtype} {'periodic' if periodic else 'molecules'}")

    bench_system("ethanol")  # files are read before threads are many
    with ThreadPoolExecutor(bench.cores) as pool:
        list(pool.map(build, COMPILED))


def measure(name: str, bench: Workbench, out: Path | None) -> None:
    """Run one case and write its file; one that fails does not stop the others."""
    case, before = CASES[name], machine()
    title = str(case.__doc__).splitlines()[0]
    say(f"{name}: {title}")
    start = time.perf_counter()
    try:
        result = case(bench)
    except CannotRun as reason:
        say(f"{name} cannot run here: {reason}")
        return
    except (PeerFailure, RuntimeError, ValueError, subprocess.SubprocessError):
        say(f"{name} failed")
        traceback.print_exc()
        return
    content = {
        "name": name,
        "title": title,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seconds": time.perf_counter() - start,
        "machine": {**before, "load_at_end": machine()["load"]},
        "versions": versions(),
        "goals": [dataclasses.asdict(goal) for goal in result.goals],
        "rows": result.rows,
    }
    for line in [*goal_lines(content), *row_lines(result.rows)]:
        say(line)
    if out is not None and result.rows:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, indent=1, allow_nan=False)
        (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
