"""Labelled frames as tensors, with their pairs found once, cut into batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from molpool_calc.interfaces import AtomsBatch, NeighborList
from molpool_calc.neighbors import dense_pairs, neighbor_list
from molpool_calc.neighbors.pairs import N_COMPLETE
from molpool_calc.segments import segments_from_sizes
from molpool_calc.training.dataset import Dataset

LABELS = ("energy", "forces", "dipole", "polarizability")


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Labels:
    """Reference values of a batch; ``None`` where the data has none."""

    energy: Float[Tensor, " systems"] | None
    forces: Float[Tensor, "atoms 3"] | None
    dipole: Float[Tensor, "systems 3"] | None
    polarizability: Float[Tensor, "systems 3 3"] | None
    scalars: Mapping[str, Float[Tensor, " systems"]] = field(default_factory=dict)
    weights: Mapping[str, Float[Tensor, " atoms"]] = field(default_factory=dict)


class Frames:
    """All frames of a data set, ready to be joined into batches on one device.

    Args:
        dataset: frames in internal units.
        cutoff: of the network, Å.
        dtype: of positions and labels; energies stay float64.
        device: where batches are made.
    """

    def __init__(
        self,
        dataset: Dataset,
        cutoff: float,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.dataset, self.dtype, self.device = dataset, dtype, device
        uniform = len(np.unique(dataset.sizes)) == 1
        self._dense = (
            uniform and dataset.sizes[0] <= N_COMPLETE and not dataset.pbc.any()
        )
        self._pairs: list[NeighborList] = []
        if not self._dense:
            self._pairs = self._search(cutoff)

    def _search(self, cutoff: float) -> list[NeighborList]:
        dataset = self.dataset
        return [
            neighbor_list(self._atoms(dataset.select(np.array([index]))), cutoff)
            for index in range(len(dataset))
        ]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.dataset)

    def batch(
        self, indices: Int[np.ndarray, " n"]
    ) -> tuple[AtomsBatch, NeighborList, Labels]:
        """Return the frames of these indices, their pairs and their labels."""
        chosen = self.dataset.select(indices)
        atoms = self._atoms(chosen)
        pairs = dense_pairs(atoms) if self._dense else None
        if pairs is None:
            lists = [self._pairs[index] for index in indices]
            pairs = self._join(lists, chosen.offsets)
        labels = Labels(
            energy=self._tensor(chosen.energy, torch.float64),
            forces=self._tensor(chosen.forces, self.dtype),
            dipole=self._tensor(chosen.dipole, self.dtype),
            polarizability=self._tensor(chosen.polarizability, self.dtype),
            scalars=self._tensors(chosen.scalars, torch.float64),
            weights=self._tensors(chosen.weights, self.dtype),
        )
        return atoms, pairs, labels

    def _tensors(
        self, values: Mapping[str, Shaped[np.ndarray, "*shape"]], dtype: torch.dtype
    ) -> dict[str, Tensor]:
        return {
            name: torch.as_tensor(x, dtype=dtype, device=self.device)
            for name, x in values.items()
        }

    def _tensor(
        self, values: Shaped[np.ndarray, "*shape"] | None, dtype: torch.dtype
    ) -> Tensor | None:
        if values is None:
            return None
        return torch.as_tensor(values, dtype=dtype, device=self.device)

    def _atoms(self, chosen: Dataset) -> AtomsBatch:
        def tensor(values: np.ndarray, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(values, dtype=dtype, device=self.device)

        return AtomsBatch(
            atomic_numbers=tensor(chosen.numbers, torch.int64),
            positions=tensor(chosen.positions, self.dtype),
            cell=tensor(chosen.cells, self.dtype),
            pbc=tensor(chosen.pbc, torch.bool),
            total_charge=tensor(chosen.charges, self.dtype),
            num_unpaired=tensor(np.zeros(len(chosen)), self.dtype),
            systems=segments_from_sizes(chosen.sizes.tolist(), self.device),
        )

    def _join(
        self, lists: list[NeighborList], offsets: Int[np.ndarray, " frames_plus_one"]
    ) -> NeighborList:
        counts = torch.tensor([pairs.center.shape[0] for pairs in lists])
        first = torch.repeat_interleave(torch.as_tensor(offsets[:-1]), counts)
        first = first.to(self.device)
        shifts = [pairs.shift for pairs in lists]
        shift = None
        if any(part is not None for part in shifts):
            shift = torch.cat(
                [
                    torch.zeros((n, 3), dtype=self.dtype, device=self.device)
                    if part is None
                    else part
                    for part, n in zip(shifts, counts.tolist(), strict=True)
                ]
            )
        return NeighborList(
            center=torch.cat([pairs.center for pairs in lists]) + first,
            neighbor=torch.cat([pairs.neighbor for pairs in lists]) + first,
            shift=shift,
        )
