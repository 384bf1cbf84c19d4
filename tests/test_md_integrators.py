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
    atoms_alone,
    double,
    waters,
)
from scipy import stats
from torch import Tensor

from molpool_calc.md.integrators import (
    NVE,
    Bussi,
    Integrator,
    Langevin,
    bussi_step,
    langevin_step,
    nve_step,
)
from molpool_calc.md.state import (
    ForceField,
    MDState,
    MDSystem,
    initial_state,
    kinetic_energy,
    make_system,
    maxwell_boltzmann_momenta,
    remove_rigid_motion,
    sum_over_atoms,
    temperature,
)
from molpool_calc.segments import segments_from_sizes
from molpool_calc.units import BOLTZMANN, FEMTOSECOND

KELVIN = 300.0
KT = BOLTZMANN * KELVIN


def start(
    system: MDSystem, positions: Tensor, force_field: ForceField, *, seed: int
) -> MDState:
    generator = torch.Generator().manual_seed(seed)
    momenta = maxwell_boltzmann_momenta(system, KELVIN, generator)
    return initial_state(
        force_field, positions=positions, momenta=momenta, generator=generator
    )


def advance(
    integrator: Integrator,
    system: MDSystem,
    state: MDState,
    force_field: ForceField,
    n: int,
) -> MDState:
    for _ in range(n):
        state = integrator(system, state, force_field)
    return state


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
    state = advance(integrator, system, first, Clusters(7), 200)
    state = replace(state, momenta=-state.momenta)
    state = advance(integrator, system, state, Clusters(7), 200)
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


@pytest.mark.parametrize("friction_per_fs", [0.02, 0.2])
def test_baoab_samples_a_harmonic_well_as_theory_says(friction_per_fs: float) -> None:
    # Leimkuhler & Matthews 2013: positions exact, momenta by 1 - (ωh/2)²; here ωh = 1
    timestep_fs, mass = 2.0, 5.0
    omega = 1.0 / (timestep_fs * FEMTOSECOND)
    field = Wells(k=mass * omega**2)
    system, positions = atoms_alone(4000, mass)
    integrator = Langevin(
        timestep_fs=timestep_fs, temperature=KELVIN, friction_per_fs=friction_per_fs
    )
    state = start(system, positions, field, seed=8)
    state = advance(integrator, system, state, field, 300)
    x = state.positions.flatten() / (KT / field.k) ** 0.5
    p = state.momenta.flatten() / (mass * KT * 0.75) ** 0.5
    assert stats.kstest(x, "norm").pvalue > 0.01
    assert stats.kstest(p, "norm").pvalue > 0.01
    assert float(x.var()) == pytest.approx(1.0, abs=0.05)
    assert float(p.var()) == pytest.approx(1.0, abs=0.05)
    assert abs(float((x * p).mean())) < 0.04


def test_langevin_forgets_momentum_at_the_rate_of_its_friction() -> None:
    system, positions = atoms_alone(3000, mass=2.0)
    field = Wells(k=0.0)
    integrator = Langevin(timestep_fs=0.5, temperature=KELVIN, friction_per_fs=0.01)
    first = start(system, positions, field, seed=9)
    state = advance(integrator, system, first, field, 100)
    correlation = (first.momenta * state.momenta).sum() / first.momenta.square().sum()
    assert float(correlation) == pytest.approx(np.exp(-0.5), abs=0.03)


def potential_energies(field: Wells) -> tuple[np.ndarray, np.ndarray]:
    """Grid values of the potential in a box, and their canonical weights."""
    axis = torch.linspace(-1.2, 1.2, 121, dtype=torch.float64)
    energies = field(torch.cartesian_prod(axis, axis, axis)).energy
    return energies.numpy(), torch.exp(-energies / KT).numpy()


def check_canonical(field: Wells, system: MDSystem, states: list[MDState]) -> None:
    """Kolmogorov-Smirnov tests of kinetic and potential energy, and the virial."""
    kinetic = torch.cat([kinetic_energy(system, s.momenta) for s in states]) / KT
    assert stats.kstest(kinetic, stats.gamma(1.5).cdf).pvalue > 0.01
    energies, weights = potential_energies(field)
    order = np.argsort(energies)
    cumulative = np.cumsum(weights[order]) / weights.sum()
    sampled = torch.cat([s.response.energy for s in states]).numpy()
    cdf = np.interp(np.sort(sampled), energies[order], cumulative)
    assert stats.kstest(cdf, "uniform").pvalue > 0.01
    mean = (energies * weights).sum() / weights.sum()
    error = sampled.std() / len(sampled) ** 0.5
    assert sampled.mean() == pytest.approx(mean, abs=4.0 * error)
    virial = torch.cat([-s.positions * s.response.forces for s in states]).mean(0)
    torch.testing.assert_close(virial / KT, torch.ones_like(virial), atol=0.1, rtol=0.0)


def test_langevin_samples_an_anharmonic_well() -> None:
    field = Wells(k=0.1, a=0.5, b=2.0)
    system, positions = atoms_alone(1500, mass=2.0)
    integrator = Langevin(timestep_fs=0.5, temperature=KELVIN, friction_per_fs=0.05)
    state = start(system, positions, field, seed=10)
    check_canonical(field, system, [advance(integrator, system, state, field, 300)])


def test_bussi_samples_an_anharmonic_well_from_a_cold_start() -> None:
    field = Wells(k=0.1, a=0.5, b=2.0)
    system, positions = atoms_alone(1500, mass=2.0)
    integrator = Bussi(timestep_fs=0.5, temperature=KELVIN, relaxation_fs=20.0)
    first = start(system, positions, field, seed=11)
    first = replace(first, momenta=0.2 * first.momenta)
    check_canonical(field, system, [advance(integrator, system, first, field, 700)])


def rescaled(freedom: float, kept: float, first: Tensor) -> tuple[MDSystem, Tensor]:
    """Momenta of many free atoms that began with the same one, after one step."""
    field = Wells(k=0.0)
    system, positions = atoms_alone(4000, mass=3.0)
    count = torch.full((4000,), freedom, dtype=torch.float64)
    state = initial_state(
        field,
        positions=positions,
        momenta=first.expand(4000, 3),
        generator=torch.Generator().manual_seed(12),
    )
    following = bussi_step(
        replace(system, degrees_of_freedom=count),
        state,
        field,
        1.0,
        thermal_energy=KT,
        relaxation=-1.0 / float(np.log(kept)),
    )
    return system, following.momenta


@pytest.mark.parametrize("kept", [0.9, 0.3])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_rescaling_follows_the_exact_law_of_the_kinetic_energy(
    kept: float, scale: float
) -> None:
    # Eq. A7 solves a square-root diffusion: its law is a noncentral chi-square
    first = double([0.1, -0.2, 0.3]) * scale
    system, momenta = rescaled(3.0, kept, first)
    before = float(first.square().sum()) / 6.0
    unit = 0.5 * KT * (1.0 - kept)
    law = stats.ncx2(df=3, nc=kept * before / unit)
    sampled = kinetic_energy(system, momenta) / unit
    assert stats.kstest(sampled, law.cdf).pvalue > 0.01


def test_rescaling_one_degree_of_freedom_is_an_ornstein_uhlenbeck_process() -> None:
    first = double([0.1, 0.0, 0.0])
    _, momenta = rescaled(1.0, 0.5, first)
    spread = (0.5 * 3.0 * KT) ** 0.5
    normal = (momenta[:, 0] - 0.5**0.5 * first[0]) / spread
    assert stats.kstest(normal, "norm").pvalue > 0.01
    assert momenta[:, 1:].abs().max() == 0.0


def test_bussi_keeps_momenta_at_zero_and_the_temperature_at_its_target() -> None:
    integrator = Bussi(timestep_fs=0.5, temperature=KELVIN, relaxation_fs=10.0)
    system, state = waters(400, integrator, Waters())
    state = replace(state, momenta=0.1 * state.momenta)
    state = advance(integrator, system, state, Waters(), 400)
    angular = torch.linalg.cross(state.positions, state.momenta)
    assert sum_over_atoms(state.momenta, system.systems).abs().max() < 1e-10
    assert sum_over_atoms(angular, system.systems).abs().max() < 1e-9
    thermal = kinetic_energy(system, state.momenta) / KT
    assert stats.kstest(thermal, stats.gamma(1.5).cdf).pvalue > 0.01
    assert temperature(system, state.momenta).mean() == pytest.approx(KELVIN, rel=0.12)


def test_bussi_removes_rigid_motion_before_it_can_grow() -> None:
    integrator = INTEGRATORS["bussi"]
    system, state = waters(2, integrator, Waters())
    state = replace(state, momenta=state.momenta + 1e-3)
    before = advance(integrator, system, state, Waters(), 99)
    assert sum_over_atoms(before.momenta, system.systems).abs().min() > 1e-4
    after = integrator(system, before, Waters())
    assert sum_over_atoms(after.momenta, system.systems).abs().max() < 1e-14
    everything = replace(system, free="all")
    after = integrator(everything, before, Waters())
    assert sum_over_atoms(after.momenta, system.systems).abs().min() > 1e-4


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
@pytest.mark.parametrize("name", ["langevin", "bussi"])
def test_long_runs_sample_an_anharmonic_well(name: str) -> None:
    field = Wells(k=0.1, a=0.5, b=2.0)
    system, positions = atoms_alone(3000, mass=2.0)
    integrator = replace(INTEGRATORS[name], timestep_fs=0.25)  # type: ignore[type-var]
    state, states = start(system, positions, field, seed=13), []
    for _ in range(10):
        state = advance(integrator, system, state, field, 2000)
        states.append(state)
    check_canonical(field, system, states)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["langevin", "bussi"])
def test_long_runs_of_water_are_equipartitioned(name: str) -> None:
    integrator = replace(INTEGRATORS[name], timestep_fs=0.25)  # type: ignore[type-var]
    system, state = waters(500, integrator, Waters())
    means = []
    for _ in range(40):
        state = advance(integrator, system, state, Waters(), 400)
        means.append(temperature(system, state.momenta).mean())
    assert float(torch.stack(means[10:]).mean()) == pytest.approx(KELVIN, rel=0.02)


@pytest.mark.slow
def test_rounding_never_grows_into_rigid_motion_under_bussi() -> None:
    integrator = Bussi(timestep_fs=0.5, temperature=KELVIN, relaxation_fs=0.5)
    system, state = waters(20, integrator, Waters())
    state = advance(integrator, system, state, Waters(), 12_000)
    assert sum_over_atoms(state.momenta, system.systems).abs().max() < 1e-10
