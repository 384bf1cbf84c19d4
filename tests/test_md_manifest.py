import json
from pathlib import Path

import pytest
import torch
from md_models import CPU, INTEGRATORS, Waters, Wells, double, waters

from molpool_calc.commands.spectrum import KINDS
from molpool_calc.harmonic_file import HARMONIC
from molpool_calc.infrared import SPECTRUM_FILE
from molpool_calc.md.manifest import (
    Manifest,
    check_output,
    describe_run,
    read_manifest,
    require_same_inputs,
    write_manifest,
)
from molpool_calc.md.run_files import DERIVED, remove_run
from molpool_calc.md.state import initial_state, make_system
from molpool_calc.path_integrals.infrared import SPECTRUM_FILE as QUANTUM_FILE
from molpool_calc.report.content import QUANTUM, TABLES
from molpool_calc.report.page import REPORT
from molpool_calc.segments import segments_from_sizes
from molpool_calc.spectra.band_files import ASSIGNMENT, EXPERIMENT, EXPERIMENT_CURVE

HEADER = {"inputs": {"potential": "abc", "seed": 1}, "versions": {"torch": "2"}}


def manifest(name: str = "nve", **inputs: object) -> Manifest:
    system, state = waters(2, INTEGRATORS[name], Waters())
    return describe_run(
        system,
        state,
        INTEGRATORS[name],
        every=5,
        n_steps=100,
        header={**HEADER, "inputs": {**HEADER["inputs"], **inputs}},
    )


def test_a_manifest_says_what_was_asked_and_what_is_run(tmp_path: Path) -> None:
    described = manifest("bussi")
    write_manifest(tmp_path, described)
    assert read_manifest(tmp_path) == described
    assert described["inputs"] == HEADER["inputs"]
    assert described["versions"] == {"torch": "2"}
    assert described["status"] == "running"
    dynamics = described["dynamics"]
    assert dynamics["integrator"] == "bussi"
    assert dynamics["temperature"] == 300.0
    assert dynamics["n_replicas"] == 2
    assert dynamics["atomic_numbers"] == [8, 1, 1]
    assert dynamics["masses"] == [15.999, 1.008, 1.008]
    assert dynamics["observables"] == ["energy", "kinetic", "heat", "dipole"]


def test_a_header_without_inputs_is_refused() -> None:
    system, state = waters(2, INTEGRATORS["nve"], Waters())
    with pytest.raises(ValueError, match=r"keys \['seed'\], but needs.*'inputs'"):
        describe_run(
            system, state, INTEGRATORS["nve"], every=1, n_steps=1, header={"seed": 1}
        )


def test_systems_that_are_no_replicas_are_refused() -> None:
    for numbers, masses in (([1, 2], [1.0, 1.0]), ([1, 1], [1.0, 2.0])):
        positions = torch.zeros((2, 3), dtype=torch.float64)
        system = make_system(
            atomic_numbers=torch.tensor(numbers),
            masses=double(masses),
            positions=positions,
            systems=segments_from_sizes([1, 1], CPU),
            free="all",
        )
        state = initial_state(
            Wells(k=1.0),
            positions=positions,
            momenta=positions,
            generator=torch.Generator(),
        )
        with pytest.raises(ValueError, match="takes replicas of one system"):
            describe_run(
                system, state, INTEGRATORS["nve"], every=1, n_steps=1, header=HEADER
            )


def test_equal_inputs_may_be_resumed_with_another_number_of_steps() -> None:
    folder = Path("run")
    require_same_inputs(folder, manifest(n_steps=10), manifest(n_steps=20))
    longer = {**manifest(), "n_steps": 7}
    require_same_inputs(folder, manifest(), longer)


def test_the_input_that_differs_is_named_with_both_values() -> None:
    folder = Path("run")
    with pytest.raises(ValueError, match="another seed: it was 1 and is now 2"):
        require_same_inputs(folder, manifest(), manifest(seed=2))
    with pytest.raises(ValueError, match="another device: it was 'absent' and is now"):
        require_same_inputs(folder, manifest(), manifest(device="cpu"))
    with pytest.raises(ValueError, match="another ensemble: it was 'nve' and is now"):
        require_same_inputs(folder, manifest("nve"), manifest("bussi"))
    for key, value in (("timestep_fs", 0.25), ("n_replicas", 3), ("every", 2)):
        other = manifest()
        other["dynamics"][key] = value
        message = rf"run in run cannot .* another {key}: .* now {value}; give the same"
        with pytest.raises(ValueError, match=message):
            require_same_inputs(folder, manifest(), other)


def test_new_and_empty_folders_are_free(tmp_path: Path) -> None:
    check_output(tmp_path / "new", resume=False, force=False)
    check_output(tmp_path, resume=False, force=False)
    check_output(tmp_path / "new", resume=False, force=True)
    assert not (tmp_path / "new").exists()


def test_a_run_is_not_overwritten_silently(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest())
    with pytest.raises(ValueError, match=r"already holds a run; choose .* resume .*"):
        check_output(tmp_path, resume=False, force=False)
    check_output(tmp_path, resume=True, force=False)
    assert (tmp_path / "run.json").exists()


def test_force_removes_a_run_and_nothing_else(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest())
    for name in ("steps.bin", "frames.bin", "checkpoint.npz", "trajectory.h5.tmp"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("mine")
    for name in ("spectrum.csv", "spectrum_vdos.png", "harmonic.json", "report.html"):
        (tmp_path / name).write_text("derived")
    (tmp_path / "spectrum_measured.csv").write_text("mine")
    (tmp_path / "quantum" / "replica_0").mkdir(parents=True)
    before = sorted(path.name for path in tmp_path.iterdir())
    check_output(tmp_path, resume=False, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    remove_run(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"notes.txt", "spectrum_measured.csv"}


def test_all_that_is_written_beside_a_run_is_known_to_go_with_it() -> None:
    tables = {f"{name}.csv" for name in TABLES}
    kinds = {*KINDS, QUANTUM}
    spectra = {f"spectrum_{kind}.csv" for kind in kinds}
    pictures = {f"spectrum_{kind}.png" for kind in KINDS}
    assert tables | spectra | pictures <= set(DERIVED)
    assert {HARMONIC, REPORT, SPECTRUM_FILE, QUANTUM_FILE} <= set(DERIVED)
    assert {ASSIGNMENT, EXPERIMENT, EXPERIMENT_CURVE} <= set(DERIVED)


def test_a_folder_without_a_run_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "spectrum.csv").write_text("mine")
    remove_run(tmp_path)
    assert (tmp_path / "spectrum.csv").exists()


def test_force_does_not_touch_a_folder_that_holds_no_run(tmp_path: Path) -> None:
    (tmp_path / "steps.bin").write_text("mine")
    for force in (False, True):
        with pytest.raises(ValueError, match="already holds other files"):
            check_output(tmp_path, resume=False, force=force)
    assert (tmp_path / "steps.bin").read_text() == "mine"


def test_nothing_to_resume_and_contradictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run to resume"):
        check_output(tmp_path / "new", resume=True, force=False)
    with pytest.raises(ValueError, match="both resume and force"):
        check_output(tmp_path, resume=True, force=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file, but a run needs a folder"):
        check_output(tmp_path / "file", resume=False, force=False)


def test_folders_without_a_readable_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no run \(no run\.json\)"):
        read_manifest(tmp_path)
    path = tmp_path / "run.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        read_manifest(tmp_path)
    for wrong in ([1], {"format": 99}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="has the format"):
            read_manifest(tmp_path)


def test_a_run_killed_before_its_first_file_was_whole_may_start_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "run.json.tmp").write_text("{")
    check_output(tmp_path, resume=False, force=False)
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ValueError, match="already holds other files"):
        check_output(tmp_path, resume=False, force=False)


@pytest.mark.parametrize("key", ["status", "inputs", "dynamics", "n_steps"])
def test_a_manifest_that_lacks_something_is_refused(tmp_path: Path, key: str) -> None:
    whole = {"format": 1, "status": "running", "inputs": {}, "dynamics": {}}
    whole["n_steps"] = 3
    del whole[key]
    (tmp_path / "run.json").write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=f"has no {key}, so it is not as a run"):
        read_manifest(tmp_path)
