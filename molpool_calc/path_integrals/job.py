"""What decides a run of ring polymers."""

from dataclasses import dataclass
from math import ceil, isfinite

from molpool_calc.compilation.engine import Compile
from molpool_calc.units import BOLTZMANN, INVERSE_CM

SAMPLING_FS = 1.0
"""Longest interval between two dipoles: they hold up to 16 700 cm⁻¹."""

_POSITIVE = (
    *("temperature", "picoseconds", "timestep_fs", "equilibration_ps"),
    *("relaxation_fs", "centroid_fs", "damping"),
)


@dataclass(frozen=True, kw_only=True)
class RingPolymerJob:
    """What decides a run of ring polymers; recorded, and compared on resuming.

    Attributes:
        beads: copies of every nucleus in a ring; 1 is classical dynamics.
        temperature: in K.
        picoseconds: length of each replica.
        replicas: independent starts; four or more give a confidence band.
        seed: of all random numbers.
        timestep_fs: of the integration. The fastest mode of a ring of ``P`` beads,
            ``(ω² + 4P²(k_BT/ħ)²)^½``, is 2π/ω = 4.4 fs for a C-H or O-H bond with 16
            beads at 300 K: 0.25 fs gives it 17 steps, and shifts a band at 3000 cm⁻¹
            by 2.5 cm⁻¹ (0.5 fs: by 10), which the spectrum corrects.
        equilibration_ps: with a thermostat on every mode, before each replica.
        relaxation_fs: of that thermostat on the centroids.
        centroid_fs: relaxation time of the kinetic energy of the centroids in the run
            itself. With 1 ps it widens bands by 2 cm⁻¹ at most.
        damping: λ of the thermostat on the other modes of the ring, whose friction is
            ``2λω_k``.
        internal: keep translation and rotation of the centroids at zero.
        dtype: of the network.
        allow_unsuitable_pooling: run whatever the pooling and the structure.
        compile: as of the calculator; ``"auto"`` compiles for long runs.
    """

    beads: int = 16
    temperature: float = 300.0
    picoseconds: float = 10.0
    replicas: int = 4
    seed: int = 0
    timestep_fs: float = 0.25
    equilibration_ps: float = 1.0
    relaxation_fs: float = 50.0
    centroid_fs: float = 1000.0
    damping: float = 0.5
    internal: bool = True
    dtype: str = "float32"
    allow_unsuitable_pooling: bool = False
    compile: Compile = "auto"

    def __post_init__(self) -> None:
        for name in ("beads", "replicas"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; give a positive integer"
                )
        for name in _POSITIVE:
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value:g}; give a positive number")
        if self.n_steps < self.stride:
            raise ValueError(
                f"{self.picoseconds:g} ps are too short for a spectrum of quantum "
                "nuclei; give at least 0.02"
            )

    @property
    def stride(self) -> int:
        """Steps between two recorded dipoles."""
        return max(1, int(SAMPLING_FS / self.timestep_fs + 1e-9))

    @property
    def n_steps(self) -> int:
        """Steps of each replica."""
        return round(1e3 * self.picoseconds / self.timestep_fs)

    @property
    def n_equilibration(self) -> int:
        """Steps before each replica."""
        return round(1e3 * self.equilibration_ps / self.timestep_fs)


def advised_beads(highest_wavenumber: float, temperature: float) -> int:
    """Return the number of beads that converges a mode: ``P > ħω_max/k_BT``.

    Markland & Ceriotti 2018, Nat. Rev. Chem. 2, 0109: the ring must be able to move
    faster than the stiffest mode. 14 for a C-H, 18 for an O-H bond at 300 K.

    Args:
        highest_wavenumber: of the harmonic modes, cm⁻¹.
        temperature: in K.
    """
    return max(1, ceil(highest_wavenumber * INVERSE_CM / (BOLTZMANN * temperature)))
