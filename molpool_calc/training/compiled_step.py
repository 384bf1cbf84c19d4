"""The compiled training step: found in the user's cache or built, checked, then run."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.compilation.builder import STALE_SECONDS
from molpool_calc.compilation.cache import SUFFIX, cache_folder
from molpool_calc.compilation.package import refusal_path
from molpool_calc.interfaces import AtomsBatch, NeighborList
from molpool_calc.native.library import compiler
from molpool_calc.potential import NeuralPotential
from molpool_calc.storage import save_potential
from molpool_calc.training.build_step import load_step, worst_deviation
from molpool_calc.training.frames import Labels
from molpool_calc.training.step_request import (
    Example,
    StepRequest,
    fits,
    inputs_of,
    key_of,
    request_of,
)
from molpool_calc.training.steps import EagerStep

TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-7}
"""Of the check on the first batch, where residuals may be small differences."""
STOP_SECONDS = 3.0
"""That an interrupted build has to clean up."""


class CompiledStep:
    """Runs a package, and the network as written for a batch it does not take.

    A batch of one frame, the remainder of an epoch say, is one of those. Which batch
    runs how depends on the data alone, so that a training can be repeated.

    Args:
        path: of the package.
        request: what it was compiled for.
        eager: step of the same potential.
    """

    name = "compiled"

    def __init__(self, path: Path, request: StepRequest, eager: EagerStep) -> None:
        self.request, self.eager = request, eager
        self._run = load_step(path, eager.potential.device.index)

    def __call__(
        self,
        batch: AtomsBatch,
        neighbors: NeighborList,
        labels: Labels,
        shares: Float[Tensor, " properties"],
    ) -> list[Tensor]:
        """Return the loss and its gradient (see `Step`)."""
        example = batch, neighbors, labels, shares
        if not fits(example, self.request):
            return self.eager(*example)
        parameters = [p.detach() for p in self.eager.parameters]
        inputs = [*parameters, *inputs_of(example, self.request)]
        # compiled code does not check its inputs; these are of the types traced
        return self._run(inputs)


def find_step(
    eager: EagerStep,
    example: Example,
    *,
    build: bool,
    waiting: Callable[[], None] = lambda: None,
) -> CompiledStep | None:
    """Return the compiled step of a training, checked on a batch of it.

    Args:
        eager: the step as written.
        example: the first batch.
        build: whether to build it where it is missing, which takes minutes.
        waiting: called before that.

    Returns:
        ``None`` where there is none, it was refused, or it deviates from the network
        as written on the batch.
    """
    potential = eager.potential
    request = request_of(example, eager.objective)
    if request is None or not fits(example, request):
        return None
    target = cache_folder() / ("step-" + key_of(potential, request) + SUFFIX)
    if build and not target.is_file() and _can_build(target):
        waiting()
        _build(potential, request, target)
    if not target.is_file():
        return None
    try:
        step = CompiledStep(target, request, eager)
    except RuntimeError:  # a damaged file is built anew by the next training
        target.unlink(missing_ok=True)
        return None
    names = ["loss", *(name for name, _ in potential.named_parameters())]
    tolerance = TOLERANCES[potential.dtype]
    deviates = worst_deviation(step(*example), eager(*example), tolerance, names)
    return None if deviates else step


def _can_build(target: Path) -> bool:
    return compiler() is not None and not refusal_path(target).exists()


def _build(potential: NeuralPotential, request: StepRequest, target: Path) -> None:
    """Build in a process of its own; where that fails, note why."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only home, say: nothing is lost but speed
        return
    with tempfile.TemporaryDirectory(prefix="molpool-") as scratch:
        folder = Path(scratch) / "potential"
        save_potential(potential, folder)
        module = "molpool_calc.training.build_step"
        words = [str(folder), str(target), request.to_json()]
        reason = _run([sys.executable, "-m", module, *words])
    if reason is not None:
        refusal_path(target).write_text(reason + "\n", encoding="utf-8")


def _run(words: Sequence[str]) -> str | None:
    """Run a process to its end, or until this one is interrupted.

    Returns:
        Why it failed; ``None`` if it did not, or was killed or took too long, which
        is no reason never to try again.
    """
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            _, errors = process.communicate(timeout=STALE_SECONDS)
        except subprocess.TimeoutExpired:
            _stop(process)
            return None
        except KeyboardInterrupt:  # an ending does not wait for the compiler
            _stop(process)
            raise
    if process.returncode <= 0:
        return None
    return (errors.strip().splitlines() or ["unknown"])[-1]


def _stop(process: "subprocess.Popen[str]") -> None:
    """End a process, which removes what it has half done unless that takes long."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
