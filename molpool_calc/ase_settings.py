"""What the constructors of ``ase.md`` are given, in the units of ASE."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from molpool_calc.units import BAR, FEMTOSECOND

OPTIONS = {
    "friction": ("friction_per_fs",),
    "collision_probability": ("friction_per_fs",),
    "drag_time": ("friction_per_fs",),
    "relaxation": ("relaxation_fs",),
    "chain_length": ("chain_length",),
    "hydrostatic": ("barostat",),
    "pressure": ("pressure_bar",),
    "tension": ("pressure_bar",),
    "barostat_relaxation": ("barostat_relaxation_fs",),
    "cell_mass": ("barostat_relaxation_fs",),
    "compressibility": ("compressibility_per_bar",),
    "pressure_factor": ("barostat_relaxation_fs", "compressibility_per_bar"),
}
"""Quantities of `Settings`, with the options that decide them."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What constructors are given, in units of ASE: eV, Å, amu, Å·sqrt(amu/eV), K."""

    timestep_fs: float
    temperature: float
    friction_per_fs: float
    relaxation_fs: float
    chain_length: int
    barostat: str
    pressure_bar: float
    barostat_relaxation_fs: float
    compressibility_per_bar: float
    n_atoms: int
    rng: np.random.Generator

    def quantities(self) -> Mapping[str, Any]:
        """Return what `OPTIONS` names, the temperature and the random numbers."""
        friction = self.friction_per_fs / FEMTOSECOND
        slow = self.barostat_relaxation_fs * FEMTOSECOND
        pressure = self.pressure_bar * BAR
        compressibility = self.compressibility_per_bar / BAR
        return {
            "temperature": self.temperature,
            "rng": self.rng,
            "friction": friction,
            "collision_probability": self.friction_per_fs * self.timestep_fs,
            "drag_time": 1.0 / friction,
            "relaxation": self.relaxation_fs * FEMTOSECOND,
            "chain_length": self.chain_length,
            "hydrostatic": self.barostat == "isotropic",
            "pressure": pressure,
            "tension": -pressure,
            "barostat_relaxation": slow,
            # The estimate that LangevinBAOAB makes itself, with a warning: a period of
            # a quarter of the relaxation, 1.66 fs per sqrt(amu) Å and N^(-1/6).
            "cell_mass": (slow / (4.0 * 1.66 * FEMTOSECOND)) ** 2
            * self.n_atoms ** (1.0 / 3.0),
            "compressibility": compressibility,
            # relaxation² times bulk modulus, as the documentation of the class has it
            "pressure_factor": slow**2 / compressibility,
        }
