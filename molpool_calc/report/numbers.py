"""Arrays as lists for JSON, with as many digits as the eye can use."""

from collections.abc import Sequence
from math import floor, log10
from typing import Any

import numpy as np
from jaxtyping import Shaped

_DIGITS = 6


def exact(values: Sequence[float] | Shaped[np.ndarray, "..."]) -> list[Any]:
    """Return all values as they are, ``None`` for those that are not finite."""
    return [_plain(value) for value in np.asarray(values, np.float64).tolist()]


def rounded(
    values: Sequence[float] | Shaped[np.ndarray, "..."], decimals: int
) -> list[Any]:
    """Return values with that many decimals, ``None`` where they are not finite."""
    return exact(np.asarray(values, np.float64).round(decimals))


def resolved(
    values: Sequence[float] | Shaped[np.ndarray, "..."], digits: int = _DIGITS
) -> list[Any]:
    """Return values rounded to the same decimal, so that the largest has ``digits``."""
    finite = np.abs(np.asarray(values, np.float64))
    largest = float(np.nanmax(np.where(np.isfinite(finite), finite, 0.0), initial=0.0))
    decimals = 0 if largest == 0.0 else digits - 1 - floor(log10(largest))
    return rounded(values, decimals)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value if abs(value) < float("inf") else None
