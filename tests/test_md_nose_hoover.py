import json
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from ase import units
from ase.calculators.lj import LennardJones
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from md_models import INTEGRATORS, Clusters, Waters, Wells, advance, atoms_alone, start
from md_models import waters as water_replicas
from torch import Tensor

from molpool_calc.md.integrators import NVE
from molpool_calc.md.nose_hoover import NoseHoover
from molpool_calc.md.state import (
    MDState,
    MDSystem,
    initial_state,
    kinetic_energy,
    make_system,
    maxwell_boltzmann_momenta,
    sum_over_atoms,
    temperature,
)
from molpool_calc.segments import segments_from_sizes

KELVIN = 300.0
TIGHT = NoseHoover(timestep_fs=0.5, temperature=KELVIN, relaxation_fs=20.0)


def conserved(system: MDSystem, state: MDState) -> Tensor:
    return state.response.energy + kinetic_energy(system, state.momenta) - state.heat


def test_a_chain_agrees_with_ase_over_a_hundred_steps() -> None:
    n, generator = 7, torch.Generator().manual_seed(2)
    grid = torch.cartesian_prod(*[torch.arange(2, dtype=torch.float64)] * 3)[:n]
    positions = 3.9 * grid + 0.1 * torch.randn((n, 3), generator=generator).double()
    system = make_system(
        atomic_numbers=torch.full((n,), 18),
        masses=torch.full((n,), 39.948, dtype=torch.float64),
        positions=positions,
        systems=segments_from_sizes([n], torch.device("cpu")),
        free="all",
    )
    momenta = maxwell_boltzmann_momenta(system, 30.0, generator)
    state = initial_state(
        Clusters(n), positions=positions, momenta=momenta, generator=generator
    )
    integrator = NoseHoover(
        timestep_fs=4.0, temperature=60.0, relaxation_fs=100.0, chain_length=4
    )
    first, state = state, advance(integrator, system, state, Clusters(n), 100)
    atoms = ase.Atoms("Ar7", positions.numpy())
    atoms.set_masses([39.948] * n)
    atoms.set_momenta(momenta.numpy())
    atoms.calc = LennardJones(epsilon=0.0104, sigma=3.4, rc=1000.0)
    reference = NoseHooverChainNVT(
        atoms, 4.0 * units.fs, temperature_K=60.0, tdamp=100.0 * units.fs, tchain=4
    )
    before = reference.get_conserved_energy()
    reference.run(100)
    np.testing.assert_allclose(state.positions, atoms.positions, atol=1e-10)
    np.testing.assert_allclose(state.momenta, atoms.get_momenta(), atol=1e-10)
    change = conserved(system, state) - conserved(system, first)
    ase_change = reference.get_conserved_energy() - before
    assert float(change) == pytest.approx(ase_change, abs=1e-11)
    assert abs(float(state.heat)) > 0.01


def test_the_error_of_the_conserved_energy_is_of_second_order() -> None:
    field = Wells(k=2.0, a=3.0, b=1.0)
    system, positions = atoms_alone(20, mass=4.0)
    first = start(system, positions, field, seed=4)

    def error(timestep_fs: float, n: int) -> float:
        integrator = replace(TIGHT, timestep_fs=timestep_fs)
        state, worst = first, 0.0
        for _ in range(n):
            state = integrator(system, state, field)
            deviation = conserved(system, state) - conserved(system, first)
            worst = max(worst, float(deviation.abs().max()))
        return worst

    assert error(0.5, 40) / error(0.25, 80) == pytest.approx(4.0, rel=0.1)


def test_a_chain_runs_backwards() -> None:
    field = Wells(k=2.0, a=3.0, b=1.0)
    system, positions = atoms_alone(20, mass=4.0)
    first = start(system, positions, field, seed=4)
    state = advance(TIGHT, system, first, field, 60)
    assert state.chain is not None
    turned = torch.stack([state.chain[:, 0], -state.chain[:, 1]], 1)
    state = replace(state, momenta=-state.momenta, chain=turned)
    state = advance(TIGHT, system, state, field, 60)
    torch.testing.assert_close(state.positions, first.positions, atol=1e-9, rtol=0.0)
    torch.testing.assert_close(state.momenta, -first.momenta, atol=1e-9, rtol=0.0)


def test_replicas_have_chains_of_their_own() -> None:
    system, state = water_replicas(3, TIGHT, Waters())
    together = advance(TIGHT, system, state, Waters(), 50)
    single, _ = water_replicas(1, TIGHT, Waters())
    alone = initial_state(
        Waters(),
        positions=state.positions[3:6],
        momenta=state.momenta[3:6],
        generator=torch.Generator(),
    )
    alone = advance(TIGHT, single, alone, Waters(), 50)
    assert together.chain is not None
    assert alone.chain is not None
    torch.testing.assert_close(together.chain[1], alone.chain[0], atol=1e-12, rtol=1e-9)
    assert (together.chain[0] - together.chain[1]).abs().max() > 1e-3


def test_a_chain_with_hardly_any_coupling_is_constant_energy() -> None:
    loose = replace(TIGHT, relaxation_fs=1e9)
    system, state = water_replicas(2, loose, Waters())
    found = advance(loose, system, state, Waters(), 50)
    expected = advance(NVE(timestep_fs=0.5), system, state, Waters(), 50)
    torch.testing.assert_close(found.positions, expected.positions, atol=1e-8, rtol=0.0)


def test_a_chain_keeps_rigid_motion_at_zero() -> None:
    system, state = water_replicas(10, TIGHT, Waters())
    state = advance(TIGHT, system, state, Waters(), 100)
    angular = torch.linalg.cross(state.positions, state.momenta)
    assert sum_over_atoms(state.momenta, system.systems).abs().max() < 1e-11
    assert sum_over_atoms(angular, system.systems).abs().max() < 1e-10


@pytest.mark.slow
def test_a_chain_heats_a_cold_molecule_to_its_temperature() -> None:
    system, state = water_replicas(400, TIGHT, Waters())
    state = replace(state, momenta=0.2 * state.momenta)
    # all replicas began alike and swing together for a while
    state, means = advance(TIGHT, system, state, Waters(), 3000), []
    for _ in range(1500):
        state = TIGHT(system, state, Waters())
        means.append(temperature(system, state.momenta).mean())
    assert float(torch.stack(means).mean()) == pytest.approx(KELVIN, rel=0.03)


def test_a_system_that_cannot_move_stays_as_it_is() -> None:
    system, positions = atoms_alone(2, mass=1.0)
    still = replace(system, degrees_of_freedom=torch.zeros(2, dtype=torch.float64))
    state = initial_state(
        Wells(k=1.0),
        positions=positions,
        momenta=torch.zeros_like(positions),
        generator=torch.Generator(),
    )
    state = advance(TIGHT, still, state, Wells(k=1.0), 5)
    assert state.momenta.abs().max() == 0.0
    assert bool(torch.isfinite(state.heat).all())


def test_the_description_names_every_parameter() -> None:
    description = json.loads(json.dumps(INTEGRATORS["nose-hoover"].describe()))
    assert description == {
        "integrator": "nose-hoover",
        "ensemble": "nvt",
        "timestep_fs": 1.0,
        "temperature": 300.0,
        "relaxation_fs": 50.0,
        "chain_length": 3,
    }
    with pytest.raises(ValueError, match="chain_length is 0"):
        replace(TIGHT, chain_length=0)
