"""The driver for i-PI: units, batches, virials."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from small_potentials import small_potential

from molpool_calc import MolPoolCalculator
from molpool_calc.cli import main
from molpool_calc.path_integrals.driver import MolPoolDriver
from molpool_calc.storage import save_potential
from molpool_calc.units import BOHR, HARTREE


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("potential")
    save_potential(small_potential(heads=("energy", "dipole")), folder)
    return str(folder)


def driver(potential: str, atoms: Atoms, folder: Path) -> MolPoolDriver:
    write(folder / "atoms.extxyz", atoms)
    return MolPoolDriver(
        potential, str(folder / "atoms.extxyz"), dtype="float64", compile="never"
    )


def beads_of(atoms: Atoms, n: int) -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    moved = [atoms.positions + 0.05 * generator.normal(size=(len(atoms), 3))]
    moved += [moved[0] + 0.05 * k for k in range(1, n)]
    return [positions / BOHR for positions in moved]


def test_beads_in_one_batch_are_the_beads_one_by_one(
    potential: str, tmp_path: Path
) -> None:
    atoms = molecule("CH3OH")
    ipi, cell = driver(potential, atoms, tmp_path), np.eye(3)
    beads = beads_of(atoms, 3)
    together = ipi([cell] * 3, beads)
    for positions, answer in zip(beads, together, strict=True):
        energy, forces, virial, extras = ipi(cell, positions)
        assert energy == pytest.approx(answer[0], abs=1e-12)
        np.testing.assert_allclose(forces, answer[1], rtol=0, atol=1e-12)
        assert not virial.any()
        atoms.positions = BOHR * positions
        atoms.calc = MolPoolCalculator(potential, dtype="float64", compile="never")
        assert energy * HARTREE == pytest.approx(atoms.get_potential_energy())
        np.testing.assert_allclose(
            forces * HARTREE / BOHR, atoms.get_forces(), rtol=0, atol=1e-10
        )
        np.testing.assert_allclose(
            json.loads(extras)["dipole"], atoms.get_dipole_moment(), atol=1e-10
        )


def test_the_force_is_the_slope_of_the_energy_in_atomic_units(
    potential: str, tmp_path: Path
) -> None:
    atoms = molecule("CH3OH")
    ipi, cell = driver(potential, atoms, tmp_path), np.eye(3)
    (positions,) = beads_of(atoms, 1)
    change = np.zeros_like(positions)
    change[2, 1] = 1e-4
    low, high = (ipi(cell, positions + s * change)[0] for s in (-1.0, 1.0))
    force = ipi(cell, positions)[1][2, 1]
    assert force == pytest.approx(-(high - low) / 2e-4, abs=1e-8)


def test_a_cell_has_the_virial_of_its_stress(potential: str, tmp_path: Path) -> None:
    atoms = molecule("CH3OH", cell=[6.0, 7.0, 8.0], pbc=True)
    atoms.cell[1, 0] = 1.0
    ipi = driver(potential, atoms, tmp_path)
    column_cell = np.asarray(atoms.cell).T / BOHR
    beads = beads_of(atoms, 2)
    answers = ipi([column_cell] * 2, beads)
    strain = 1e-5 * np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    energies = []
    for sign in (-1.0, 1.0):
        grown = np.eye(3) + sign * strain
        energies.append(ipi([grown @ column_cell], [beads[0] @ grown])[0][0])
    slope = (energies[1] - energies[0]) / 2.0
    assert slope == pytest.approx(-float((answers[0][2] * strain).sum()), abs=1e-11)
    assert abs(answers[0][2]).max() > 1e-4


def test_units_are_those_of_ipi() -> None:
    """To 1e-15 of those that it shares with ASE, to 2e-7 of its rounded ones."""
    units = pytest.importorskip("ipi.utils.units")
    for kind, value in {
        "energy": 1.0 / HARTREE,
        "length": 1.0 / BOHR,
        "force": BOHR / HARTREE,
    }.items():
        assert units.unit_to_internal(kind, "ase", 1.0) == pytest.approx(
            value, rel=1e-12
        )
    for kind, name, value in (
        ("energy", "electronvolt", 1.0 / HARTREE),
        ("length", "angstrom", 1.0 / BOHR),
        ("force", "ev/ang", BOHR / HARTREE),
    ):
        assert units.unit_to_internal(kind, name, 1.0) == pytest.approx(value, rel=2e-7)


def test_the_command_prints_where_the_driver_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["ipi", "--path"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert "__DRIVER_CLASS__" in path.read_text(encoding="utf-8")
    assert main(["ipi"]) == 0
    assert f"<pes_path>{path}</pes_path>" in capsys.readouterr().out
