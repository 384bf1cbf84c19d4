"""Copies of one structure, made ready to move."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float64
from torch import Tensor

from molpool_calc.atoms import ChargeAndSpin, batch_from_atoms
from molpool_calc.dipole_flux import DIPOLE_FLUX, DipoleFlux
from molpool_calc.engine import Engine
from molpool_calc.interfaces import AtomsBatch
from molpool_calc.md.ahead import steps_ahead
from molpool_calc.md.committee import CommitteeForceField
from molpool_calc.md.equilibration import EquilibrationGuard
from molpool_calc.md.guard import NO_LIMITS, Limits
from molpool_calc.md.integrators import Integrator, Langevin
from molpool_calc.md.network import NetworkForceField
from molpool_calc.md.state import (
    ForceField,
    MDState,
    MDSystem,
    initial_state,
    make_system,
    maxwell_boltzmann_momenta,
    remove_rigid_motion,
)
from molpool_calc.sidecar import SidecarForceField
from molpool_calc.units import FEMTOSECOND

POLARIZABILITY = "polarizability"
"""A tensor that can be recorded besides scalars (and always the dipole)."""

Progress = Callable[[int], None]
"""Called with the number of steps done."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Replicas:
    """Copies of one structure, moved by one call of the force field per step."""

    force_field: ForceField
    batch: AtomsBatch
    positions: Float64[Tensor, "atoms 3"]
    masses: Float64[Tensor, " atoms"]

    def system(self, free: Literal["internal", "all"]) -> MDSystem:
        """Return the constant part of a run with these degrees of freedom."""
        periodic = bool(self.batch.pbc.any())
        return make_system(
            atomic_numbers=self.batch.atomic_numbers,
            masses=self.masses,
            positions=self.positions,
            systems=self.batch.systems,
            free=free,
            cell=self.batch.cell.double() if periodic else None,
            pbc=self.batch.pbc if periodic else None,
        )


def properties_of_step(
    engine: Engine, atoms: Atoms, record: tuple[str, ...]
) -> frozenset[str]:
    """Return what each step of a run computes, with the dipole of molecules."""
    dipole = "dipole" in engine.potential.properties and not atoms.pbc.any()
    of_force_field = [name for name in record if name != DIPOLE_FLUX]
    return frozenset({"energy", "forces", *of_force_field, *["dipole"] * dipole})


def make_replicas(
    engine: Engine,
    atoms: Atoms,
    *,
    state: ChargeAndSpin,
    n_replicas: int,
    record: tuple[str, ...] = (),
    forces: str | None = None,
) -> Replicas:
    """Return ``n_replicas`` copies of a structure, with dipoles where there are any.

    Args:
        engine: of the potential.
        atoms: the structure.
        state: its charge and spin.
        n_replicas: how many.
        record: scalar properties to evaluate at every step, or ``polarizability``;
            ``dipole_flux``, which needs velocities, is left to `WithDipoleFlux`.
        forces: names the calculator of another program that gives them, as in
            ``module:Class,key=value``; by default the potential does.

    Raises:
        ValueError: fewer than one replica, a property that is no scalar of the
            potential, or a polarizability that it does not predict or define.
    """
    for name in record:
        if name == POLARIZABILITY:
            _require_polarizability(engine, atoms)
        elif name != DIPOLE_FLUX and name not in engine.potential.scalars:
            known = ", ".join(sorted(engine.potential.scalars)) or "none"
            raise ValueError(
                f"{name!r} cannot be recorded; the scalar properties of "
                f"{engine.potential.spec.name} are {known}"
            )
    if n_replicas < 1:
        raise ValueError(f"{n_replicas} replicas were asked for; give at least 1")
    batch = batch_from_atoms(
        [atoms] * n_replicas,
        dtype=engine.dtype,
        device=engine.device,
        states=[state] * n_replicas,
    )
    properties = properties_of_step(engine, atoms, record)
    others = tuple(name for name in record if name != DIPOLE_FLUX)

    def tensor(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64, device=engine.device)

    field: ForceField
    if forces is None:
        field = NetworkForceField(engine, batch, properties, others=others)
    else:
        field = SidecarForceField(
            forces, atoms, engine, batch, properties, others=others
        )
    return Replicas(
        force_field=field,
        batch=batch,
        positions=tensor(np.tile(atoms.positions, (n_replicas, 1))),
        masses=tensor(np.tile(atoms.get_masses(), n_replicas)),
    )


def committee_of(members: Sequence[Replicas]) -> Replicas:
    """Return the replicas of several potentials as one; those of a single one as is.

    Args:
        members: the same structure, at the same places, with each potential.
    """
    if len(members) == 1:
        return members[0]
    fields = [member.force_field for member in members]
    n_systems = members[0].batch.systems.n_segments
    return replace(members[0], force_field=CommitteeForceField(fields, n_systems))


@dataclass(frozen=True, kw_only=True, eq=False)
class WithDipoleFlux:
    """An integrator whose states say at which rate their dipoles change.

    The flux needs velocities, which a force field does not know. It is a function of
    the state alone, so that restarts stay exact.
    """

    integrator: Integrator
    fluxes: tuple[DipoleFlux, ...]
    """Of each member of a committee; their mean is recorded."""

    @property
    def ensemble(self) -> str:
        """As of the integrator."""
        return self.integrator.ensemble

    @property
    def free(self) -> Literal["internal", "all"]:
        """As of the integrator."""
        return self.integrator.free

    @property
    def timestep_fs(self) -> float:
        """As of the integrator."""
        return self.integrator.timestep_fs

    def describe(self) -> dict[str, str | float]:
        """Return what the integrator says of itself."""
        return self.integrator.describe()

    def __call__(
        self, system: MDSystem, state: MDState, force_field: ForceField
    ) -> MDState:
        """Return the state one step later, with its flux."""
        return self.add_to(system, self.integrator(system, state, force_field))

    def add_to(self, system: MDSystem, state: MDState) -> MDState:
        """Return the state with its flux in e·Å/fs among what is recorded."""
        velocities = state.momenta / system.masses[:, None] * FEMTOSECOND
        rates = [flux(state.positions, velocities, state.cell) for flux in self.fluxes]
        flux = torch.stack(rates).mean(0)
        others = {**state.response.others, DIPOLE_FLUX: flux}
        return replace(state, response=replace(state.response, others=others))


def _require_polarizability(engine: Engine, atoms: Atoms) -> None:
    potential = engine.potential
    if POLARIZABILITY not in potential.properties:
        raise ValueError(
            f"{potential.spec.name} predicts no polarizability, so none can be "
            "recorded; take a potential with a polarizability head (see molpool list)"
        )
    if atoms.pbc.any():
        raise ValueError(
            "the structure is periodic, but a polarizability that depends on the "
            "place of the origin is defined for molecules only; record it for one "
            "without periodic boundaries"
        )


def thermal_state(
    replicas: Replicas,
    system: MDSystem,
    temperature: float,
    seed: int,
) -> MDState:
    """Return the structure with momenta drawn at a temperature (K).

    Overall translation and rotation are taken out where the dynamics keeps them out:
    what remains is canonical in the internal degrees of freedom.
    """
    generator = torch.Generator(device=replicas.positions.device).manual_seed(seed)
    momenta = maxwell_boltzmann_momenta(system, temperature, generator)
    if float(system.degrees_of_freedom.max()) < 3 * system.systems.max_size:
        momenta = remove_rigid_motion(system, replicas.positions, momenta)
    return initial_state(
        replicas.force_field,
        positions=replicas.positions,
        momenta=momenta,
        generator=generator,
    )


def equilibrate(
    replicas: Replicas,
    state: MDState,
    thermostat: Langevin,
    n_steps: int,
    progress: Progress | None = None,
    *,
    limits: Limits = NO_LIMITS,
    together: int = 1,
) -> MDState:
    """Return each replica after its own Langevin dynamics, at rest as a whole.

    Langevin dynamics visits the canonical ensemble mode by mode, which a global
    thermostat of a nearly harmonic molecule does not. Removing the rigid motion at the
    end leaves the internal motion canonical, so that an ensemble of such starts
    samples the temperature however little the modes exchange energy in NVE.

    Args:
        replicas: what moves.
        state: where it starts.
        thermostat: at the temperature.
        n_steps: how many.
        progress: called with the number of steps done.
        limits: of the guard.
        together: most steps that are made before they are checked, see ``md.ahead``.

    Raises:
        ValueError: a replica starts beyond the limits.
        EquilibrationFailure: a replica leaves the limits, or is not finite.
    """
    free = replicas.system("all")
    guard = EquilibrationGuard(free, state, limits, thermostat.timestep_fs)
    begun = state.step

    def ends(step: int) -> bool:
        return step >= begun + n_steps

    while not ends(state.step):
        states = steps_ahead(
            lambda current: thermostat(free, current, replicas.force_field),
            state,
            together,
            ends,
        )
        guard.require(states)
        state = states[-1]
        if progress is not None:
            progress(state.step - begun)
    momenta = remove_rigid_motion(free, state.positions, state.momenta)
    generator = torch.Generator(device=momenta.device)
    generator.set_state(state.generator_state)
    return initial_state(
        replicas.force_field,
        positions=state.positions,
        momenta=momenta,
        generator=generator,
    )
