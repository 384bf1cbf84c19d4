"""A potential in the compiled code: weights packed, batches in, predictions out."""

import ctypes
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from molpool_calc.derivatives import demand_volume
from molpool_calc.interfaces import (
    AtomFeatures,
    AtomsBatch,
    NeighborList,
    Prediction,
)
from molpool_calc.native.archive import HEADS, archive_of, variant_of
from molpool_calc.native.library import Libraries
from molpool_calc.native.names import Archive
from molpool_calc.native.readouts import scalars_of
from molpool_calc.potential import NeuralPotential

COVERED = (
    *("energy", "energies", "forces", "stress", "dipole", "charges"),
    *("polarizability", "hirshfeld_ratios"),
)
"""Properties in the order of the code's record of results."""
RESULTS = (*COVERED, "features", "weights", "scalars")
SHAPES: Mapping[str, tuple[str | int, ...]] = {
    "energy": ("systems",),
    "energies": ("atoms",),
    "forces": ("atoms", 3),
    "stress": ("systems", 3, 3),
    "dipole": ("systems", 3),
    "charges": ("atoms",),
    "polarizability": ("systems", 3, 3),
    "hirshfeld_ratios": ("atoms",),
    "features": ("atoms", "features"),
}
IN_FLOAT64 = frozenset({"energy", "energies"})
MESSAGE_BYTES = 512
OUT_OF_MEMORY = 2


class _Batch(ctypes.Structure):
    """``Batch`` of geometry.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("systems", "atoms", "pairs", "dense")),
        *(
            (name, ctypes.c_void_p)
            for name in ("numbers", "system", "positions", "total_charge")
        ),
        *((name, ctypes.c_void_p) for name in ("num_unpaired", "cell")),
        *((name, ctypes.c_void_p) for name in ("center", "neighbor", "shift")),
    ]


class _Results(ctypes.Structure):
    """``Results`` of pooled_heads.h."""

    _fields_ = [(name, ctypes.c_void_p) for name in RESULTS]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """What an evaluation computes, by name."""

    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    scalars: tuple[str, ...]


class Code:
    """One potential in the compiled code; threads may share it.

    Heads that the code has no form of, and that need no vectors, get the features of
    the compiled network.

    Args:
        libraries: where that of the network was built.
        potential: on the CPU; its weights are copied.

    Raises:
        NotCovered: the code does not compute such a potential.
        ValueError: its weights have other sizes than its settings say.
    """

    def __init__(self, libraries: Libraries, potential: NeuralPotential) -> None:
        self.dtype = potential.dtype
        archive = archive_of(potential)
        library = libraries.load(variant_of(potential))
        self._evaluate = library.molpool_evaluate
        self._handle = _create(library, archive)
        # not at exit, when a thread of the user may still be inside
        weakref.finalize(self, library.molpool_destroy, self._handle).atexit = False
        self.scalars = scalars_of(potential)
        weights = {f"{name}_weights" for name in ("energy", *self.scalars)}
        offered = potential.properties & {*COVERED, *self.scalars, *weights}
        if "energy" in offered:
            # cells are no matter of a potential that reaches everywhere
            has_stress = potential.extensive and isfinite(potential.cutoff)
            offered |= {"forces"} | ({"stress"} if has_stress else set())
        self._potential = potential
        heads: list[Any] = [h for h in potential.heads.values() if type(h) not in HEADS]
        self._of_features = frozenset[str]().union(
            *(head.properties for head in heads if not head.needs_vectors)
        ) - frozenset(offered)
        self.properties = frozenset(offered) | self._of_features
        self._plans: dict[frozenset[str], _Plan] = {}

    def evaluate(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Prediction:
        """Return the wanted properties and those that come with them for nothing.

        The pairs must be listed by system, in the order of the systems, and in both
        directions. Systems are shared between as many threads as torch has.

        Raises:
            RuntimeError: memory does not suffice.
            ValueError: stress of a system without three lattice vectors.
        """
        if "stress" in properties:
            demand_volume(batch.cell)
        if properties not in self._plans:
            self._plans[properties] = self._plan(properties)
        plan = self._plans[properties]
        outputs = self._outputs(batch, plan)
        arguments, held = _batch_of(batch, neighbors, self.dtype)
        weights = {
            name: torch.empty(batch.positions.shape[0], dtype=self.dtype)
            for name in plan.weights
        }
        others = {
            name: torch.empty(batch.systems.n_segments, dtype=torch.float64)
            for name in plan.scalars
        }
        weighted = ("energy", *self.scalars)
        tables = [_places(weights, weighted), _places(others, self.scalars)]
        lists = [(ctypes.c_void_p * len(table))(*table) for table in tables]
        places = _places(outputs, (*COVERED, "features"))
        places += map(ctypes.addressof, lists)
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        failed = self._evaluate(
            self._handle,
            ctypes.byref(arguments),
            ctypes.byref(_Results(*places)),
            ctypes.c_int64(torch.get_num_threads()),
            message,
            ctypes.c_int64(MESSAGE_BYTES),
        )
        del held, lists  # until here the code has read it
        if failed == OUT_OF_MEMORY:
            raise RuntimeError("can't allocate memory")  # as torch says it, see batches
        if failed:
            raise RuntimeError(message.value.decode())
        fields: dict[str, Any] = dict(outputs)
        features = fields.pop("features", None)
        prediction = Prediction(
            **fields, others=others or None, weights=weights or None
        )
        if features is None:
            return prediction
        with torch.no_grad():
            return self._potential.with_heads(
                prediction,
                AtomFeatures(scalars=features, vectors=None),
                batch,
                properties & self._of_features,
            )

    def _plan(self, properties: frozenset[str]) -> _Plan:
        wanted = set(properties)
        if wanted & {"energies", "forces", "stress", "energy_weights"}:
            wanted |= {"energy"} | ({"energies"} & self.properties)
        if "stress" in wanted:
            wanted |= {"forces"}
        if wanted & {"dipole", "charges"}:
            wanted |= {"dipole", "charges"}
        if wanted & self._of_features:
            wanted |= {"features"}
        weighted = ("energy", *self.scalars)
        return _Plan(
            outputs=tuple(name for name in SHAPES if name in wanted),
            weights=tuple(n for n in weighted if f"{n}_weights" in properties),
            scalars=tuple(n for n in self.scalars if {n, f"{n}_weights"} & properties),
        )

    def _outputs(self, batch: AtomsBatch, plan: _Plan) -> dict[str, Tensor]:
        sizes = {
            "systems": batch.systems.n_segments,
            "atoms": batch.positions.shape[0],
            "features": self._potential.network.n_features,
        }
        return {
            name: torch.empty(
                [
                    sizes[axis] if isinstance(axis, str) else axis
                    for axis in SHAPES[name]
                ],
                dtype=torch.float64 if name in IN_FLOAT64 else self.dtype,
            )
            for name in plan.outputs
        }


def _places(tensors: Mapping[str, Tensor], names: Iterable[str]) -> list[int | None]:
    """Return where each tensor lies, ``None`` for one that is not there."""
    return [tensors[n].data_ptr() if n in tensors else None for n in names]


def _create(library: ctypes.CDLL, archive: Archive) -> ctypes.c_void_p:
    count, handle = len(archive), ctypes.c_void_p()
    message = ctypes.create_string_buffer(MESSAGE_BYTES)
    pointers = [values.ctypes.data for values in archive.values()]
    failed = library.molpool_create(
        ctypes.c_int64(count),
        (ctypes.c_char_p * count)(*(key.encode() for key in archive)),
        (ctypes.c_void_p * count)(*pointers),
        (ctypes.c_int64 * count)(*(values.size for values in archive.values())),
        ctypes.byref(handle),
        message,
        ctypes.c_int64(MESSAGE_BYTES),
    )
    if failed:
        raise ValueError(f"the compiled code refuses it: {message.value.decode()}")
    return handle


def _batch_of(
    batch: AtomsBatch, neighbors: NeighborList, dtype: torch.dtype
) -> tuple[_Batch, list[Tensor | None]]:
    """Return the record of pointers, and the tensors that must live as long."""
    shift, dense = neighbors.shift, neighbors.n_dense
    integers = [batch.atomic_numbers, batch.systems.index]
    pairs = [] if dense else [neighbors.center, neighbors.neighbor]
    electrons = [batch.total_charge, batch.num_unpaired]
    reals = [batch.positions, *electrons, batch.cell]
    held: list[Tensor | None] = [
        *(_plain(tensor, torch.int64) for tensor in integers),
        *(_plain(tensor, dtype) for tensor in reals),
        *((_plain(tensor, torch.int64) for tensor in pairs) if pairs else (None, None)),
        None if shift is None else _plain(shift, dtype),
    ]
    arguments = _Batch(
        batch.systems.n_segments,
        batch.positions.shape[0],
        0 if dense else neighbors.center.shape[0],
        dense or 0,
        *(None if tensor is None else tensor.data_ptr() for tensor in held),
    )
    return arguments, held


def _plain(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the tensor as the code reads it: contiguous numbers of one type."""
    if tensor.dtype == dtype and tensor.is_contiguous():
        return tensor
    return tensor.detach().to(dtype).contiguous()
