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
from typing import Any

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
PAINN, BOX = ("painn", "float32", False), ("painn", "float32", True)
COMPILED = {
    "ethanol-painn": (PAINN, ("painn", "float64", False)),
    "ethanol-schnet": (("schnet", "float32", False), ("schnet", "float64", False)),
    "aspirin-painn": (("aspirin", "float32", False),),
    "water-painn": (BOX,),
    "ethanol-batch": (PAINN,),
    "so3lr": (("so3lr", "float32", False),),
    "scaling": (BOX,),
    "batches": (PAINN,),
    "xtb": (PAINN,),
}
"""What cases need compiled: checkpoint, dtype, periodic."""
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
            compile_beforehand(arguments.only, bench)
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


def compile_beforehand(names: list[str], bench: Workbench) -> None:
    """Compile what cases need on all cores, since one compiler uses one."""

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
        needed = (job for name in names for job in COMPILED.get(name, ()))
        list(pool.map(build, dict.fromkeys(needed)))


def measure(name: str, bench: Workbench, out: Path | None) -> None:
    """Run one case and write its file; one that fails does not stop the others."""
    title = str(CASES[name].__doc__).splitlines()[0]
    say(f"{name}: {title}")
    try:
        content = measured(name, bench)
    except CannotRun as reason:
        say(f"{name} cannot run here: {reason}")
        return
    except Exception:  # whatever it is, the other rows are worth something
        say(f"{name} failed")
        traceback.print_exc()
        return
    if not content["rows"]:
        say(f"{name} is left out by --quick")
        return
    for line in [*goal_lines(content), *row_lines(content["rows"])]:
        say(line)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**content, "title": title}, indent=1)
        (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def measured(name: str, bench: Workbench) -> dict[str, Any]:
    """Return the rows of a case, with what must be said of the machine."""
    before, start = machine(), time.perf_counter()
    result = CASES[name](bench)
    return {
        "name": name,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seconds": time.perf_counter() - start,
        "machine": {**before, "load_at_end": machine()["load"]},
        "versions": versions(),
        "goals": [dataclasses.asdict(goal) for goal in result.goals],
        "rows": result.rows,
    }


if __name__ == "__main__":
    main()
