"""Molecules in a structure: which atoms are bonded, and how to make them whole."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from molpool_calc.elements import covalent_radius, symbol
from molpool_calc.interfaces import AtomsBatch
from molpool_calc.neighbors import neighbor_list

_STRETCH = 1.2
"""A pair closer than this times the sum of its covalent radii is bonded."""

_ROUNDING = 1e-6  # Å; lattice vectors are far longer
# Ions of groups 1 and 2 (Li to Ba) sit near their neighbours without a bond.
_UNBONDED = frozenset({3, 4, 11, 12, 19, 20, 37, 38, 55, 56})


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Molecules:
    """The molecules of a structure.

    ``index`` says to which each atom belongs. ``levels`` walk through all of them at
    once: pairs of arrays (atoms, an atom bonded to each that comes before it), so that
    each atom but the first of a molecule is reached once.
    """

    index: Int[Tensor, " atoms"]
    n_molecules: int
    levels: tuple[tuple[Int[Tensor, "..."], Int[Tensor, "..."]], ...]

    def to(self, device: torch.device) -> "Molecules":
        """Return the same on a device."""
        return Molecules(
            index=self.index.to(device),
            n_molecules=self.n_molecules,
            levels=tuple((a.to(device), b.to(device)) for a, b in self.levels),
        )


def minimum_image(
    vectors: Float64[Tensor, "systems *rest 3"],
    cells: Float64[Tensor, "systems 3 3"],
    pbc: Bool[Tensor, "systems 3"],
) -> Float64[Tensor, "systems *rest 3"]:
    """Return vectors less the lattice vectors that bring each nearest to zero.

    Exact for vectors shorter than half of every width of the cell.
    """
    flat = vectors.reshape(len(cells), -1, 3)
    # The pseudo-inverse leaves out lattice vectors that are zero.
    turns = torch.round(flat @ torch.linalg.pinv(cells)) * pbc[:, None, :]
    return (flat - turns @ cells).reshape(vectors.shape)


def find_molecules(batch: AtomsBatch) -> Molecules:
    """Return the molecules of one structure, by distances and covalent radii.

    Radii: Cordero et al. 2008, Dalton Trans. 2832.

    Args:
        batch: One system; atoms may have been wrapped into its cell.

    Raises:
        ValueError: the bonds of a molecule reach its own periodic image, so that it
            has no inside and no outside.
    """
    pairs = _bonds(batch)
    n_atoms = batch.positions.shape[0]
    bonded: list[list[int]] = [[] for _ in range(n_atoms)]
    for a, b in pairs.tolist():
        bonded[a].append(b)
    index = np.full(n_atoms, -1)
    depths = np.zeros(n_atoms, np.int64)
    parents = np.arange(n_atoms)
    n_molecules = 0
    for start in range(n_atoms):
        if index[start] >= 0:
            continue
        index[start], frontier = n_molecules, [start]
        while frontier:
            atom = frontier.pop(0)
            for other in bonded[atom]:
                if index[other] < 0:
                    index[other] = n_molecules
                    depths[other], parents[other] = depths[atom] + 1, atom
                    frontier.append(other)
        n_molecules += 1
    levels = []
    for depth in range(1, int(depths.max(initial=0)) + 1):
        reached = np.flatnonzero(depths == depth)
        levels.append((torch.from_numpy(reached), torch.from_numpy(parents[reached])))
    molecules = Molecules(
        index=torch.from_numpy(index), n_molecules=n_molecules, levels=tuple(levels)
    )
    _require_finite(molecules, batch, pairs)
    return molecules


def make_whole(
    molecules: Molecules,
    positions: Float64[Tensor, "systems atoms 3"],
    cells: Float64[Tensor, "systems 3 3"],
    pbc: Bool[Tensor, "systems 3"],
) -> Float64[Tensor, "systems atoms 3"]:
    """Return images of the atoms such that no bond crosses a boundary of the cell."""
    if not bool(pbc.any()):
        return positions
    whole = positions.clone()
    for atoms, before in molecules.levels:
        bonds = positions[:, atoms] - positions[:, before]
        whole[:, atoms] = whole[:, before] + minimum_image(bonds, cells, pbc)
    return whole


def _bonds(batch: AtomsBatch) -> Int[np.ndarray, "bonds 2"]:
    radii = torch.tensor(
        [
            -1e3 if number in _UNBONDED else covalent_radius(number)
            for number in batch.atomic_numbers.tolist()
        ],
        dtype=torch.float64,
    )
    longest = 2.0 * _STRETCH * float(radii.max().clamp(min=0.1))
    pairs = neighbor_list(batch, longest)
    positions, cell = batch.positions.double().cpu(), batch.cell.double().cpu()[0]
    center, neighbor = pairs.center.cpu(), pairs.neighbor.cpu()
    vectors = positions[neighbor] - positions[center]
    if pairs.shift is not None:
        vectors = vectors + pairs.shift.double().cpu() @ cell
    reach = _STRETCH * (radii[center] + radii[neighbor])
    bonded = vectors.norm(dim=1) < reach
    return torch.stack([center, neighbor], dim=1)[bonded].numpy()


def _require_finite(
    molecules: Molecules, batch: AtomsBatch, pairs: Int[np.ndarray, "bonds 2"]
) -> None:
    """Refuse a molecule that is bonded to its own image."""
    positions, cells = batch.positions.double().cpu()[None], batch.cell.double().cpu()
    pbc = batch.pbc.cpu()
    whole = make_whole(molecules, positions, cells, pbc)[0].numpy()
    bonds = torch.from_numpy(whole[pairs[:, 1]] - whole[pairs[:, 0]])[None]
    closed = (bonds - minimum_image(bonds, cells, pbc)).abs().amax(dim=2)[0].numpy()
    for bond in np.flatnonzero(closed > _ROUNDING):
        a, b = pairs[bond].tolist()
        names = [f"{symbol(int(batch.atomic_numbers[k]))}{k}" for k in (a, b)]
        raise ValueError(
            f"the bonds through {' and '.join(names)} reach a periodic image of "
            "themselves, but the dipole flux here is that of molecules and ions; give "
            "a structure without a network of bonds across its cell"
        )


def centres(
    molecules: Molecules,
    whole: Float[Tensor, "systems atoms 3"],
    masses: Float[Tensor, " atoms"],
) -> Float[Tensor, "systems molecules 3"]:
    """Return the centre of mass of each molecule."""
    zero = whole.new_zeros((len(whole), molecules.n_molecules, 3))
    weights = masses.new_zeros(molecules.n_molecules)
    weights = weights.index_add(0, molecules.index, masses)
    summed = zero.index_add(1, molecules.index, whole * masses[:, None])
    return summed / weights[:, None]
