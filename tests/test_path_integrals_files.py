"""What goes into i-PI and what comes out of it, without running it."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from ase import Atoms

from molpool_calc.md.manifest import read_manifest
from molpool_calc.path_integrals import run
from molpool_calc.path_integrals.child import without_rigid_motion
from molpool_calc.path_integrals.input import Forces, input_text, structure_text
from molpool_calc.path_integrals.job import RingPolymerJob, advised_beads
from molpool_calc.path_integrals.read import (
    read_extras,
    read_properties,
    ring_dipoles,
)
from molpool_calc.spectra import internal_velocities


def sample(step: int, value: float, n_beads: int = 2) -> str:
    head = f" #EXTRAS_COMPONENT_RAW(dipole)# Step:  {step:10d}  Bead:      0  \n"
    rows = [f"  {value + k:.8e} 0.0e+00 {-value:.8e}\n" for k in range(n_beads)]
    return head + "".join(rows)


def test_the_dipole_of_a_ring_is_the_mean_over_its_beads(tmp_path: Path) -> None:
    path = tmp_path / "dipole"
    path.write_text(sample(0, 1.0) + sample(4, 2.0))
    np.testing.assert_allclose(ring_dipoles(path, 2), [[1.5, 0, -1], [2.5, 0, -2]])


@pytest.mark.parametrize("length", range(1, len(sample(8, 3.0))))
def test_a_torn_sample_is_left_out(tmp_path: Path, length: int) -> None:
    path = tmp_path / "dipole"
    whole = sample(0, 1.0) + sample(4, 2.0)
    path.write_text(whole + sample(8, 3.0)[:length])
    steps, _ = read_extras(path, n_beads=2, n_values=3)
    assert steps.tolist() == [0, 4]
    # a run that went on writes behind what was torn
    path.write_text(whole + sample(8, 3.0)[:length] + sample(8, 5.0) + sample(12, 6.0))
    steps, values = read_extras(path, n_beads=2, n_values=3)
    assert steps.tolist() == [0, 4, 8, 12]
    assert values[2, 0, 0] == 5.0


def test_what_a_run_wrote_after_its_checkpoint_is_dropped(tmp_path: Path) -> None:
    """Samples of two runs are never mixed, even if the second ended earlier."""
    first = [sample(step, 1.0) for step in (0, 4, 8, 12, 16)]
    second = [sample(step, 2.0) for step in (8, 12)]
    path = tmp_path / "dipole"
    path.write_text("".join(first + second))
    steps, values = read_extras(path, n_beads=2, n_values=3)
    assert steps.tolist() == [0, 4, 8, 12]
    assert values[:, 0, 0].tolist() == [1.0, 1.0, 2.0, 2.0]


def test_a_hole_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "dipole"
    path.write_text(sample(0, 1.0) + sample(4, 2.0) + sample(12, 3.0))
    with pytest.raises(ValueError, match="not equally spaced"):
        read_extras(path, n_beads=2, n_values=3)


def test_properties_are_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "properties"
    path.write_text(
        "# column   1     --> step : The current simulation time step.\n"
        "# column   2     --> potential{electronvolt} : The potential energy.\n"
        " 0.0e+00 1.0e+00 \n 4.0e+00 2.0e+00 \n 8.0e+00 3.0e+00 \n"
        " 4.0e+00 5.0e+00 \n 8.0e+00 6."
    )
    found = read_properties(path)
    assert found["step"].tolist() == [0.0, 4.0]
    assert found["potential"].tolist() == [1.0, 5.0]


def test_the_input_says_what_the_job_says() -> None:
    job = RingPolymerJob(beads=16, temperature=250.0, picoseconds=2.0, seed=3)
    forces = Forces(parameters={"potential": "painn-ethanol"})
    text = input_text(
        job, "production", 1, masses=np.array([12.011, 1.008]), forces=forces
    )
    tree = ElementTree.fromstring(text)
    assert tree.findtext("total_steps", "").strip() == "8000"
    assert tree.findtext("ffdirect/batch_size", "").strip() == "16"
    assert tree.find("system/initialize").get("nbeads") == "16"
    thermostat = tree.find("system/motion/dynamics/thermostat")
    assert thermostat.get("mode") == "pile_g"
    assert float(thermostat.findtext("pile_lambda")) == 0.5
    assert float(tree.findtext("system/ensemble/temperature")) == 250.0
    first = input_text(
        job, "equilibration", 1, masses=np.array([12.011, 1.008]), forces=forces
    )
    tree = ElementTree.fromstring(first)
    assert tree.findtext("system/initialize/masses", "").strip() == "[12.011, 1.008]"
    assert tree.find("system/motion/dynamics/thermostat").get("mode") == "pile_l"


def test_no_two_stages_share_random_numbers() -> None:
    job = RingPolymerJob(beads=2, picoseconds=1.0)
    seeds = {
        ElementTree.fromstring(
            input_text(job, stage, k, masses=np.ones(1), forces=Forces())
        ).findtext("prng/seed")
        for stage in ("equilibration", "production")
        for k in range(8)
    }
    assert len(seeds) == 16


def test_a_path_that_ipi_would_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="rename it"):
        Forces(parameters={"potential": "a,b"})


def test_a_structure_keeps_order_and_digits() -> None:
    atoms = Atoms("OH", [[0.0, 0.0, 0.0], [0.123456789, -1.0, 2.0]])
    lines = structure_text(atoms.numbers, atoms.positions).splitlines()
    assert lines[0] == "2"
    assert lines[3].split() == ["H", "0.1234567890", "-1.0000000000", "2.0000000000"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beads": 0}, "beads is 0"),
        ({"replicas": 0}, "replicas is 0"),
        ({"temperature": -1.0}, "temperature"),
        ({"picoseconds": 1e-5}, "too short"),
        ({"equilibration_ps": 0.0}, "equilibration_ps"),
    ],
)
def test_jobs_without_sense_are_refused(
    changes: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RingPolymerJob(**changes)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    "name",
    [
        *("temperature", "picoseconds", "timestep_fs", "equilibration_ps"),
        *("relaxation_fs", "centroid_fs", "damping"),
    ],
)
def test_what_is_no_number_is_refused_in_a_sentence(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {value:g}; give a positive num"):
        RingPolymerJob(**{name: value})


def test_the_manifest_comes_first_so_that_a_torn_start_is_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ipi")

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    atoms, folder = Atoms("H"), tmp_path / "rings"
    job, header = RingPolymerJob(beads=2, replicas=1), {"inputs": {"beads": 2}}
    with monkeypatch.context() as patch:
        patch.setattr(run, "_write_replica", killed)
        with pytest.raises(KeyboardInterrupt):
            run.run_with_forces(atoms, Forces(), folder, job, header=header)
    assert read_manifest(folder)["status"] == "running"
    # it can go on, and is not taken for somebody's files
    with pytest.raises(ValueError, match="already holds a run"):
        run.run_with_forces(atoms, Forces(), folder, job, header=header)
    monkeypatch.setattr(run, "run_replicas", lambda *_folders, **_options: None)
    run.run_with_forces(atoms, Forces(), folder, job, header=header, resume=True)
    assert read_manifest(folder)["status"] == "finished"
    assert (folder / "replica_0" / "production.xml").is_file()


def test_stiff_modes_and_low_temperatures_ask_for_more_beads() -> None:
    # hc/k = 1.4388 cm K: 2850 cm-1 at 300 K are 13.7, 3650 cm-1 are 17.5
    assert advised_beads(2850.0, 300.0) == 14
    assert advised_beads(3650.0, 300.0) == 18
    assert advised_beads(3650.0, 100.0) == 53


@pytest.mark.parametrize("rotations", [0, 2, 3])
def test_rigid_motion_is_removed_as_from_spectra(rotations: int) -> None:
    generator = np.random.default_rng(0)
    positions = generator.normal(size=(5, 3))
    if rotations == 2:
        positions[:, :2] = 0.0
    momenta, masses = generator.normal(size=(5, 3)), generator.uniform(1, 16, 5)
    velocities = (momenta / masses[:, None])[None, None]
    expected = internal_velocities(
        velocities, positions[None, None], masses, rotations=rotations
    )
    found = without_rigid_motion(positions, momenta, masses, rotations)
    np.testing.assert_allclose(
        found / masses[:, None], expected[0, 0], rtol=0, atol=1e-12
    )
    assert np.abs(found.sum(axis=0)).max() < 1e-12
