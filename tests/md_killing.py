"""Kills runs with SIGKILL at random moments, resumes them, and compares all bytes.

Run as a script: one process loads everything once and forks the processes to kill, so
that a kill costs milliseconds and falls into any part of a run: before its first file,
between two records, inside a checkpoint, while its file is put together.
"""

import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from md_faults import run_faulty, swirl
from md_models import INTEGRATORS, NPT, run

from molpool_calc.md.guard import Limits
from molpool_calc.md.manifest import read_manifest
from molpool_calc.md.trajectory import load_records

N_STEPS = 60
"""Two checkpoints on the way."""
UNTIL_STOPPED = 120
"""Steps in which the guard stops a replica, and the others go on."""
LIMITS = Limits(distance=0.5, force=200.0, drift=50.0)


def go_on(folder: Path, name: str) -> None:
    """Start or resume; ``guarded …`` is a run of which a replica is stopped.

    ``ahead …`` is such a run, with steps that are made before they are checked.
    """
    resume = (folder / "run.json").exists()
    kind, _, integrator = name.partition(" ")
    if kind in {"guarded", "ahead"}:
        run_faulty(
            folder,
            integrator,
            swirl,
            limits=LIMITS,
            n_steps=UNTIL_STOPPED,
            resume=resume,
            together=16 if kind == "ahead" else 1,
        )
    else:
        run(folder, name, N_STEPS, resume=resume)


def everything(folder: Path) -> dict[str, bytes]:
    """All bytes that may not depend on interruptions."""
    manifest = read_manifest(folder)
    steps, frames = load_records(folder, manifest)
    found = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.suffix not in {".h5", ".json"}  # they state seconds
    }
    kept = {
        key: manifest[key] for key in ("status", "steps_done", "stopped", "dynamics")
    }
    for key in ("drift_mev_per_atom_per_ps", "mean_temperature"):
        kept[key] = manifest[key]
    columns = {
        f"{stream}/{column}": records[column].tobytes()
        for stream, records in (("steps", steps), ("frames", frames))
        for column in records.dtype.names or ()
        if column != "crc32"
    }
    return {**found, **columns, "run.json": repr(kept).encode()}


def forked(folder: Path, name: str) -> int:
    """Return the process that goes on with a run."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with contextlib.redirect_stdout(None):
            go_on(folder, name)
        code = 0
    finally:
        os._exit(code)


def kill_often(
    place: Path, name: str, n_kills: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Return how many runs came to their end under so many kills, and how many bad."""
    go_on(place / "whole", name)
    started = time.perf_counter()
    go_on(place / "timed", name)
    duration = time.perf_counter() - started
    expected = everything(place / "whole")
    kills = runs = bad = 0
    while kills < n_kills:
        folder = place / f"{runs}"
        runs += 1
        while True:
            child = forked(folder, name)
            time.sleep(rng.uniform(0.0, 0.8) * duration)
            if kills < n_kills:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                kills += 1
                continue
            bad += os.waitstatus_to_exitcode(status) != 0
            break
        same = everything(folder) == expected
        bad += not same
    return runs, bad


def main(n_kills: str, *names: str) -> None:
    """Kill each kind of run so often, and print what came of it."""
    rng = np.random.default_rng()
    for name in names or (*INTEGRATORS, *NPT, "guarded langevin", "guarded nve"):
        with tempfile.TemporaryDirectory() as place:
            runs, bad = kill_often(Path(place), name, int(n_kills), rng)
        print(f"{name}: {n_kills} kills, {runs} runs, {bad} bad", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
