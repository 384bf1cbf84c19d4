"""The code of ``molpool_calc.native`` for one potential: built, verified, then used."""

import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from math import isfinite
from pathlib import Path
from threading import Thread

import torch
from torch import Tensor

from molpool_calc.compilation.cache import key_of, sources_sha256
from molpool_calc.compilation.graphs import TOLERANCES
from molpool_calc.compilation.package import refusal_path
from molpool_calc.compilation.request import Request
from molpool_calc.compilation.structures import random_batch
from molpool_calc.engine import EagerEngine
from molpool_calc.interfaces import AtomsBatch, Prediction
from molpool_calc.native.archive import archive_of, variant_of
from molpool_calc.native.code import COVERED, Code
from molpool_calc.native.library import (
    CannotBuild,
    Libraries,
    compiler,
)
from molpool_calc.native.names import NotCovered
from molpool_calc.potential import NeuralPotential

PYTHON = ("native", "units.py", "elements.py")
"""What else decides on what the code is given."""
VERIFIED = ((1, 1), (1, 2), (1, 3), (1, 9), (2, 5), (3, 12), (1, 23))
TIMED = (1, 9)
ODDNESS = 10.0
"""Times the deviation of the network itself from that in float64."""
PATIENCE = 200
"""Evaluations after which the library, some seconds of work, is built beside them."""
POLL = 100
"""Evaluations between two looks at a build."""


class Refused(RuntimeError):
    """The code gives something else than the network, or is not faster."""


class NativeCode:
    """Finds the code of one potential and keeps it.

    Args:
        eager: engine of the potential as written.
        mode: of ``compilation.engine.make_engine``.
        folder: of libraries and of notes on what was verified with them.
    """

    def __init__(self, eager: EagerEngine, mode: str, folder: Path) -> None:
        self.eager, self.mode, self.folder = eager, mode, folder
        self.libraries = Libraries(folder)
        self.code: Code | None = None
        self._count = 0
        self.thread: Thread | None = None
        self.is_open = eager.device.type == "cpu" and covers(eager.potential)

    def find(self, properties: frozenset[str]) -> Code | None:
        """Return the code if it is there, was verified and gives the properties."""
        if self.is_open and self.code is None:
            self._look()
        code = self.code
        return code if code is not None and properties <= code.properties else None

    def will_build(self) -> bool:
        """Return whether ``find`` is going to take some seconds."""
        return self.is_open and self.mode == "now" and self._can_build()

    def _look(self) -> None:
        if self.mode == "auto" and self._count % POLL:
            self._count += 1  # between two looks at the disk
            return
        path = self._path()
        if not path.is_file() and self._can_build():
            if self.mode == "auto":
                self._build_beside()
                return
            if self.mode == "now":
                self._build()
        self.is_open = False  # what is found now is what there is
        if path.is_file():
            self.code = self._verified(path)

    def _can_build(self) -> bool:
        path = self._path()
        absent = not path.is_file() and not refusal_path(path).is_file()
        return absent and compiler() is not None

    def _path(self) -> Path:
        return self.libraries.path(variant_of(self.eager.potential))

    def _build(self) -> None:
        """Build, or note why it failed, so that it is not tried again."""
        try:
            self.libraries.build(variant_of(self.eager.potential))
        except CannotBuild as error:
            _write(refusal_path(self._path()), str(error))
        except OSError:  # a read-only home, say: nothing is lost but speed
            pass

    def _build_beside(self) -> None:
        self._count += 1
        if self.thread is None and self._count >= PATIENCE:
            self.thread = Thread(target=self._build, daemon=True)
            self.thread.start()
        elif self.thread is not None and not self.thread.is_alive():
            self.mode = "cached"  # a second build would end as the first

    def _verified(self, path: Path) -> Code | None:
        potential = self.eager.potential
        request = Request(properties=frozenset(COVERED), periodic=False)
        key = f"{key_of(potential, request)}-{sources_sha256(PYTHON)[:16]}"
        note = self.folder / f"{path.stem}-{key}.verified"
        if refusal_path(note).is_file():
            return None
        try:
            code = Code(self.libraries, potential)
            if not note.is_file():
                verify(code, self.eager)
        except OSError:  # of another system, or damaged: no fault of the potential
            return None
        except (Refused, ValueError) as error:
            _write(refusal_path(note), str(error))
            return None
        with suppress(OSError):
            note.touch()
        return code


def covers(potential: NeuralPotential) -> bool:
    """Return whether the code has a form of every part of a potential."""
    try:
        archive_of(potential)
    except NotCovered:
        return False
    return True


def verify(code: Code, eager: EagerEngine) -> None:
    """Compare with the network as written on random structures of several sizes.

    What is true is what the network gives in float64.

    Raises:
        Refused: a value deviates by more than rounding, or the code is not faster.
    """
    exact = EagerEngine(deepcopy(eager.potential), eager.device, torch.float64)
    # who reaches everywhere has no cells
    for periodic in (False, True)[: 1 + isfinite(eager.potential.cutoff)]:
        wanted = code.properties
        # a molecule has no stress, and the dipole of a cell depends on the images
        wanted -= {"dipole", "charges", "polarizability"} if periodic else {"stress"}
        for n_systems, n_atoms in VERIFIED:
            batch, pairs = random_batch(
                eager.potential, n_systems, n_atoms, periodic=periodic
            )
            found, plain, true = (
                code.evaluate(batch, pairs, wanted),
                eager.evaluate(batch, pairs, wanted),
                exact.evaluate(in_float64(batch), pairs, wanted),
            )
            for name in sorted(wanted):
                values = [_by_name(each)[name] for each in (found, plain, true)]
                what = f"{name} of {n_systems} × {n_atoms} atoms"
                _compare(values, TOLERANCES[eager.dtype], what)
    batch, pairs = random_batch(eager.potential, *TIMED, periodic=False)
    # other heads take as long either way
    wanted = (code.properties - {"stress"}) & set(COVERED) or code.properties
    fast = _median(lambda: code.evaluate(batch, pairs, wanted))
    slow = _median(lambda: eager.evaluate(batch, pairs, wanted))
    if fast > slow:
        raise Refused(f"it takes {fast:.2g} s where the network takes {slow:.2g}")


def in_float64(batch: AtomsBatch) -> AtomsBatch:
    """Return the same atoms at the same places."""
    return replace(
        batch,
        positions=batch.positions.double(),
        cell=batch.cell.double(),
        total_charge=batch.total_charge.double(),
        num_unpaired=batch.num_unpaired.double(),
    )


def _compare(values: list[Tensor], tolerance: float, what: str) -> None:
    """Compare what the code gives with what the network gives, and gives in float64."""
    found, plain, true = values
    largest = float(true.abs().max())
    off, of_plain = (float((each - true).abs().max()) for each in (found, plain))
    # an odd structure may multiply the rounding of any code, that of the network too
    if not off <= max(tolerance * (1.0 + largest), ODDNESS * of_plain):
        raise Refused(f"{what} deviates by {off:.2g} of {largest:.2g}")


def _by_name(prediction: Prediction) -> dict[str, Tensor]:
    fields = {name: getattr(prediction, name) for name in COVERED}
    weights = (prediction.weights or {}).items()
    return {
        **{name: value for name, value in fields.items() if value is not None},
        **(prediction.others or {}),
        **{f"{name}_weights": value for name, value in weights},
    }


def _median(call: Callable[[], Prediction], repeats: int = 7) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _write(path: Path, reason: str) -> None:
    with suppress(OSError):
        path.write_text(reason + "\n", encoding="utf-8")
