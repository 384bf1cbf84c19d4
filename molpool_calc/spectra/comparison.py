"""A computed spectrum beside a measured one: which bands belong together, how far off.

Positions are compared as they are: a shift is computed minus measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from scipy.integrate import trapezoid
from scipy.optimize import linear_sum_assignment

from molpool_calc.spectra.bands import Band, find_bands
from molpool_calc.spectra.measured import MeasuredSpectrum
from molpool_calc.spectra.spectrum import BandIntegral, Spectrum, band_integral

POSITION_LIMIT = (40.0, 0.06)
"""Bands further apart than 40 cm⁻¹ and 6 % of the measured position are not paired.

Harmonic and classical wavenumbers of density functionals are 3 to 5 % high.
"""

INTENSITY_LIMIT = 1.5
"""Bands whose shares differ by more decades than this are not paired."""

# Absorbance without a baseline of its own: that much of the range has no band.
_BASELINE_PERCENT = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BandComparison:
    """A computed and a measured band that belong together, or one of them alone.

    Positions in cm⁻¹, ``shift_cm1`` computed minus measured; areas in km/mol, where the
    experiment has them; shares are fractions of the area of all bands. ``saturated``
    says that the measured area is a lower bound. ``label`` names the motion, if known.
    """

    computed_cm1: float | None
    measured_cm1: float | None
    shift_cm1: float | None
    computed_km_mol: float | None
    lower_km_mol: float | None
    upper_km_mol: float | None
    measured_km_mol: float | None
    computed_share: float | None
    measured_share: float | None
    saturated: bool
    label: str = ""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class ExperimentComparison:
    """All bands, and the totals over the range that both spectra have.

    ``computed`` is the spectrum that was compared, with its wavenumbers multiplied by
    ``scale``; ``measured_km_mol`` is ``None`` where the experiment is relative.
    """

    bands: tuple[BandComparison, ...]
    computed: Spectrum
    measured: MeasuredSpectrum
    scale: float
    width: float
    low: float
    high: float
    computed_km_mol: BandIntegral
    measured_km_mol: float | None


def demand_scale(factor: float) -> None:
    """Raise ValueError for a factor of wavenumbers that corrects nothing."""
    if not 0.5 <= factor <= 2.0:  # noqa: PLR2004 (nothing else is a correction)
        raise ValueError(
            f"wavenumbers cannot be scaled by {factor:g}; give a factor between 0.5 "
            "and 2, such as 0.9655"
        )


def scale_wavenumbers(spectrum: Spectrum, factor: float) -> Spectrum:
    """Return a spectrum with multiplied wavenumbers and unchanged band integrals.

    Raises:
        ValueError: The factor is not between 0.5 and 2.
    """
    demand_scale(factor)
    if factor == 1.0:
        return spectrum

    def scaled(
        values: Float[np.ndarray, "..."] | None,
    ) -> Float[np.ndarray, "..."] | None:
        return None if values is None else values / factor

    return replace(
        spectrum,
        wavenumbers=spectrum.wavenumbers * factor,
        intensity=spectrum.intensity / factor,
        lower=scaled(spectrum.lower),
        upper=scaled(spectrum.upper),
        units_intensity=spectrum.units_intensity / factor,
        metadata=MappingProxyType({**spectrum.metadata, "wavenumber_scale": factor}),
        components={key: v / factor for key, v in spectrum.components.items()},
    )


def compare(
    spectrum: Spectrum,
    measured: MeasuredSpectrum,
    *,
    width: float,
    scale: float = 1.0,
) -> ExperimentComparison:
    """Return the computed bands beside the measured ones.

    Both spectra are searched for bands in the same way, at the same width, within the
    range that both have. Pairs are those of least total cost (Kuhn 1955, Nav. Res.
    Logist. Q. 2, 83): of a pair, the squared distance in units of its limit plus the
    squared logarithm (base 10) of the ratio of their shares; leaving two bands alone
    costs 1.

    Args:
        spectrum: Infrared, km/mol per cm⁻¹.
        measured: What it is compared with.
        width: Under which a band is one maximum, see `spectra.bands.band_width`.
        scale: Factor of the computed wavenumbers.

    Raises:
        ValueError: The spectra have no range in common.
    """
    computed = scale_wavenumbers(spectrum, scale)
    low = float(max(computed.wavenumbers[0], measured.wavenumbers[0]))
    high = float(min(computed.wavenumbers[-1], measured.wavenumbers[-1]))
    if high - low < 2.0 * width:
        raise ValueError(
            f"the computed spectrum reaches from {computed.wavenumbers[0]:.0f} to "
            f"{computed.wavenumbers[-1]:.0f} cm-1 and the measured one from "
            f"{measured.wavenumbers[0]:.0f} to {measured.wavenumbers[-1]:.0f} cm-1; "
            "give a measured spectrum of the same range"
        )
    ours = _bands(computed.wavenumbers, computed.intensity, low, high, width)
    corrected = _without_baseline(measured)
    theirs = _bands(measured.wavenumbers, corrected, low, high, width)
    areas = [band_integral(computed, band.low, band.high) for band in ours]
    measured_areas = np.array(
        [_area(measured.wavenumbers, corrected, band) for band in theirs]
    )
    return ExperimentComparison(
        bands=_pairs(ours, areas, theirs, measured_areas, measured),
        computed=computed,
        measured=measured,
        scale=scale,
        width=width,
        low=low,
        high=high,
        computed_km_mol=band_integral(computed, low, high),
        measured_km_mol=_total(measured, low, high) if measured.is_absolute else None,
    )


def _without_baseline(measured: MeasuredSpectrum) -> Float[np.ndarray, " bins"]:
    """Return intensities; those of an absorbance start at its quietest regions."""
    if measured.is_absolute:
        return measured.intensity
    quiet = float(np.percentile(measured.intensity, _BASELINE_PERCENT))
    return measured.intensity - quiet


def _bands(
    x: Float[np.ndarray, " bins"],
    y: Float[np.ndarray, " bins"],
    low: float,
    high: float,
    width: float,
) -> list[Band]:
    inside = (x >= low) & (x <= high)
    return find_bands(x[inside], y[inside], width=width)


def _area(
    x: Float[np.ndarray, " bins"], y: Float[np.ndarray, " bins"], band: Band
) -> float:
    inside = (x >= band.low) & (x <= band.high)
    return float(trapezoid(y[inside], x[inside]))


def _total(measured: MeasuredSpectrum, low: float, high: float) -> float:
    whole = Band(position=low, low=low, high=high, height=0.0)
    return _area(measured.wavenumbers, measured.intensity, whole)


def _pairs(
    ours: Sequence[Band],
    areas: Sequence[BandIntegral],
    theirs: Sequence[Band],
    measured_areas: Float[np.ndarray, " theirs"],
    measured: MeasuredSpectrum,
) -> tuple[BandComparison, ...]:
    our_areas = np.array([area.value for area in areas])
    shares = our_areas / max(float(our_areas.sum()), 1e-300)
    their_shares = measured_areas / max(float(measured_areas.sum()), 1e-300)
    pairs = match_bands(
        np.array([band.position for band in ours]),
        shares,
        np.array([band.position for band in theirs]),
        their_shares,
    )
    rows = []
    for i, j in pairs:
        row = _ALONE
        if i is not None:
            row = replace(
                row,
                computed_cm1=ours[i].position,
                computed_km_mol=areas[i].value,
                lower_km_mol=areas[i].lower,
                upper_km_mol=areas[i].upper,
                computed_share=float(shares[i]),
            )
        if j is not None:
            area = float(measured_areas[j]) if measured.is_absolute else None
            row = replace(
                row,
                measured_cm1=theirs[j].position,
                measured_km_mol=area,
                measured_share=float(their_shares[j]),
                saturated=_is_saturated(measured, theirs[j]),
            )
        if i is not None and j is not None:
            row = replace(row, shift_cm1=ours[i].position - theirs[j].position)
        rows.append(row)
    return tuple(rows)


_ALONE = BandComparison(
    computed_cm1=None,
    measured_cm1=None,
    shift_cm1=None,
    computed_km_mol=None,
    lower_km_mol=None,
    upper_km_mol=None,
    measured_km_mol=None,
    computed_share=None,
    measured_share=None,
    saturated=False,
)


def _is_saturated(measured: MeasuredSpectrum, band: Band) -> bool:
    x = measured.wavenumbers
    return bool(measured.saturated[(x >= band.low) & (x <= band.high)].any())


def match_bands(
    positions: Float[np.ndarray, " ours"],
    shares: Float[np.ndarray, " ours"],
    measured_positions: Float[np.ndarray, " theirs"],
    measured_shares: Float[np.ndarray, " theirs"],
) -> list[tuple[int | None, int | None]]:
    """Return pairs of computed and measured bands, ``None`` for one left alone.

    They stand in ascending order of their positions. See `compare` for the cost.
    """
    n, m = len(positions), len(measured_positions)
    reach = POSITION_LIMIT[0] + POSITION_LIMIT[1] * measured_positions
    apart = np.abs(positions[:, None] - measured_positions) / reach
    # Shares of 0 or below come from noise around 0: no pair, as of any ratio.
    ours, theirs = np.maximum(shares, 1e-9), np.maximum(measured_shares, 1e-9)
    decades = np.abs(np.log10(ours)[:, None] - np.log10(theirs))
    cost = apart**2 + decades**2
    cost[(apart > 1.0) | (decades > INTENSITY_LIMIT)] = 1e6
    # Every band may also stay alone, at half the cost of a pair not worth making.
    square = np.full((n + m, n + m), 0.5)
    square[:n, :m] = cost
    square[n:, m:] = 0.0
    rows, columns = linear_sum_assignment(square)
    pairs: list[tuple[int | None, int | None]] = [
        (int(i) if i < n else None, int(j) if j < m else None)
        for i, j in zip(rows, columns, strict=True)
        if i < n or j < m
    ]

    def place(pair: tuple[int | None, int | None]) -> float:
        i, j = pair
        return float(positions[i] if j is None else measured_positions[j])

    return sorted(pairs, key=place)
