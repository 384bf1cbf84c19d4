"""Six ways to find pairs of atoms: vesin, matscipy, ASE, torch-cluster, two in torch.

Each gets a batch in float64 with finite positions, whose lattice vectors are zero
where the system is not periodic, and returns at least all pairs within the cutoff,
in any order; the exact cut and the order come from ``pairs``.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Literal

import numpy as np
import torch
import vesin
from jaxtyping import Bool, Float, Int
from matscipy.neighbours import neighbour_list as matscipy_neighbour_list
from torch import Tensor

from molpool_calc.interfaces import AtomsBatch, NeighborList
from molpool_calc.neighbors.boxes import bounding_box
from molpool_calc.neighbors.cells import cell_pairs
from molpool_calc.neighbors.pairs import first_and_size, near

Backend = Literal["vesin", "matscipy", "ase", "dense", "cells", "torch-cluster"]

CHUNK = 2**21
"""How many candidates the dense search holds in memory at once (about 0.3 GB)."""

_Found = tuple[
    Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Int[np.ndarray, "pairs 3"]
]
_Tensors = tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Float[Tensor, "pairs 3"]]
_Search = Callable[
    [
        Float[np.ndarray, "atoms 3"],
        Float[np.ndarray, "3 3"],
        Bool[np.ndarray, " 3"],
        float,
    ],
    _Found,
]


def usual_backend(device: torch.device) -> Backend:
    """Return the fastest program that needs nothing more installed."""
    return "vesin" if device.type == "cpu" else "cells"


def candidate_pairs(batch: AtomsBatch, cutoff: float, backend: str) -> NeighborList:
    """Return all pairs within the cutoff, and possibly more, as a back end finds them.

    Raises:
        ValueError: the back end is not known, or cannot treat periodic systems.
        ImportError: it is not installed.
    """
    if backend == "dense":
        return _dense(batch, cutoff)
    if backend == "cells":
        return cell_pairs(batch, cutoff)
    if backend == "torch-cluster":
        return _torch_cluster(batch, cutoff)
    searches: dict[str, _Search] = {"vesin": _vesin, "matscipy": _matscipy, "ase": _ase}
    if backend not in searches:
        raise ValueError(
            f"{backend!r} is no neighbor search; choose one of "
            "vesin, matscipy, ase, dense, cells, torch-cluster"
        )
    return _one_by_one(batch, cutoff, searches[backend])


def _one_by_one(batch: AtomsBatch, cutoff: float, search: _Search) -> NeighborList:
    """Return the pairs that a search on the CPU finds in each system in turn."""
    positions, cell = batch.positions.cpu().numpy(), batch.cell.cpu().numpy()
    pbc, index = batch.pbc.cpu().numpy(), batch.systems.index.cpu().numpy()
    ends = np.cumsum(np.bincount(index, minlength=batch.systems.n_segments))
    centers, neighbors, shifts = [], [], []
    first = 0
    for k, end in enumerate(ends):
        i, j, shift = search(positions[first:end], cell[k], pbc[k], cutoff)
        centers.append(i + first)
        neighbors.append(j + first)
        shifts.append(shift)
        first = end
    device = batch.positions.device
    return NeighborList(
        center=torch.from_numpy(np.concatenate(centers)).to(device),
        neighbor=torch.from_numpy(np.concatenate(neighbors)).to(device),
        shift=(
            torch.from_numpy(np.concatenate(shifts)).to(device, torch.float64)
            if pbc.any()
            else None
        ),
    )


def _vesin(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, " 3"],
    cutoff: float,
) -> _Found:
    search = vesin.NeighborList(cutoff=cutoff, full_list=True)
    found, shift = search.compute(positions, cell, pbc, "PS", copy=False)
    # Copied column by column, because the arrays die with the search.
    i, j = found.view(np.int64).T
    return i.copy(), j.copy(), shift.copy()


def _matscipy(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, " 3"],
    cutoff: float,
) -> _Found:
    box, origin = bounding_box(positions, cell, pbc, cutoff)
    i, j, shift = matscipy_neighbour_list(
        "ijS", positions=positions, cell=box, cell_origin=origin, pbc=pbc, cutoff=cutoff
    )
    return i.astype(np.int64), j.astype(np.int64), shift


def _ase(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, " 3"],
    cutoff: float,
) -> _Found:
    from ase.neighborlist import primitive_neighbor_list  # noqa: PLC0415 - slow import

    # A zero vector would make up to a million empty bins, or one with all atoms.
    box, origin = bounding_box(positions, cell, pbc, cutoff)
    i, j, shift = primitive_neighbor_list(  # type: ignore[no-untyped-call]  # ASE's
        "ijS", pbc, box, positions - origin, cutoff
    )
    return i, j, shift


def _torch_cluster(batch: AtomsBatch, cutoff: float) -> NeighborList:
    """Return the pairs of ``radius_graph``, which knows no periodic images.

    It returns at most ``max_num_neighbors`` neighbors of each atom and leaves out the
    others without a word. An atom has fewer neighbors than its system has atoms, so
    this bound leaves out none.
    """
    if batch.pbc.any():
        raise ValueError(
            "torch-cluster was given a periodic system, but finds no periodic images; "
            "use the neighbor search vesin, matscipy, ase or dense"
        )
    try:
        radius_graph = import_module("torch_cluster").radius_graph
    except (ImportError, OSError, RuntimeError) as error:
        raise ImportError(
            f"the neighbor search torch-cluster cannot be loaded ({error}); run "
            "pip install torch-cluster==1.6.3 --no-build-isolation, or use vesin"
        ) from error
    neighbor, center = radius_graph(
        batch.positions,
        cutoff,
        batch.systems.index,
        max_num_neighbors=batch.systems.max_size,
        batch_size=batch.systems.n_segments,
    )
    return NeighborList(center=center, neighbor=neighbor, shift=None)


def _dense(batch: AtomsBatch, cutoff: float) -> NeighborList:
    """Return the pairs found by looking at all pairs of atoms and all near images.

    With the reciprocal vectors b_k of the lattice (the columns of its pseudo-inverse),
    a vector r between images of atoms i and j spans ``r·b_k = f_jk - f_ik + n_k``
    cells, f being fractional coordinates in [0, 1) and n the shift of the wrapped
    atoms. So ``|r| < cutoff`` needs ``|n_k| < cutoff |b_k| + 1``.
    """
    reciprocal = torch.linalg.pinv(batch.cell)
    # The millionth is far above the rounding of f and far below a cell.
    reach = torch.floor(cutoff * torch.linalg.norm(reciprocal, dim=1) + 1 + 1e-6)
    reach = torch.where(batch.pbc, reach, 0).to(torch.int64)
    per_atom = reciprocal[batch.systems.index]
    fractional = (batch.positions[:, :, None] * per_atom).sum(1)
    wraps = torch.where(batch.pbc[batch.systems.index], torch.floor(fractional), 0)
    found = [
        near(batch, center, neighbor, shift - wraps[neighbor] + wraps[center], cutoff)
        for center, neighbor, shift in _pairs_and_images(batch, reach)
    ]
    center, neighbor, shift = map(torch.cat, zip(*found, strict=True))
    periodic = bool(batch.pbc.any())
    return NeighborList(
        center=center, neighbor=neighbor, shift=shift if periodic else None
    )


def _pairs_and_images(
    batch: AtomsBatch, reach: Int[Tensor, "systems 3"]
) -> Iterator[_Tensors]:
    """Yield all ordered pairs with all shifts up to ``reach``, chunk by chunk."""
    first, size = first_and_size(batch.systems)
    width = 2 * reach + 1
    n_images = width.prod(1)
    ends = torch.cumsum(size * size * n_images, 0)
    total = int(ends[-1])
    for start in range(0, total, CHUNK):
        candidate = torch.arange(start, min(start + CHUNK, total), device=ends.device)
        k = torch.bucketize(candidate, ends, right=True)
        within_system = candidate - (ends - size * size * n_images)[k]
        pair, image = within_system // n_images[k], within_system % n_images[k]
        _, height, depth = width[k].unbind(1)
        steps = (image // (height * depth), image // depth % height, image % depth)
        shift = (torch.stack(steps, 1) - reach[k]).to(torch.float64)
        yield first[k] + pair // size[k], first[k] + pair % size[k], shift
