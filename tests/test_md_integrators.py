import json
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from ase import units
from ase.calculators.lj import LennardJones
from ase.md.verlet import VelocityVerlet
from md_models import (
    CPU,
    INTEGRATORS,
    Clusters,
    Waters,
    Wells,
    advance,
    atoms_alone,
    start,
    waters,
)
from torch import Tensor

from molpool_calc.md.integrators import (
    NVE,
    Bussi,
    Langevin,
    bussi_step,
    langevin_step,
    nve_step,
)
from molpool_calc.md.state import (
    MDState,
    MDSystem,
    initial_state,
    kinetic_energy,
    make_system,
    maxwell_boltzmann_momenta,
    remove_rigid_motion,
    sum_over_atoms,
)
from molpool_calc.segments import segments_from_sizes
from molpool_calc.units import BOLTZMANN, FEMTOSECOND

KELVIN = 300.0
KT = BOLTZMANN * KELVIN


def total(system: MDSystem, state: MDState) -> Tensor:
    return state.response.energy + kinetic_energy(system, state.momenta)


def argon(n_systems: int, n_atoms: int) -> tuple[MDSystem, MDState]:
    """Warm clusters of argon, each from its own point of a compact lattice."""
    generator = torch.Generator().manual_seed(2)
    grid = torch.cartesian_prod(*[torch.arange(2, dtype=torch.float64)] * 3)
    positions = 3.9 * grid[:n_atoms].repeat(n_systems, 1)
    noise = torch.randn(positions.shape, generator=generator, dtype=torch.float64)
    positions = positions + 0.1 * noise
    system = make_system(
        atomic_numbers=torch.full((n_systems * n_atoms,), 18),
        masses=torch.full((n_systems * n_atoms,), 39.948, dtype=torch.float64),
        positions=positions,
        systems=segments_from_sizes([n_atoms] * n_systems, CPU),
        free="internal",
    )
    momenta = maxwell_boltzmann_momenta(system, 30.0, generator)
    state = initial_state(
        Clusters(n_atoms),
        positions=positions,
        momenta=remove_rigid_motion(system, positions, momenta),
        generator=generator,
    )
    return system, state


def test_velocity_verlet_agrees_with_ase_over_a_hundred_steps() -> None:
    n_systems, n_atoms = 2, 7
    system, state = argon(n_systems, n_atoms)
    first = state
    integrator = NVE(timestep_fs=4.0)
    state = advance(integrator, system, state, Clusters(n_atoms), 100)
    for number in range(n_systems):
        part = slice(number * n_atoms, (number + 1) * n_atoms)
        atoms = ase.Atoms("Ar7", first.positions[part].numpy())
        atoms.set_masses([39.948] * n_atoms)
        atoms.set_momenta(first.momenta[part].numpy())
        atoms.calc = LennardJones(epsilon=0.0104, sigma=3.4, rc=1000.0)
        VelocityVerlet(atoms, timestep=4.0 * units.fs).run(100)
        np.testing.assert_allclose(state.positions[part], atoms.positions, atol=1e-12)
        np.testing.assert_allclose(state.momenta[part], atoms.get_momenta(), atol=1e-12)
    assert (state.positions - first.positions).abs().max() > 0.1


def test_velocity_verlet_is_reversible() -> None:
    system, first = argon(1, 7)
    integrator = NVE(timestep_fs=4.0)
    state = advance(integrator, system, first, Clusters(7), 100)
    state = replace(state, momenta=-state.momenta)
    state = advance(integrator, system, state, Clusters(7), 100)
    torch.testing.assert_close(state.positions, first.positions, atol=1e-10, rtol=0.0)
    torch.testing.assert_close(state.momenta, -first.momenta, atol=1e-10, rtol=0.0)


def test_the_energy_error_of_velocity_verlet_is_of_second_order() -> None:
    field = Wells(k=2.0, a=3.0, b=1.0)
    system, positions = atoms_alone(20, mass=4.0)
    first = start(system, positions, field, seed=4)

    def error(timestep_fs: float, n: int) -> float:
        integrator, state, worst = NVE(timestep_fs=timestep_fs), first, 0.0
        for _ in range(n):
            state = integrator(system, state, field)
            deviation = total(system, state) - total(system, first)
            worst = max(worst, float(deviation.abs().max()))
        return worst

    assert error(0.5, 400) / error(0.25, 800) == pytest.approx(4.0, rel=0.05)


def test_velocity_verlet_keeps_linear_and_angular_momentum() -> None:
    system, state = waters(4, INTEGRATORS["nve"], Waters())
    state = advance(INTEGRATORS["nve"], system, state, Waters(), 500)
    angular = torch.linalg.cross(state.positions, state.momenta)
    assert sum_over_atoms(state.momenta, system.systems).abs().max() < 1e-12
    assert sum_over_atoms(angular, system.systems).abs().max() < 1e-11


def test_replicas_do_not_know_of_each_other() -> None:
    system, state = waters(3, INTEGRATORS["nve"], Waters())
    together = advance(INTEGRATORS["nve"], system, state, Waters(), 50)
    single, _ = waters(1, INTEGRATORS["nve"], Waters())
    alone = initial_state(
        Waters(),
        positions=state.positions[3:6],
        momenta=state.momenta[3:6],
        generator=torch.Generator(),
    )
    alone = advance(INTEGRATORS["nve"], single, alone, Waters(), 50)
    torch.testing.assert_close(
        together.positions[3:6], alone.positions, atol=1e-13, rtol=0.0
    )


@pytest.mark.parametrize("name", ["langevin", "bussi"])
def test_the_same_state_always_gives_the_same_next_one(name: str) -> None:
    system, state = waters(3, INTEGRATORS[name], Waters())
    outside = torch.get_rng_state()
    once = advance(INTEGRATORS[name], system, state, Waters(), 5)
    torch.randn(17)
    torch.set_rng_state(outside)
    again = advance(INTEGRATORS[name], system, state, Waters(), 5)
    assert torch.equal(once.positions, again.positions)
    assert torch.equal(once.momenta, again.momenta)
    assert torch.equal(once.generator_state, again.generator_state)
    assert torch.equal(outside, torch.get_rng_state())
    assert not torch.equal(once.generator_state, state.generator_state)


@pytest.mark.parametrize("name", sorted(INTEGRATORS))
def test_a_step_leaves_its_state_as_it_was(name: str) -> None:
    system, state = waters(2, INTEGRATORS[name], Waters())
    tensors = (state.positions, state.momenta, state.heat, state.generator_state)
    copies = [tensor.clone() for tensor in tensors]
    INTEGRATORS[name](system, state, Waters())
    assert all(map(torch.equal, tensors, copies))
    assert state.step == 0


def test_bussi_removes_rigid_motion_before_it_can_grow() -> None:
    integrator = INTEGRATORS["bussi"]
    system, state = waters(2, integrator, Waters())
    drifting = state.momenta + 0.1 * system.masses[:, None]
    state = replace(state, momenta=drifting)
    before = advance(integrator, system, state, Waters(), 99)
    assert sum_over_atoms(before.momenta, system.systems).abs().min() > 0.1
    after = integrator(system, before, Waters())
    assert sum_over_atoms(after.momenta, system.systems).abs().max() < 1e-13
    lost = total(system, before) - before.heat - total(system, after) + after.heat
    assert lost.abs().max() < 0.01  # of about 0.1 eV that the removal takes
    everything = replace(system, free="all")
    after = integrator(everything, before, Waters())
    assert sum_over_atoms(after.momenta, system.systems).abs().min() > 0.1


@pytest.mark.parametrize("name", ["langevin", "bussi"])
def test_total_energy_less_heat_is_conserved(name: str) -> None:
    integrator = replace(INTEGRATORS[name], timestep_fs=0.1)  # type: ignore[type-var]
    system, first = waters(30, integrator, Waters())
    state = advance(integrator, system, first, Waters(), 800)
    change = total(system, state) - total(system, first)
    assert float(change.std()) > 0.01
    torch.testing.assert_close(state.heat, change, atol=1e-3, rtol=0.0)


def test_a_system_at_rest_stays_at_rest_without_nan() -> None:
    system, positions = atoms_alone(2, mass=1.0)
    still = initial_state(
        Wells(k=1.0),
        positions=positions,
        momenta=torch.zeros_like(positions),
        generator=torch.Generator(),
    )
    state = INTEGRATORS["bussi"](system, still, Wells(k=1.0))
    assert state.momenta.abs().max() == 0.0
    assert state.heat.tolist() == [0.0, 0.0]


def test_the_classes_pass_on_femtoseconds_and_kelvin() -> None:
    system, state = waters(2, INTEGRATORS["langevin"], Waters())
    h = 1.0 * FEMTOSECOND
    by_hand = langevin_step(
        system, state, Waters(), h, thermal_energy=KT, friction=0.01 / FEMTOSECOND
    )
    made = INTEGRATORS["langevin"](system, state, Waters())
    assert torch.equal(made.momenta, by_hand.momenta)
    by_hand = bussi_step(
        system, state, Waters(), h, thermal_energy=KT, relaxation=50.0 * FEMTOSECOND
    )
    made = INTEGRATORS["bussi"](system, state, Waters())
    assert torch.equal(made.momenta, by_hand.momenta)
    made = INTEGRATORS["nve"](system, state, Waters())
    assert torch.equal(made.momenta, nve_step(system, state, Waters(), h).momenta)


def test_descriptions_are_json_and_name_every_parameter() -> None:
    for name, integrator in INTEGRATORS.items():
        description = json.loads(json.dumps(integrator.describe()))
        assert description["integrator"] == name
        assert description["ensemble"] == ("nve" if name == "nve" else "nvt")
        assert description["timestep_fs"] == 1.0
    assert INTEGRATORS["langevin"].describe()["friction_per_fs"] == 0.01
    assert INTEGRATORS["bussi"].describe()["relaxation_fs"] == 50.0


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_parameters_that_are_not_positive_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"timestep_fs is .* positive, finite"):
        NVE(timestep_fs=wrong)
    with pytest.raises(ValueError, match="friction_per_fs is"):
        Langevin(timestep_fs=1.0, temperature=300.0, friction_per_fs=wrong)
    with pytest.raises(ValueError, match="temperature is"):
        Bussi(timestep_fs=1.0, temperature=wrong, relaxation_fs=100.0)


@pytest.mark.slow
def test_rounding_never_grows_into_rigid_motion_under_bussi() -> None:
    integrator = Bussi(timestep_fs=0.5, temperature=KELVIN, relaxation_fs=0.5)
    system, state = waters(20, integrator, Waters())
    state = advance(integrator, system, state, Waters(), 12_000)
    assert sum_over_atoms(state.momenta, system.systems).abs().max() < 1e-10
