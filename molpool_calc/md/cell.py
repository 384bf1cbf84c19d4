"""Periodic systems whose cell moves: what their force fields and states offer."""

from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from molpool_calc.md.state import (
    ForceField,
    MDState,
    MDSystem,
    Response,
    sum_over_atoms,
    temperature,
)
from molpool_calc.units import BOLTZMANN


@runtime_checkable
class CellForceField(ForceField, Protocol):
    """A force field that also answers in other cells, with the stress."""

    def in_cell(
        self,
        positions: Float64[Tensor, "atoms 3"],
        cell: Float64[Tensor, "systems 3 3"],
    ) -> Response:
        """Return the response of the systems in these cells (rows, Å), with stress."""
        ...


def in_moving_cell(
    system: MDSystem, state: MDState, force_field: ForceField
) -> MDState:
    """Return the state with the cell of its system as part of it, and the stress.

    Raises:
        ValueError: If the systems are not periodic in all directions, or the force
            field gives no stress.
    """
    if system.cell is None or system.pbc is None or not bool(system.pbc.all()):
        raise ValueError(
            "constant pressure needs a structure that is periodic in all three "
            "directions; give one with a cell, or choose the ensemble nvt"
        )
    field = cell_force_field(force_field)
    response = field.in_cell(state.positions, system.cell)
    if response.stress is None:
        raise ValueError(_NO_STRESS)
    return replace(state, cell=system.cell, response=response)


_NO_STRESS = (
    "the force field gives no stress, which constant pressure needs; choose the "
    "ensemble nvt, or a potential with the pooling sum"
)


def cell_force_field(force_field: ForceField) -> CellForceField:
    """Return the force field as one that answers in other cells.

    Raises:
        ValueError: If it does not.
    """
    if not isinstance(force_field, CellForceField):
        raise ValueError(_NO_STRESS)
    return force_field


class FixedCell:
    """A force field at the cells of now, as steps at constant volume take it."""

    def __init__(
        self, force_field: CellForceField, cell: Float64[Tensor, "systems 3 3"]
    ) -> None:
        self._force_field, self._cell = force_field, cell

    def __call__(self, positions: Float64[Tensor, "atoms 3"]) -> Response:
        """Return the response at these positions."""
        return self._force_field.in_cell(positions, self._cell)


def cell_and_stress(
    state: MDState,
) -> tuple[Float64[Tensor, "systems 3 3"], Float64[Tensor, "systems 3 3"]]:
    """Return the cells that move with a state, and their stress.

    Raises:
        ValueError: If they do not; see `in_moving_cell`.
    """
    if state.cell is None or state.response.stress is None:
        raise ValueError(
            "the state has no cell of its own or no stress, which constant pressure "
            "needs; make it with in_moving_cell"
        )
    return state.cell, state.response.stress


def volume(cell: Float64[Tensor, "systems 3 3"]) -> Float64[Tensor, " systems"]:
    """Return the volume of each cell in Å³."""
    determinant: Float64[Tensor, " systems"] = torch.linalg.det(cell)
    return determinant.abs()


def kinetic_stress(
    system: MDSystem, momenta: Float64[Tensor, "atoms 3"]
) -> Float64[Tensor, "systems 3 3"]:
    """Return Σ p p/m of each system, in eV: its trace is twice the kinetic energy."""
    speeds = momenta / system.masses[:, None]
    return sum_over_atoms(momenta[:, :, None] * speeds[:, None, :], system.systems)


def pressure(system: MDSystem, state: MDState) -> Float64[Tensor, " systems"]:
    """Return N k_B T/V - tr(σ)/3 of each system in eV/Å³, σ being the stress.

    T is the temperature at this instant, of the motion that the system has: the
    centre of mass counts among the N atoms also where it is kept at rest.
    """
    cell, stress = cell_and_stress(state)
    counts = sum_over_atoms(torch.ones_like(system.masses), system.systems)
    ideal = counts * BOLTZMANN * temperature(system, state.momenta) / volume(cell)
    trace: Float64[Tensor, " systems"] = stress.diagonal(dim1=1, dim2=2).sum(1)
    return ideal - trace / 3.0


def cell_observables(
    system: MDSystem, state: MDState
) -> dict[str, Float64[Tensor, " systems"]]:
    """Return what is recorded at every step of a moving cell; else nothing."""
    if state.cell is None:
        return {}
    return {"volume": volume(state.cell), "pressure": pressure(system, state)}
