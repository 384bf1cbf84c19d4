"""SIGKILL at any moment costs nothing but time."""

import subprocess
import sys

import md_killing
import pytest
from md_models import INTEGRATORS, NPT

GUARDED = ("guarded langevin", "guarded nve", "ahead bussi", "ahead nve")


def outcome(n_kills: int, *names: str) -> list[str]:
    command = [sys.executable, md_killing.__file__, str(n_kills), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_run_killed_some_times_ends_as_if_nothing_had_been() -> None:
    (line,) = outcome(5, "guarded langevin")
    assert line.startswith("guarded langevin: 5 kills, ")
    assert line.endswith(" 0 bad")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*INTEGRATORS, *NPT, *GUARDED])
def test_a_hundred_kills_leave_no_trace(name: str) -> None:
    (line,) = outcome(100, name)
    assert line.startswith(f"{name}: 100 kills, ")
    assert line.endswith(" 0 bad")
