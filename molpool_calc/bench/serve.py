"""The loop of a peer's process: one JSON object a line comes in, one goes out.

Run by a peer's interpreter as ``python -I serve.py WORKER``, WORKER being a file with a
function ``prepare(job)`` that returns what makes a number of steps, and facts about it
as a dictionary. Uses the standard library only, since it runs where MolPool is not
installed. Requests are ``{"job": …}``, answered by the facts, and ``{"steps": n}``,
answered by their seconds; what fails is answered by ``{"error": …}``.
"""

import importlib.util
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

Steps = Callable[[int], None]
MEMORY_LEFT = 0.9
"""Fraction of the free memory that a peer may take before its allocation fails."""


def main() -> None:
    """Answer requests until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    _limit_memory()
    specification = importlib.util.spec_from_file_location("worker", sys.argv[1])
    assert specification is not None  # the path is that of a Python file
    assert specification.loader is not None
    worker = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(worker)
    steps: Steps = lambda _: None  # noqa: E731 - until there is a job
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "job" in request:
                steps, answer = worker.prepare(request["job"])
                answer = {**answer, "peak_memory_mib": _peak_mib()}
            else:
                answer = _timed(steps, request["steps"])
        except (ArithmeticError, LookupError, MemoryError, OSError) as error:
            answer = {"error": _sentence(error)}
        except (ImportError, RuntimeError, TypeError, ValueError) as error:
            answer = {"error": _sentence(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _timed(steps: Steps, n_steps: int) -> dict[str, Any]:
    start, cpu = time.perf_counter(), time.process_time()
    steps(n_steps)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_memory_mib": _peak_mib(),
    }


def _limit_memory() -> None:
    """Let an allocation fail before the system must kill something."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            sizes = dict(line.split(":") for line in lines)
    except OSError:
        return
    free = int(1024 * MEMORY_LEFT * int(sizes["MemAvailable"].split()[0]))
    resource.setrlimit(resource.RLIMIT_DATA, (free, free))


def _peak_mib() -> float:
    """Return the most memory in MiB that this process has had.

    What ``getrusage`` tells includes the process that started this one.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            facts = dict(line.split(":", 1) for line in lines)
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(facts["VmHWM"].split()[0]) / 1024


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


if __name__ == "__main__":
    main()
