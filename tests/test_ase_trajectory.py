"""ASE reads the file of a run as it reads its own."""

from configparser import ConfigParser
from importlib.metadata import EntryPoint
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase.io import formats
from md_faults import run_faulty, swirl
from md_models import run

from molpool_calc.md.guard import Limits
from molpool_calc.md.trajectory import read_run

ROOT = Path(__file__).parents[1]
NAME = "molpool-h5md"


@pytest.fixture(scope="module", autouse=True)
def registered():
    """The format, also where the package was installed before it had one."""
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    stated = settings["options.entry_points"]["ase.ioformats"]
    name, value = (word.strip() for word in stated.strip().split("="))
    assert name == NAME
    if NAME not in formats.ioformats:
        entry = EntryPoint(name=name, value=value, group="ase.ioformats")
        formats.define_external_io_format(entry)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "r"
    run(folder, "bussi", 20, every=4)
    return folder


def test_ase_reads_all_frames_with_what_was_recorded(folder: Path) -> None:
    data = read_run(folder)
    for replica, options in ((0, {}), (1, {"replica": 1})):
        frames = ase.io.read(folder / "trajectory.h5", ":", **options)
        assert len(frames) == 6
        for place, atoms in enumerate(frames):
            step = 4 * place
            assert atoms.info == {"step": step, "time_fs": float(step)}
            assert atoms.symbols.get_chemical_formula("reduce") == "OH2"
            assert not atoms.pbc.any()
            np.testing.assert_array_equal(
                atoms.positions, data.positions[replica, place]
            )
            assert atoms.get_potential_energy() == data.energies[replica, step]
            np.testing.assert_array_equal(
                atoms.get_dipole_moment(), data.dipoles[replica, step]
            )
            # velocities are in ASE's units: the kinetic energy is the recorded one
            kinetic = data.kinetic[replica, step]
            assert atoms.get_kinetic_energy() == pytest.approx(kinetic, rel=1e-6)


def test_ase_reads_one_frame_and_the_last(folder: Path) -> None:
    path = folder / "trajectory.h5"
    assert ase.io.read(path).info["step"] == 20
    assert ase.io.read(path, 2).info["step"] == 8
    steps = [atoms.info["step"] for atoms in ase.io.read(path, "1::2")]
    assert steps == [4, 12, 20]


def test_the_file_is_recognised_by_name_and_by_content(
    folder: Path, tmp_path: Path
) -> None:
    assert formats.filetype(str(folder / "trajectory.h5")) == NAME
    other = tmp_path / "saved.h5"
    other.write_bytes((folder / "trajectory.h5").read_bytes())
    assert formats.filetype(str(other)) == NAME
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    assert formats.filetype(str(tmp_path / "foreign.h5")) != NAME


def test_a_periodic_run_has_its_cells(tmp_path: Path) -> None:
    run(tmp_path / "r", "npt langevin flexible", 6, every=3)
    data = read_run(tmp_path / "r")
    frames = ase.io.read(tmp_path / "r" / "trajectory.h5", ":")
    for atoms, cell in zip(frames, data.cells[0], strict=True):
        assert atoms.pbc.all()
        np.testing.assert_array_equal(atoms.cell.array, cell)


def test_a_stopped_replica_ends_with_its_last_good_frame(tmp_path: Path) -> None:
    limits = Limits(drift=50.0)
    (stop,) = run_faulty(tmp_path / "r", "nve", swirl, limits=limits).stopped
    path = tmp_path / "r" / "trajectory.h5"
    frames = ase.io.read(path, ":", replica=stop.replica)
    assert [atoms.info["step"] for atoms in frames] == [*range(stop.step)]
    assert len(ase.io.read(path, ":")) == 81


def test_foreign_and_damaged_files_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "trajectory.h5"
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="damaged or was not written by molpool"):
        ase.io.read(path, ":")
    content = (folder / "trajectory.h5").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged or was not written by molpool"):
        ase.io.read(path, ":")
    with pytest.raises(ValueError, match="no replica 2; give one from 0 to 1"):
        ase.io.read(folder / "trajectory.h5", ":", replica=2)
