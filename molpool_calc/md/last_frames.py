"""The last frames of a run, every step of them, kept for a replica that is stopped."""

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from molpool_calc.elements import symbol
from molpool_calc.md.records import write_atomically
from molpool_calc.md.state import MDState, MDSystem

MOST = 100
"""Frames that are kept."""

# More would make a checkpoint of a large system slow.
_BYTES = 2**23


class Frame(NamedTuple):
    """Positions (Å) and momenta of all atoms at one step, and cells that move."""

    step: int
    positions: Float64[Tensor, "atoms 3"]
    momenta: Float64[Tensor, "atoms 3"]
    cell: Float64[Tensor, "systems 3 3"] | None


class LastFrames:
    """A ring of the last good frames; it keeps references, as states never change."""

    def __init__(self, system: MDSystem) -> None:
        self._system = system
        size = 2 * 8 * 3 * len(system.masses)
        self._frames: deque[Frame] = deque(maxlen=max(1, min(MOST, _BYTES // size)))

    def __len__(self) -> int:
        return len(self._frames)

    def keep(self, state: MDState) -> None:
        """Add a good state, dropping the oldest if need be."""
        self._frames.append(_frame(state))

    def arrays(self, last_step: int) -> dict[str, Tensor]:
        """Return the frames up to a step as tensors, for a checkpoint."""
        frames = [frame for frame in self._frames if frame.step <= last_step]
        if not frames:
            return {}
        steps, positions, momenta, cells = zip(*frames, strict=True)
        arrays = {
            "recent_steps": torch.tensor(steps),
            "recent_positions": torch.stack(positions),
            "recent_momenta": torch.stack(momenta),
        }
        if cells[0] is not None:
            arrays["recent_cells"] = torch.stack(cells)
        return arrays

    def restore(self, arrays: dict[str, Tensor]) -> None:
        """Take up the frames of a checkpoint, if it has any."""
        self._frames.clear()
        if "recent_steps" in arrays:
            steps = arrays["recent_steps"].tolist()
            cells = arrays.get("recent_cells", [None] * len(steps))
            moving = arrays["recent_positions"], arrays["recent_momenta"], cells
            for frame in zip(steps, *moving, strict=True):
                self._frames.append(Frame(*frame))

    def write(self, path: Path, replica: int, bad: MDState, timestep_fs: float) -> None:
        """Write the frames of one replica and a bad one as extxyz.

        The columns are those of ASE, which reads momenta in the same units.
        """
        frames = [*((frame, True) for frame in self._frames), (_frame(bad), False)]
        text = "".join(
            self._text(frame, replica, timestep_fs, is_good=good)
            for frame, good in frames
        )
        write_atomically(path, text.encode())

    def _text(
        self, frame: Frame, replica: int, timestep_fs: float, *, is_good: bool
    ) -> str:
        system = self._system
        n_atoms = system.systems.max_size
        own = slice(replica * n_atoms, (replica + 1) * n_atoms)
        box = 'pbc="F F F"'
        cell = system.cell if frame.cell is None else frame.cell
        if cell is not None and system.pbc is not None:
            lattice = _numbers(cell[replica].flatten().tolist())
            along = " ".join("FT"[flag] for flag in system.pbc[replica].tolist())
            box = f'Lattice="{lattice}" pbc="{along}"'
        rows = np.hstack(
            [frame.positions[own].cpu().numpy(), frame.momenta[own].cpu().numpy()]
        )
        lines = [
            f"{symbol(number)} {_numbers(row)}"
            for number, row in zip(
                system.atomic_numbers[own].tolist(), rows.tolist(), strict=True
            )
        ]
        comment = (
            f"{box} Properties=species:S:1:pos:R:3:momenta:R:3 replica={replica} "
            f"step={frame.step} time_fs={frame.step * timestep_fs:.12g} "
            f"good={'FT'[is_good]}"
        )
        return "\n".join([str(n_atoms), comment, *lines, ""])


def _frame(state: MDState) -> Frame:
    return Frame(state.step, state.positions, state.momenta, state.cell)


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.17g}" for value in values)
