"""Constant pressure: the exact laws of gases, and an independent Monte Carlo."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from md_models import Waters, advance, waters
from md_periodic_models import (
    KELVIN,
    IdealGas,
    SoftSpheres,
    cubes,
    gas,
    rescaling,
    thermostat,
)
from scipy import stats
from torch import Tensor

from molpool_calc.md.cell import (
    CellForceField,
    cell_and_stress,
    in_moving_cell,
    kinetic_stress,
    pressure,
    volume,
)
from molpool_calc.md.cell_rescaling import Barostat, CellRescaling
from molpool_calc.md.state import (
    MDState,
    MDSystem,
    Response,
    kinetic_energy,
    sum_over_atoms,
)
from molpool_calc.units import BAR, BOLTZMANN

KT = BOLTZMANN * KELVIN
PAIRS: tuple[tuple[str, Barostat], ...] = (
    ("langevin", "flexible"),
    ("bussi", "flexible"),
    ("nose-hoover", "isotropic"),
)
P_BAR = 50.0
N_ATOMS = 10
MEAN = (N_ATOMS + 1) * KT / (P_BAR * BAR)


def cells_of(state: MDState) -> Tensor:
    return cell_and_stress(state)[0]


def conserved(system: MDSystem, state: MDState) -> Tensor:
    return state.response.energy + kinetic_energy(system, state.momenta) - state.heat


def anisotropy(cells: Tensor) -> Tensor:
    """tr(C Cᵀ)/V^{2/3}, which is 3 for a cube."""
    return cells.square().sum((1, 2)) / volume(cells) ** (2.0 / 3.0)


def strained(cells: Tensor, positions: Tensor, strain: Tensor) -> tuple[Tensor, Tensor]:
    grown = torch.eye(3, dtype=torch.float64) + strain
    return positions @ grown, cells @ grown


@pytest.mark.parametrize("field", [IdealGas, SoftSpheres])
def test_the_models_have_the_stress_of_their_energy(field: type) -> None:
    cells = cubes(2, 9.0)
    cells[1] += 0.4 * torch.randn((3, 3), generator=torch.Generator().manual_seed(1))
    model = field(cells, 0.3) if field is IdealGas else field(cells, 6)
    integrator = rescaling("langevin", pressure_bar=P_BAR)
    _, state = gas(integrator, model, cells, 6)
    assert state.response.stress is not None
    for row in range(3):
        for column in range(3):
            strain = torch.zeros((3, 3), dtype=torch.float64)
            strain[row, column] = strain[column, row] = 1e-5
            up, down = (
                model.in_cell(*strained(cells, state.positions, sign * strain)).energy
                for sign in (1.0, -1.0)
            )
            slope = (up - down) / 2e-5 / volume(cells)
            both = state.response.stress[:, row, column] * (2 - (row == column))
            torch.testing.assert_close(slope, both, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "barostat"),
    [
        ("langevin", "isotropic"),
        ("bussi", "flexible"),
        pytest.param("langevin", "flexible", marks=pytest.mark.slow),
        pytest.param("nose-hoover", "isotropic", marks=pytest.mark.slow),
    ],
)
def test_an_ideal_gas_has_the_exact_law_of_its_volume(
    name: str, barostat: Barostat
) -> None:
    # p(V) ∝ V^N exp(-PV/k_B T): a gamma distribution of shape N + 1
    integrator = rescaling(
        name,
        barostat,
        pressure_bar=P_BAR,
        relaxation_fs=200.0,
        timestep_fs=5.0,
        every=2,
    )
    cells = cubes(1000, (0.8 * MEAN) ** (1.0 / 3.0))
    field = IdealGas(cells)
    system, state = gas(integrator, field, cells, N_ATOMS)
    state = advance(integrator, system, state, field, 200)
    volumes = volume(cells_of(state)) / MEAN
    law = stats.gamma(N_ATOMS + 1, scale=1.0 / (N_ATOMS + 1))
    assert stats.kstest(volumes.numpy(), law.cdf).pvalue > 0.01
    # standard errors 0.01 of the mean, which is that of V^{N-1} at 0.91, and 0.05
    assert float(volumes.mean()) == pytest.approx(1.0, abs=0.03)
    assert float(volumes.var()) * (N_ATOMS + 1) == pytest.approx(1.0, abs=0.17)
    thermal = kinetic_energy(system, state.momenta) / KT
    freedom = float(system.degrees_of_freedom[0])
    assert freedom == (30.0 if name == "langevin" else 27.0)
    assert stats.kstest(thermal, stats.gamma(0.5 * freedom).cdf).pvalue > 0.01


def exact_anisotropy(spring: float) -> float:
    """<tr(C Cᵀ)> of unit cells by quadrature, rotations integrated out.

    The invariant measure of C = K exp(a) K' is dK Π sinh|a_i - a_j| da dK' with
    a_1 + a_2 + a_3 = 0.
    """
    axis = np.linspace(-2.5, 2.5, 501)
    first, second = np.meshgrid(axis, axis)
    third = -first - second
    measure = np.sinh(first - second) * np.sinh(second - third)
    measure = np.abs(measure * np.sinh(third - first))
    trace = np.exp(2 * first) + np.exp(2 * second) + np.exp(2 * third)
    weights = measure * np.exp(-0.5 * spring * (trace - 3.0))
    return float((weights * trace).sum() / weights.sum())


def test_a_flexible_cell_has_the_exact_law_of_its_shape() -> None:
    # Under Langevin dynamics: a global thermostat never turns momenta of free atoms
    integrator = rescaling(
        "langevin",
        "flexible",
        pressure_bar=P_BAR,
        relaxation_fs=100.0,
        timestep_fs=5.0,
        every=2,
    )
    cells = cubes(1500, MEAN ** (1.0 / 3.0))
    field = IdealGas(cells, spring=4.0 * KT)
    system, state = gas(integrator, field, cells, N_ATOMS)
    state = advance(integrator, system, state, field, 120)
    samples = []
    for _ in range(4):
        state = advance(integrator, system, state, field, 30)
        samples.append(anisotropy(cells_of(state)))
    found = torch.cat(samples)
    error = float(torch.stack([s.mean() for s in samples]).std()) + float(
        found.std() / 1500**0.5
    )
    assert float(found.mean()) == pytest.approx(exact_anisotropy(4.0), abs=3.0 * error)
    assert error < 0.05
    metric = (cells_of(state).transpose(1, 2) @ cells_of(state)).mean(0)
    scale = metric.diagonal().mean()
    off = metric - scale * torch.eye(3, dtype=torch.float64)
    assert float(off.abs().max() / scale) < 0.05  # no direction is preferred


def test_the_shape_of_an_isotropic_cell_stays_as_it_is() -> None:
    integrator = rescaling("langevin", "isotropic", pressure_bar=P_BAR)
    cells = cubes(3, MEAN ** (1.0 / 3.0))
    cells[:, 0, 1] += 2.0
    field = IdealGas(cells)
    system, state = gas(integrator, field, cells, N_ATOMS)
    state = advance(integrator, system, state, field, 60)
    moved = cells_of(state)
    ratio = moved[:, 0, 0] / cells[:, 0, 0]
    torch.testing.assert_close(moved, cells * ratio[:, None, None])
    assert (ratio - 1.0).abs().min() > 1e-4


@dataclass(frozen=True)
class Sampled:
    """What Monte Carlo visited, and where it ended."""

    volumes: Tensor
    anisotropies: Tensor
    positions: Tensor
    cells: Tensor


def monte_carlo(
    field: SoftSpheres, spring: float, pressure: float, n_sweeps: int
) -> Sampled:
    """An independent NPT Monte Carlo, from energies alone.

    Moves: one atom; the logarithm of the volume, weighed by V^{N+1}; and a symmetric
    traceless strain, of the invariant measure (all Metropolis 1953).
    """
    n, n_atoms, generator = len(field.cells), field.n_atoms, torch.Generator()
    generator.manual_seed(17)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5

    def energy(counts: Tensor, cells: Tensor) -> Tensor:
        positions = (counts @ cells).reshape(-1, 3)
        shape = 0.5 * spring * (anisotropy(cells) - 3.0)
        return field.in_cell(positions, cells).energy + shape

    counts, cells = random(n, n_atoms, 3), field.cells
    now = energy(counts, cells)
    kept: list[Tensor] = []
    for sweep in range(n_sweeps):
        for move in range(n_atoms + 2):
            new_counts, new_cells = counts.clone(), cells
            if move < n_atoms:
                new_counts[:, move] += 0.6 * random(n, 3)
            elif move == n_atoms:
                new_cells = cells * torch.exp(0.2 * random(n, 1, 1))
            else:
                strain = 2.5 * (KT / spring) ** 0.5 * random(n, 3, 3)
                strain = 0.5 * (strain + strain.transpose(1, 2))
                third = strain.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
                strain = strain - third * torch.eye(3, dtype=torch.float64)
                new_cells = cells @ torch.linalg.matrix_exp(strain)
            new = energy(new_counts, new_cells)
            before, after = volume(cells), volume(new_cells)
            chance = -(new - now + pressure * (after - before)) / KT
            chance = chance + (n_atoms + 1) * torch.log(after / before)
            yes = torch.log(random(n) + 0.5) < chance
            now = torch.where(yes, new, now)
            counts = torch.where(yes[:, None, None], new_counts, counts)
            cells = torch.where(yes[:, None, None], new_cells, cells)
        if sweep >= n_sweeps // 3:
            kept.append(cells)
    assert min(float(thickness(cells).min()) for cells in kept) > 2.0 * field.radius
    return Sampled(
        volumes=torch.stack([volume(cells) for cells in kept]),
        anisotropies=torch.stack([anisotropy(cells) for cells in kept]),
        positions=(counts @ cells).reshape(-1, 3),
        cells=cells,
    )


def thickness(cells: Tensor) -> Tensor:
    """The smallest distance of two faces; above 2R no second image is met."""
    return 1.0 / torch.linalg.inv(cells).norm(dim=1).amax(1)


class HeldSpheres:
    """Soft spheres in a cell whose shape is held by the spring of `IdealGas`."""

    def __init__(self, spheres: SoftSpheres, spring: float) -> None:
        self._spheres, self._box = spheres, IdealGas(spheres.cells, spring)

    def __call__(self, positions: Tensor) -> Response:
        return self.in_cell(positions, self._spheres.cells)

    def in_cell(self, positions: Tensor, cell: Tensor) -> Response:
        one = self._spheres.in_cell(positions, cell)
        two = self._box.in_cell(positions, cell)
        assert one.stress is not None
        assert two.stress is not None
        return replace(
            one, energy=one.energy + two.energy, stress=one.stress + two.stress
        )


DENSE_BAR, DENSE_SPRING, DENSE_ATOMS = 800.0, 120.0 * KT, 16


@pytest.fixture(scope="module")
def dense() -> Sampled:
    spheres = SoftSpheres(cubes(100, 12.1), DENSE_ATOMS, epsilon=8.0 * KT)
    sampled = monte_carlo(spheres, DENSE_SPRING, DENSE_BAR * BAR, 450)
    ideal = (DENSE_ATOMS + 1) * KT / (DENSE_BAR * BAR)
    assert float(sampled.volumes.mean()) > 1.2 * ideal  # the spheres matter
    return sampled


@pytest.mark.slow
@pytest.mark.parametrize("name", ["langevin", "bussi", "nose-hoover"])
def test_a_dense_fluid_agrees_with_an_independent_monte_carlo(
    name: str, dense: Sampled
) -> None:
    # Where Monte Carlo ends there is nothing left to equilibrate: from random places
    # the volume takes 5 ps to come down, and reads 3 % too large after 2 ps
    spheres = SoftSpheres(dense.cells, DENSE_ATOMS, epsilon=8.0 * KT)
    integrator = replace(
        rescaling(
            name,
            "flexible",
            pressure_bar=DENSE_BAR,
            relaxation_fs=200.0,
            timestep_fs=4.0,
            every=1,
        ),
        compressibility_per_bar=0.5 / DENSE_BAR,
    )
    field = HeldSpheres(spheres, DENSE_SPRING)
    system, state = gas(integrator, field, dense.cells, DENSE_ATOMS)
    response = field(dense.positions)
    state = replace(state, positions=dense.positions, response=response)
    state = advance(integrator, system, state, field, 250)
    found = []
    for _ in range(60):
        state = advance(integrator, system, state, field, 50)
        cells = cells_of(state)
        assert float(thickness(cells).min()) > 2.0 * spheres.radius
        found.append((volume(cells), anisotropy(cells), pressure(system, state)))
    mine = torch.stack([v for v, _, _ in found])
    form = torch.stack([a for _, a, _ in found])
    mean, var, shape = float(mine.mean()), float(mine.var()), float(form.mean()) - 3.0
    expected = dense.volumes, dense.anisotropies
    # standard errors 0.4 %, 4 %, 2 % and 0.4 %, those of Monte Carlo included; a drift
    # that is off by k_B T/V moves mean and pressure by 2.3 % and 3.6 %
    assert mean == pytest.approx(float(expected[0].mean()), rel=0.015)
    assert var == pytest.approx(float(expected[0].var()), rel=0.12)
    assert shape == pytest.approx(float(expected[1].mean()) - 3.0, rel=0.06)
    mean = float(torch.stack([p for _, _, p in found]).mean()) / BAR
    assert mean == pytest.approx(DENSE_BAR, rel=0.013)


@pytest.mark.parametrize(("name", "barostat"), PAIRS)
def test_energy_less_heat_and_work_is_conserved(name: str, barostat: Barostat) -> None:
    cells = cubes(60, 11.0)
    field = SoftSpheres(cells, 8)
    integrator = rescaling(
        name,
        barostat,
        pressure_bar=400.0,
        relaxation_fs=200.0,
        timestep_fs=1.0,
        every=4,
    )
    system, first = gas(integrator, field, cells, 8)
    state = advance(integrator, system, first, field, 80)
    change = conserved(system, state) - conserved(system, first)
    work = 400.0 * BAR * (volume(cells_of(state)) - volume(cells))
    assert float(work.std()) > KT
    assert float(state.heat.std()) > KT
    assert float(change.std()) < 0.1 * KT


def test_momenta_stay_at_zero_and_replicas_are_on_their_own() -> None:
    integrator = rescaling("bussi", "flexible", pressure_bar=400.0)
    cells = cubes(3, 10.0)
    field = SoftSpheres(cells, 6)
    system, state = gas(integrator, field, cells, 6)
    state = advance(integrator, system, state, field, 40)
    assert sum_over_atoms(state.momenta, system.systems).abs().max() < 1e-11
    moved = cells_of(state)
    assert (moved[0] - moved[1]).abs().max() > 1e-3
    assert (moved - moved.transpose(1, 2)).abs().max() < 0.5  # no net rotation
    trace = kinetic_stress(system, state.momenta).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(trace, 2.0 * kinetic_energy(system, state.momenta))


def test_the_same_state_always_gives_the_same_next_one() -> None:
    integrator = rescaling("langevin", "flexible", pressure_bar=400.0)
    cells = cubes(2, 10.0)
    field = SoftSpheres(cells, 6)
    system, state = gas(integrator, field, cells, 6)
    copies = [state.positions.clone(), state.momenta.clone(), cells_of(state).clone()]
    once = advance(integrator, system, state, field, 12)
    again = advance(integrator, system, state, field, 12)
    assert torch.equal(once.positions, again.positions)
    assert torch.equal(cells_of(once), cells_of(again))
    assert torch.equal(once.generator_state, again.generator_state)
    mine = (state.positions, state.momenta, cells_of(state))
    assert all(map(torch.equal, mine, copies))


def test_the_pressure_of_an_ideal_gas_is_that_of_its_temperature() -> None:
    for name in ("langevin", "bussi"):
        integrator = rescaling(name, pressure_bar=P_BAR)
        cells = cubes(2000, MEAN ** (1.0 / 3.0))
        field = IdealGas(cells)
        system, state = gas(integrator, field, cells, N_ATOMS)
        expected = N_ATOMS * KT / MEAN / BAR
        found = float(pressure(system, state).mean()) / BAR
        assert found == pytest.approx(expected, rel=0.04)


def test_molecules_and_force_fields_without_stress_are_refused() -> None:
    langevin = thermostat("langevin")
    system, state = waters(1, langevin, Waters())
    with pytest.raises(ValueError, match="needs a structure that is periodic in all"):
        in_moving_cell(system, state, Waters())
    cells = cubes(1, 10.0)
    integrator = rescaling("langevin", pressure_bar=P_BAR)
    field = IdealGas(cells)
    system, state = gas(integrator, field, cells, 3)
    with pytest.raises(ValueError, match="gives no stress, which constant pressure"):
        in_moving_cell(system, state, Waters())
    slab = replace(system, pbc=torch.tensor([[True, True, False]]))
    with pytest.raises(ValueError, match="periodic in all three directions"):
        in_moving_cell(slab, state, field)
    with pytest.raises(ValueError, match="has no cell of its own"):
        integrator(system, replace(state, cell=None), field)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_parameters_that_make_no_sense_are_refused(wrong: float) -> None:
    good = rescaling("langevin", pressure_bar=P_BAR)
    with pytest.raises(ValueError, match="relaxation_fs of the barostat is"):
        replace(good, relaxation_fs=wrong)
    with pytest.raises(ValueError, match="compressibility_per_bar of the barostat is"):
        replace(good, compressibility_per_bar=wrong)
    with pytest.raises(ValueError, match="the pressure is nan bar"):
        replace(good, pressure_bar=float("nan"))


def test_the_description_names_thermostat_and_barostat() -> None:
    integrator = rescaling("bussi", "flexible", pressure_bar=P_BAR)
    description = json.loads(json.dumps(integrator.describe()))
    assert description == {
        "integrator": "cell-rescaling",
        "ensemble": "npt",
        "timestep_fs": 2.0,
        "temperature": 300.0,
        "relaxation_fs": 50.0,
        "thermostat": "bussi",
        "barostat": "flexible",
        "pressure_bar": 50.0,
        "barostat_relaxation_fs": 500.0,
        "compressibility_per_bar": 0.02,
        "barostat_every": 10,
    }
    assert isinstance(integrator, CellRescaling)
    assert isinstance(IdealGas(cubes(1, 1.0)), CellForceField)
