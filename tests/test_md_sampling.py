from dataclasses import replace

import numpy as np
import pytest
import torch
from md_models import (
    Waters,
    Wells,
    advance,
    atoms_alone,
    double,
    start,
    waters,
)
from scipy import stats
from torch import Tensor

from molpool_calc.md.integrators import (
    Bussi,
    Integrator,
    Langevin,
    bussi_step,
)
from molpool_calc.md.nose_hoover import NoseHoover
from molpool_calc.md.state import (
    MDState,
    MDSystem,
    initial_state,
    kinetic_energy,
    remove_rigid_motion,
    sum_over_atoms,
    temperature,
)
from molpool_calc.units import BOLTZMANN, FEMTOSECOND

KELVIN = 300.0
KT = BOLTZMANN * KELVIN


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


def test_a_nose_hoover_chain_samples_an_anharmonic_well() -> None:
    field = Wells(k=0.1, a=0.5, b=2.0)
    system, positions = atoms_alone(1500, mass=2.0)
    integrator = NoseHoover(timestep_fs=2.0, temperature=KELVIN, relaxation_fs=20.0)
    state = start(system, positions, field, seed=10)
    check_canonical(field, system, [advance(integrator, system, state, field, 150)])


def shares_of_atoms(system: MDSystem, positions: Tensor) -> Tensor:
    """2<K>/k_B T of each atom: the trace of its block of the projector on free motion.

    Momenta over sqrt(m) are Gaussians of one width in the space that
    remove_rigid_motion projects on; here it is made of six vectors and a QR.
    """
    root = system.masses[:3].sqrt().numpy()
    x = positions[:3].numpy() - np.average(positions[:3], axis=0, weights=root**2)
    rigid = [np.outer(root, axis).ravel() for axis in np.eye(3)]
    rigid += [(root[:, None] * np.cross(axis, x)).ravel() for axis in np.eye(3)]
    frame, _ = np.linalg.qr(np.array(rigid).T)
    return torch.tensor(3.0 - np.square(frame).reshape(3, 3, 6).sum((1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bussi", "nose-hoover"])
def test_each_atom_of_a_molecule_has_its_share_of_the_kinetic_energy(
    name: str,
) -> None:
    system, state = waters(1000, TIGHT[name], Waters())
    state = advance(TIGHT["langevin"], system, state, Waters(), 400)
    free = remove_rigid_motion(system, state.positions, state.momenta)
    state, sums = replace(state, momenta=free), torch.zeros(3, dtype=torch.float64)
    for _ in range(40):
        state = advance(TIGHT[name], system, state, Waters(), 50)
        twice = (state.momenta.square().sum(1) / system.masses).view(-1, 3)
        sums += twice.mean(0) / KT / 40
    expected = shares_of_atoms(system, waters(1, TIGHT[name], Waters())[1].positions)
    assert float(expected.sum()) == pytest.approx(3.0)
    # a molecule bends and stretches by a few per cent, which changes the shares
    torch.testing.assert_close(sums, expected, rtol=0.06, atol=0.03)


TIGHT: dict[str, Integrator] = {
    "langevin": Langevin(timestep_fs=0.5, temperature=KELVIN, friction_per_fs=0.05),
    "bussi": Bussi(timestep_fs=0.5, temperature=KELVIN, relaxation_fs=20.0),
    "nose-hoover": NoseHoover(timestep_fs=0.5, temperature=KELVIN, relaxation_fs=20.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TIGHT))
def test_the_canonical_distribution_stays_as_it_is(name: str) -> None:
    # A global thermostat need not be ergodic in so symmetric a well, hence this start
    field = Wells(k=0.1, a=0.5, b=2.0)
    generator = torch.Generator().manual_seed(13)
    tried = 2.4 * torch.rand((1_500_000, 3), generator=generator).double() - 1.2
    chance = torch.rand(len(tried), generator=generator)
    positions = tried[chance < torch.exp(-field(tried).energy / KT)][:20_000]
    system, _ = atoms_alone(20_000, mass=2.0)
    state = start(system, positions, field, seed=13)
    state = advance(TIGHT[name], system, state, field, 1500)
    check_canonical(field, system, [state])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TIGHT))
def test_long_runs_of_water_are_equipartitioned(name: str) -> None:
    system, state = waters(1000, TIGHT[name], Waters())
    means = []
    for _ in range(25):
        state = advance(TIGHT[name], system, state, Waters(), 200)
        means.append(temperature(system, state.momenta).mean())
    # 20 means of 3000 or 9000 degrees of freedom: a standard error of at most 1.7 K
    assert float(torch.stack(means[5:]).mean()) == pytest.approx(KELVIN, abs=7.0)
