"""How far a spectrum is from being converged, and what it would take."""

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, sqrt
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri, stdtrit

from molpool_calc.spectra.confidence import CONFIDENCE, FEWEST_UNITS
from molpool_calc.spectra.spectrum import Spectrum, band_integrals, peaks

TARGET = 0.05
"""Half the width of the 95 % interval, relative to the integral."""

_N_BANDS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class BandConvergence:
    """How well the integral of a band is known; wavenumbers in cm⁻¹.

    ``relative_95`` is half the width of its 95 % interval over its value.
    ``units_more`` is how many more units of the same length would bring that to the
    target, ``picoseconds_more`` how long they are together.
    """

    name: str
    low_cm1: float
    high_cm1: float
    value: float
    relative_95: float
    units_more: int
    picoseconds_more: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Convergence:
    """The total and the largest bands of a spectrum, and what they would still take.

    Units are whole replicas, or blocks of fewer replicas. ``bands`` is empty where too
    few of them show no spread.
    """

    target: float
    n_units: int
    unit_picoseconds: float
    n_replicas: int
    units_are_replicas: bool
    bands: tuple[BandConvergence, ...]

    @property
    def sentence(self) -> str:
        """What to simulate."""
        if not self.bands:
            return (
                f"{self.n_units} independent units do not show how far this is from "
                f"convergence; run {FEWEST_UNITS} replicas or longer"
            )
        known = ", ".join(
            f"{band.name} ±{100.0 * band.relative_95:.2g} %" for band in self.bands
        )
        worst = max(self.bands, key=lambda band: band.units_more)
        goal = f"{100.0 * self.target:g} %"
        if worst.units_more == 0:
            return f"converged: the integrals are known to {goal} or better ({known})"
        return f"known to {known}; for {goal}, {self._advice(worst)}"

    def _advice(self, worst: BandConvergence) -> str:
        total = self.bands[0]
        what = [self._amount(total)]
        if worst is not total:
            if total.units_more == 0:
                what = []
            what.append(f"{self._amount(worst)} for {worst.name}")
        return f"simulate {', '.join(what)}"

    def _amount(self, band: BandConvergence) -> str:
        if self.units_are_replicas:
            return (
                f"{band.units_more} replicas more of {self.unit_picoseconds:.4g} ps "
                f"({band.picoseconds_more:.3g} ps in all)"
            )
        each = band.picoseconds_more / self.n_replicas
        of_each = " of each replica" if self.n_replicas > 1 else ""
        return f"{each:.3g} ps more{of_each}"

    def describe(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {
            "target_relative_95": self.target,
            "unit": "replica" if self.units_are_replicas else "block",
            "n_units": self.n_units,
            "unit_picoseconds": self.unit_picoseconds,
            "bands": [
                {name: getattr(band, name) for name in BandConvergence.__slots__}
                for band in self.bands
            ],
            "sentence": self.sentence,
        }


def convergence(spectrum: Spectrum, *, target: float = TARGET) -> Convergence:
    """Return how much longer to simulate for bands known to a relative precision.

    The integral of a band over ``n`` independent units with mean ``μ`` and standard
    deviation ``σ`` has the relative 95 % half-width ``r = t·σ/(μ√n)`` with Student's
    quantile ``t`` for ``n - 1`` degrees of freedom; the units needed are the fewest
    with ``r`` below the target. The advice is right on average, but from ``n`` units
    ``σ/μ`` and so the advice are themselves uncertain, by a factor of about
    ``1 ± 2/√(2n)`` in the number of units.

    The bands are the three with the largest integrals, each from valley to valley.
    Whether longer replicas would do instead of more of them depends on how fast the
    modes exchange energy, which the spread of whole replicas does not tell.

    Args:
        spectrum: With the spectra of its units, as computed (not as read from a file).
        target: Half the width of the 95 % interval, relative to the integral.

    Raises:
        ValueError: The target is not positive.
    """
    if not target > 0.0:
        raise ValueError(f"the target is {target:g}; give a positive fraction")
    facts = spectrum.metadata
    n_units = len(spectrum.units_intensity)
    length_ps = 1e-3 * float(facts.get("block_length_fs") or 0.0)
    bands: tuple[BandConvergence, ...] = ()
    if n_units >= FEWEST_UNITS and length_ps > 0.0:
        bands = tuple(
            band
            for name, low, high in _bands(spectrum)
            if (band := _band(spectrum, name, low, high, length_ps, target))
        )
    return Convergence(
        target=target,
        n_units=n_units,
        unit_picoseconds=length_ps,
        n_replicas=int(facts.get("n_replicas") or n_units),
        units_are_replicas=facts.get("n_blocks") == 1,
        bands=bands,
    )


def _bands(spectrum: Spectrum) -> list[tuple[str, float, float]]:
    """Return the whole range and the largest bands, each with its name and limits."""
    x, y = spectrum.wavenumbers, spectrum.intensity
    tops = [position for position, _ in peaks(spectrum)]
    places = [int(np.abs(x - top).argmin()) for top in tops]
    valleys = [
        float(x[left + int(y[left : right + 1].argmin())])
        for left, right in pairwise(places)
    ]
    edges = [0.0, *valleys, float(x[-1])]
    found = [
        (f"band at {top:.0f} cm-1", low, high)
        for top, (low, high) in zip(tops, pairwise(edges), strict=False)
        if low < high
    ]
    found.sort(key=lambda band: -float(band_integrals(spectrum, *band[1:]).mean()))
    return [("total", 0.0, float(x[-1])), *found[:_N_BANDS]]


def _band(
    spectrum: Spectrum,
    name: str,
    low: float,
    high: float,
    length_ps: float,
    target: float,
) -> BandConvergence | None:
    integrals = band_integrals(spectrum, low, high)
    mean = float(integrals.mean())
    if mean <= 0.0:
        return None
    variance = _relative_variance(integrals)
    more = max(0, _units_for(variance, target) - len(integrals))
    return BandConvergence(
        name=name,
        low_cm1=low,
        high_cm1=high,
        value=mean,
        relative_95=_half_width(variance, len(integrals)),
        units_more=more,
        picoseconds_more=more * length_ps,
    )


def _relative_variance(integrals: Float[np.ndarray, " units"]) -> float:
    """Return the variance of a unit over its squared mean, ``σ²/μ²``.

    The ratio of moments ``c = s²/m²`` is too small from few units. For those with a
    gamma distribution, in which ``c`` and ``m`` are independent, it has the expectation
    ``v/(1 + v/n)`` with the true ``v``, and about the relative variance ``(2 + 2v)/n``:
    ``c + c²/(n + 2 + 2c)`` is free of the error of order 1/n.
    """
    n_units = len(integrals)
    ratio = float(integrals.var(ddof=1) / integrals.mean() ** 2)
    return ratio + ratio**2 / (n_units + 2.0 + 2.0 * ratio)


def _half_width(variance: float, n_units: int) -> float:
    """Return half the relative width of the 95 % interval of Student."""
    student = -float(stdtrit(n_units - 1, (1.0 - CONFIDENCE) / 2.0))
    return student * sqrt(variance / n_units)


def _units_for(variance: float, target: float) -> int:
    """Return the least number of units whose interval is as narrow as the target."""
    normal = -float(ndtri((1.0 - CONFIDENCE) / 2.0))
    n_units = max(2, ceil(variance * (normal / target) ** 2))
    while _half_width(variance, n_units) > target:  # at most a few times
        n_units += 1
    return n_units
