"""The rate of the dipole: exact for clusters, blind to images, recorded along a run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from small_potentials import CPU, small_potential

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.connectivity import find_molecules
from molpool_calc.dipole_flux import DipoleFlux, current
from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.engine import EagerEngine
from molpool_calc.md.guard import NO_LIMITS
from molpool_calc.md.trajectory import read_run
from molpool_calc.neighbors import neighbor_list
from molpool_calc.run_spectrum import spectrum_of_run
from molpool_calc.spectra import Estimator, bulk_spectrum
from molpool_calc.storage import save_potential


def three_waters() -> Atoms:
    atoms = molecule("H2O")
    for shift in ([2.9, 0.3, 0.0], [0.4, 2.8, 0.5]):
        other = molecule("H2O")
        other.rotate(40, "x", center="COP")
        other.translate(shift)
        atoms += other
    return atoms


def in_cell(cell: object, shift: object = (0.0, 0.0, 0.0)) -> Atoms:
    atoms = three_waters()
    atoms.cell, atoms.pbc = cell, True
    atoms.translate(shift)
    return atoms


def batch_of(*structures: Atoms):
    return batch_from_atoms(structures, dtype=torch.float64, device=CPU)


def engine_of(network: str = "painn") -> EagerEngine:
    potential = small_potential(network, heads=("energy", "dipole"))
    return EagerEngine(potential, CPU, torch.float64)


def flux_of(engine: EagerEngine, atoms: Atoms, velocities: np.ndarray) -> np.ndarray:
    flux = DipoleFlux(engine, batch_of(atoms))
    moving = torch.from_numpy(velocities)
    return flux(torch.from_numpy(atoms.positions), moving)[0].numpy()


def dipole_of(engine: EagerEngine, atoms: Atoms) -> np.ndarray:
    batch = batch_of(atoms)
    pairs = neighbor_list(batch, engine.potential.cutoff)
    found = engine.evaluate(batch, pairs, frozenset({"dipole"}))
    return found.dipole[0].numpy()


def velocities_of(n_atoms: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n_atoms, 3))


SKEW = np.array([[9.0, 0.0, 0.0], [2.0, 9.0, 0.0], [0.0, 1.0, 9.5]])


@pytest.mark.parametrize("network", ["painn", "schnet", "so3krates-euclidean"])
@pytest.mark.parametrize("periodic", [False, True])
def test_the_flux_of_a_cluster_is_the_derivative_of_its_dipole(network, periodic):
    engine, velocities = engine_of(network), velocities_of(9)
    atoms = three_waters()
    step, sides = 1e-5, []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions += sign * step * velocities
        sides.append(dipole_of(engine, moved))
    exact = (sides[0] - sides[1]) / (2 * step)
    if periodic:  # split by the boundary of a cell that is large beside the cluster
        atoms = in_cell([30.0, 31.0, 33.0], (-1.0, 14.0, 5.0))
        atoms.wrap()
    found = flux_of(engine, atoms, velocities)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-8)
    assert np.abs(exact).max() > 0.1


@pytest.mark.parametrize("cell", [[7.5, 8.0, 8.5], SKEW])
def test_the_flux_does_not_depend_on_images(cell):
    engine, velocities = engine_of(), velocities_of(9)
    atoms = in_cell(cell, (3.0, -2.0, 1.0))
    plain = flux_of(engine, atoms, velocities)
    turns = np.random.default_rng(2).integers(-2, 3, size=(9, 3))
    atoms.positions += turns @ atoms.cell.array
    moved = flux_of(engine, atoms, velocities)
    np.testing.assert_allclose(moved, plain, rtol=0, atol=1e-11)
    atoms.wrap()
    np.testing.assert_allclose(
        flux_of(engine, atoms, velocities), plain, rtol=0, atol=1e-11
    )
    # what the flux would be without care for images
    naive = dipole_of(engine, atoms) - dipole_of(engine, in_cell(cell))
    assert np.abs(naive).max() > 0.05


def test_a_supercell_has_twice_the_flux_of_its_half():
    engine, velocities = engine_of(), velocities_of(9)
    atoms = in_cell([9.0, 9.0, 9.0])
    single = flux_of(engine, atoms, velocities)
    double = flux_of(engine, atoms.repeat((2, 1, 1)), np.tile(velocities, (2, 1)))
    np.testing.assert_allclose(double, 2 * single, rtol=0, atol=1e-9)


def test_charge_flows_along_the_shortest_way():
    cells = torch.eye(3, dtype=torch.float64)[None] * 10.0
    pbc = torch.ones((1, 3), dtype=torch.bool)
    # 9.5 and 0.5 are 1 Å apart through the boundary; 5 is far from both
    places = torch.tensor([[[9.5, 0, 0], [0.5, 0, 0], [5.0, 0, 0]]]).double()
    gains = torch.tensor([[-1.0, 1.0, 0.0]]).double()
    found = current(gains, places, cells, pbc)[0].tolist()
    assert found == pytest.approx([1.0, 0.0, 0.0], abs=1e-3)
    # two steps of 3 Å, the middle one passing on what it gets
    places = torch.tensor([[[1.0, 0, 0], [4.0, 0, 0], [7.0, 0, 0]]]).double()
    gains = torch.tensor([[-1.0, 0.0, 1.0]]).double()
    open_ends = torch.zeros((1, 3), dtype=torch.bool)
    found = current(gains, places, cells, open_ends)[0].tolist()
    assert found == pytest.approx([6.0, 0.0, 0.0], abs=1e-9)


def test_an_ion_carries_its_charge():
    gains = torch.zeros((1, 1)).double()
    cells, pbc = torch.eye(3).double()[None] * 9.0, torch.ones((1, 3)).bool()
    assert current(gains, torch.zeros((1, 1, 3)).double(), cells, pbc).tolist() == [
        [0.0, 0.0, 0.0]
    ]
    atoms = in_cell([9.0, 9.0, 9.0])
    atoms.info["charge"] = 1
    flux = flux_of(engine_of(), atoms, np.tile([0.3, 0.0, -0.1], (9, 1)))
    # moved as a whole, its dipole rate is charge times velocity
    np.testing.assert_allclose(flux, [0.3, 0.0, -0.1], rtol=0, atol=1e-10)


def test_molecules_are_found_whatever_the_images():
    atoms = in_cell([7.5, 8.0, 8.5], (3.0, -2.0, 1.0))
    atoms.wrap()
    found = find_molecules(batch_of(atoms))
    assert found.index.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    assert find_molecules(batch_of(salt)).n_molecules == 8


def test_a_network_of_bonds_is_refused():
    diamond = bulk("C", "diamond", a=3.57, cubic=True)
    with pytest.raises(ValueError, match="reach a periodic image of themselves"):
        find_molecules(batch_of(diamond))


def test_a_potential_without_charges_is_refused():
    bare = EagerEngine(small_potential(heads=("energy",)), CPU, torch.float64)
    with pytest.raises(
        ValueError, match="small predicts no charges, no dipole, so there"
    ):
        DipoleFlux(bare, batch_of(three_waters()))


@pytest.fixture(scope="module")
def liquid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of periodic water with its flux, and the potential that made it."""
    place = tmp_path_factory.mktemp("flux")
    potential = small_potential(heads=("energy", "dipole"))
    save_potential(potential, place / "p")
    atoms = in_cell([9.0, 9.0, 9.0])
    run_dynamics(atoms, str(place / "p"), place / "run", job(40))
    return place / "run", str(place / "p")


def job(n_steps: int) -> DynamicsJob:
    return DynamicsJob(
        ensemble="nve",
        n_steps=n_steps,
        temperature=100.0,
        n_replicas=4,
        every=1,
        dtype="float64",
        record=("dipole_flux",),
        compile="never",
        guard=NO_LIMITS,  # random weights hold no molecule together
    )


def test_a_wrapped_and_an_unwrapped_trajectory_have_the_same_spectrum(liquid):
    folder, _ = liquid
    run = read_run(folder)
    assert run.dipole_fluxes.shape == (4, 41, 3)
    exact = spectrum_of_run(folder, kind="ir", temperature=100.0)
    assert exact.unit == "cm-1"
    assert exact.metadata["volume_angstrom3"] == pytest.approx(729.0)
    engine = engine_of()
    flux = DipoleFlux(engine, batch_of(*[in_cell([9.0, 9.0, 9.0])] * 4))
    velocities = run.velocities.astype(np.float64)  # recorded in float32
    series = {}
    rng = np.random.default_rng(0)
    for name, turns in (("plain", 0), ("wrapped", 9.0)):
        positions = run.positions
        if turns:
            positions = np.mod(positions + rng.normal(size=3), turns)
        series[name] = np.stack(
            [
                flux(
                    torch.from_numpy(positions[:, k].reshape(-1, 3)),
                    torch.from_numpy(velocities[:, k].reshape(-1, 3)),
                ).numpy()
                for k in range(41)
            ],
            axis=1,
        )
    assert np.abs(np.mod(run.positions, 9.0) - run.positions).max() > 1.0
    scale = np.abs(run.dipole_fluxes).max()
    np.testing.assert_allclose(
        series["plain"], run.dipole_fluxes, rtol=0, atol=1e-6 * scale
    )
    spectra = [
        bulk_spectrum(
            values,
            volume=729.0,
            timestep_fs=0.5,
            temperature=100.0,
            estimator=estimator_like(exact),
        ).intensity
        for values in series.values()
    ]
    assert spectra[0].max() > 0.0
    difference = np.abs(spectra[1] - spectra[0]).max()
    assert difference < 1e-10 * spectra[0].max()
    np.testing.assert_allclose(
        spectra[0], exact.intensity, rtol=0, atol=1e-5 * spectra[0].max()
    )


def estimator_like(spectrum):
    return Estimator(resolution=spectrum.metadata["resolution_cm1"])


def test_recorded_fluxes_are_derivatives_of_what_moves(liquid):
    folder, _ = liquid
    run = read_run(folder)
    flux = DipoleFlux(engine_of(), batch_of(in_cell([9.0, 9.0, 9.0])))
    for replica, step in ((0, 10), (3, 30)):
        places = run.positions[replica, [step - 1, step, step + 1]]
        # what moves is the positions: per fs, without the units of momenta
        velocities = torch.from_numpy((places[2] - places[0]) / (2 * run.timestep_fs))
        exact = flux(torch.from_numpy(places[1]), velocities)[0].numpy()
        found = run.dipole_fluxes[replica, step]
        np.testing.assert_allclose(
            found, exact, rtol=0, atol=0.02 * np.abs(exact).max()
        )


def test_a_resumed_run_records_the_same_fluxes(liquid, tmp_path: Path) -> None:
    folder, potential = liquid
    atoms, again = in_cell([9.0, 9.0, 9.0]), tmp_path / "run"
    run_dynamics(atoms, potential, again, job(23))
    run_dynamics(atoms, potential, again, job(40), resume=True)
    np.testing.assert_array_equal(
        read_run(again).dipole_fluxes, read_run(folder).dipole_fluxes
    )
