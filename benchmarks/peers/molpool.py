"""MolPool in a process of its own: for peak memory, several processes, first calls.

A job is that of ``molpool_calc.bench.row.peer_job`` with ``potential`` (a bundled name
or a folder), ``compile``, ``system``, and perhaps ``cache``, the folder of the compiled
code.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the program beside this file

from ase import Atoms

from molpool_calc.bench.row import Job, steps_of
from molpool_calc.calculator import MolPoolCalculator


def prepare(job: dict[str, Any]) -> tuple[Callable[[int], None], dict[str, Any]]:
    """Return the steps of a job, and the seconds until the first one was done."""
    import torch  # noqa: PLC0415 - what it costs is not part of the first call

    if "cache" in job:
        os.environ["XDG_CACHE_HOME"] = job["cache"]
    torch.set_num_threads(job["threads"])
    atoms = Atoms(job["numbers"], job["positions"], cell=job["cell"], pbc=job["pbc"])
    start = time.perf_counter()
    calculator = MolPoolCalculator(
        job["potential"],
        device=job["device"],
        dtype=job["dtype"],
        compile=job["compile"],
    )
    asked = Job(
        system=job["system"],
        atoms=atoms,
        potential=job["potential"],
        what=job["what"],
        batch=job["batch"],
    )
    steps = steps_of(asked, calculator)
    if job.get("call", True):
        steps(1)
    return steps, {"first_call_s": time.perf_counter() - start}
