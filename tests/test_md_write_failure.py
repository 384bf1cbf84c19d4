"""A disk that is full: what was written stays, and the run can go on."""

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from md_models import run

from molpool_calc.md import recorder, simulate, trajectory
from molpool_calc.md.failure import WriteFailure
from molpool_calc.md.records import RecordWriter
from molpool_calc.md.trajectory import read_run

FULL = OSError(errno.ENOSPC, "No space left on device")


def failing(at: int, function: Callable) -> Callable:
    """The function, which finds the disk full at its n-th call and ever after."""
    calls = iter(range(10**6))

    def wrapped(*arguments: object, **options: object) -> object:
        if next(calls) >= at:
            raise FULL
        return function(*arguments, **options)

    return wrapped


@pytest.mark.parametrize(
    ("place", "name", "at", "step"),
    [
        (RecordWriter, "append", 40, "[0-9]+"),
        (recorder, "save_checkpoint", 2, "25"),
        (simulate, "write_manifest", 1, "60"),
        (trajectory, "write_h5md", 0, "60"),
    ],
)
def test_a_full_disk_leaves_a_run_that_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: object,
    name: str,
    at: int,
    step: str,
) -> None:
    folder = tmp_path / "r"
    with monkeypatch.context() as patch:
        patch.setattr(place, name, failing(at, getattr(place, name)))
        with pytest.raises(
            WriteFailure,
            match=rf"could not be written on \(No space left on device\); steps up to "
            rf"[0-9]+ can be read, and once there is room --resume goes on from step "
            rf"{step}",
        ):
            run(folder, "langevin", 60)
    assert not list(folder.glob("*.tmp"))
    run(tmp_path / "whole", "langevin", 60)
    whole, found = read_run(tmp_path / "whole"), read_run(folder)
    n_steps = len(found.times_fs)
    assert n_steps > 30
    np.testing.assert_array_equal(found.dipoles, whole.dipoles[:, :n_steps])
    run(folder, "langevin", 60, resume=True)
    np.testing.assert_array_equal(read_run(folder).dipoles, whole.dipoles)
    np.testing.assert_array_equal(read_run(folder).positions, whole.positions)


LIMITED = """
import resource, sys
from pathlib import Path
from md_models import run
from molpool_calc.md.failure import WriteFailure
from molpool_calc.md.trajectory import read_run
folder, size = Path(sys.argv[1]), 40_000
resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))
try:
    run(folder / "r", "langevin", 400)
except WriteFailure as failure:
    print(failure)
found = read_run(folder / "r")
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
run(folder / "r", "langevin", 400, resume=True)
run(folder / "whole", "langevin", 400)
print(len(found.times_fs) - 1, found.status)
for name in ("dipoles", "positions"):
    one, two = (getattr(read_run(folder / run), name) for run in ("r", "whole"))
    print(one.tobytes() == two.tobytes())
"""


def test_a_write_that_the_system_cuts_short_costs_one_record(tmp_path: Path) -> None:
    """The limit of the size of a file falls into a record, which is torn."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    failure, found, *same = done.stdout.splitlines()
    last = 40_000 // (8 + 2 * 6 * 8 + 4) - 1
    assert found == f"{last} running"
    assert "(File too large)" in failure
    assert f"steps up to {last} can be read" in failure
    # there was room for a checkpoint, so that not a step is lost
    assert failure.endswith(f"goes on from step {last}")
    assert same == ["True", "True"]
