import json
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from md_models import (
    CPU,
    GAS,
    INTEGRATORS,
    NPT,
    Clusters,
    Waters,
    Wells,
    atoms_alone,
    run,
    waters,
)
from md_periodic_models import gas

from molpool_calc.md.cell import pressure, volume
from molpool_calc.md.recorder import Recording
from molpool_calc.md.simulate import simulate
from molpool_calc.md.state import initial_state, kinetic_energy, make_system
from molpool_calc.md.trajectory import RunData, assemble, read_run
from molpool_calc.segments import segments_from_sizes
from molpool_calc.units import FEMTOSECOND


def interrupted(folder: Path, n_steps: int = 40) -> None:
    """A run that Ctrl-C ended, so that its streams are still there."""

    def interrupt(step: int) -> None:
        if step == n_steps:
            raise KeyboardInterrupt

    outcome = run(folder, "nve", n_steps + 1, progress=interrupt)
    assert outcome.status == "interrupted"


def assert_same(one: RunData, other: RunData) -> None:
    for field in fields(RunData):
        if field.name != "status":
            a, b = getattr(one, field.name), getattr(other, field.name)
            np.testing.assert_array_equal(a, b, err_msg=field.name)
            if isinstance(a, np.ndarray):
                assert a.dtype == b.dtype
                assert a.flags.c_contiguous
                assert b.flags.c_contiguous


def test_a_finished_run_holds_what_the_dynamics_did(tmp_path: Path) -> None:
    run(tmp_path / "r", "nve", 40, every=7)
    data = read_run(tmp_path / "r")
    integrator = INTEGRATORS["nve"]
    system, state = waters(2, integrator, Waters())
    for step in range(41):
        assert data.dipoles is not None
        assert state.response.dipole is not None
        np.testing.assert_array_equal(data.dipoles[:, step], state.response.dipole)
        np.testing.assert_array_equal(data.energies[:, step], state.response.energy)
        kinetic = kinetic_energy(system, state.momenta)
        np.testing.assert_array_equal(data.kinetic[:, step], kinetic)
        if step % 7 == 0:
            frame = step // 7
            positions = state.positions.view(2, 3, 3)
            np.testing.assert_array_equal(data.positions[:, frame], positions)
            speed = (state.momenta / system.masses[:, None]).view(2, 3, 3)
            found = data.velocities[:, frame] / FEMTOSECOND
            np.testing.assert_allclose(found, speed, rtol=1e-6)
        state = integrator(system, state, Waters())
    np.testing.assert_allclose(data.times_fs, np.arange(41.0))
    assert data.frame_steps.tolist() == [0, 7, 14, 21, 28, 35]
    assert data.atomic_numbers.tolist() == [8, 1, 1]
    assert data.degrees_of_freedom.tolist() == [3.0, 3.0]
    assert (data.timestep_fs, data.ensemble, data.temperature) == (1.0, "nve", None)
    assert data.inputs == {"potential": "abc", "seed": 0}
    assert data.status == "finished"
    assert data.cell is None
    assert data.pbc is None


def test_streams_and_trajectory_say_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    interrupted(folder)
    from_streams = read_run(folder)
    (folder / "steps.bin").unlink()
    (folder / "frames.bin").unlink()
    assert_same(read_run(folder), from_streams)
    assert len(from_streams.times_fs) == 41


def test_a_torn_stream_loses_its_last_record_only(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    interrupted(folder)
    whole = read_run(folder)
    content = (folder / "steps.bin").read_bytes()
    (folder / "steps.bin").write_bytes(content[:-5])
    torn = read_run(folder)
    np.testing.assert_array_equal(torn.energies, whole.energies[:, :-1])
    np.testing.assert_array_equal(torn.positions, whole.positions)


def test_frames_beyond_the_last_step_do_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    interrupted(folder)
    content = (folder / "steps.bin").read_bytes()
    (folder / "steps.bin").write_bytes(content[: len(content) // 41 * 10])
    assert read_run(folder).frame_steps.tolist() == [0, 7]


def test_the_file_has_the_layout_of_h5md(tmp_path: Path) -> None:
    run(tmp_path / "r", "bussi", 40, every=8)
    with h5py.File(tmp_path / "r" / "trajectory.h5") as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert file["h5md/creator"].attrs["name"] == "molpool-calc"
        assert file["h5md/creator"].attrs["version"]
        assert file["h5md/author"].attrs["name"]
        assert list(file["particles"]) == ["replica_000", "replica_001"]
        group = file["particles/replica_001"]
        assert group["species/value"][...].tolist() == [[8, 1, 1]] * 6
        assert group["mass/value"][...].tolist() == [[15.999, 1.008, 1.008]] * 6
        assert group["mass/value"].attrs["unit"] == "u"
        assert group["box"].attrs["dimension"] == 3
        assert list(group["box"].attrs["boundary"]) == ["none"] * 3
        assert not group["box/edges/value"][...].any()  # no box: no cell in ASE
        for name, unit in (("position", "Angstrom"), ("velocity", "Angstrom fs-1")):
            element = group[name]
            assert element["value"].shape == (6, 3, 3)
            assert element["value"].attrs["unit"] == unit
            assert element["step"][...].tolist() == [0, 8, 16, 24, 32, 40]
            assert element["time"].attrs["unit"] == "fs"
        for name, shape, unit in (
            ("potential_energy", (41, 2), "eV"),
            ("kinetic_energy", (41, 2), "eV"),
            ("heat", (41, 2), "eV"),
            ("dipole", (41, 2, 3), "e Angstrom"),
        ):
            element = file[f"observables/{name}"]
            assert element["value"].shape == shape
            assert element["value"].attrs["unit"] == unit
            assert element["step"].shape == element["time"].shape == (41,)
        for name, shape in (("potential_energy", (6,)), ("dipole", (6, 3))):
            element = file[f"observables/replica_001/{name}"]
            assert element["value"].shape == shape
            assert element["step"][...].tolist() == [0, 8, 16, 24, 32, 40]
            every_step = file[f"observables/{name}/value"][:, 1]
            np.testing.assert_array_equal(element["value"], every_step[::8])
        run_json = json.loads(file["parameters"].attrs["run"])
        assert run_json["inputs"]["potential"] == "abc"


def test_a_periodic_run_writes_its_box(tmp_path: Path) -> None:
    field, n = Clusters(4), 2
    generator = torch.Generator().manual_seed(0)
    x = 3.7 * torch.randn((4 * n, 3), dtype=torch.float64, generator=generator)
    cells = torch.diag_embed(torch.full((n, 3), 20.0, dtype=torch.float64))
    system = make_system(
        atomic_numbers=torch.full((4 * n,), 18),
        masses=torch.full((4 * n,), 39.9, dtype=torch.float64),
        positions=x,
        systems=segments_from_sizes([4] * n, CPU),
        free="internal",
        cell=cells,
        pbc=torch.tensor([[True, True, False]] * n),
    )
    state = initial_state(
        field, positions=x, momenta=torch.zeros_like(x), generator=generator
    )
    recording = Recording(
        folder=tmp_path / "r", every=1, checkpoint_every=9, header={"inputs": {}}
    )
    simulate(field, system, state, INTEGRATORS["nve"], n_steps=2, recording=recording)
    data = read_run(tmp_path / "r")
    assert data.dipoles is None
    np.testing.assert_array_equal(data.cell, cells)
    assert data.cells is not None
    np.testing.assert_array_equal(data.cells[:, 2], cells)
    np.testing.assert_array_equal(data.pbc, [[True, True, False]] * 2)
    with h5py.File(tmp_path / "r" / "trajectory.h5") as file:
        box = file["particles/replica_000/box"]
        assert list(box.attrs["boundary"]) == ["periodic", "periodic", "none"]
        assert box["edges/value"].shape == (3, 3, 3)
        np.testing.assert_array_equal(box["edges/value"][2], cells[0])
        assert "dipole" not in file["observables"]


def test_a_run_of_one_atom_has_everything(tmp_path: Path) -> None:
    field = Wells(k=1.0)
    system, positions = atoms_alone(1, 1.0)
    state = initial_state(
        field,
        positions=positions,
        momenta=positions + 0.1,
        generator=torch.Generator(),
    )
    recording = Recording(
        folder=tmp_path / "r", every=1, checkpoint_every=9, header={"inputs": {}}
    )
    simulate(field, system, state, INTEGRATORS["nve"], n_steps=3, recording=recording)
    assert read_run(tmp_path / "r").positions.shape == (1, 4, 1, 3)


def test_damaged_and_foreign_trajectories_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    run(folder, "nve", 20)
    path = folder / "trajectory.h5"
    content = path.read_bytes()
    for wrong in (content[: len(content) // 2], content[:100], b"", b"PK not HDF5"):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"trajectory\.h5 is damaged or was not"):
            read_run(folder)
    with h5py.File(path, "w") as file:
        file["observables/potential_energy/step"] = np.arange(3)
    with pytest.raises(ValueError, match=r"trajectory\.h5 is damaged or was not"):
        read_run(folder)
    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        del file["observables/dipole/value"]
        file["observables/dipole/value"] = np.zeros((21, 1, 3))
    with pytest.raises(ValueError, match=r"was not written .*dipole/value has the sh"):
        read_run(folder)


def test_folders_without_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run"):
        read_run(tmp_path)
    folder = tmp_path / "r"
    interrupted(folder)
    (folder / "steps.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="ended before its first step was recorded"):
        read_run(folder)


def test_a_failed_assembly_leaves_the_old_trajectory(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    interrupted(folder)
    before = (folder / "trajectory.h5").read_bytes()
    (folder / "trajectory.h5.tmp").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        assemble(folder)
    assert (folder / "trajectory.h5").read_bytes() == before


def test_a_run_at_constant_pressure_records_its_cells(tmp_path: Path) -> None:
    name, folder = "npt bussi isotropic", tmp_path / "r"
    run(folder, name, 40, every=8)
    data = read_run(folder)
    system, state = gas(NPT[name], GAS, GAS.cells, GAS.n_atoms)
    assert data.volumes is not None
    assert data.pressures is not None
    assert data.cells is not None
    for step in range(41):
        assert state.cell is not None
        np.testing.assert_array_equal(data.volumes[:, step], volume(state.cell))
        found = data.pressures[:, step]
        np.testing.assert_array_equal(found, pressure(system, state))
        if step % 8 == 0:
            np.testing.assert_array_equal(data.cells[:, step // 8], state.cell)
        state = NPT[name](system, state, GAS)
    assert np.ptp(data.volumes, axis=1).min() > 1.0
    assert data.cell is not None
    np.testing.assert_array_equal(data.cell, data.cells[:, 0])
    with h5py.File(folder / "trajectory.h5") as file:
        edges = file["particles/replica_001/box/edges"]
        np.testing.assert_array_equal(edges["value"], data.cells[1])
        assert edges["step"][...].tolist() == [0, 8, 16, 24, 32, 40]
        assert file["observables/volume/value"].attrs["unit"] == "Angstrom+3"
        assert file["observables/pressure/value"].attrs["unit"] == "eV Angstrom-3"


def test_cells_are_the_same_from_streams_and_from_the_trajectory(
    tmp_path: Path,
) -> None:
    name, folder = "npt langevin flexible", tmp_path / "r"

    def interrupt(step: int) -> None:
        if step == 20:
            raise KeyboardInterrupt

    run(folder, name, 40, progress=interrupt)
    from_streams = read_run(folder)
    (folder / "steps.bin").unlink()
    (folder / "frames.bin").unlink()
    assert_same(read_run(folder), from_streams)
    assert from_streams.cells is not None
