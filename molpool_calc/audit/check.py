"""What one check of an audit found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Check:
    """A number, and what it must stay below.

    Attributes:
        value: ``None`` where the potential has nothing to measure, e.g. no forces.
        unit: of ``value`` and ``limit``.
        limit: ``None`` where the potential makes no claim that could fail.
        details: further numbers, ready for JSON.
    """

    value: float | None
    unit: str
    limit: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        """Whether the value is below its limit; ``None`` where there is none."""
        if self.value is None or self.limit is None:
            return None
        return self.value <= self.limit

    def describe(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "value": self.value,
            "limit": self.limit,
            "unit": self.unit,
            "passed": self.passed,
            **self.details,
        }


def unmeasured(unit: str) -> Check:
    """Return a check of something that the potential does not have."""
    return Check(value=None, unit=unit)
