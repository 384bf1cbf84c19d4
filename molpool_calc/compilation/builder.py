"""Starts the build of a package in a process of its own, in front or behind."""

import os
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path

from molpool_calc.compilation.package import refusal_path
from molpool_calc.compilation.request import Request
from molpool_calc.native.library import compiler
from molpool_calc.potential import NeuralPotential
from molpool_calc.storage import save_potential

STALE_SECONDS = 1200.0
"""A lock older than this was left by a process that is gone."""


class Build:
    """A build under way; it is stopped when this object goes.

    Args:
        potential: in the dtype to compile.
        request: what to compile.
        target: where the package will be.
    """

    def __init__(
        self, potential: NeuralPotential, request: Request, target: Path
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="molpool-")
        folder = Path(self._scratch.name) / "potential"
        save_potential(potential, folder)
        command = [sys.executable, "-m", "molpool_calc.compilation.build", str(folder)]
        command += [str(target), *sorted(request.properties)]
        command += ["--periodic"] if request.periodic else []
        command += ["--dense"] if request.dense else []
        if request.n_atoms is not None:
            command += ["--n-atoms", str(request.n_atoms)]
        command += ["--device", str(potential.device)]
        self._lock, self._refusal = lock_path(target), refusal_path(target)
        self._errors = Path(self._scratch.name) / "errors"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        weakref.finalize(self, _stop, self.process, self._scratch, self._lock)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        if self.process.poll() is None:
            return False
        self._note_failure()
        return True

    def wait(self, seconds: float = STALE_SECONDS) -> None:
        """Return when it has ended, or after some time."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.terminate()
        self._note_failure()

    def _note_failure(self) -> None:
        """Note why it failed, so that it is not tried again; a kill is no reason."""
        if self.process.returncode is not None and self.process.returncode > 0:
            errors = self._errors.read_text(encoding="utf-8", errors="replace")
            reason = (errors.strip().splitlines() or ["unknown"])[-1]
            self._refusal.write_text(reason + "\n", encoding="utf-8")


def start_build(
    potential: NeuralPotential, request: Request, target: Path
) -> Build | None:
    """Start a build, unless it cannot or need not be.

    Returns:
        ``None`` where there is no compiler, the package was refused before, another
        process builds it, or its folder cannot be written.
    """
    if compiler() is None or refusal_path(target).exists():
        return None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not _take_lock(lock_path(target)):
            return None
        return Build(potential, request, target)
    except OSError:  # a read-only home, say: nothing is lost but speed
        return None


def lock_path(target: Path) -> Path:
    """Return the file that says that a package is being built."""
    return target.with_suffix(".lock")


def _take_lock(path: Path) -> bool:
    if path.exists() and time.time() - path.stat().st_mtime > STALE_SECONDS:
        path.unlink(missing_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True


def _stop(
    process: "subprocess.Popen[bytes]",
    scratch: "tempfile.TemporaryDirectory[str]",
    lock: Path,
) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()
    scratch.cleanup()
    lock.unlink(missing_ok=True)
