"""Constant pressure: stochastic rescaling of the cell, isotropic or in any shape."""

from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from molpool_calc.md.cell import (
    CellForceField,
    FixedCell,
    cell_and_stress,
    cell_force_field,
    kinetic_stress,
    volume,
)
from molpool_calc.md.integrators import Bussi, Langevin, gaussians_from
from molpool_calc.md.nose_hoover import NoseHoover
from molpool_calc.md.state import ForceField, MDState, MDSystem
from molpool_calc.units import BAR, BOLTZMANN, FEMTOSECOND

Barostat = Literal["isotropic", "flexible"]
_GAUSSIANS = {"isotropic": 1, "flexible": 7}


@dataclass(frozen=True, kw_only=True, slots=True)
class PressureBath:
    """What a barostat couples to, in internal units.

    Attributes:
        kind: Whether only the volume moves, or the shape too.
        pressure: In eV/Å³.
        mobility: Compressibility over relaxation time, in Å³/eV per internal time.
        thermal_energy: k_B T in eV.
    """

    kind: Barostat
    pressure: float
    mobility: float
    thermal_energy: float


def rescaling_step(
    system: MDSystem,
    state: MDState,
    force_field: CellForceField,
    duration: float,
    bath: PressureBath,
) -> MDState:
    r"""Return the state after its cell, positions and momenta were rescaled once.

    The volume moves as in Bernetti & Bussi, J. Chem. Phys. 153, 114107 (2020), the
    equation for λ = sqrt(V), whose noise does not depend on λ; the shape as in Del
    Tatto, Raiteri, Bernetti & Bussi, Appl. Sci. 12, 1139 (2022), by a traceless strain
    T. Here T is symmetric: strains that only turn the cell are left out::

        λ' = λ - (β/2τ) λ (P_0 - P - k_B T/2V) h + sqrt(k_B T β h/2τ) R
        T  = (β/3τ) sqrt(V/V') (Π - P) h + sqrt(2 k_B T β h/(3τ sqrt(VV'))) S
        F  = (V'/V)^{1/3} exp(T),   C' = C F,   x' = x F,   p' = p F^{-1}
        Π  = Σ p p/(m V) - σ,       P = tr(Π)/3

    The noise of T takes the geometric mean of both volumes, so that it is the same for
    the step back. Where the centre of mass is kept at rest, its mean share k_B T/V is
    added to Π. Both moves leave the density
    exp(-(K + E + P_0 V)/k_B T) dV dΩ dx dp invariant, Ω being the cell of unit volume,
    in the limit of a short h; an ideal gas has p(V) ∝ V^N exp(-P_0 V/k_B T).

    What remains of a finite h is the drift of the effective energy (Bussi, Donadio &
    Parrinello, J. Chem. Phys. 126, 014101 (2007)): the logarithm of the ratio of the
    probabilities of the step and of the step back, against that of the densities.
    ``heat`` grows such that energy + kinetic - heat changes by it. The trace of T is
    zero, and right multiplication leaves the measure of cells as it is, so that only
    Gaussians enter, with b' the drift after the step::

        k_B T ln(M/M') = (k_B T/s²) (Δ (b + b') + (b'² - b²) h/2)

    for Δ = λ' - λ with s² = k_B T β/2τ, and for Δ = T, b' of the step back, with
    s² = 2 k_B T β/(3τ sqrt(VV')).

    ===========  ==============================================
    symbol       variable
    ===========  ==============================================
    C, V         cell, volume
    σ            state.response.stress
    Π            tensor
    P_0, k_B T   bath.pressure, bath.thermal_energy
    β/τ          bath.mobility
    h            duration
    λ, b         root, drift
    T            strain
    R, S         gaussians; S symmetric and traceless
    ===========  ==============================================
    """
    gaussians, generator_state = gaussians_from(
        state, (system.systems.n_segments, _GAUSSIANS[bath.kind])
    )
    before = _Instant(system, state, bath)
    root, drift = before.root, before.drift
    spread = (0.5 * bath.thermal_energy * bath.mobility * duration) ** 0.5
    moved = duration * drift + spread * gaussians[:, 0]
    after_volume = (root + moved).square()
    mean = (before.volume * after_volume).sqrt()
    strain = torch.zeros_like(before.deviation)
    if bath.kind == "flexible":
        variance = 2.0 * bath.thermal_energy * bath.mobility * duration / (3.0 * mean)
        noise = _traceless(gaussians[:, 1:]) * variance.sqrt()[:, None, None]
        strain = duration * before.shape_drift(mean) + noise
    state = replace(state, generator_state=generator_state)
    factor = (after_volume / before.volume) ** (1.0 / 3.0)
    state = _deformed(system, state, force_field, factor, strain)
    after = _Instant(system, state, bath)
    heat = after.potential(system) - before.potential(system)
    heat = heat - 2.0 / bath.mobility * _ratio(moved, drift, after.drift, duration)
    if bath.kind == "flexible":
        drifts = before.shape_drift(mean), after.shape_drift(mean)
        ratio = _ratio(strain, *drifts, duration).sum((1, 2))
        heat = heat - 1.5 * mean / bath.mobility * ratio
    return replace(state, heat=state.heat + heat)


class _Instant:
    """Volume, pressure and drifts of a state."""

    def __init__(self, system: MDSystem, state: MDState, bath: PressureBath) -> None:
        cell, stress = cell_and_stress(state)
        self.bath, self.volume = bath, volume(cell)
        self.root = self.volume.sqrt()
        kinetic = kinetic_stress(system, state.momenta) / self.volume[:, None, None]
        tensor = kinetic - stress
        third = tensor.diagonal(dim1=1, dim2=2).mean(1)
        unit = torch.eye(3).to(tensor)
        self.deviation = tensor - third[:, None, None] * unit
        share = bath.thermal_energy / self.volume
        if system.free == "internal":
            third = third + share
        excess = bath.pressure - third - 0.5 * share
        self.drift = -0.5 * bath.mobility * self.root * excess

    def shape_drift(
        self, mean_volume: Float64[Tensor, " systems"]
    ) -> Float64[Tensor, "systems 3 3"]:
        """Return the rate of the traceless strain, on the way to another volume."""
        rate = self.bath.mobility / 3.0 * self.volume / mean_volume
        return rate[:, None, None] * self.deviation

    def potential(self, system: MDSystem) -> Float64[Tensor, " systems"]:
        """Return what the bath adds to the logarithm of the density of λ, times k_B T.

        It is -P_0 V + k_B T ln λ, and k_B T ln V for a centre of mass at rest.
        """
        powers = 1.5 if system.free == "internal" else 0.5
        entropy = powers * self.bath.thermal_energy * self.volume.log()
        return entropy - self.bath.pressure * self.volume


def _ratio(moved: Tensor, drift: Tensor, back: Tensor, duration: float) -> Tensor:
    """Return Δ(b + b') + (b'² - b²) h/2."""
    squares = back.square() - drift.square()
    return moved * (drift + back) + 0.5 * duration * squares


def _traceless(
    gaussians: Float64[Tensor, "systems 6"],
) -> Float64[Tensor, "systems 3 3"]:
    """Return unit Gaussians in the five dimensions of traceless symmetric matrices."""
    upper = torch.zeros((len(gaussians), 3, 3)).to(gaussians)
    upper[:, [0, 0, 1], [1, 2, 2]] = gaussians[:, 3:] / 2.0**0.5
    diagonal = gaussians[:, :3] - gaussians[:, :3].mean(1, keepdim=True)
    return upper + upper.transpose(1, 2) + torch.diag_embed(diagonal)


def _deformed(
    system: MDSystem,
    state: MDState,
    force_field: CellForceField,
    factor: Float64[Tensor, " systems"],
    strain: Float64[Tensor, "systems 3 3"],
) -> MDState:
    """Return the state with lengths scaled by a factor and strained; momenta against.

    Points and cells turn and stretch about the origin of coordinates.
    """
    index, scale = system.systems.index, factor[:, None, None]
    forward = scale * torch.linalg.matrix_exp(strain)
    backward = torch.linalg.matrix_exp(-strain) / scale
    positions = (state.positions[:, :, None] * forward[index]).sum(1)
    momenta = (state.momenta[:, :, None] * backward[index]).sum(1)
    cell, _ = cell_and_stress(state)
    cell = cell @ forward
    response = force_field.in_cell(positions, cell)
    return replace(
        state, positions=positions, momenta=momenta, cell=cell, response=response
    )


@dataclass(frozen=True, kw_only=True)
class CellRescaling:
    """Constant temperature and pressure: a thermostat, and a cell that is rescaled.

    Attributes:
        thermostat: Makes the steps; its temperature is that of the barostat.
        barostat: ``isotropic`` keeps the shape of the cell, ``flexible`` does not.
        pressure_bar: Of the surroundings; may be negative.
        relaxation_fs: Of the volume, if the compressibility is right.
        compressibility_per_bar: An estimate, isothermal; only the speed of the
            relaxation depends on it.
        every: Steps from one rescaling to the next, which costs one more evaluation of
            the potential. If h is the time of these steps, the variance of the volume
            is too large by about h/τ of itself: 4 % at h = τ/20, 24 % at h = τ/4.
    """

    thermostat: Langevin | Bussi | NoseHoover
    barostat: Barostat
    pressure_bar: float
    relaxation_fs: float
    compressibility_per_bar: float
    every: int = 10

    def __post_init__(self) -> None:
        for name in ("relaxation_fs", "compressibility_per_bar", "every"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0.0):
                raise ValueError(
                    f"{name} of the barostat is {value}, but it must be a positive, "
                    "finite number; give times in fs and compressibilities in 1/bar"
                )
        if not isfinite(self.pressure_bar):
            raise ValueError(
                f"the pressure is {self.pressure_bar} bar; give a finite number"
            )

    @property
    def ensemble(self) -> str:
        """Constant temperature and pressure."""
        return "npt"

    @property
    def free(self) -> Literal["internal", "all"]:
        """The motion that the thermostat keeps up."""
        return self.thermostat.free

    @property
    def timestep_fs(self) -> float:
        """That of the thermostat."""
        return self.thermostat.timestep_fs

    @property
    def bath(self) -> PressureBath:
        """What the cell couples to."""
        relaxation = self.relaxation_fs * FEMTOSECOND
        return PressureBath(
            kind=self.barostat,
            pressure=self.pressure_bar * BAR,
            mobility=self.compressibility_per_bar / BAR / relaxation,
            thermal_energy=BOLTZMANN * self.thermostat.temperature,
        )

    def describe(self) -> dict[str, str | float]:
        """Return name, ensemble and parameters, ready for JSON."""
        return {
            **self.thermostat.describe(),
            "integrator": "cell-rescaling",
            "ensemble": self.ensemble,
            "thermostat": self.thermostat.name,
            "barostat": self.barostat,
            "pressure_bar": self.pressure_bar,
            "barostat_relaxation_fs": self.relaxation_fs,
            "compressibility_per_bar": self.compressibility_per_bar,
            "barostat_every": self.every,
        }

    def __call__(
        self, system: MDSystem, state: MDState, force_field: ForceField
    ) -> MDState:
        """Return the state one step later."""
        field = cell_force_field(force_field)
        if state.step % self.every == 0:
            duration = self.every * self.timestep_fs * FEMTOSECOND
            state = rescaling_step(system, state, field, duration, self.bath)
        cell, _ = cell_and_stress(state)
        return self.thermostat(system, state, FixedCell(field, cell))
