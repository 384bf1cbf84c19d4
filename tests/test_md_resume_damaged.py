"""Whatever has happened to the files of a run, resuming it says so in one sentence."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from md_models import CPU, Faulty, raise_interrupt, run

from molpool_calc.ase_trajectory import read_molpool_h5md
from molpool_calc.md.checkpoint import load_checkpoint, load_recent
from molpool_calc.md.manifest import read_manifest
from molpool_calc.md.trajectory import read_run

N_CUTS = 50


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "r"
    run(folder, "bussi", 30)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "r"))


def cuts(content: bytes) -> list[bytes]:
    lengths = np.linspace(0, len(content) - 1, N_CUTS).astype(int)
    return [content[:length] for length in lengths.tolist()]


def flipped(content: bytes, seed: int) -> bytes:
    """The content with one byte replaced by another."""
    rng, changed = np.random.default_rng(seed), bytearray(content)
    changed[rng.integers(len(content))] ^= int(rng.integers(1, 256))
    return bytes(changed)


def refused(folder: Path, match: str, **options: object) -> None:
    """Resuming raises one line and leaves every file as it is."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=match) as error:
        run(folder, "bussi", 40, resume=True, **options)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_checkpoint_cut_anywhere_is_refused(folder: Path) -> None:
    path = folder / "checkpoint.npz"
    for content in cuts(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or not a checkpoint") as error:
            load_checkpoint(path, CPU)
        assert "\n" not in str(error.value)
    refused(folder, r"checkpoint\.npz is damaged or not a checkpoint of molecular")


def test_a_damaged_byte_of_a_checkpoint_is_refused_or_means_nothing(
    folder: Path,
) -> None:
    path = folder / "checkpoint.npz"
    content, whole = path.read_bytes(), load_checkpoint(path, CPU)
    n_refused = 0
    for seed in range(100):
        path.write_bytes(flipped(content, seed))
        try:
            state = load_checkpoint(path, CPU)
            load_recent(path, CPU)
        except ValueError:  # and nothing else
            n_refused += 1
        else:  # a byte that zip archives do not use, such as a time
            assert torch.equal(state.positions, whole.positions)
            assert torch.equal(state.momenta, whole.momenta)
    assert n_refused > 80


def test_the_file_of_a_finished_run_cut_anywhere_is_refused(folder: Path) -> None:
    path = folder / "trajectory.h5"
    for content in cuts(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="was not written by molpool") as error:
            read_run(folder)
        assert "\n" not in str(error.value)
    refused(folder, r"trajectory\.h5 is damaged or was not written by molpool")


@pytest.mark.parametrize(
    ("place", "below"),
    [
        ("observables", ""),  # an array where a group should be
        ("observables/potential_energy/step", "/x"),  # a group instead of an array
        ("observables/dipole/value", "/x"),
        ("particles/replica_001/position/value", ""),
        ("particles/replica_001/position", ""),
        ("particles/replica_001/position/step", "/x"),
    ],
)
def test_a_foreign_hdf5_file_is_refused(folder: Path, place: str, below: str) -> None:
    path = folder / "trajectory.h5"
    with h5py.File(path, "r+") as file:
        del file[place]
        file[place + below] = np.zeros(3)
    refused(folder, r"trajectory\.h5 is damaged or was not written by molpool")
    with path.open("rb") as file, pytest.raises(ValueError, match="by molpool"):
        list(read_molpool_h5md(file, replica=1))
    with h5py.File(path, "w") as file:
        file["x"] = 1.0
    refused(folder, r"trajectory\.h5 is damaged or was not written by molpool")


def test_a_manifest_cut_anywhere_is_refused(folder: Path) -> None:
    path = folder / "run.json"
    for content in cuts(path.read_bytes().rstrip()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"run\.json is not valid JSON") as error:
            read_manifest(folder)
        assert "\n" not in str(error.value)
    refused(folder, r"run\.json is not valid JSON")


@pytest.mark.parametrize("key", ["n_replicas", "atomic_numbers", "observables", "pbc"])
def test_a_manifest_that_does_not_say_what_was_run_is_refused(
    folder: Path, key: str
) -> None:
    manifest = read_manifest(folder)
    del manifest["dynamics"][key]
    (folder / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=rf"run\.json has no dynamics\.{key}, so it"):
        read_run(folder)
    refused(folder, rf"run\.json has no dynamics\.{key}|with another {key}: it was")


def test_the_checkpoint_of_a_run_with_other_shapes_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    run(tmp_path / "gas", "npt bussi isotropic", 30)
    shutil.copy(tmp_path / "gas" / "checkpoint.npz", folder)
    refused(
        folder,
        r"checkpoint of another run: its positions are float64 \(10, 3\), and those "
        r"of this run float64 \(6, 3\); restore",
    )


def test_a_checkpoint_with_another_random_state_is_refused(folder: Path) -> None:
    path = folder / "checkpoint.npz"
    with np.load(path) as archive:
        arrays = {**archive, "generator_state": np.zeros(3, np.uint8)}
    np.savez(path, **arrays)
    refused(folder, r"its random state are uint8 \(3,\), and those of this run uint8")


def test_the_checkpoint_of_a_run_like_this_one_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    run(tmp_path / "other", "bussi", 30, seed=5)
    shutil.copy(tmp_path / "other" / "checkpoint.npz", folder)
    refused(folder, "another run: the energies at step 30 are not those recorded")


def test_an_interrupted_run_refuses_them_too(tmp_path: Path) -> None:
    folder, other = tmp_path / "r", tmp_path / "other"
    for place, seed in ((folder, 0), (other, 5)):
        field = Faulty(20, raise_interrupt)
        run(place, "bussi", 40, force_field=field, seed=seed)
    shutil.copy(other / "checkpoint.npz", folder)
    refused(folder, "another run: the energies at step")
