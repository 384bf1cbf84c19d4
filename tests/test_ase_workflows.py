"""ASE's own tools use the calculator: optimisers, dynamics, spectra, sockets."""

import importlib
import threading
import uuid

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.lj import LennardJones
from ase.calculators.loggingcalc import LoggingCalculator
from ase.calculators.mixing import SumCalculator
from ase.calculators.socketio import SocketClient, SocketIOCalculator
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.vibrations import Infrared
from ase.vibrations.placzek import PlaczekStatic
from ase.vibrations.raman import StaticRamanCalculator
from small_potentials import (
    crystal,
    ethanol,
    glycol,
    rattled,
    small_potential,
    water,
)

from molpool_calc import MolPoolCalculator, bundled_names
from molpool_calc.spectra.harmonic import harmonic_analysis

POTENTIAL = small_potential(heads=("energy", "dipole", "polarizability"))
STEP = 0.1 * units.fs


def calculator(**options: object) -> MolPoolCalculator:
    options = {"device": "cpu", "dtype": "float64", **options}
    return MolPoolCalculator(POTENTIAL, **options)


def with_calc(atoms: Atoms, **options: object) -> Atoms:
    atoms.calc = calculator(**options)
    return atoms


def warm(atoms: Atoms, temperature: float = 300) -> Atoms:
    width = np.sqrt(atoms.get_masses() * units.kB * temperature)[:, None]
    atoms.set_momenta(width * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    return atoms


@pytest.mark.parametrize("optimizer", [BFGS, FIRE])
def test_optimisers_lower_the_energy(optimizer):
    atoms = with_calc(water())
    before, force = atoms.get_potential_energy(), np.abs(atoms.get_forces()).max()
    optimizer(atoms, logfile=None, maxstep=0.01).run(fmax=1e-3, steps=8)
    assert atoms.get_potential_energy() < before - 0.01 * force


def test_a_cell_filter_relaxes_the_stress():
    atoms = with_calc(crystal())
    energy = atoms.get_potential_energy()
    filtered = FrechetCellFilter(atoms)
    FIRE(filtered, logfile=None, maxstep=0.02).run(fmax=1e-4, steps=15)
    assert atoms.get_potential_energy() < energy
    assert np.abs(atoms.cell.array - crystal().cell.array).max() > 1e-3


INTEGRATORS = {
    "verlet VelocityVerlet": {},
    "langevin Langevin": {"temperature_K": 300, "friction": 0.01, "fixcm": False},
    "langevinbaoab LangevinBAOAB": {
        "temperature_K": 300,
        "T_tau": 50 * STEP,
        "rng": np.random.default_rng(0),
    },
    "andersen Andersen": {"temperature_K": 300, "andersen_prob": 0.1},
    "bussi Bussi": {"temperature_K": 300, "taut": 50 * STEP},
    "nose_hoover_chain NoseHooverChainNVT": {"temperature_K": 300, "tdamp": 100 * STEP},
    "nose_hoover_chain IsotropicMTKNPT": {
        "temperature_K": 300,
        "pressure_au": 0.0,
        "tdamp": 100 * STEP,
        "pdamp": 1000 * STEP,
    },
    "nose_hoover_chain MTKNPT": {
        "temperature_K": 300,
        "pressure_au": 0.0,
        "tdamp": 100 * STEP,
        "pdamp": 1000 * STEP,
    },
    "nose_hoover_chain MaskedMTKNPT": {
        "temperature_K": 300,
        "pressure_au": 0.0,
        "tdamp": 100 * STEP,
        "pdamp": 1000 * STEP,
        "mask": (True, True, False),
    },
    "nvtberendsen NVTBerendsen": {"temperature_K": 300, "taut": 50 * STEP},
    "nptberendsen NPTBerendsen": {
        "temperature_K": 300,
        "pressure_au": 0.0,
        "compressibility_au": 1e-2,
    },
    "nptberendsen Inhomogeneous_NPTBerendsen": {
        "temperature_K": 300,
        "pressure_au": 0.0,
        "compressibility_au": 1e-2,
    },
    "melchionna MelchionnaNPT": {
        "temperature_K": 300,
        "externalstress": 0.0,
        "ttime": 50 * STEP,
        "pfactor": 10.0,
    },
}


@pytest.mark.parametrize("name", INTEGRATORS)
def test_every_integrator_of_ase_runs(name):
    module, kind = name.split()
    try:
        integrator = getattr(importlib.import_module(f"ase.md.{module}"), kind)
    except (ImportError, AttributeError):
        pytest.skip(f"this ASE has no {kind}")
    atoms = crystal()
    atoms.set_cell(np.diag(atoms.cell.lengths()), scale_atoms=True)
    atoms = warm(with_calc(atoms))
    count, before = CountedForces(atoms.calc), atoms.get_positions()
    options = dict(INTEGRATORS[name])
    integrator(atoms, timestep=STEP, **options).run(5)
    assert np.isfinite(atoms.get_positions()).all()
    assert np.abs(atoms.get_positions() - before).max() > 1e-6
    assert count.n <= 13


class CountedForces:
    """Counts forward passes."""

    def __init__(self, calc: MolPoolCalculator) -> None:
        self.n = 0
        calc.evaluator.engines[0].potential.register_forward_hook(self.add)

    def add(self, *_: object) -> None:
        self.n += 1


def test_one_step_of_dynamics_is_one_forward_pass():
    """Also with a logger and a trajectory, which ask for the energy."""
    atoms = warm(with_calc(ethanol()))
    atoms.get_forces()
    count = CountedForces(atoms.calc)
    dynamics = VelocityVerlet(atoms, timestep=STEP)
    dynamics.attach(atoms.get_potential_energy)
    dynamics.attach(atoms.get_dipole_moment)
    dynamics.run(6)
    assert count.n == 6


@pytest.mark.parametrize("structure", [ethanol, glycol, crystal])
def test_trajectories_do_not_depend_on_the_skin_bit_for_bit(structure):
    ends = []
    for skin in (0.0, 1.0):
        atoms = warm(with_calc(structure(), skin=skin), temperature=1000)
        VelocityVerlet(atoms, timestep=10 * STEP).run(20)
        ends.append(atoms)
    np.testing.assert_array_equal(ends[0].positions, ends[1].positions)
    np.testing.assert_array_equal(ends[0].get_momenta(), ends[1].get_momenta())
    assert np.abs(ends[0].positions - structure().positions).max() > 0.1


def test_dynamics_conserves_the_energy():
    atoms = warm(with_calc(ethanol()))
    totals = []
    dynamics = VelocityVerlet(atoms, timestep=2 * STEP)
    dynamics.attach(lambda: totals.append(atoms.get_total_energy()))
    dynamics.run(30)
    kinetic = atoms.get_kinetic_energy()
    assert np.ptp(totals) < 1e-3 * max(kinetic, 0.1)


def test_constraints_are_respected():
    atoms = warm(with_calc(ethanol()))
    atoms.set_constraint(FixAtoms([0, 1]))
    before = atoms.get_positions()
    VelocityVerlet(atoms, timestep=STEP).run(3)
    np.testing.assert_array_equal(atoms.positions[:2], before[:2])
    assert not atoms.get_forces()[:2].any()
    assert atoms.get_forces(apply_constraint=False)[:2].any()


def test_a_band_with_a_shared_calculator_gives_what_separate_ones_give():
    results = []
    for shared in (True, False):
        images = [ethanol() for _ in range(4)]
        images[-1] = rattled(ethanol(), seed=3)
        band = NEB(images, allow_shared_calculator=shared, method="improvedtangent")
        band.interpolate()
        common = calculator()
        for image in images:
            image.calc = common if shared else calculator()
        forces = band.get_forces()
        FIRE(band, logfile=None).run(steps=2)
        results.append((forces, band.get_forces()))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_calculators_add_up():
    lj = {"sigma": 1.0, "epsilon": 0.01, "rc": 3.0}
    atoms, single = crystal(), with_calc(crystal())
    atoms.calc = SumCalculator([calculator(), LennardJones(**lj)])
    other = crystal()
    other.calc = LennardJones(**lj)
    for name in ("get_potential_energy", "get_forces", "get_stress"):
        expected = getattr(single, name)() + getattr(other, name)()
        np.testing.assert_allclose(getattr(atoms, name)(), expected, atol=1e-9)


def test_a_logging_calculator_wraps_it():
    atoms, expected = ethanol(), with_calc(ethanol())
    atoms.calc = LoggingCalculator(calculator())
    np.testing.assert_array_equal(atoms.get_forces(), expected.get_forces())


def test_a_socket_carries_energies_forces_and_stress():
    """The client runs in a thread, as i-PI or LAMMPS would run it in a process."""
    name = f"molpool-{uuid.uuid4().hex[:12]}"
    driven, expected = crystal(), with_calc(crystal())
    with SocketIOCalculator(unixsocket=name, timeout=30) as server:

        def serve() -> None:
            client = SocketClient(unixsocket=name, timeout=30)
            client.run(with_calc(crystal()), use_stress=True)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        driven.calc = server
        for _ in range(2):
            energy = driven.get_potential_energy()
            assert energy == pytest.approx(expected.get_potential_energy(), abs=1e-9)
            for ask in ("get_forces", "get_stress"):
                np.testing.assert_allclose(
                    getattr(driven, ask)(), getattr(expected, ask)(), atol=1e-9
                )
            driven.positions[0] += 0.05
            expected.positions[0] += 0.05
    thread.join(timeout=30)
    assert not thread.is_alive()


def modes_of(atoms: Atoms) -> np.ndarray:
    """Rows: displacements per unit of √amu·Å, by ascending frequency."""
    weight = np.repeat(atoms.get_masses() ** -0.5, 3)
    hessian = atoms.calc.get_hessian(atoms) * np.outer(weight, weight)
    return np.linalg.eigh((hessian + hessian.T) / 2)[1].T * weight


def test_infrared_intensities_of_ase_are_those_of_analytic_derivatives(
    tmp_path, monkeypatch
):
    """Any geometry will do; the three stiffest modes are well separated."""
    monkeypatch.chdir(tmp_path)
    atoms = with_calc(water())
    infrared = Infrared(atoms, delta=0.002)
    infrared.run()
    infrared.read()
    derivatives = atoms.calc.get_dipole_derivatives(atoms).reshape(9, 3)
    change = modes_of(atoms) @ derivatives / units.Debye
    expected = (change**2).sum(1)
    np.testing.assert_allclose(infrared.intensities[-3:], expected[-3:], rtol=0.01)
    assert expected[-3:].min() > 1e-6


def test_raman_activities_of_ase_are_those_of_analytic_derivatives(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    atoms = with_calc(water())
    calc = atoms.calc
    raman = StaticRamanCalculator(
        atoms, calc.polarizability_calculator, name="raman", delta=0.002, txt=None
    )
    raman.run()
    activities = PlaczekStatic(atoms, name="raman", txt=None, delta=0.002)
    found = activities.get_absolute_intensities()
    derivatives = calc.get_polarizability_derivatives(atoms).reshape(9, 9)
    tensor = (modes_of(atoms) @ derivatives).reshape(9, 3, 3)
    tensor = tensor * units.Hartree * units.Bohr  # e²Å²/eV to Å³
    isotropic = np.trace(tensor, axis1=1, axis2=2) / 3
    deviator = tensor - isotropic[:, None, None] * np.eye(3)
    expected = 45 * isotropic**2 + 7 * 1.5 * (deviator**2).sum((1, 2))
    np.testing.assert_allclose(found[-3:], expected[-3:], rtol=0.01)
    assert expected[-3:].min() > 1e-6


@pytest.mark.skipif(
    "painn-formaldehyde" not in bundled_names(), reason="no bundled potential yet"
)
def test_harmonic_analysis_agrees_with_ase_for_formaldehyde(tmp_path, monkeypatch):
    """Wavenumbers to 1 cm⁻¹, intensities to 1 % of the strongest."""
    monkeypatch.chdir(tmp_path)
    atoms = Atoms("COHH", [[0, 0, 0], [0, 0, 1.2], [0, 0.94, -0.6], [0, -0.94, -0.6]])
    atoms.calc = MolPoolCalculator("painn-formaldehyde", device="cpu", dtype="float64")
    BFGS(atoms, logfile=None).run(fmax=1e-5, steps=100)
    infrared = Infrared(atoms, delta=0.002)
    infrared.run()
    infrared.read()
    analytic = harmonic_analysis(
        atoms.positions,
        atoms.get_masses(),
        atoms.calc.get_hessian(atoms),
        atoms.calc.get_dipole_derivatives(atoms).reshape(12, 3),
    )
    wavenumbers = infrared.get_frequencies()[-6:].real
    np.testing.assert_allclose(analytic.wavenumbers_cm1, wavenumbers, atol=1.0)
    found = 42.2561 * infrared.intensities[-6:]  # (D/Å)²/amu to km/mol
    np.testing.assert_allclose(
        analytic.ir_km_mol, found, atol=0.01 * analytic.ir_km_mol.max()
    )
