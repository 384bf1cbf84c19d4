"""The engine of a GPU: evaluations recorded as CUDA graphs and replayed.

A step of a small molecule is some hundred kernels of a few microseconds each, which
Python launches more slowly than the device runs them. A graph launches them all at
once. It holds for batches of one shape; the number of pairs may change up to its
capacity, beyond which it is recorded anew with more room.
"""

from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from molpool_calc.compilation.buffers import Buffers, capacity_for
from molpool_calc.compilation.capture import Capture, capture
from molpool_calc.derivatives import demand_volume
from molpool_calc.engine import EagerEngine, Engine, Recordable
from molpool_calc.interfaces import AtomsBatch, NeighborList, Prediction
from molpool_calc.packing import OnHost, named_tensors, pack, to_host, unpack

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Largest deviation from the network as written, relative to the largest value."""
N_KEPT = 8
"""Graphs of different shapes that are kept, each with its own memory."""
N_VERIFIED = 3
JITTER = 0.05
"""Å, standard deviation of the displacements on which a graph is verified."""
MOST_PAIRS = 400_000
"""With more, a kernel takes longer than its launch, and graphs only cost memory.

All graphs that are kept have as many together, or there is one.
"""

Compute = Callable[[AtomsBatch, NeighborList, frozenset[str]], Prediction]


class Refused(RuntimeError):
    """A graph does not give what the network as written gives."""


class Graph:
    """One recorded evaluation.

    Args:
        compute: what is recorded, detached and without a look at the values.
        batch: the first one it will hold for.
        neighbors: its pairs.
        properties: what is computed.
        capacity: see ``Buffers``.
        record: records a function.

    Raises:
        RuntimeError: it cannot be recorded.
    """

    def __init__(
        self,
        compute: Compute,
        batch: AtomsBatch,
        neighbors: NeighborList,
        properties: frozenset[str],
        *,
        capacity: int | None,
        record: Capture,
    ) -> None:
        self.buffers = Buffers(batch, neighbors, capacity)
        static = self.buffers

        def function() -> Tensor:
            buffer, self._places = pack(
                compute(static.batch, static.neighbors, properties)
            )
            return buffer

        self._recorded = record(function, batch.positions.device)
        self._host: OnHost | None = None

    def run(self, batch: AtomsBatch, neighbors: NeighborList) -> Prediction:
        """Return the results, which later replays leave alone."""
        self.buffers.fill(batch, neighbors)
        self._recorded.replay()
        return unpack(self._recorded.output.clone(), self._places)

    def run_to_host(self, batch: AtomsBatch, neighbors: NeighborList) -> Prediction:
        """Return the results on the CPU, after one transfer."""
        self.buffers.fill(batch, neighbors)
        self._recorded.replay()
        output = self._recorded.output
        if self._host is None:
            self._host = OnHost(output)
        return unpack(self._host.read(output), self._places)


class GraphEngine:
    """Replays graphs of another engine, which it runs itself where there is none.

    Each graph is compared with the eager engine on displaced atoms before it is used,
    and its shape is left to the other engine if it deviates or cannot be recorded.
    Results equal those of the eager engine within rounding.

    Args:
        inner: whose evaluations are recorded.
        eager: of the same potential, to compare with.
        patience: evaluations of one shape before it is worth a graph.
        record: records a function; the CUDA graph but in tests.

    Attributes:
        refusals: why which shapes have no graph.
    """

    def __init__(
        self,
        inner: Recordable,
        eager: EagerEngine,
        *,
        patience: int = 0,
        record: Capture = capture,
    ) -> None:
        self.inner, self.patience, self._record = inner, patience, record
        self.potential, self.device = inner.potential, inner.device
        self.dtype = inner.dtype
        self.eager = eager
        self.refusals: dict[object, str] = {}
        self._graphs: OrderedDict[object, tuple[object, Graph]] = OrderedDict()
        self._counts: dict[object, int] = {}
        self._volume: tuple[Tensor, int] | None = None

    def __getstate__(self) -> dict[str, object]:
        """Leave out what is bound to the process; it is recorded again."""
        tables: dict[str, object] = {"_graphs": OrderedDict(), "_counts": {}}
        return {**self.__dict__, **tables, "refusals": {}, "_volume": None}

    def __deepcopy__(self, memo: dict[int, object]) -> "GraphEngine":
        """Return an engine of a copy of the potential."""
        inner, eager = deepcopy((self.inner, self.eager), memo)
        return GraphEngine(inner, eager, patience=self.patience, record=self._record)

    def evaluate(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Prediction:
        """Return detached results (see ``derivatives.evaluate``)."""
        graph = self._graph(batch, neighbors, properties)
        if graph is None:
            return self.inner.evaluate(batch, neighbors, properties)
        return graph.run(batch, neighbors)

    def evaluate_to_host(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Prediction:
        """Return detached results on the CPU, after one transfer."""
        graph = self._graph(batch, neighbors, properties)
        if graph is None:
            return to_host(self.inner.evaluate(batch, neighbors, properties))
        return graph.run_to_host(batch, neighbors)

    def _graph(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Graph | None:
        key = _shape(batch, neighbors, properties)
        if neighbors.center.shape[0] > MOST_PAIRS or key in self.refusals:
            return None
        if "stress" in properties:
            self._demand_volume(batch.cell)
        # compiled code may have become ready since
        variant = self.inner.variant(batch, neighbors, properties)
        if key in self._graphs:
            recorded, graph = self._graphs[key]
            if recorded is variant and graph.buffers.hold(neighbors):
                self._graphs.move_to_end(key)
                return graph
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if count <= self.patience:
            return None
        try:
            graph = self._make(batch, neighbors, properties)
        except RuntimeError as error:
            self.refusals[key] = str(error)
            self._graphs.pop(key, None)
            return None
        self._graphs[key] = variant, graph
        self._graphs.move_to_end(key)
        self._forget()
        return graph

    def _make(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Graph:
        # all pairs of molecules are always as many
        fixed = neighbors.n_dense is not None or self.potential.cutoff == torch.inf
        graph = Graph(
            self.inner.compute,
            batch,
            neighbors,
            properties,
            capacity=None if fixed else capacity_for(neighbors.center.shape[0]),
            record=self._record,
        )
        generator = torch.Generator(device=batch.positions.device).manual_seed(0)
        for part in range(N_VERIFIED):
            moves = torch.randn(
                batch.positions.shape,
                generator=generator,
                dtype=batch.positions.dtype,
                device=batch.positions.device,
            )
            moved = replace(batch, positions=batch.positions + JITTER * moves)
            pairs = neighbors if fixed else _without_some(neighbors, part)
            expected = self.eager.compute(moved, pairs, properties)
            _require_equal(graph.run(moved, pairs), expected, self.dtype)
        return graph

    def _forget(self) -> None:
        """Let the graphs go that were unused for longest, where there are too many."""
        while len(self._graphs) > 1:
            n_pairs = sum(g.buffers.capacity for _, g in self._graphs.values())
            if len(self._graphs) <= N_KEPT and n_pairs <= MOST_PAIRS:
                return
            self._graphs.popitem(last=False)

    def _demand_volume(self, cell: Tensor) -> None:
        """Check a cell once, since looking at it means waiting for the device."""
        seen = self._volume
        if seen is not None and seen[0] is cell and seen[1] == cell._version:
            return
        demand_volume(cell)
        self._volume = cell, cell._version


def _shape(
    batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
) -> object:
    """Return all that a recording fixes but the number of pairs."""
    systems = batch.systems
    return (
        *(properties, batch.positions.shape[0], systems.n_segments, systems.max_size),
        *(neighbors.n_dense, neighbors.shift is None),
    )


def _without_some(neighbors: NeighborList, n_tenths: int) -> NeighborList:
    """Return the pairs without the last so many tenths of them."""
    n = neighbors.center.shape[0] * (10 - n_tenths) // 10
    shift = neighbors.shift
    return replace(
        neighbors,
        center=neighbors.center[:n],
        neighbor=neighbors.neighbor[:n],
        shift=None if shift is None else shift[:n],
    )


def _require_equal(found: Prediction, true: Prediction, dtype: torch.dtype) -> None:
    """Compare what is true; compiled code may give more than was asked for.

    Raises:
        Refused: a value deviates by more than rounding.
    """
    values = dict(named_tensors(to_host(found)))
    for name, truth in named_tensors(to_host(true)):
        if not truth.numel():
            continue
        off = float((values[name].double() - truth.double()).abs().max())
        largest = float(truth.double().abs().max())
        if not off <= TOLERANCES[dtype] * (1.0 + largest):
            raise Refused(f"{name[1]} deviates by {off:.2g} of {largest:.2g}")


def evaluate_to_host(
    engine: Engine,
    batch: AtomsBatch,
    neighbors: NeighborList,
    properties: frozenset[str],
) -> Prediction:
    """Return detached results on the CPU, after one transfer at most."""
    if isinstance(engine, GraphEngine):
        return engine.evaluate_to_host(batch, neighbors, properties)
    found = engine.evaluate(batch, neighbors, properties)
    return found if engine.device.type == "cpu" else to_host(found)
