"""Analytic force fields of periodic systems, and what they do at constant pressure."""

from dataclasses import dataclass

import torch
from torch import Tensor

from molpool_calc.md.cell import CellForceField, in_moving_cell
from molpool_calc.md.cell_rescaling import Barostat, CellRescaling
from molpool_calc.md.integrators import Bussi, Langevin
from molpool_calc.md.nose_hoover import NoseHoover
from molpool_calc.md.state import (
    MDState,
    MDSystem,
    Response,
    initial_state,
    make_system,
    maxwell_boltzmann_momenta,
    remove_rigid_motion,
)
from molpool_calc.segments import segments_from_sizes

CPU = torch.device("cpu")
KELVIN = 300.0


def thermostat(name: str, timestep_fs: float = 2.0) -> Langevin | Bussi | NoseHoover:
    if name == "langevin":
        return Langevin(
            timestep_fs=timestep_fs, temperature=KELVIN, friction_per_fs=0.02
        )
    kind = Bussi if name == "bussi" else NoseHoover
    return kind(timestep_fs=timestep_fs, temperature=KELVIN, relaxation_fs=50.0)


def rescaling(
    name: str,
    barostat: Barostat = "isotropic",
    *,
    pressure_bar: float,
    relaxation_fs: float = 500.0,
    timestep_fs: float = 2.0,
    every: int = 10,
) -> CellRescaling:
    """A barostat for a gas, whose compressibility is 1/P."""
    return CellRescaling(
        thermostat=thermostat(name, timestep_fs),
        barostat=barostat,
        pressure_bar=pressure_bar,
        relaxation_fs=relaxation_fs,
        compressibility_per_bar=1.0 / pressure_bar,
        every=every,
    )


@dataclass(frozen=True)
class IdealGas:
    """Atoms that do not meet, in a cell whose shape may be held by a spring.

    The energy is A/2 (tr(C Cᵀ)/V^{2/3} - 3) for the cell C, without a minimum in V.
    """

    cells: Tensor
    spring: float = 0.0

    def __call__(self, positions: Tensor) -> Response:
        return self.in_cell(positions, self.cells)

    def in_cell(self, positions: Tensor, cell: Tensor) -> Response:
        volume = torch.linalg.det(cell).abs()[:, None, None]
        metric = cell.transpose(1, 2) @ cell / volume ** (2.0 / 3.0)
        third = metric.diagonal(dim1=1, dim2=2).mean(1)
        unit = torch.eye(3, dtype=torch.float64)
        return Response(
            energy=1.5 * self.spring * (third - 1.0),
            forces=torch.zeros_like(positions),
            dipole=None,
            stress=self.spring * (metric - third[:, None, None] * unit) / volume,
        )


@dataclass(frozen=True)
class SoftSpheres:
    """ε (1 - r²/R²)² between nearest images of ``n_atoms`` atoms; cells above 2R."""

    cells: Tensor
    n_atoms: int
    epsilon: float = 0.05
    radius: float = 4.0

    def __call__(self, positions: Tensor) -> Response:
        return self.in_cell(positions, self.cells)

    def in_cell(self, positions: Tensor, cell: Tensor) -> Response:
        first, second = torch.triu_indices(self.n_atoms, self.n_atoms, 1)
        unit = torch.eye(self.n_atoms, dtype=torch.float64)
        signs = unit[first] - unit[second]  # a row for each pair
        vectors = signs @ positions.view(-1, self.n_atoms, 3)
        counts = vectors @ torch.linalg.inv(cell)
        vectors = vectors - counts.round() @ cell
        square = vectors.square().sum(2)
        inside = (1.0 - square / self.radius**2).clamp_min(0.0)
        push = 4.0 * self.epsilon / self.radius**2 * inside
        pairs = push[..., None] * vectors
        virial = pairs.transpose(1, 2) @ vectors
        return Response(
            energy=self.epsilon * inside.square().sum(1),
            forces=(signs.T @ pairs).reshape(-1, 3),
            dipole=None,
            stress=-virial / torch.linalg.det(cell).abs()[:, None, None],
        )


def cubes(n_systems: int, length: float) -> Tensor:
    return (length * torch.eye(3, dtype=torch.float64)).repeat(n_systems, 1, 1)


def gas(
    integrator: CellRescaling, field: CellForceField, cells: Tensor, n_atoms: int
) -> tuple[MDSystem, MDState]:
    """Atoms at random places of their cells, with thermal momenta."""
    n = len(cells)
    generator = torch.Generator().manual_seed(3)
    counts = torch.rand((n, n_atoms, 3), generator=generator, dtype=torch.float64)
    positions = (counts @ cells).reshape(-1, 3)
    system = make_system(
        atomic_numbers=torch.full((n * n_atoms,), 18),
        masses=torch.full((n * n_atoms,), 20.0, dtype=torch.float64),
        positions=positions,
        systems=segments_from_sizes([n_atoms] * n, CPU),
        free=integrator.free,
        cell=cells,
        pbc=torch.ones((n, 3), dtype=torch.bool),
    )
    momenta = maxwell_boltzmann_momenta(system, KELVIN, generator)
    if integrator.free == "internal":
        momenta = remove_rigid_motion(system, positions, momenta)
    state = initial_state(
        field, positions=positions, momenta=momenta, generator=generator
    )
    return system, in_moving_cell(system, state, field)
