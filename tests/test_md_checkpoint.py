from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from md_models import CPU, INTEGRATORS, Waters, waters

from molpool_calc.md.checkpoint import load_checkpoint, save_checkpoint
from molpool_calc.md.state import MDState


def some_state() -> MDState:
    system, state = waters(2, INTEGRATORS["langevin"], Waters())
    for _ in range(3):
        state = INTEGRATORS["langevin"](system, state, Waters())
    return state


def tensors(state: MDState) -> list[torch.Tensor]:
    response = state.response
    dipole = [] if response.dipole is None else [response.dipole]
    mine = [state.positions, state.momenta, state.heat, state.generator_state]
    return [*mine, response.energy, response.forces, *dipole]


def test_a_state_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    state = some_state()
    save_checkpoint(tmp_path / "c.npz", state)
    loaded = load_checkpoint(tmp_path / "c.npz", CPU)
    assert loaded.step == 3
    assert all(map(torch.equal, tensors(loaded), tensors(state)))


def test_a_state_without_dipole_comes_back_without(tmp_path: Path) -> None:
    state = some_state()
    state = replace(state, response=replace(state.response, dipole=None))
    save_checkpoint(tmp_path / "c.npz", state)
    assert load_checkpoint(tmp_path / "c.npz", CPU).response.dipole is None


def test_the_same_state_is_the_same_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.npz", some_state())
    save_checkpoint(tmp_path / "b.npz", some_state())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    save_checkpoint(path, some_state())
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[500] ^= 1
    for wrong in (content[:1000], b"", b"not an archive", bytes(flipped)):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"c\.npz is damaged or not a checkpoint"):
            load_checkpoint(path, CPU)


def test_missing_arrays_and_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    np.savez(path, positions=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load_checkpoint(path, CPU)
    np.savez(path, positions=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load_checkpoint(path, CPU)
