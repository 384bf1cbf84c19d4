"""Constant temperature without randomness: chains of Nosé-Hoover thermostats."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float64

from molpool_calc.md.integrators import nve_step, tidied
from molpool_calc.md.parameters import Parameters
from molpool_calc.md.state import ForceField, MDState, MDSystem, kinetic_energy
from molpool_calc.units import BOLTZMANN, FEMTOSECOND

# Suzuki-Yoshida weights of fourth order: Martyna et al. 1996, Eq. 29 with n_ys = 3.
_OUTER = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
_WEIGHTS = (_OUTER, 1.0 - 2.0 * _OUTER, _OUTER)

Column = Float64[np.ndarray, " systems"]


def nose_hoover_step(
    system: MDSystem,
    state: MDState,
    force_field: ForceField,
    timestep: float,
    *,
    thermal_energy: float,
    relaxation: float,
    n_links: int,
) -> MDState:
    r"""Return the state after one step with a Nosé-Hoover chain for each system.

    Equations of motion of Martyna, Klein & Tuckerman, J. Chem. Phys. 97, 2635 (1992)::

        dp_i/dt = F_i - p_i v_1,          dξ_j/dt = v_j
        dv_1/dt = (2K - f k_B T)/Q_1 - v_1 v_2
        dv_j/dt = (Q_{j-1} v_{j-1}² - k_B T)/Q_j - v_j v_{j+1},   v_{M+1} = 0
        Q_1 = f k_B T τ²,   Q_j = k_B T τ²

    split as in Martyna, Tuckerman, Tobias & Klein, Mol. Phys. 87, 1117 (1996): half a
    step of the chain, velocity Verlet, half a step of the chain. Conserved is ::

        E + K + Σ_j Q_j v_j²/2 + f k_B T ξ_1 + k_B T Σ_{j>1} ξ_j

    whose part of the chain, with the other sign, is what ``heat`` has grown by.

    ==========  =================================================
    symbol      variable
    ==========  =================================================
    K           kinetic
    f           system.degrees_of_freedom
    k_B T       thermal_energy
    τ           relaxation
    Q_j         inertia[:, j - 1]
    ξ_j, v_j    state.chain[:, 0, j - 1], state.chain[:, 1, j - 1]
    M           n_links
    ==========  =================================================

    All momenta of a system are scaled alike; see `integrators.tidied`.
    """
    # a few numbers a system, in hundreds of operations: NumPy needs a quarter of the
    # time of tensors, and on a GPU two transfers are shorter than as many kernels
    freedom = system.degrees_of_freedom.cpu().numpy()
    chain = np.zeros((len(freedom), 2, n_links))
    if state.chain is not None:
        chain = state.chain.cpu().numpy()
    bath = _Bath(freedom, thermal_energy, relaxation, n_links)
    before = bath.energy(chain)
    chain, state = _thermostatted(system, state, bath, chain, 0.5 * timestep)
    state = tidied(system, nve_step(system, state, force_field, timestep))
    chain, state = _thermostatted(system, state, bath, chain, 0.5 * timestep)
    gained = torch.from_numpy(before - bath.energy(chain)).to(state.heat)
    moved = torch.from_numpy(chain).to(state.heat)
    return replace(state, chain=moved, heat=state.heat + gained)


class _Bath:
    """What stays constant of the chains: targets and inertia of their links."""

    def __init__(
        self,
        freedom: Float64[np.ndarray, " systems"],
        thermal_energy: float,
        relaxation: float,
        n_links: int,
    ) -> None:
        counts = np.ones((len(freedom), n_links))
        counts[:, 0] = freedom
        self.target = counts * thermal_energy
        # a system that cannot move has no kinetic energy to be far from its target
        self.inertia = np.maximum(counts, 1.0) * (thermal_energy * relaxation**2)

    def energy(
        self, chain: Float64[np.ndarray, "systems 2 links"]
    ) -> Float64[np.ndarray, " systems"]:
        """Return the part of the chain in the conserved energy, in eV."""
        moving = 0.5 * self.inertia * chain[:, 1] ** 2
        total: Float64[np.ndarray, " systems"]
        total = (moving + self.target * chain[:, 0]).sum(axis=1)
        return total

    def push(
        self,
        number: int,
        twice_kinetic: Float64[np.ndarray, " systems"],
        velocities: list[Column],
    ) -> Float64[np.ndarray, " systems"]:
        """Return the acceleration of a link by what stands before it."""
        if number > 0:
            inertia = self.inertia[:, number - 1]
            twice_kinetic = inertia * velocities[number - 1] ** 2
        push: Column = twice_kinetic - self.target[:, number]
        return push / self.inertia[:, number]


def _thermostatted(
    system: MDSystem,
    state: MDState,
    bath: _Bath,
    chain: Float64[np.ndarray, "systems 2 links"],
    duration: float,
) -> tuple[Float64[np.ndarray, "systems 2 links"], MDState]:
    """Return chain and state after the chain has acted for a while."""
    twice = 2.0 * kinetic_energy(system, state.momenta).cpu().numpy()
    places, velocities = chain[:, 0], list(chain[:, 1].T)
    turned = np.zeros_like(twice)  # the logarithm of the scale of momenta
    for weight in _WEIGHTS:
        part = weight * duration
        kinetic = twice * np.exp(2.0 * turned)
        _accelerate(bath, kinetic, velocities, 0.5 * part, inward=True)
        turned = turned - part * velocities[0]
        places = places + part * np.stack(velocities, 1)
        kinetic = twice * np.exp(2.0 * turned)
        _accelerate(bath, kinetic, velocities, 0.5 * part, inward=False)
    scale = torch.from_numpy(np.exp(turned)).to(state.momenta)
    scale = scale[system.systems.index, None]
    chain = np.stack([places, np.stack(velocities, 1)], 1)
    return chain, replace(state, momenta=state.momenta * scale)


def _accelerate(
    bath: _Bath,
    twice_kinetic: Float64[np.ndarray, " systems"],
    velocities: list[Column],
    duration: float,
    *,
    inward: bool,
) -> None:
    """Replace the velocities of the links, from the last to the first or back.

    Each is dragged by the next for half the time, pushed, and dragged again.
    """
    last = len(velocities) - 1
    order = range(last, -1, -1) if inward else range(last + 1)
    for number in order:
        push = duration * bath.push(number, twice_kinetic, velocities)
        velocity = velocities[number]
        if number < last:
            drag = np.exp(-0.5 * duration * velocities[number + 1])
            velocities[number] = (velocity * drag + push) * drag
        else:
            velocities[number] = velocity + push


@dataclass(frozen=True, kw_only=True)
class NoseHoover(Parameters):
    """Constant temperature (K): a chain of thermostats of period ``relaxation_fs``."""

    name: ClassVar[str] = "nose-hoover"
    ensemble: ClassVar[str] = "nvt"
    free: ClassVar[Literal["internal", "all"]] = "internal"
    temperature: float
    relaxation_fs: float
    chain_length: int = 3

    def __call__(
        self, system: MDSystem, state: MDState, force_field: ForceField
    ) -> MDState:
        """Return the state one step later."""
        return nose_hoover_step(
            system,
            state,
            force_field,
            self.timestep_fs * FEMTOSECOND,
            thermal_energy=BOLTZMANN * self.temperature,
            relaxation=self.relaxation_fs * FEMTOSECOND,
            n_links=self.chain_length,
        )
