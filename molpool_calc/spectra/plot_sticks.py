"""Harmonic intensities as sticks beside a spectrum, in its own quantity."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from molpool_calc.spectra.harmonic import HarmonicSpectrum
from molpool_calc.spectra.raman import cross_section_factor
from molpool_calc.spectra.spectrum import Spectrum

if TYPE_CHECKING:
    import matplotlib.artist
    import matplotlib.axes

_STICKS = "#c8641e"
# Sticks shorter than this fraction of the longest get no head.
_SHORTEST_STICK = 0.01


def heights_of(
    spectrum: Spectrum, sticks: HarmonicSpectrum
) -> Float[np.ndarray, " vibrations"] | None:
    """Return harmonic intensities in the quantity of a spectrum, 0 below its range.

    Of Raman spectra activities or cross sections, in the polarization of the spectrum:
    with the depolarization ratio ``ρ``, ``S/(1 + ρ)`` of an activity ``S`` is parallel.
    ``None`` where the vibrations have no such intensity.
    """
    kind = spectrum.metadata.get("kind")
    if kind == "infrared":
        return sticks.ir_km_mol
    if kind != "raman" or sticks.raman_a4_amu is None or sticks.depolarization is None:
        return None
    shown = sticks.wavenumbers_cm1 >= spectrum.wavenumbers[0]
    ratio = np.nan_to_num(sticks.depolarization)
    parallel = sticks.raman_a4_amu / (1.0 + ratio)
    share = {
        "parallel": 1.0,
        "perpendicular": ratio,
        "isotropic": 1.0 - 4.0 / 3.0 * ratio,
        "anisotropic": 7.0 / 3.0 * ratio,
    }.get(str(spectrum.metadata["polarization"]), 1.0 + ratio)
    heights = np.where(shown, parallel * share, 0.0)
    if spectrum.metadata["quantity"] == "cross-section" and shown.any():
        heights[shown] *= cross_section_factor(
            sticks.wavenumbers_cm1[shown],
            temperature=float(spectrum.metadata["temperature"] or 0.0),
            laser_nm=float(spectrum.metadata["laser_nm"] or 0.0),
        )
    return heights


def draw_sticks(
    axes: "matplotlib.axes.Axes", spectrum: Spectrum, sticks: HarmonicSpectrum
) -> tuple[list["matplotlib.artist.Artist"], list[str]]:
    """Draw sticks on an axis of their own, and return what the legend says of them."""
    intensities = heights_of(spectrum, sticks)
    real = sticks.wavenumbers_cm1 > 0.0
    heights = (sticks.ir_km_mol if intensities is None else intensities)[real]
    twin = axes.twinx()
    positions = sticks.wavenumbers_cm1[real]
    twin.vlines(positions, 0.0, heights, color=_STICKS, linewidth=0.9, label="harmonic")
    visible = heights > _SHORTEST_STICK * heights.max(initial=0.0)
    twin.plot(positions[visible], heights[visible], "o", color=_STICKS, markersize=2.2)
    # The line of the spectrum passes in front of the sticks.
    axes.set_zorder(twin.get_zorder() + 1)
    axes.patch.set_visible(False)
    twin.set_ylim(0.0, 1.6 * float(heights.max(initial=0.0)) or 1.0)
    twin.minorticks_on()
    name = "harmonic band strength (km mol$^{-1}$)"
    if spectrum.metadata.get("kind") == "raman":
        name = f"harmonic intensity ({spectrum.unit.removesuffix(' per cm-1')})"
    twin.set_ylabel(name, color=_STICKS)
    twin.tick_params(axis="y", which="both", colors=_STICKS, labelsize=9)
    twin.spines["top"].set_visible(False)
    twin.spines["right"].set_color(_STICKS)
    drawn, names = twin.get_legend_handles_labels()
    return list(drawn), list(names)
