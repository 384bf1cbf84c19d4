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
        "spread": response.spread,
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


def resumed_state(path: Path, begun: MDState) -> tuple[MDState, dict[str, Tensor]]:
    """Return state and last frames of a run that goes on.

    Args:
        path: Of the checkpoint.
        begun: Where the run starts: on the same device, with the same shapes.

    Raises:
        ValueError: If the file is damaged, or has other shapes than the run.
    """
    device = begun.positions.device
    state, recent = load_checkpoint(path, device), load_recent(path, device)
    _require_same_shapes(path, state, begun)
    return state, recent


def _require_same_shapes(path: Path, state: MDState, begun: MDState) -> None:
    for name, found, expected in (
        ("positions", state.positions, begun.positions),
        ("momenta", state.momenta, begun.momenta),
        ("heat", state.heat, begun.heat),
        ("energies", state.response.energy, begun.response.energy),
        ("forces", state.response.forces, begun.response.forces),
        ("dipoles", state.response.dipole, begun.response.dipole),
        ("cells", state.cell, begun.cell),
        ("random state", state.generator_state, begun.generator_state),
    ):
        there, wanted = _description(found), _description(expected)
        if there != wanted:
            raise ValueError(
                f"{path} is the checkpoint of another run: its {name} are {there}, "
                f"and those of this run {wanted}; restore the one of this run, or "
                "start the run again in another folder"
            )


def require_recorded(path: Path, state: MDState, record: np.void) -> None:
    """Raise ValueError unless a loaded state is the one recorded at its step."""
    recorded, found = record["energy"], state.response.energy.cpu().numpy()
    going_on = np.isfinite(recorded)  # NaN for replicas that were stopped
    if not np.array_equal(recorded[going_on], found[going_on]):
        raise ValueError(
            f"{path} is the checkpoint of another run: the energies at step "
            f"{state.step} are not those recorded; restore the one of this run, or "
            "start the run again in another folder"
        )


def _description(values: Tensor | None) -> str:
    if values is None:
        return "absent"
    return f"{values.dtype} {tuple(values.shape)}".removeprefix("torch.")


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
            spread=optional("spread"),
        ),
        heat=tensors["heat"].to(device),
        step=int(tensors["step"]),
        generator_state=tensors["generator_state"],
        cell=optional("cell"),
        chain=optional("chain"),
    )
