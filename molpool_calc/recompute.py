"""Dipoles and the like of the frames of a trajectory, computed once and kept.

The values stand in an append-only file of checked records, one for each frame, beside
a JSON file that says what they were made of: the hash of the trajectory, the quantity
and the calculator, and the hash of the velocities where it depends on them. After
``kill -9`` the computation goes on where it was; values of another trajectory,
calculator or time step are never taken.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.connectivity import Molecules, find_molecules
from molpool_calc.dipole_flux import DIPOLE_FLUX, DipoleFlux
from molpool_calc.foreign import ForeignCalculator, demand_property, failed
from molpool_calc.md.records import (
    OBSERVABLES,
    RecordWriter,
    read_records,
    write_atomically,
)
from molpool_calc.provenance import provenance
from molpool_calc.trajectory_file import TrajectoryFile

Quantity = Literal["dipole", "polarizability", "dipole_flux"]

_FORMAT = 2


@runtime_checkable
class Source(Protocol):
    """What computes a quantity of structures, ``n_at_once`` between two writes."""

    n_at_once: int

    def identity(self) -> dict[str, Any]:
        """Return what the values depend on, ready for JSON."""
        ...

    def values(
        self, frames: Sequence[Atoms], velocities: Float[np.ndarray, "frames atoms 3"]
    ) -> Float[np.ndarray, "frames ..."]:
        """Return the quantity of each frame; velocities (Å/fs) where it needs them."""
        ...


class NetworkSource:
    """A potential of MolPool, several frames in one forward pass.

    Raises:
        ValueError: the potential does not predict the quantity.
    """

    n_at_once = 64

    def __init__(
        self, potential: str, quantity: Quantity, *, device: str, dtype: str
    ) -> None:
        self.calculator = MolPoolCalculator(potential, device=device, dtype=dtype)
        self.potential, self.quantity, self.dtype = potential, quantity, dtype
        self._molecules: Molecules | None = None
        needed = {"dipole", "charges"} if quantity == DIPOLE_FLUX else {quantity}
        known = self.calculator.evaluator.potential.properties
        for name in sorted(needed - known):
            raise ValueError(
                f"{potential} predicts no {name}, only {', '.join(sorted(known))}; "
                "take another potential (see molpool list)"
            )

    def identity(self) -> dict[str, Any]:
        """Return name and hash of the potential, and the precision."""
        return {**provenance(self.potential)["potential"], "dtype": self.dtype}

    def values(
        self, frames: Sequence[Atoms], velocities: Float[np.ndarray, "frames atoms 3"]
    ) -> Float[np.ndarray, "frames ..."]:
        """Return the quantity of each frame."""
        evaluator = self.calculator.evaluator
        states = [self.calculator.charge_and_spin(atoms) for atoms in frames]
        for atoms, state in zip(frames, states, strict=True):
            evaluator.check(atoms, state)
        if self.quantity == DIPOLE_FLUX:
            return self._fluxes(frames, velocities)
        found = evaluator.evaluate_many(frames, states, frozenset({self.quantity}))
        return np.stack([results[self.quantity] for results, _ in found])

    def _fluxes(
        self, frames: Sequence[Atoms], velocities: Float[np.ndarray, "frames atoms 3"]
    ) -> Float[np.ndarray, "frames 3"]:
        engine = self.calculator.evaluator.engines[0]
        rows = []
        for atoms, moving in zip(frames, velocities, strict=True):
            batch = batch_from_atoms([atoms], dtype=torch.float64, device=engine.device)
            if self._molecules is None:  # those of the first frame, for all
                self._molecules = find_molecules(batch)
            flux = DipoleFlux(engine, batch, self._molecules)
            now = torch.from_numpy(moving).to(engine.device)
            rows.append(flux(batch.positions, now)[0].cpu().numpy())
        return np.stack(rows)


class ForeignSource:
    """A calculator of another program, frame by frame.

    Raises:
        ValueError: it does not say that it has the quantity.
    """

    n_at_once = 1

    def __init__(self, foreign: ForeignCalculator, quantity: Quantity) -> None:
        self.foreign, self.quantity = foreign, quantity
        self.calculator: Any = foreign.make()
        demand_property(self.calculator, quantity, foreign.text)

    def identity(self) -> dict[str, Any]:
        """Return the name of the calculator with its options and versions."""
        return self.foreign.identity()

    def values(
        self, frames: Sequence[Atoms], velocities: Float[np.ndarray, "frames atoms 3"]
    ) -> Float[np.ndarray, "frames ..."]:
        """Return the quantity of each frame."""
        del velocities
        rows = []
        for atoms in frames:
            try:
                value = self.calculator.get_property(self.quantity, atoms)
            except (RuntimeError, ArithmeticError, LookupError, OSError) as error:
                raise failed(self.foreign.text, "a frame", error) from error
            rows.append(np.asarray(value, dtype=np.float64))
        return np.stack(rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """Where the values of one quantity of one file by one source are kept."""

    records: Path
    origin: Path
    content: Mapping[str, Any]


def cache_of(
    trajectory: TrajectoryFile,
    velocities: Float[np.ndarray, "frames atoms 3"],
    source: Source,
    quantity: Quantity,
    folder: Path,
) -> Cache:
    """Return the cache that belongs to what is computed, whether it exists or not."""
    content = {
        "format": _FORMAT,
        "trajectory_sha256": _hash_of(trajectory.path),
        "quantity": quantity,
        "n_atoms": len(trajectory.first),
        **source.identity(),
    }
    if quantity == DIPOLE_FLUX:  # differences of positions depend on the time step
        little_endian = np.ascontiguousarray(velocities, "<f8")
        digest = hashlib.sha256(little_endian.tobytes())
        content["velocities_sha256"] = digest.hexdigest()
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    name = f"{trajectory.path.name}.{quantity}-{key}"
    return Cache(
        records=folder / f"{name}.bin", origin=folder / f"{name}.json", content=content
    )


def recomputed(
    trajectory: TrajectoryFile,
    velocities: Float[np.ndarray, "frames atoms 3"],
    source: Source,
    quantity: Quantity,
    folder: Path,
    progress: Callable[[str, int], Callable[[int], None]],
) -> Float[np.ndarray, "frames ..."]:
    """Return a quantity of every frame, from the cache as far as it goes.

    Args:
        trajectory: the frames.
        velocities: of the frames, Å/fs, for quantities that depend on them.
        source: computes what is missing.
        quantity: which.
        folder: of the cache.
        progress: shows how far it is.

    Raises:
        ValueError: the source cannot be asked about the frames.
        CalculationFailed: it fails at one; the values before it are kept.
    """
    cache = cache_of(trajectory, velocities, source, quantity, folder)
    layout = np.dtype(
        [
            ("step", "<i8"),
            ("value", "<f8", OBSERVABLES[quantity].shape),
            ("crc32", "<u4"),
        ]
    )
    known = _known(cache, layout)
    n_frames = len(trajectory.positions)
    bar = progress(f"{quantity} of {trajectory.path.name}", n_frames)
    bar(len(known))
    if len(known) < n_frames:
        folder.mkdir(parents=True, exist_ok=True)
        _begin(cache)
        writer = RecordWriter(cache.records, layout, len(known))
        try:
            for start in range(len(known), n_frames, source.n_at_once):
                numbers = range(start, min(start + source.n_at_once, n_frames))
                frames = [trajectory.frame(number) for number in numbers]
                found = source.values(frames, velocities[numbers.start : numbers.stop])
                for number, value in zip(numbers, found, strict=True):
                    writer.append(number, value.astype("<f8").tobytes())
                bar(numbers.stop)
        finally:
            writer.close()
        known = read_records(cache.records, layout)
    return np.ascontiguousarray(known["value"])


def _known(cache: Cache, layout: np.dtype[np.void]) -> np.ndarray:
    """Return the good records of a cache that was made of the same things."""
    nothing = np.empty(0, layout)
    if not (cache.records.is_file() and cache.origin.is_file()):
        return nothing
    try:
        stated = json.loads(cache.origin.read_text(encoding="utf-8"))
    except ValueError:
        return nothing
    if stated != json.loads(json.dumps(cache.content)):
        return nothing
    records = read_records(cache.records, layout)
    in_order = records["step"] == np.arange(len(records))
    return records if in_order.all() else nothing


def _begin(cache: Cache) -> None:
    text = json.dumps(cache.content, indent=1)
    write_atomically(cache.origin, (text + "\n").encode())


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
