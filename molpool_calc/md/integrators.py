"""Steps of molecular dynamics: pure functions from one frozen state to the next.

Times are in the internal unit here; the frozen classes `NVE`, `Langevin` and `Bussi`
take femtoseconds and kelvin, check them, and describe themselves for ``run.json``.
Chains of thermostats are in `nose_hoover`, moving cells in `cell_rescaling`.
"""

from dataclasses import dataclass, replace
from math import exp, expm1, sqrt
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from molpool_calc.md.parameters import Parameters
from molpool_calc.md.state import (
    ForceField,
    MDState,
    MDSystem,
    kinetic_energy,
    remove_rigid_motion,
    sum_over_atoms,
)
from molpool_calc.units import BOLTZMANN, FEMTOSECOND

# Rigid motion grows by the product of all α, which walks at random on a logarithmic
# scale. Water with the tightest coupling got from rounding to a tenth of the thermal
# momentum in 12 000 steps; in 100 steps the product stays below 100.
_TIDY = 100


@runtime_checkable
class Integrator(Protocol):
    """One step of dynamics."""

    @property
    def ensemble(self) -> str:
        """``nve``, ``nvt`` or ``npt``."""
        ...

    @property
    def free(self) -> Literal["internal", "all"]:
        """The motion that the steps keep up."""
        ...

    @property
    def timestep_fs(self) -> float:
        """Length of a step in femtoseconds."""
        ...

    def describe(self) -> dict[str, str | float]:
        """Return name, ensemble and parameters, ready for JSON."""
        ...

    def __call__(
        self, system: MDSystem, state: MDState, force_field: ForceField
    ) -> MDState:
        """Return the state one step later."""
        ...


def nve_step(
    system: MDSystem, state: MDState, force_field: ForceField, timestep: float
) -> MDState:
    r"""Return the state after one step of velocity Verlet.

    Swope, Andersen, Berens & Wilson, J. Chem. Phys. 76, 637 (1982)::

        p(t+h/2) = p(t)     + (h/2) F(t)
        x(t+h)   = x(t)     + h p(t+h/2) / m
        p(t+h)   = p(t+h/2) + (h/2) F(t+h)

    =========  ==========================
    symbol     variable
    =========  ==========================
    x, p, m    positions, momenta, masses
    F          response.forces
    h          timestep
    =========  ==========================
    """
    masses = system.masses.unsqueeze(1)
    momenta = state.momenta.add(state.response.forces, alpha=0.5 * timestep)
    positions = state.positions.addcdiv(momenta, masses, value=timestep)
    response = force_field(positions)
    return replace(
        state,
        positions=positions,
        momenta=momenta.add(response.forces, alpha=0.5 * timestep),
        response=response,
        step=state.step + 1,
    )


def langevin_step(
    system: MDSystem,
    state: MDState,
    force_field: ForceField,
    timestep: float,
    *,
    thermal_energy: float,
    friction: float,
) -> MDState:
    r"""Return the state after one step of Langevin dynamics, split as B A O A B.

    Leimkuhler & Matthews, J. Chem. Phys. 138, 174102 (2013), the method "BAOAB"::

        B   p = p + (h/2) F
        A   x = x + (h/2) p / m
        O   p = c p + sqrt((1 - c²) m k_B T) R,      c = exp(-γ h)
        A   x = x + (h/2) p / m
        B   p = p + (h/2) F(x)

    ==========  ========================================
    symbol      variable
    ==========  ========================================
    x, p, m     positions, momenta, masses
    F           response.forces
    h           timestep
    k_B T       thermal_energy
    γ           friction
    c           kept
    R           gaussians, of mean 0 and variance 1
    ==========  ========================================

    In a harmonic well of frequency ω positions are sampled exactly at any stable
    step; momenta at the end of a step are colder by the factor 1 - (ωh/2)².
    """
    masses = system.masses.unsqueeze(1)
    kept = exp(-friction * timestep)
    spread = (masses * (-expm1(-2.0 * friction * timestep) * thermal_energy)).sqrt()
    before = state.momenta.add(state.response.forces, alpha=0.5 * timestep)
    positions = state.positions.addcdiv(before, masses, value=0.5 * timestep)
    gaussians, generator_state = gaussians_from(state, before.shape)
    momenta = (spread * gaussians).add(before, alpha=kept)
    positions = positions.addcdiv(momenta, masses, value=0.5 * timestep)
    response = force_field(positions)
    gained = ((momenta - before) * (momenta + before)).sum(1) / system.masses
    return replace(
        state,
        positions=positions,
        momenta=momenta.add(response.forces, alpha=0.5 * timestep),
        response=response,
        heat=state.heat.add(sum_over_atoms(gained, system.systems), alpha=0.5),
        step=state.step + 1,
        generator_state=generator_state,
    )


def bussi_step(
    system: MDSystem,
    state: MDState,
    force_field: ForceField,
    timestep: float,
    *,
    thermal_energy: float,
    relaxation: float,
) -> MDState:
    r"""Return the state after velocity Verlet and one stochastic velocity rescaling.

    Bussi, Donadio & Parrinello, J. Chem. Phys. 126, 014101 (2007), Eq. A7, for each
    system by itself, p = α p with::

        α² = c + r (R_1² + Σ_{i=2}^{f} R_i²) + 2 R_1 sqrt(c r)
        c  = exp(-h/τ),   r = (1 - c) K̄ / (f K),   K̄ = f k_B T / 2

    computed as α² = a² + r Σ_{i=2}^{f} R_i² with a = sqrt(c) + R_1 sqrt(r); α has the
    sign of a, which the exact solution for one degree of freedom demands (there
    α = a, the Ornstein-Uhlenbeck process).

    ==========  ==========================================================
    symbol      variable
    ==========  ==========================================================
    K           kinetic, before the rescaling
    f           system.degrees_of_freedom
    k_B T       thermal_energy
    h, τ        timestep, relaxation
    c, r, a     kept, drawn, signed
    R_i         gaussians, of mean 0 and variance 1
    ==========  ==========================================================

    All momenta of a system are scaled alike, so zero linear and angular momentum stay
    zero; what rounding makes of zero is removed every `_TIDY` steps, since it would
    grow. A system without any kinetic energy stays at rest.
    """
    state = tidied(system, nve_step(system, state, force_field, timestep))
    kinetic = kinetic_energy(system, state.momenta)
    freedom = system.degrees_of_freedom
    width = 3 * system.systems.max_size
    gaussians, generator_state = gaussians_from(state, (freedom.shape[0], width))
    counted = torch.arange(width, device=freedom.device) < freedom[:, None]
    gaussians = gaussians * counted
    kept = exp(-timestep / relaxation)
    fresh = -expm1(-timestep / relaxation) * 0.5 * thermal_energy
    drawn = fresh / kinetic.clamp_min(1e-200)  # at rest α is finite, and α·0 = 0
    signed = gaussians[:, 0] * drawn.sqrt() + sqrt(kept)
    square = signed.square() + drawn * gaussians[:, 1:].square().sum(1)
    scale = torch.copysign(square.sqrt(), signed)
    return replace(
        state,
        momenta=state.momenta * scale[system.systems.index, None],
        heat=state.heat + kinetic * (square - 1.0),
        generator_state=generator_state,
    )


def tidied(system: MDSystem, state: MDState) -> MDState:
    """Return the state without the rigid motion that rounding made of none.

    Steps that scale all momenta alike would let it grow; hence every `_TIDY` steps.
    """
    if system.free == "all" or state.step % _TIDY != 0:
        return state
    # a replica that has blown up must not end the others: no inertia is infinite
    positions = state.positions.nan_to_num().clamp(-1e6, 1e6)
    momenta = remove_rigid_motion(system, positions, state.momenta)
    heat = state.heat - kinetic_energy(system, state.momenta)
    heat = heat + kinetic_energy(system, momenta)
    return replace(state, momenta=momenta, heat=heat)


@dataclass(frozen=True, kw_only=True)
class NVE(Parameters):
    """Constant energy: velocity Verlet with a step of ``timestep_fs``."""

    name: ClassVar[str] = "nve"
    ensemble: ClassVar[str] = "nve"
    free: ClassVar[Literal["internal", "all"]] = "internal"

    def __call__(
        self, system: MDSystem, state: MDState, force_field: ForceField
    ) -> MDState:
        """Return the state one step later."""
        return nve_step(system, state, force_field, self.timestep_fs * FEMTOSECOND)


@dataclass(frozen=True, kw_only=True)
class Langevin(Parameters):
    """Constant temperature (K): Langevin dynamics with ``friction_per_fs`` in 1/fs."""

    name: ClassVar[str] = "langevin"
    ensemble: ClassVar[str] = "nvt"
    free: ClassVar[Literal["internal", "all"]] = "all"
    temperature: float
    friction_per_fs: float

    def __call__(
        self, system: MDSystem, state: MDState, force_field: ForceField
    ) -> MDState:
        """Return the state one step later."""
        return langevin_step(
            system,
            state,
            force_field,
            self.timestep_fs * FEMTOSECOND,
            thermal_energy=BOLTZMANN * self.temperature,
            friction=self.friction_per_fs / FEMTOSECOND,
        )


@dataclass(frozen=True, kw_only=True)
class Bussi(Parameters):
    """Constant temperature (K): velocity rescaling, relaxing in ``relaxation_fs``."""

    name: ClassVar[str] = "bussi"
    ensemble: ClassVar[str] = "nvt"
    free: ClassVar[Literal["internal", "all"]] = "internal"
    temperature: float
    relaxation_fs: float

    def __call__(
        self, system: MDSystem, state: MDState, force_field: ForceField
    ) -> MDState:
        """Return the state one step later."""
        return bussi_step(
            system,
            state,
            force_field,
            self.timestep_fs * FEMTOSECOND,
            thermal_energy=BOLTZMANN * self.temperature,
            relaxation=self.relaxation_fs * FEMTOSECOND,
        )


def gaussians_from(
    state: MDState, shape: tuple[int, ...]
) -> tuple[Float64[Tensor, "rows columns"], Tensor]:
    """Return normal numbers drawn from the state, and the generator's next state."""
    like = state.momenta
    generator = torch.Generator(device=like.device)
    generator.set_state(state.generator_state)
    drawn = torch.randn(
        shape, generator=generator, dtype=like.dtype, device=like.device
    )
    return drawn, generator.get_state()
