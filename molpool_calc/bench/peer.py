"""Another program in a process of its own, timed block by block through pipes."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

SERVE = Path(__file__).with_name("serve.py")
SCHNETPACK = Path(__file__).with_name("worker_schnetpack.py")


class PeerFailure(RuntimeError):
    """A peer could not do what was asked of it."""


class Peer:
    """A worker (see ``serve``) in the process of some Python.

    Args:
        worker: file with the function ``prepare``.
        python: interpreter that finds the peer's package; by default this one.

    Raises:
        PeerFailure: the process ends.
    """

    def __init__(self, worker: Path, python: Path | None = None) -> None:
        interpreter = sys.executable if python is None else str(python)
        self._name = worker.stem
        self._log = tempfile.TemporaryFile(  # noqa: SIM115 - open as long as the peer
            "w+", encoding="utf-8", errors="replace"
        )
        try:
            self._process = subprocess.Popen(
                # -I: neither this folder nor PYTHONPATH hides the peer's modules
                [interpreter, "-I", str(SERVE), str(worker)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
        except OSError as error:
            self._log.close()
            raise PeerFailure(f"{interpreter} cannot be run: {error}") from error

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None  # both are pipes
            stream.close()
        self._log.close()

    def prepare(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the worker says of a job, which it is ready for now."""
        self.send({"job": job})
        return self.answer()

    def seconds(self, n_steps: int) -> float:
        """Return the seconds of a number of steps, a ``timing.Clock``."""
        return float(self.block(n_steps)["seconds"])

    def block(self, n_steps: int) -> dict[str, Any]:
        """Return wall and processor seconds, and peak memory, of steps."""
        self.send({"steps": n_steps})
        return self.answer()

    def send(self, request: Mapping[str, Any]) -> None:
        """Ask for something, without waiting for it."""
        assert self._process.stdin is not None  # a pipe
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # ``answer`` says why

    def answer(self) -> dict[str, Any]:
        """Return the answer to the oldest request that has none yet.

        Raises:
            PeerFailure: it failed, or the process has ended.
        """
        assert self._process.stdout is not None  # a pipe
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailure(f"{self._name} ended: {self._last_words()}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise PeerFailure(f"{self._name}: {found['error']}")
        return found

    def _last_words(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        lines = [line for line in self._log.read().split("\n") if line.strip()]
        return lines[-1] if lines else f"code {code}"
