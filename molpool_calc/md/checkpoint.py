"""The state of a run on disk, written atomically, arrays only."""

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from molpool_calc.md.records import write_atomically
from molpool_calc.md.state import MDState, Response

CHECKPOINT = "checkpoint.npz"
RECENT = "recent_"
"""Beginning of the names of the last frames in a checkpoint."""

OTHER = "other "
"""Beginning of the names of recorded properties in a checkpoint."""


def save_checkpoint(
    path: Path, state: MDState, recent: Mapping[str, Tensor] | None = None
) -> None:
    """Write the state to disk, exactly; a kill leaves the old or the new one.

    ``recent`` are the last frames, as `last_frames.LastFrames` gives them.
    """
    response = state.response
    tensors = {
        "positions": state.positions,
        "momenta": state.momenta,
        "heat": state.heat,
        "energy": response.energy,
        "forces": response.forces,
        "generator_state": state.generator_state,
    }
    optional = {
        "dipole": response.dipole,
        "stress": response.stress,
        "cell": state.cell,
        "chain": state.chain,
    }
    tensors |= {name: given for name, given in optional.items() if given is not None}
    tensors |= {OTHER + name: values for name, values in response.others.items()}
    tensors |= recent or {}
    arrays: dict[str, Any] = {"step": np.int64(state.step)}
    for name, tensor in tensors.items():
        arrays[name] = tensor.cpu().numpy()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, device: torch.device) -> MDState:
    """Return the state that was saved, on the given device.

    The state of the random generator stays where `torch.Generator` wants it.

    Raises:
        ValueError: If the file is damaged or not a checkpoint.
    """
    with _reading(path):
        return _state(_tensors(path), device)


def load_recent(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Return the last frames that were saved with a state, on the given device.

    Raises:
        ValueError: If the file is damaged or not a checkpoint.
    """
    with _reading(path):
        tensors = _tensors(path)
    return {k: v.to(device) for k, v in tensors.items() if k.startswith(RECENT)}


def _tensors(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged or foreign file raises into one sentence."""
    try:
        yield
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as e:
        raise ValueError(
            f"{path} is damaged or not a checkpoint of molecular dynamics ({e}); "
            "start the run again in another folder"
        ) from e


def _state(tensors: dict[str, Tensor], device: torch.device) -> MDState:
    def optional(name: str) -> Tensor | None:
        return tensors[name].to(device) if name in tensors else None

    return MDState(
        positions=tensors["positions"].to(device),
        momenta=tensors["momenta"].to(device),
        response=Response(
            energy=tensors["energy"].to(device),
            forces=tensors["forces"].to(device),
            dipole=optional("dipole"),
            others={
                name.removeprefix(OTHER): values.to(device)
                for name, values in tensors.items()
                if name.startswith(OTHER)
            },
            stress=optional("stress"),
        ),
        heat=tensors["heat"].to(device),
        step=int(tensors["step"]),
        generator_state=tensors["generator_state"],
        cell=optional("cell"),
        chain=optional("chain"),
    )
