"""What the classes of integrators at constant energy or temperature share."""

from dataclasses import asdict, dataclass
from math import isfinite
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters that must be positive, and their description."""

    name: ClassVar[str]
    ensemble: ClassVar[str]
    timestep_fs: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (isfinite(value) and value > 0.0):
                raise ValueError(
                    f"{name} is {value}, but it must be a positive, finite number; "
                    "give times in fs, friction in 1/fs and temperatures in K"
                )

    def describe(self) -> dict[str, str | float]:
        """Return name, ensemble and parameters, ready for JSON."""
        return {"integrator": self.name, "ensemble": self.ensemble, **asdict(self)}
