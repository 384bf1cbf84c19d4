"""The engine that runs code where there is some, and the network elsewhere."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from molpool_calc.compilation.builder import Build, start_build
from molpool_calc.compilation.cache import SUFFIX, cache_folder, key_of
from molpool_calc.compilation.graphs import GraphEngine
from molpool_calc.compilation.native import NativeCode
from molpool_calc.compilation.package import Package, refusal_path
from molpool_calc.compilation.request import (
    Request,
    fits,
    inputs_of,
    pair_limit,
    prediction_of,
    request_for,
)
from molpool_calc.derivatives import demand_volume
from molpool_calc.engine import EagerEngine, Engine, Recordable
from molpool_calc.interfaces import AtomsBatch, NeighborList, Prediction
from molpool_calc.native.code import Code
from molpool_calc.neighbors import complete_pairs, has_all_pairs
from molpool_calc.potential import NeuralPotential

Compile = Literal["auto", "now", "cached", "graph", "never"]
MODES = ("auto", "now", "cached", "graph", "never")
PATIENCE = 1000
"""Evaluations after which a package is worth building beside them."""
POLL = 100
"""Evaluations between two looks at a build."""


def make_engine(
    potential: NeuralPotential,
    device: torch.device,
    dtype: torch.dtype,
    compile: Compile = "never",  # noqa: A002 - the public name of the option
) -> Engine:
    """Return the engine of a potential, which is placed and frozen.

    Args:
        potential: moved to ``device`` and ``dtype`` in place.
        device: as resolved. On a GPU evaluations are also recorded as CUDA graphs.
        dtype: of the network.
        compile: ``"never"``: none. ``"cached"``: what was built before. ``"now"``:
            built first where missing, which takes seconds to a minute. ``"auto"``:
            built beside a long series of evaluations, then used. ``"graph"``: none,
            but CUDA graphs on a GPU.

    Raises:
        ValueError: another mode.
    """
    if compile not in MODES:
        allowed = ", ".join(MODES)
        raise ValueError(f"compile={compile!r} is unknown; give one of {allowed}")
    eager = EagerEngine(potential, device, dtype)
    plain = compile in {"graph", "never"}
    inner: Recordable = eager if plain else CompiledEngine(eager, compile)
    if compile == "never" or device.type == "cpu":
        return inner
    # a first look at many structures is not worth a graph of each
    return GraphEngine(inner, eager, patience=2 if compile == "auto" else 0)


class CompiledEngine:
    """Runs native code, else verified packages, else the network as written.

    Results equal those of the eager engine within rounding. With ``"now"`` and
    ``"cached"`` what runs is decided at the first evaluation and does not change.

    Args:
        eager: engine of the same potential.
        mode: see ``make_engine``.
        folder: of the packages; by default the user's.
    """

    def __init__(
        self, eager: EagerEngine, mode: Compile, folder: Path | None = None
    ) -> None:
        self.eager, self.mode = eager, mode
        self.potential, self.device = eager.potential, eager.device
        self.dtype = eager.dtype
        self.folder = cache_folder() if folder is None else folder
        self.native = NativeCode(eager, mode, self.folder)
        self._limit = pair_limit(self.potential)
        self._requests: dict[tuple[object, ...], Request | None] = {}
        self._packages: dict[Request, Package | None] = {}
        self._counts: dict[Request, int] = {}
        self._builds: dict[Request, Build | None] = {}
        self._dense: tuple[NeighborList, NeighborList] | None = None
        # threads of one series look for a package at the same time
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        """Leave out what holds processes and code, which is found again."""
        state = self.__dict__.copy()
        tables: dict[str, object] = {"_packages": {}, "_builds": {}, "_counts": {}}
        return {**state, **tables, **dict.fromkeys(("_dense", "_lock", "native"))}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Take everything, and a lock of its own."""
        vars(self).update(state)
        self._lock = threading.Lock()
        self.native = NativeCode(self.eager, self.mode, self.folder)

    def __deepcopy__(self, memo: dict[int, object]) -> "CompiledEngine":
        """Return an engine of a copy of the potential, its packages found again."""
        from copy import deepcopy  # noqa: PLC0415

        return CompiledEngine(deepcopy(self.eager, memo), self.mode, self.folder)

    def evaluate(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Prediction:
        """Return detached results (see ``derivatives.evaluate``)."""
        code = self._native_code(properties)
        if code is not None:
            return code.evaluate(batch, neighbors, properties)
        package = self.variant(batch, neighbors, properties)
        if package is None:
            return self.eager.evaluate(batch, neighbors, properties)
        if "stress" in package.request.properties:
            demand_volume(batch.cell)
        return self._run(package, batch, neighbors)

    def _native_code(self, properties: frozenset[str]) -> Code | None:
        with self._lock:
            return self.native.find(properties)

    def compute(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Prediction:
        """Return the same without a look at any value, so that it can be recorded."""
        package = self.variant(batch, neighbors, properties)
        if package is None:
            return self.eager.compute(batch, neighbors, properties)
        return self._run(package, batch, neighbors)

    def variant(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Package | None:
        """Return the package that takes a batch and its pairs, if there is one."""
        request = self._request(
            properties,
            periodic=neighbors.shift is not None,
            n_dense=neighbors.n_dense,
        )
        if request is None or not fits(batch, neighbors, request, self._limit):
            return None
        return self._package(request)

    def _run(
        self, package: Package, batch: AtomsBatch, neighbors: NeighborList
    ) -> Prediction:
        pairs = neighbors
        if not package.request.dense:
            pairs = self._listed(batch, neighbors)
        outputs = package.run(inputs_of(batch, pairs, package.request))
        return prediction_of(outputs, package.request)

    def will_build(
        self, properties: frozenset[str], *, periodic: bool, n_dense: int | None = None
    ) -> bool:
        """Return whether ``prepare`` is going to take a minute."""
        if self.native.will_build():
            return True
        request = self._request(properties, periodic=periodic, n_dense=n_dense)
        if self.mode != "now" or request is None or request in self._packages:
            return False
        if self._native_code(properties):
            return False
        target = self._target(request)
        return not target.is_file() and not refusal_path(target).is_file()

    def prepare(
        self, properties: frozenset[str], *, periodic: bool, n_dense: int | None = None
    ) -> str:
        """Return what evaluations will run, after building it if the mode is so."""
        if self._native_code(properties):
            return "native"
        request = self._request(properties, periodic=periodic, n_dense=n_dense)
        package = None if request is None else self._package(request)
        return "eager" if package is None else "compiled"

    def _request(
        self, properties: frozenset[str], *, periodic: bool, n_dense: int | None
    ) -> Request | None:
        if self.device.type == "cpu":  # there packages are as fast for any size
            n_dense = None
        asked = (properties, periodic, n_dense)
        if asked not in self._requests:
            self._requests[asked] = request_for(
                self.potential, properties, periodic=periodic, n_dense=n_dense
            )
        return self._requests[asked]

    def _listed(self, batch: AtomsBatch, neighbors: NeighborList) -> NeighborList:
        """Return listed pairs; a dense list is the same object as long as it holds."""
        if neighbors.n_dense is None:
            return neighbors
        if self._dense is None or self._dense[0] is not neighbors:
            self._dense = (neighbors, complete_pairs(batch))
        return self._dense[1]

    def _package(self, request: Request) -> Package | None:
        with self._lock:
            return self._find_package(request)

    def _find_package(self, request: Request) -> Package | None:
        if request not in self._packages:
            self._packages[request] = self._load(request)
            if self._packages[request] is None and self.mode == "now":
                build = start_build(self.potential, request, self._target(request))
                if build is not None:
                    build.wait()
                self._packages[request] = self._load(request)
        package = self._packages[request]
        if package is None and self.mode == "auto" and not self.native.is_open:
            self._build_behind(request)
        return package

    def _build_behind(self, request: Request) -> None:
        count = self._counts[request] = self._counts.get(request, 0) + 1
        if count == PATIENCE:
            target = self._target(request)
            self._builds[request] = start_build(self.potential, request, target)
        elif count > PATIENCE and count % POLL == 0:
            build = self._builds.get(request)
            if build is not None and build.is_over:
                self._packages[request] = self._load(request)
                self._builds[request] = None

    def _target(self, request: Request) -> Path:
        return self.folder / (key_of(self.potential, request) + SUFFIX)

    def _load(self, request: Request) -> Package | None:
        target = self._target(request)
        if not target.is_file():
            return None
        try:
            return Package(target, request, self.dtype, self.device)
        except RuntimeError:  # a damaged file is built anew
            target.unlink(missing_ok=True)
            return None


def runs_native(engine: Engine) -> bool:
    """Return whether evaluations run native code, which leaves out far pairs itself."""
    return isinstance(engine, CompiledEngine) and engine.native.code is not None


def prepare(
    engine: Engine,
    properties: frozenset[str],
    *,
    periodic: bool,
    n_atoms: int | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> str:
    """Return what will run; may build a package.

    Args:
        engine: as ``make_engine`` gives it.
        properties: of every evaluation.
        periodic: whether for cells.
        n_atoms: of each system, if all will have as many.
        waiting: called before a build, which takes about a minute.

    Returns:
        ``"native"``, ``"compiled"`` or ``"eager"``; on a GPU ``"compiled graph"`` or
        ``"graph"``.
    """
    if isinstance(engine, GraphEngine):
        inner = prepare(
            engine.inner,
            properties,
            periodic=periodic,
            n_atoms=n_atoms,
            waiting=waiting,
        )
        return "compiled graph" if inner == "compiled" else "graph"
    if not isinstance(engine, CompiledEngine):
        return "eager"
    n_dense = n_atoms if has_all_pairs(n_atoms, engine.device, periodic) else None
    if engine.will_build(properties, periodic=periodic, n_dense=n_dense):
        waiting()
    return engine.prepare(properties, periodic=periodic, n_dense=n_dense)
