import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.md.velocitydistribution import Stationary, ZeroRotation
from md_models import CPU, double
from scipy import stats

from molpool_calc.md.state import (
    MDSystem,
    degrees_of_freedom,
    kinetic_energy,
    make_system,
    maxwell_boltzmann_momenta,
    remove_rigid_motion,
    sum_over_atoms,
    temperature,
)
from molpool_calc.segments import segment_sum, segments_from_sizes
from molpool_calc.units import BOLTZMANN


def mixed(*names: str) -> tuple[MDSystem, torch.Tensor, list[ase.Atoms]]:
    """One batch of different molecules, rotated away from the axes."""
    molecules = [molecule(name) for name in names]
    for atoms in molecules:
        atoms.rotate(37.0, (1.0, 2.0, 3.0))
        atoms.translate((0.3, -2.0, 5.0))
    positions = torch.from_numpy(np.concatenate([a.positions for a in molecules]))
    system = make_system(
        atomic_numbers=torch.tensor([z for a in molecules for z in a.numbers]),
        masses=double([m for a in molecules for m in a.get_masses()]),
        positions=positions,
        systems=segments_from_sizes([len(a) for a in molecules], CPU),
        free="internal",
    )
    return system, positions, molecules


def test_sum_over_atoms_equals_the_segment_sum_of_unequal_systems() -> None:
    segments = segments_from_sizes([3, 1, 5], CPU)
    values = torch.randn((9, 2, 3), dtype=torch.float64)
    expected = segment_sum(values, segments.index, 3)
    torch.testing.assert_close(sum_over_atoms(values, segments), expected)


def test_degrees_of_freedom_know_linear_molecules_and_single_atoms() -> None:
    system, positions, _ = mixed("H2O", "CO2", "N2", "Cl", "CH3CH2OH", "C2H2")
    assert degrees_of_freedom(system, positions).tolist() == [3, 4, 1, 0, 21, 7]
    assert system.degrees_of_freedom.tolist() == [3, 4, 1, 0, 21, 7]


def test_a_linear_molecule_is_linear_in_any_orientation() -> None:
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn((300, 1, 3), dtype=torch.float64, generator=generator)
    places = torch.randn((300, 1, 3), dtype=torch.float64, generator=generator)
    along = double([-1.16, 0.0, 1.16])[:, None]
    positions = (along * axes / axes.norm(dim=2, keepdim=True) + 50.0 * places).flatten(
        0, 1
    )
    system = make_system(
        atomic_numbers=torch.tensor([8, 6, 8] * 300),
        masses=double([15.999, 12.011, 15.999] * 300),
        positions=positions,
        systems=segments_from_sizes([3] * 300, CPU),
        free="internal",
    )
    assert system.degrees_of_freedom.unique().tolist() == [4.0]


def test_degrees_of_freedom_count_the_rotations_of_a_periodic_system() -> None:
    system, positions, _ = mixed("H2O", "CO2")
    periodic = make_system(
        atomic_numbers=system.atomic_numbers,
        masses=system.masses,
        positions=positions,
        systems=system.systems,
        free="internal",
        cell=10.0 * torch.eye(3, dtype=torch.float64).expand(2, 3, 3),
        pbc=torch.tensor([[True] * 3, [False] * 3]),
    )
    assert periodic.degrees_of_freedom.tolist() == [6, 4]


def test_all_degrees_of_freedom_are_three_for_each_atom() -> None:
    system, positions, _ = mixed("H2O", "CO2")
    free = make_system(
        atomic_numbers=system.atomic_numbers,
        masses=system.masses,
        positions=positions,
        systems=system.systems,
        free="all",
    )
    assert free.degrees_of_freedom.tolist() == [9, 9]


def test_removing_rigid_motion_agrees_with_ase() -> None:
    system, positions, molecules = mixed("H2O", "CH3CH2OH", "CH4")
    generator = torch.Generator().manual_seed(3)
    momenta = maxwell_boltzmann_momenta(system, 300.0, generator)
    removed = remove_rigid_motion(system, positions, momenta)
    start = 0
    for atoms in molecules:
        part = slice(start, start + len(atoms))
        atoms.set_momenta(momenta[part].numpy())
        Stationary(atoms, preserve_temperature=False)
        ZeroRotation(atoms, preserve_temperature=False)
        np.testing.assert_allclose(removed[part], atoms.get_momenta(), atol=1e-12)
        start += len(atoms)


def test_removing_rigid_motion_leaves_no_momentum_in_any_kind_of_molecule() -> None:
    system, positions, _ = mixed("H2O", "CO2", "N2", "Cl", "CH3CH2OH")
    momenta = maxwell_boltzmann_momenta(system, 900.0, torch.Generator().manual_seed(1))
    removed = remove_rigid_motion(system, positions, momenta)
    segments = system.systems
    centre = sum_over_atoms(system.masses[:, None] * positions, segments)
    centre = centre / sum_over_atoms(system.masses[:, None], segments)
    arms = positions - centre[segments.index]
    angular = sum_over_atoms(torch.linalg.cross(arms, removed), segments)
    assert sum_over_atoms(removed, segments).abs().max() < 1e-12
    assert angular.abs().max() < 1e-11
    again = remove_rigid_motion(system, positions, removed)
    torch.testing.assert_close(again, removed, atol=1e-12, rtol=0.0)
    torch.testing.assert_close(removed[8], torch.zeros(3, dtype=torch.float64))


def test_vibrations_of_a_linear_molecule_survive_the_removal() -> None:
    system, positions, _ = mixed("CO2")
    axis = positions[1] - positions[2]
    bend = torch.linalg.cross(axis, double([1.0, 0.0, 0.0]))
    momenta = torch.stack([bend, -0.5 * bend, -0.5 * bend])
    removed = remove_rigid_motion(system, positions, momenta)
    torch.testing.assert_close(removed, momenta, atol=1e-12, rtol=0.0)


def test_periodic_systems_keep_their_angular_momentum() -> None:
    system, positions, _ = mixed("H2O", "H2O")
    periodic = make_system(
        atomic_numbers=system.atomic_numbers,
        masses=system.masses,
        positions=positions,
        systems=system.systems,
        free="internal",
        cell=9.0 * torch.eye(3, dtype=torch.float64).expand(2, 3, 3),
        pbc=torch.tensor([[True] * 3, [False] * 3]),
    )
    momenta = maxwell_boltzmann_momenta(system, 300.0, torch.Generator().manual_seed(1))
    removed = remove_rigid_motion(periodic, positions, momenta)
    share = system.masses[:3, None] / system.masses[:3].sum()
    expected = momenta[:3] - share * momenta[:3].sum(0)
    torch.testing.assert_close(removed[:3], expected)
    isolated = remove_rigid_motion(system, positions, momenta)
    torch.testing.assert_close(removed[3:], isolated[3:])


def test_momenta_follow_maxwell_and_boltzmann() -> None:
    n, mass, kelvin = 4000, 12.0, 350.0
    system = make_system(
        atomic_numbers=torch.full((n,), 6),
        masses=torch.full((n,), mass, dtype=torch.float64),
        positions=torch.zeros((n, 3), dtype=torch.float64),
        systems=segments_from_sizes([1] * n, CPU),
        free="all",
    )
    generator = torch.Generator().manual_seed(5)
    momenta = maxwell_boltzmann_momenta(system, kelvin, generator)
    spread = (mass * BOLTZMANN * kelvin) ** 0.5
    assert stats.kstest(momenta.flatten() / spread, "norm").pvalue > 0.01
    thermal = kinetic_energy(system, momenta) / (BOLTZMANN * kelvin)
    assert stats.kstest(thermal, stats.gamma(1.5).cdf).pvalue > 0.01
    assert temperature(system, momenta).mean() == pytest.approx(kelvin, rel=0.03)


def test_projected_momenta_are_canonical_in_the_vibrations_without_rescaling() -> None:
    n, kelvin = 3000, 300.0
    system, positions, _ = mixed(*["H2O"] * n)
    generator = torch.Generator().manual_seed(6)
    momenta = maxwell_boltzmann_momenta(system, kelvin, generator)
    removed = remove_rigid_motion(system, positions, momenta)
    thermal = kinetic_energy(system, removed) / (BOLTZMANN * kelvin)
    assert stats.kstest(thermal, stats.gamma(1.5).cdf).pvalue > 0.01


def test_the_temperature_of_an_atom_without_motion_is_zero() -> None:
    system, positions, _ = mixed("Cl")
    assert temperature(system, torch.zeros_like(positions)).tolist() == [0.0]


def test_impossible_masses_and_temperatures_are_refused() -> None:
    system, positions, _ = mixed("H2O")
    with pytest.raises(ValueError, match=r"mass of 0\.0 amu.*must be positive"):
        make_system(
            atomic_numbers=system.atomic_numbers,
            masses=double([15.999, 0.0, 1.008]),
            positions=positions,
            systems=system.systems,
            free="all",
        )
    with pytest.raises(ValueError, match=r"temperature is -1\.0 K"):
        maxwell_boltzmann_momenta(system, -1.0, torch.Generator())
