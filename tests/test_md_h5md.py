"""The file of a run is H5MD 1.1, and other programs read it as it was meant."""

import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from md_faults import run_faulty, swirl
from md_models import run
from test_md_trajectory import assert_same

from molpool_calc.ase_trajectory import read_molpool_h5md
from molpool_calc.md.guard import Limits
from molpool_calc.md.h5md import write_h5md
from molpool_calc.md.manifest import read_manifest
from molpool_calc.md.trajectory import layouts, read_run

UNIT = re.compile(r"(\d+(\.\d+)?|[A-Za-z]+([+-]\d+)?)( [A-Za-z]+([+-]\d+)?)*")
"""Symbols with their powers, separated by blanks: module ``units`` of H5MD 1.1."""

NPT_RUN = "npt langevin flexible"


@pytest.fixture(scope="module", params=["bussi", NPT_RUN, "stopped"])
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Runs of molecules, in a moving cell, and with a replica that was stopped."""
    folder = tmp_path_factory.mktemp("runs") / "r"
    if request.param == "stopped":
        assert run_faulty(folder, "nve", swirl, limits=Limits(drift=50.0)).stopped
    else:
        run(folder, request.param, 20, every=4)
    return folder


def elements(group: h5py.Group) -> Iterator[tuple[str, h5py.Group]]:
    """All that a group holds, boxes and observables of replicas included."""
    for name, child in group.items():
        assert isinstance(child, h5py.Group), f"{child.name} is fixed"
        if name == "box" or name.startswith("replica_"):
            yield from elements(child)
        else:
            yield child.name, child


def to_older_layout(path: Path) -> None:
    """Make a file as it was written at first: fixed species and masses, no edges."""
    with h5py.File(path, "r+") as file:
        for name, group in file["particles"].items():
            del file[f"observables/{name}"]
            for constant in ("species", "mass"):
                value = group[f"{constant}/value"][0]
                del group[constant]
                group[constant] = value
            if not np.any(group["box/edges/value"]):
                del group["box/edges"]


def test_every_element_is_one_of_h5md(folder: Path) -> None:
    with h5py.File(folder / "trajectory.h5") as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        for place in ("author", "creator"):
            assert isinstance(file[f"h5md/{place}"].attrs["name"], str)
        assert isinstance(file["h5md/creator"].attrs["version"], str)
        found = dict(elements(file["particles"])) | dict(elements(file["observables"]))
        assert len(found) > 10
        for name, element in found.items():
            assert set(element) == {"step", "time", "value"}, name
            steps, times = element["step"], element["time"]
            assert steps.dtype.kind == "i"
            assert steps.shape == times.shape == (len(element["value"]),)
            assert (np.diff(steps) > 0).all()
            assert times.attrs["unit"] == "fs"
            if not name.endswith("/species"):
                assert UNIT.fullmatch(element["value"].attrs["unit"]), name


def test_particles_and_boxes_are_those_of_h5md(folder: Path) -> None:
    with h5py.File(folder / "trajectory.h5") as file:
        for group in file["particles"].values():
            n_frames, n_atoms, _ = group["position/value"].shape
            assert group["velocity/value"].shape == (n_frames, n_atoms, 3)
            assert group["species/value"].shape == (n_frames, n_atoms)
            assert group["species/value"].dtype.kind == "i"
            assert group["mass/value"].shape == (n_frames, n_atoms)
            box = group["box"]
            assert box.attrs["dimension"] == 3
            assert box.attrs["boundary"].shape == (3,)
            assert set(box.attrs["boundary"]) <= {"none", "periodic"}
            assert box["edges/value"].shape == (n_frames, 3, 3)
            # demanded of edges that depend on time: steps and times of the positions
            assert box["edges/step"] == group["position/step"]
            assert box["edges/time"] == group["position/time"]


def test_files_of_the_older_layout_are_read_alike(folder: Path, tmp_path: Path) -> None:
    for name in ("run.json", "trajectory.h5", "checkpoint.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    path = tmp_path / "trajectory.h5"
    to_older_layout(path)
    with h5py.File(path) as file:
        assert isinstance(file["particles/replica_000/species"], h5py.Dataset)
    assert_same(read_run(tmp_path), read_run(folder))
    for replica in range(2):
        with path.open("rb") as one, (folder / "trajectory.h5").open("rb") as other:
            old = list(read_molpool_h5md(one, slice(None), replica=replica))
            new = list(read_molpool_h5md(other, slice(None), replica=replica))
        assert len(old) == len(new) > 0
        for one, other in zip(old, new, strict=True):
            assert one == other  # numbers, positions, cell and periodicity
            np.testing.assert_array_equal(one.get_masses(), other.get_masses())
            assert one.calc.results.keys() == other.calc.results.keys()


def test_a_finished_run_of_the_older_layout_goes_on(tmp_path: Path) -> None:
    run(tmp_path / "whole", "langevin", 30)
    run(tmp_path / "parts", "langevin", 20)
    to_older_layout(tmp_path / "parts" / "trajectory.h5")
    run(tmp_path / "parts", "langevin", 30, resume=True)
    assert_same(read_run(tmp_path / "parts"), read_run(tmp_path / "whole"))


def test_what_does_not_change_costs_next_to_nothing(tmp_path: Path) -> None:
    run(tmp_path, "nve", 1)
    manifest = read_manifest(tmp_path)
    steps, frames = (np.zeros(20_000, layout) for layout in layouts(manifest))
    steps["step"] = frames["step"] = np.arange(20_000)
    write_h5md(tmp_path / "long.h5", manifest, steps, frames)
    with h5py.File(tmp_path / "long.h5") as file:
        group = file["particles/replica_000"]
        moving = group["position/value"].id.get_storage_size()
        names = ("species", "mass", "box/edges")
        constant = sum(group[f"{name}/value"].id.get_storage_size() for name in names)
        assert group["mass/value"][19_999].tolist() == [15.999, 1.008, 1.008]
    # and four bytes of checksum for each chunk
    assert 0 <= moving - 20_000 * 9 * 8 < 1000
    assert constant < 0.01 * moving


@pytest.mark.filterwarnings("ignore")  # those of other packages are not ours
def test_znh5md_reads_every_replica(folder: Path) -> None:
    znh5md = pytest.importorskip("znh5md")
    path, data = folder / "trajectory.h5", read_run(folder)
    for replica in range(len(data.positions)):
        frames = znh5md.IO(path, particles_group=f"replica_{replica:03d}")[:]
        good = data.frame_steps < data.good_steps[replica]
        assert len(frames) == good.sum()
        for place, atoms in enumerate(frames):
            step = data.frame_steps[place]
            assert atoms.numbers.tolist() == data.atomic_numbers.tolist()
            np.testing.assert_array_equal(atoms.get_masses(), data.masses)
            np.testing.assert_array_equal(
                atoms.positions, data.positions[replica, place]
            )
            # it takes velocities as they are, here in Å/fs
            np.testing.assert_allclose(
                atoms.get_velocities(), data.velocities[replica, place], rtol=1e-6
            )
            assert atoms.get_potential_energy() == data.energies[replica, step]
            if data.dipoles is not None:
                dipole = atoms.get_dipole_moment()
                np.testing.assert_array_equal(dipole, data.dipoles[replica, step])
            if data.cells is None:
                assert not atoms.pbc.any()
                assert atoms.cell.rank == 0
            else:
                assert atoms.pbc.all()
                np.testing.assert_array_equal(atoms.cell, data.cells[replica, place])


@pytest.mark.filterwarnings("ignore")  # those of other packages are not ours
def test_mdanalysis_reads_the_first_replica(folder: Path) -> None:
    mda = pytest.importorskip("MDAnalysis")
    data = read_run(folder)
    universe = mda.Universe.empty(len(data.atomic_numbers), trajectory=True)
    universe.load_new(str(folder / "trajectory.h5"), format="H5MD")
    assert len(universe.trajectory) == len(data.frame_steps)
    for place, frame in enumerate(universe.trajectory):
        step = data.frame_steps[place]
        assert frame.time == pytest.approx(1e-3 * data.times_fs[step])  # ps
        np.testing.assert_allclose(
            frame.positions, data.positions[0, place], atol=1e-5
        )  # float32
        np.testing.assert_allclose(
            frame.velocities, 1e3 * data.velocities[0, place], rtol=1e-5
        )  # Å/ps
        energy = frame.data["replica_000/potential_energy"]
        assert energy == data.energies[0, step]
        if data.cells is None:
            assert frame.dimensions is None
        else:
            lengths = np.linalg.norm(data.cells[0, place], axis=1)
            np.testing.assert_allclose(frame.dimensions[:3], lengths, rtol=1e-6)


def datasets(path: Path) -> dict[str, int]:
    """Where the first chunk of each dataset begins in a file."""
    found: dict[str, int] = {}

    def note(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            assert item.fletcher32, name
            found[name] = item.id.get_chunk_info(0).byte_offset

    with h5py.File(path) as file:
        file.visititems(note)
    return found


def test_a_flipped_bit_is_noticed_wherever_it_is(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "trajectory.h5"
    content = (folder / path.name).read_bytes()
    (tmp_path / "run.json").write_bytes((folder / "run.json").read_bytes())
    path.write_bytes(content)
    read_run(tmp_path)
    places = datasets(path)
    assert len(places) > 10
    for name, place in places.items():
        flipped = bytearray(content)
        flipped[place + 5] ^= 1
        path.write_bytes(flipped)
        with h5py.File(path) as file, pytest.raises(OSError, match="read"):
            file[name][...]
        if name.endswith(("position/value", "potential_energy/value", "position/step")):
            if name.startswith("observables/replica"):
                continue  # what other readers pair with positions
            with pytest.raises(ValueError, match=r"trajectory\.h5 is damaged .* copy"):
                read_run(tmp_path)
