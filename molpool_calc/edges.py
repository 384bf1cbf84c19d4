"""From positions and a neighbor list to the pair vectors that a network sees."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.interfaces import AtomsBatch, Edges, NeighborList

OUT_OF_REACH = 1e3
"""Å, along each axis: farther than any cutoff."""

FEW_PAIRS = 3000


def edges_from_positions(batch: AtomsBatch, neighbors: NeighborList) -> Edges:
    """Return pair vectors from center to neighbor and their lengths, differentiable."""
    positions, center, neighbor = batch.positions, neighbors.center, neighbors.neighbor
    n = neighbors.n_dense
    if n is None:
        ends = positions.index_select(0, neighbor)
        vectors = ends - positions.index_select(0, center)
    else:
        grouped = positions.view(-1, n, 3)
        vectors = grouped[:, None, :, :] - grouped[:, :, None, :]
        # an atom is put out of its own reach, where no distance is zero
        vectors = (vectors + _away_from_itself(n, positions)).view(-1, 3)
    if neighbors.shift is not None:
        cells = batch.cell[batch.systems.index[center]]
        shift = neighbors.shift.to(vectors.dtype)
        vectors = vectors + torch.einsum("pi,pij->pj", shift, cells)
    distances = torch.linalg.vector_norm(vectors, dim=1)
    return Edges(
        center=center,
        neighbor=neighbor,
        vectors=vectors,
        distances=distances,
        n_atoms=positions.shape[0],
        n_dense=n,
    )


def within(edges: Edges, cutoff: float) -> Edges:
    """Return the listed pairs closer than a cutoff.

    Pairs of the dense layout stay all, and so do few: leaving them out costs more than
    it saves, as those beyond the cutoff contribute nothing.
    """
    if edges.n_dense is not None or edges.center.shape[0] <= FEW_PAIRS:
        return edges
    chosen = (edges.distances.detach() < cutoff).nonzero()[:, 0]
    return replace(
        edges,
        center=edges.center[chosen],
        neighbor=edges.neighbor[chosen],
        vectors=edges.vectors.index_select(0, chosen),
        distances=edges.distances.index_select(0, chosen),
    )


def _away_from_itself(n: int, like: Tensor) -> Float[Tensor, "atoms atoms 1"]:
    eye = torch.eye(n, dtype=like.dtype, device=like.device)
    return (eye * OUT_OF_REACH)[:, :, None]
