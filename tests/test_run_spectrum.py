"""Spectra of runs: the harmonic limit of the whole chain, the command, its refusals."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import write
from command_line import CommandLine
from md_models import WATER, WATER_MASSES, Waters, waters
from small_potentials import small_potential
from torch import Tensor

from molpool_calc import MolPoolCalculator
from molpool_calc.atoms import CLOSED_SHELL
from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.md.integrators import NVE
from molpool_calc.md.recorder import Recording
from molpool_calc.md.simulate import simulate
from molpool_calc.md.state import Response, initial_state
from molpool_calc.md.trajectory import read_run
from molpool_calc.replicas import make_replicas
from molpool_calc.run_spectrum import spectrum_of_run
from molpool_calc.spectra import Scattering, band_integral, harmonic_analysis
from molpool_calc.spectra.correlation import CM_PER_FS
from molpool_calc.spectra.spectrum import total_integral
from molpool_calc.storage import save_potential
from molpool_calc.units import BOLTZMANN

HEADS = ("energy", "dipole", "polarizability")
MASSES = np.array(WATER_MASSES)


class PolarizableWaters(Waters):
    """Water whose bonds are polarizable along themselves, more so when longer."""

    def __call__(self, positions: Tensor) -> Response:
        plain = super().__call__(positions)
        x = positions.view(-1, 3, 3)
        bonds = x[:, 1:] - x[:, :1]
        r = bonds.norm(dim=2)[..., None, None]
        along = bonds[..., :, None] * bonds[..., None, :] / r**2
        unit = torch.eye(3, dtype=torch.float64)
        tensor = (0.03 * r**2 * unit + 0.05 * r**3 * along).sum(1)
        return Response(
            energy=plain.energy,
            forces=plain.forces,
            dipole=plain.dipole,
            others={"polarizability": tensor},
        )


def slopes(of):
    """Return central differences of a function of the positions of one water."""
    rows = []
    for k in range(9):
        step = torch.zeros(9, dtype=torch.float64)
        step[k] = 1e-4
        high, low = (of(WATER + sign * step.view(3, 3)) for sign in (1, -1))
        rows.append(((high - low) / 2e-4).numpy())
    return np.array(rows)


def harmonic_waters():
    field = PolarizableWaters(k=15.0)
    return harmonic_analysis(
        WATER.numpy(),
        MASSES,
        -slopes(lambda x: field(x).forces.reshape(9)),
        slopes(lambda x: field(x).dipole[0]),
        slopes(lambda x: field(x).others["polarizability"][0]),
    )


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NVE at 1 K: every mode begins at its minimum, to and fro, with the energy kT.

    Hence no mode has more or less than kT, and there is no statistical error. The
    velocities are those of velocity Verlet where the positions are right: smaller by
    ``cos(ΩΔt/2)``.
    """
    folder = tmp_path_factory.mktemp("cold") / "run"
    field, integrator = PolarizableWaters(k=15.0), NVE(timestep_fs=0.5)
    system, _ = waters(4, integrator, field)
    signs = np.array([[1, 1, 1], [1, -1, 1], [1, 1, -1], [-1, 1, 1]])
    harmonic = harmonic_waters()
    half_angle = np.pi * CM_PER_FS * 0.5 * harmonic.wavenumbers_cm1
    slower = np.sqrt(1 - half_angle**2)
    motion = np.tensordot(signs * slower, harmonic.modes, axes=1)
    momenta = np.sqrt(2 * BOLTZMANN * MASSES)[:, None] * motion
    state = initial_state(
        field,
        positions=WATER.repeat(4, 1),
        momenta=torch.from_numpy(momenta.reshape(12, 3)),
        generator=torch.Generator(),
    )
    header = {"inputs": {"temperature": 1.0}}
    recording = Recording(folder=folder, every=4, checkpoint_every=5000, header=header)
    simulate(field, system, state, integrator, n_steps=3000, recording=recording)
    return folder


def test_cold_dynamics_give_the_harmonic_raman_activities(cold: Path) -> None:
    spectrum = spectrum_of_run(
        cold,
        kind="raman",
        biased=False,
        correct_verlet_shift=True,
        scattering=Scattering(quantity="activity"),
    )
    harmonic = harmonic_waters()
    assert np.diff(harmonic.wavenumbers_cm1).min() > 200
    for wavenumber, activity in zip(
        harmonic.wavenumbers_cm1.tolist(), harmonic.raman_a4_amu.tolist(), strict=True
    ):
        band = band_integral(spectrum, wavenumber - 100.0, wavenumber + 100.0)
        assert activity > 1.0
        assert band.value == pytest.approx(activity, rel=0.015)
        near = np.abs(spectrum.wavenumbers - wavenumber) < 100
        top = spectrum.wavenumbers[near][spectrum.intensity[near].argmax()]
        assert top == pytest.approx(wavenumber, abs=3.0)


@pytest.fixture
def from_minimum(cold: Path, tmp_path: Path) -> Path:
    """The cold run as `molpool md` states it: of its first momenta, those of 2 K."""
    copied = tmp_path / "run"
    shutil.copytree(cold, copied)
    manifest = json.loads((copied / "run.json").read_text())
    manifest["inputs"] |= {"temperature": 2.0, "equilibration_ps": 0.0}
    (copied / "run.json").write_text(json.dumps(manifest))
    return copied


@pytest.mark.parametrize("kind", ["ir", "raman"])
def test_a_run_that_was_not_equilibrated_counts_as_warm_as_it_moves(
    from_minimum: Path, molpool: CommandLine, kind: str
) -> None:
    """First momenta of 2 K at a minimum leave 1 K in every vibration."""
    words = ("spectrum", from_minimum, "--kind", kind, "--unbiased", "--json")
    activity = ("--quantity", "activity") if kind == "raman" else ()
    called = molpool(*words, *activity)
    assert called.code == 0, called
    assert called.err.count("\n") == 1
    assert "move as at 1.0 K, which is taken" in called.err
    facts = called.json["metadata"]
    assert facts["temperature"] == pytest.approx(1.0, rel=0.02)
    assert facts["temperature_from"] == "kinetic energy of the run"
    harmonic = harmonic_waters()
    exact = {"ir": harmonic.ir_km_mol, "raman": harmonic.raman_a4_amu}[kind].sum()
    name = {"ir": "integrated_km_mol", "raman": "integrated_a4_amu"}[kind]
    assert called.json[name] == pytest.approx(exact, rel=0.03)
    stated = molpool(*words, *activity, "--temperature", "2")
    assert stated.err == ""
    assert stated.json["metadata"]["temperature_from"] == "stated"
    assert stated.json[name] == pytest.approx(exact / 2, rel=0.03)


@pytest.mark.parametrize("picoseconds", [0.1, None])
def test_an_equilibrated_run_counts_as_warm_as_its_ensemble(
    from_minimum: Path, molpool: CommandLine, picoseconds: float | None
) -> None:
    manifest = json.loads((from_minimum / "run.json").read_text())
    manifest["inputs"]["equilibration_ps"] = picoseconds
    (from_minimum / "run.json").write_text(json.dumps(manifest))
    called = molpool("spectrum", from_minimum, "--json")
    assert called.err == ""
    assert called.json["metadata"]["temperature"] == 2.0
    assert called.json["metadata"]["temperature_from"] == "inputs of the run"


@pytest.mark.parametrize("per", ["element", "atom"])
def test_cold_dynamics_give_one_mode_for_each_vibration(cold: Path, per: str) -> None:
    dos = spectrum_of_run(
        cold, kind="vdos", biased=False, correct_verlet_shift=True, per=per
    )
    names = {"element": ["O", "H"], "atom": ["O0", "H1", "H2"]}[per]
    assert list(dos.components) == names
    assert dos.metadata["degrees_of_freedom"] == 3
    harmonic = harmonic_waters()
    for wavenumber, mode in zip(
        harmonic.wavenumbers_cm1.tolist(), harmonic.modes, strict=True
    ):
        band = band_integral(dos, wavenumber - 100.0, wavenumber + 100.0)
        assert band.value == pytest.approx(1.0, abs=0.01)
        near = np.abs(dos.wavenumbers - wavenumber) < 100
        oxygen = np.trapezoid(dos.components[names[0]][near], dos.wavenumbers[near])
        assert oxygen == pytest.approx(float((mode[0] ** 2).sum()), abs=0.02)
    assert total_integral(dos).value == pytest.approx(3.0, rel=0.01)


def job(n_steps: int, **options: object) -> DynamicsJob:
    common = {
        "temperature": 50.0,
        "n_replicas": 4,
        "every": 1,
        "dtype": "float64",
        "timestep_fs": 0.5,
        "record": ("polarizability",),
    }
    return DynamicsJob(ensemble="nve", n_steps=n_steps, **{**common, **options})


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("potential") / "p"
    save_potential(small_potential(heads=HEADS), folder)
    return str(folder)


@pytest.fixture(scope="module")
def short(potential: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("short") / "run"
    run_dynamics(molecule("H2O"), potential, folder, job(40))
    return folder


@pytest.fixture
def molpool(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def test_recorded_polarizabilities_are_those_of_the_recorded_positions(
    short: Path, potential: str
) -> None:
    data = read_run(short)
    assert data.polarizabilities is not None
    assert data.polarizabilities.shape == (4, 41, 3, 3)
    assert data.others == {}
    calculator = MolPoolCalculator(potential, dtype="float64")
    atoms = molecule("H2O")
    for replica, step in ((0, 0), (1, 7), (3, 40)):
        atoms.positions = data.positions[replica, step]
        exact = calculator.get_property("polarizability", atoms)
        found = data.polarizabilities[replica, step]
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-10)
    with h5py.File(short / "trajectory.h5") as file:
        values = file["observables/polarizability/value"]
        assert values.shape == (41, 4, 3, 3)
        assert values.attrs["unit"] == "e+2 Angstrom+2 eV-1"


def test_a_resumed_run_records_the_same_polarizabilities(
    short: Path, potential: str, tmp_path: Path
) -> None:
    atoms, folder = molecule("H2O"), tmp_path / "run"
    run_dynamics(atoms, potential, folder, job(17))
    run_dynamics(atoms, potential, folder, job(40), resume=True)
    np.testing.assert_array_equal(
        read_run(folder).polarizabilities, read_run(short).polarizabilities
    )


@pytest.mark.parametrize(
    ("kind", "unit", "integral", "columns"),
    [
        ("ir", "km/mol per cm-1", "integrated_km_mol", ""),
        (
            "raman",
            "1e-30 cm2/sr per cm-1",
            "integrated_1e_30_cm2_sr",
            ",unpolarized,parallel,perpendicular,isotropic,anisotropic,"
            "depolarization_ratio,activity_A^4/amu",
        ),
        ("vdos", "modes per cm-1", "integrated_modes", ",O,H"),
    ],
)
def test_the_command_writes_each_kind(
    short: Path, molpool: CommandLine, kind: str, unit: str, integral: str, columns: str
) -> None:
    called = molpool("spectrum", short, "--kind", kind, "--plot", "--json")
    assert called.code == 0, called
    assert called.json["unit"] == unit
    assert np.isfinite(called.json[integral])
    assert (short / f"spectrum_{kind}.png").is_file()
    lines = (short / f"spectrum_{kind}.csv").read_text().splitlines()
    assert lines[0].startswith(f"# unit: {unit};")
    assert lines[1] == f"wavenumber_cm-1,intensity,lower,upper{columns}"
    plain = molpool("spectrum", short, "--kind", kind)
    assert f"spectrum_{kind}.csv" in plain.out
    assert unit in plain.out


def test_the_picture_shows_harmonic_vibrations_of_the_same_potential(
    short: Path,
    potential: str,
    molpool: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("spectrum", short, "--kind", "raman", "--plot")
    plain = molpool(*words)
    picture = short / "spectrum_raman.png"
    without = picture.read_bytes()
    vib = ("vib", "H2O.xyz", "--no-relax", "--out", short)
    write("H2O.xyz", molecule("H2O"))
    assert molpool(*vib, "-p", potential).code == 0
    assert molpool(*words).code == plain.code == 0
    assert picture.read_bytes() != without
    other = tmp_path / "other"
    save_potential(small_potential(heads=HEADS, cutoff=3.5), other)
    assert molpool(*vib, "-p", other).code == 0
    called = molpool(*words)
    assert "with other weights, so that it is left out of the picture" in called.err
    assert picture.read_bytes() == without


def test_options_of_raman_spectra_reach_them(short: Path, molpool: CommandLine) -> None:
    words = ("spectrum", short, "--kind", "raman", "--json")
    green = molpool(*words, "--polarization", "perpendicular").json
    red = molpool(*words, "--laser-nm", "785", "--quantum-correction", "classical").json
    activity = molpool(*words, "--quantity", "activity").json
    assert green["metadata"]["polarization"] == "perpendicular"
    assert red["metadata"]["laser_nm"] == 785.0
    assert red["metadata"]["quantum_correction"] == "classical"
    assert activity["unit"] == "A^4/amu per cm-1"
    assert activity["integrated_a4_amu"] > 0.0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--kind", "ir", "--laser-nm", "532"), "give --kind raman"),
        (("--kind", "vdos", "--temperature", "9"), "give --kind ir or raman"),
        (("--kind", "raman", "--per", "atom"), "--per means nothing to a spectrum of"),
        (("--kind", "raman", "--laser-nm", "0"), "wavelength of 0 nm; give a positive"),
    ],
)
def test_options_of_another_kind_are_refused(
    short: Path, molpool: CommandLine, words: tuple[str, ...], sentence: str
) -> None:
    assert sentence in molpool.refused("spectrum", short, *words)


def test_a_run_without_polarizabilities_is_refused(
    potential: str, tmp_path: Path, molpool: CommandLine
) -> None:
    folder = tmp_path / "run"
    run_dynamics(molecule("H2O"), potential, folder, job(8, record=()))
    refused = molpool.refused("spectrum", folder, "--kind", "raman")
    assert "run it again with --record polarizability" in refused


def test_frames_too_far_apart_are_refused_with_the_distance_to_take(
    potential: str, tmp_path: Path, molpool: CommandLine
) -> None:
    folder = tmp_path / "run"
    run_dynamics(molecule("H2O"), potential, folder, job(60, every=10))
    refused = molpool.refused("spectrum", folder, "--kind", "vdos")
    assert "resolve up to 3336 cm-1" in refused
    assert "run it again with --every 7 or less" in refused
    slow = ("--highest-wavenumber", "3300")
    assert molpool("spectrum", folder, "--kind", "vdos", *slow).code == 0


def test_too_few_velocities_are_refused(
    potential: str, tmp_path: Path, molpool: CommandLine
) -> None:
    folder = tmp_path / "run"
    run_dynamics(molecule("H2O"), potential, folder, job(8, every=100))
    refused = molpool.refused("spectrum", folder, "--kind", "vdos")
    assert "recorded 1 samples" in refused
    with pytest.raises(ValueError, match="give one of ir, raman, vdos"):
        spectrum_of_run.__wrapped__(folder, kind="uv")


def test_only_what_is_predicted_and_defined_can_be_recorded(potential: str) -> None:
    def replicas(name: str | object, atoms: object) -> None:
        calculator = MolPoolCalculator(name, device="cpu", dtype="float64")
        make_replicas(
            calculator.evaluator.engines[0],
            atoms,
            state=CLOSED_SHELL,
            n_replicas=1,
            record=("polarizability",),
        )

    with pytest.raises(ValueError, match="small predicts no polarizability, so none"):
        replicas(small_potential(heads=("energy",)), molecule("H2O"))
    crystal = molecule("H2O", cell=[9.0, 9.0, 9.0], pbc=True)
    with pytest.raises(ValueError, match="defined for molecules only"):
        replicas(potential, crystal)
