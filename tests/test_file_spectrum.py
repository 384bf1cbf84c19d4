"""Spectra of trajectories of other programs: band strengths, caches, refusals."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.md.verlet import VelocityVerlet
from charged_springs import ChargedSprings
from command_line import CommandLine
from small_potentials import small_potential

from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.estimates import Fineness
from molpool_calc.file_spectrum import FileJob, spectrum_of_files
from molpool_calc.md.guard import NO_LIMITS
from molpool_calc.md.trajectory import read_run
from molpool_calc.spectra import read_spectrum
from molpool_calc.spectra.correlation import CM_PER_FS
from molpool_calc.storage import save_potential
from molpool_calc.trajectory_file import read_trajectory
from molpool_calc.units import BOLTZMANN, DEBYE, FEMTOSECOND

TEMPERATURE, CHARGE, WAVENUMBER, STEP = 300.0, 0.4, 1500.0, 2.0
SPRINGS = f"charged_springs:ChargedSprings,charge={CHARGE}"
REDUCED = 1.008 * 18.998403163 / (1.008 + 18.998403163)
STRENGTH = 42.2561 * (CHARGE / DEBYE) ** 2 / REDUCED
"""km/mol of the stretch, with 42.2561 km/mol per (D/Å)²/amu."""


@pytest.fixture
def molpool(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def stretch(
    n_frames: int,
    *,
    momenta: bool,
    dipoles: bool,
    phase: float = 0.3,
    interval: float = STEP,
):
    """Frames of HF whose stretch holds kT, as it turns slowly."""
    omega = 2 * np.pi * CM_PER_FS * WAVENUMBER
    amplitude = np.sqrt(2 * BOLTZMANN * TEMPERATURE / REDUCED) * FEMTOSECOND / omega
    frames = []
    for angle in omega * interval * np.arange(n_frames) + phase:
        bond = 0.92 + amplitude * np.cos(angle)
        speed = -amplitude * omega * np.sin(angle) / FEMTOSECOND
        share = np.array([18.998403163, -1.008])[:, None] / (1.008 + 18.998403163)
        atoms = Atoms("HF", positions=-share * [0, 0, bond])
        if momenta:
            atoms.set_velocities(-share * [0, 0, speed])
        if dipoles:
            dipole = -CHARGE * (atoms.positions[1] - atoms.positions[0])
            atoms.calc = SinglePointCalculator(atoms, dipole=dipole)
        frames.append(atoms)
    return frames


def write_stretch(path: Path, n_frames: int = 1500, **options: object) -> Path:
    write(path, stretch(n_frames, **{"momenta": True, "dipoles": True, **options}))
    return path


@pytest.mark.parametrize("suffix", ["traj", "extxyz"])
def test_frames_with_dipoles_give_the_band_strength(
    molpool: CommandLine, tmp_path: Path, suffix: str
) -> None:
    path = write_stretch(tmp_path / f"hf.{suffix}")
    called = molpool("spectrum", path, "--timestep-fs", STEP, "--json")
    assert called.code == 0, called
    result = called.json
    assert result["integrated_km_mol"] == pytest.approx(STRENGTH, rel=5e-3)
    assert result["metadata"]["temperature"] == pytest.approx(TEMPERATURE, rel=5e-3)
    assert "300" in called.err  # a temperature that was not stated is said
    assert result["peaks"][0]["wavenumber_cm1"] == pytest.approx(WAVENUMBER, abs=1)
    assert result["file"] == str(tmp_path / "hf_spectrum_ir.csv")
    assert read_spectrum(result["file"]).unit == "km/mol per cm-1"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"hf.{suffix}",
        "hf_spectrum_ir.csv",
    ]


def test_any_calculator_gives_the_dipoles_that_are_missing(
    molpool: CommandLine, tmp_path: Path
) -> None:
    bare = write_stretch(tmp_path / "bare.traj", 400, dipoles=False)
    full = write_stretch(tmp_path / "full.traj", 400)
    words = ("--timestep-fs", STEP, "--temperature", "300", "--json")
    from_frames = molpool("spectrum", full, *words).json
    out = tmp_path / "out"
    ChargedSprings.calls[0] = 0
    computed = molpool(
        *("spectrum", bare, *words, "--calculator", SPRINGS, "--out", out)
    ).json
    assert ChargedSprings.calls[0] == 400
    assert computed["file"] == str(out / "spectrum_ir.csv")
    one, other = (read_spectrum(r["file"]) for r in (from_frames, computed))
    np.testing.assert_allclose(one.intensity, other.intensity, rtol=1e-8)
    again = molpool(*("spectrum", bare, *words, "--calculator", SPRINGS, "--out", out))
    assert ChargedSprings.calls[0] == 400  # all from the cache
    assert again.json["peaks"] == computed["peaks"]
    molpool("spectrum", bare, *words, "--calculator", SPRINGS.replace("0.4", "0.5"))
    assert ChargedSprings.calls[0] == 800  # another calculator, beside the trajectory
    write_stretch(bare, 400, dipoles=False, phase=0.4)
    molpool("spectrum", bare, *words, "--calculator", SPRINGS, "--out", out)
    assert ChargedSprings.calls[0] == 1200  # another trajectory of the same name
    molpool("spectrum", full, *words, "--calculator", SPRINGS)
    assert ChargedSprings.calls[0] == 1200  # what the frames carry is taken
    molpool("spectrum", full, *words, "--calculator", SPRINGS, "--recompute")
    assert ChargedSprings.calls[0] == 1600


def test_what_was_computed_before_a_failure_or_a_kill_stays(
    molpool: CommandLine, tmp_path: Path
) -> None:
    bare = write_stretch(tmp_path / "bare.traj", 100, dipoles=False)
    words = ("spectrum", bare, "--timestep-fs", STEP, "--temperature", "300", "--json")
    ChargedSprings.calls[0] = 0
    failing = f"{SPRINGS},fails_at=41"
    called = molpool(*words, "--calculator", failing)
    assert called.code == 3
    assert "failed at a frame (the electrons do not converge)" in called.err
    (records,) = tmp_path.glob("bare.traj.dipole-*.bin")
    assert len(records.read_bytes()) == 40 * (8 + 24 + 4)
    with records.open("ab") as file:  # a record torn by a kill
        file.write(b"\x28" * 20)
    assert molpool(*words, "--calculator", failing).code == 0
    assert ChargedSprings.calls[0] == 41 + 60
    damaged = bytearray(records.read_bytes())
    damaged[50 * 36 + 12] ^= 1
    records.write_bytes(damaged)
    assert molpool(*words, "--calculator", failing).code == 0
    assert ChargedSprings.calls[0] == 41 + 60 + 50


def test_a_killed_computation_goes_on_where_it_was(tmp_path: Path) -> None:
    bare = write_stretch(tmp_path / "bare.traj", 60, dipoles=False)
    killing = "from charged_springs import ChargedSprings as C\n"
    killing += "import os, signal\n"
    killing += "plain = C.calculate\n"
    killing += "def calculate(self, *a, **k):\n"
    killing += "    if C.calls[0] == 25: os.kill(os.getpid(), signal.SIGKILL)\n"
    killing += "    plain(self, *a, **k)\n"
    killing += "C.calculate = calculate\n"
    killing += "from molpool_calc.cli import main\n"
    words = ["spectrum", str(bare), "--timestep-fs", "2", "--temperature", "300"]
    words += ["--calculator", SPRINGS]
    killing += f"main({words!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", killing], cwd=Path(__file__).parent, check=False
    )
    assert done.returncode == -9
    (records,) = tmp_path.glob("*.bin")
    assert len(records.read_bytes()) == 25 * 36
    counting = f"{killing.partition('import os')[0]}from molpool_calc.cli import main\n"
    counting += f"code = main({words!r})\nprint(C.calls[0]); raise SystemExit(code)\n"
    done = subprocess.run(
        [sys.executable, "-c", counting],
        cwd=Path(__file__).parent,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "35"


def test_several_files_are_replicas(molpool: CommandLine, tmp_path: Path) -> None:
    paths = [
        write_stretch(tmp_path / f"{k}.traj", 300 + k, phase=0.9 * k) for k in range(4)
    ]
    result = molpool("spectrum", *paths, "--timestep-fs", STEP, "--json").json
    assert result["metadata"]["n_replicas"] == 4
    assert result["integrated_95_percent"][0] is not None
    assert result["convergence"]["unit"] == "replica"


@pytest.mark.parametrize("momenta", [True, False])
def test_the_density_of_states_needs_no_velocities(
    molpool: CommandLine, tmp_path: Path, momenta: bool
) -> None:
    path = write_stretch(tmp_path / "hf.traj", momenta=momenta, dipoles=False)
    words = ("--timestep-fs", STEP, "--kind", "vdos", "--json")
    result = molpool("spectrum", path, *words).json
    assert result["integrated_modes"] == pytest.approx(1.0, rel=0.02)
    assert result["peaks"][0]["wavenumber_cm1"] == pytest.approx(WAVENUMBER, abs=1)


def test_differences_of_positions_keep_the_ratio_of_modes(tmp_path: Path) -> None:
    """Two modes of one atom pair each, both with kT: one mode each in the density."""
    frames = []
    waves = 2 * np.pi * CM_PER_FS * np.array([500.0, 3500.0])
    for step in range(3000):
        along = 0.05 / waves * waves[0] * np.cos(waves * STEP * step)
        x = np.zeros((4, 3))
        x[1, 0], x[2, 1], x[3, 1] = 5.0, 9.0, 14.0
        x[0, 0] -= along[0]
        x[1, 0] += along[0]
        x[2, 1] -= along[1]
        x[3, 1] += along[1]
        frames.append(Atoms("Ar4", positions=x, cell=[40] * 3, pbc=True))
    path = tmp_path / "modes.traj"
    write(path, frames)
    job = FileJob(kind="vdos", timestep_fs=STEP)
    dos = spectrum_of_files([path], job, Fineness(biased=False), {})
    x, y = dos.wavenumbers, dos.intensity
    slow, fast = (
        np.trapezoid(y[np.abs(x - at) < 60], x[np.abs(x - at) < 60])
        for at in (500, 3500)
    )
    assert fast / slow == pytest.approx(1.0, rel=0.01)  # 0.46 without correction
    assert slow + fast == pytest.approx(9.0, rel=0.01)


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("potential") / "small"
    heads = ("energy", "dipole", "polarizability")
    save_potential(small_potential(heads=heads, name="small"), folder)
    return folder


def run_and_file(
    folder: Path, potential: Path, atoms: Atoms, **options: object
) -> tuple[Path, Path]:
    """A run of MolPool, and the same as a trajectory without dipoles."""
    job = DynamicsJob(
        **{
            "ensemble": "nve",
            "n_steps": 60,
            "temperature": 50.0,
            "every": 1,
            "dtype": "float64",
            "compile": "never",
            "guard": NO_LIMITS,  # random weights hold no molecule together
            **options,
        }
    )
    run_dynamics(atoms, str(potential), folder / "run", job)
    data = read_run(folder / "run")
    frames = []
    for positions, velocities in zip(
        data.positions[0], data.velocities[0], strict=True
    ):
        frame = atoms.copy()
        frame.positions = positions
        frame.set_velocities(velocities.astype(float) / FEMTOSECOND)
        frames.append(frame)
    write(folder / "run.traj", frames)
    return folder / "run", folder / "run.traj"


@pytest.mark.parametrize("kind", ["ir", "raman", "vdos"])
def test_the_file_of_a_run_has_the_spectrum_of_the_run(
    molpool: CommandLine, potential: Path, tmp_path: Path, kind: str
) -> None:
    record = ("polarizability",) if kind == "raman" else ()
    run, path = run_and_file(tmp_path, potential, molecule("H2O"), record=record)
    thermal = () if kind == "vdos" else ("--temperature", "50")
    common = ("--kind", kind, *thermal, "--json")
    of_run = molpool("spectrum", run, *common).json
    source = () if kind == "vdos" else ("-p", potential)
    of_file = molpool("spectrum", path, "--timestep-fs", "0.5", *common, *source).json
    one, other = (read_spectrum(r["file"]) for r in (of_run, of_file))
    scale = one.intensity.max()
    np.testing.assert_allclose(
        other.intensity, one.intensity, rtol=0, atol=1e-6 * scale
    )
    assert other.unit == one.unit


def two_waters() -> Atoms:
    atoms = molecule("H2O")
    other = molecule("H2O")
    other.translate([2.9, 0.3, 0.0])
    atoms += other
    atoms.cell, atoms.pbc = [9.0, 9.0, 9.0], True
    return atoms


def test_wrapping_changes_nothing_where_there_is_a_potential(
    molpool: CommandLine, potential: Path, tmp_path: Path
) -> None:
    run, path = run_and_file(tmp_path, potential, two_waters(), record=("dipole_flux",))
    frames = read(path, ":")
    for frame in frames:
        frame.positions += [4.3, 8.8, 0.1]
    whole = tmp_path / "whole.traj"
    write(whole, frames)
    for frame in frames:
        frame.wrap()
    wrapped = tmp_path / "wrapped.traj"
    write(wrapped, frames)
    words = ("--timestep-fs", "0.5", "--temperature", "50", "-p", potential, "--json")
    spectra = [
        read_spectrum(molpool("spectrum", file, *words).json["file"]).intensity
        for file in (whole, wrapped)
    ]
    scale = spectra[0].max()
    assert scale > 0
    np.testing.assert_allclose(spectra[1], spectra[0], rtol=0, atol=1e-9 * scale)
    recorded = molpool("spectrum", run, "--temperature", "50", "--json").json
    assert recorded["unit"] == "cm-1"
    exact = read_spectrum(recorded["file"]).intensity
    np.testing.assert_allclose(spectra[0], exact, rtol=0, atol=1e-5 * scale)
    sentence = molpool.refused("spectrum", wrapped, "--timestep-fs", "0.5")
    assert "is periodic and has" in sentence
    assert "depends on images; give -p with a potential that predicts" in sentence


class FixedCharges:
    """A stand-in of a potential: the rate of the dipole of charges that stay."""

    n_at_once = 64
    frames = 0

    def __init__(self, potential: str, quantity: str, **options: object) -> None:
        self.named = {"potential": potential, "quantity": quantity, **options}

    def identity(self) -> dict[str, object]:
        return self.named

    def values(self, frames: list[Atoms], velocities: np.ndarray) -> np.ndarray:
        FixedCharges.frames += len(frames)
        return np.einsum("a,fax->fx", [CHARGE, -CHARGE], velocities)


@pytest.fixture
def fixed_charges(monkeypatch: pytest.MonkeyPatch) -> type[FixedCharges]:
    monkeypatch.setattr("molpool_calc.file_spectrum.NetworkSource", FixedCharges)
    monkeypatch.setattr(FixedCharges, "frames", 0)
    return FixedCharges


def write_cell(path: Path, *, velocities: str) -> Path:
    """The stretch in a cell, with velocities that are true, or none."""
    frames = stretch(1500, momenta=velocities != "none", dipoles=False)
    for frame in frames:
        frame.cell, frame.pbc = [20.0] * 3, True
    write(path, frames)
    return path


STRENGTH_OF_CELL = STRENGTH * 1e29 / 6.02214076e23 / 8000.0
"""In cm⁻²."""
OF_CELL = ("-p", "fixed", "--temperature", "300", "--json")


def test_rates_of_another_time_step_are_not_taken_from_the_cache(
    molpool: CommandLine, fixed_charges: type[FixedCharges], tmp_path: Path
) -> None:
    path = write_cell(tmp_path / "cell.traj", velocities="none")
    found = {}
    for step in (1.0, 2.0, 2.0, 1.0):
        words = ("spectrum", path, "--timestep-fs", step, *OF_CELL)
        found[step] = molpool(*words).json["integrated_cm2"]
    assert found[2.0] == pytest.approx(STRENGTH_OF_CELL, rel=5e-3)
    assert found[1.0] == pytest.approx(4 * STRENGTH_OF_CELL, rel=0.02)
    assert fixed_charges.frames == 2 * 1500  # each step once, then from the cache


@pytest.mark.usefixtures("fixed_charges")
@pytest.mark.parametrize("velocities", [("true",), ("none",), ("true", "none")])
def test_rates_give_the_band_strength_whichever_files_have_velocities(
    molpool: CommandLine, tmp_path: Path, velocities: tuple[str, ...]
) -> None:
    paths = [
        write_cell(tmp_path / f"{kind}.traj", velocities=kind) for kind in velocities
    ]
    result = molpool("spectrum", *paths, "--timestep-fs", STEP, *OF_CELL).json
    assert result["integrated_cm2"] == pytest.approx(STRENGTH_OF_CELL, rel=5e-3)


def test_dipoles_of_cells_count_where_nothing_jumps(
    molpool: CommandLine, tmp_path: Path
) -> None:
    frames = stretch(1500, momenta=True, dipoles=True)
    for frame in frames:
        frame.cell, frame.pbc = [20.0] * 3, True
        frame.calc.atoms = frame.copy()
    write(tmp_path / "cell.traj", frames)
    words = ("--timestep-fs", STEP, "--temperature", "300", "--json")
    result = molpool("spectrum", tmp_path / "cell.traj", *words).json
    density = 1e29 / 6.02214076e23 / 8000.0  # of km/mol per cm⁻¹ in cm⁻¹
    assert result["integrated_cm2"] == pytest.approx(STRENGTH * density, rel=5e-3)
    for frame in frames[700:]:
        frame.positions[0] += [20.0, 0, 0]
        frame.calc.atoms = frame.copy()
    write(tmp_path / "jump.traj", frames)
    sentence = molpool.refused("spectrum", tmp_path / "jump.traj", *words)
    assert "has atoms that jump to other images" in sentence


REFUSALS = {
    "no interval": ((), "does not say how far apart its frames are; add --timestep-fs"),
    "no calculator": (
        ("--timestep-fs", "2"),
        "has no dipoles; compute them with -p and a potential",
    ),
    "wrong interval": (
        ("--timestep-fs", "0.5"),
        "frames 0.5 fs apart were stated, but the atoms of",
    ),
    "negative interval": (("--timestep-fs", "-1"), "give a positive number of fs"),
    "aliasing": (
        ("--timestep-fs", "2", "--calculator", SPRINGS, "--maximum", "9000"),
        "would fold 9000 cm-1 onto a false band",
    ),
    "too short": (
        ("--timestep-fs", "2", "--calculator", SPRINGS, "--resolution", "1"),
        "too short for a resolution of 1 cm-1",
    ),
    "two sources": (
        ("--timestep-fs", "2", "--calculator", SPRINGS, "-p", "painn-ethanol"),
        "both a potential and a calculator were given",
    ),
    "no dipole": (
        ("--timestep-fs", "2", "--calculator", "charged_springs:NoDipole"),
        "gives no dipole, only energy, forces",
    ),
    "no module": (
        ("--timestep-fs", "2", "--calculator", "nowhere:Nothing"),
        "nowhere of the calculator nowhere:Nothing cannot be imported",
    ),
    "no class": (
        ("--timestep-fs", "2", "--calculator", "charged_springs:Nothing"),
        "charged_springs has no class Nothing",
    ),
    "no option": (
        ("--timestep-fs", "2", "--calculator", f"{SPRINGS},colour=red"),
        "cannot be made with the options of",
    ),
    "no calculator class": (
        ("--timestep-fs", "2", "--calculator", "charged_springs:not_a_calculator"),
        "is no ASE calculator",
    ),
    "no form": (
        ("--timestep-fs", "2", "--calculator", "tblite"),
        "'tblite' names no calculator; give it as module:Class",
    ),
    "elements": (
        ("--timestep-fs", "2", "-p", "painn-ethanol"),
        "element 9 (F) is not covered by painn-ethanol",
    ),
    "of runs": (
        ("--timestep-fs", "2", "--correct-timestep"),
        "--correct-timestep means nothing to a trajectory file",
    ),
    "raman": (
        ("--timestep-fs", "2", "--kind", "raman", "--calculator", SPRINGS),
        "gives no polarizability",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_is_refused_in_one_sentence(
    molpool: CommandLine, tmp_path: Path, name: str
) -> None:
    path = write_stretch(tmp_path / "bare.traj", 200, dipoles=False)
    words, sentence = REFUSALS[name]
    assert sentence in molpool.refused("spectrum", path, *words)
    assert {p.suffix for p in tmp_path.iterdir()} <= {".traj", ".bin", ".json"}


def stated_times(frames: list[Atoms], name: str, times: list[float]) -> None:
    for frame, time in zip(frames, times, strict=True):
        frame.info[name] = time


BREAKS = {
    "atoms": lambda frames: frames[7].symbols.__setitem__(0, "Li"),
    "order": lambda frames: frames.__setitem__(7, frames[7][[1, 0]]),
    "number": lambda frames: frames[7].extend(Atoms("H", positions=[[5, 5, 5]])),
    "repeated": lambda frames: frames.insert(7, frames[6].copy()),
    "times": lambda frames: stated_times(
        frames, "time", [2.0 * k + 3.0 * (k > 6) for k in range(12)]
    ),
    "stated": lambda frames: stated_times(
        frames, "time_fs", [1.5 * k for k in range(12)]
    ),
    "nan": lambda frames: frames[7].positions.__setitem__((0, 0), np.nan),
    "pbc": lambda frames: setattr(frames[7], "pbc", True),
}


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("atoms", "frame 7 of"),
        ("order", "other atoms than the first (FH instead of HF)"),
        ("number", "give a trajectory of the same atoms in the same order"),
        ("repeated", "frame 7 of"),
        ("times", "not equally spaced: frame 7 comes 5 after the one before, others 2"),
        ("stated", "move as if it were 1.5 fs"),
        ("nan", "frame 7 of"),
        ("pbc", "periodic in other directions than the first"),
    ],
)
def test_frames_that_do_not_belong_together_are_refused(
    molpool: CommandLine, tmp_path: Path, how: str, sentence: str
) -> None:
    path = tmp_path / "bad.traj"
    frames = stretch(12, momenta=True, dipoles=False)
    BREAKS[how](frames)
    write(path, frames)
    refused = molpool.refused(
        *("spectrum", path, "--timestep-fs", "2", "--calculator", SPRINGS)
    )
    assert sentence in refused


def test_sources_that_do_not_belong_together_are_refused(
    molpool: CommandLine, potential: Path, tmp_path: Path
) -> None:
    path = write_stretch(tmp_path / "hf.traj", 40)
    water = tmp_path / "water.traj"
    write(water, [molecule("H2O")] * 3)
    words = ("--timestep-fs", "2")
    assert "replicas of one system" in molpool.refused(
        "spectrum", path, write_water(water), *words
    )
    run, _ = run_and_file(tmp_path / "r", potential, molecule("H2O"), n_steps=5)
    assert "give it alone" in molpool.refused("spectrum", run, path, *words)
    sentence = molpool.refused("spectrum", run, *words)
    assert "--timestep-fs means nothing to a run" in sentence
    assert "there is no file" in molpool.refused(
        "spectrum", tmp_path / "no.xyz", *words
    )
    broken = tmp_path / "broken.xyz"
    broken.write_text("no structure")
    assert "cannot be read" in molpool.refused("spectrum", broken, *words)


def write_water(path: Path) -> Path:
    frames = [molecule("H2O") for _ in range(3)]
    for k, frame in enumerate(frames):
        frame.positions[0, 0] += 0.01 * k
    write(path, frames)
    return path


def test_frames_far_apart_are_not_taken_for_a_wrong_interval(tmp_path: Path) -> None:
    """0.33 of a period, as of an O-H bond every 3 fs; the mean velocity says 1.66."""
    interval = 0.33 / (CM_PER_FS * WAVENUMBER)
    path = write_stretch(tmp_path / "hf.traj", 60, interval=interval)
    assert len(read_trajectory(path, interval).positions) == 60
    for wrong in (0.5 * interval, 2.0 * interval):
        with pytest.raises(ValueError, match="move as if it were"):
            read_trajectory(path, wrong)


def test_tight_binding_gives_the_spectrum_of_its_own_trajectory(
    molpool: CommandLine, tmp_path: Path
) -> None:
    tblite = pytest.importorskip("tblite.ase")
    atoms = molecule("H2O")
    atoms.calc = tblite.TBLite(method="GFN2-xTB", verbosity=0)
    atoms.rattle(0.02, seed=1)
    path, dipoles = tmp_path / "xtb.traj", []
    frames = []
    for _ in VelocityVerlet(atoms, 2.0 * FEMTOSECOND).irun(30):
        dipoles.append(atoms.get_dipole_moment())
        frame = atoms.copy()
        frames.append(frame)
    write(path, frames)
    words = ("--timestep-fs", "2", "--temperature", "300", "--json")
    computed = molpool(
        *("spectrum", path, *words, "--calculator"),
        "tblite.ase:TBLite,method=GFN2-xTB,verbosity=0",
    )
    assert computed.code == 0, computed
    origin = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert "tblite" in origin["versions"]
    for frame, dipole in zip(frames, dipoles, strict=True):
        frame.calc = SinglePointCalculator(frame, dipole=dipole)
    write(tmp_path / "full.traj", frames)
    exact = molpool("spectrum", tmp_path / "full.traj", *words)
    one, other = (read_spectrum(c.json["file"]) for c in (exact, computed))
    np.testing.assert_allclose(other.intensity, one.intensity, rtol=1e-6)
