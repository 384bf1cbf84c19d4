"""Measured peaks and curves, hanging below a computed spectrum; needs matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from molpool_calc.spectra.measured import MeasuredSpectrum

if TYPE_CHECKING:
    import matplotlib.axes

_MEASURED = "#4d4d4d"
_SATURATED = "#b23a48"


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredPeaks:
    """Positions (cm⁻¹) and relative heights of measured peaks, with their source."""

    label: str
    peaks: Sequence[tuple[float, float]]


Measured = MeasuredPeaks | MeasuredSpectrum


def panel_height(experiment: Measured | None) -> float:
    """Return the height of the panel of an experiment, relative to 5.5 above it."""
    if experiment is None:
        return 0.0
    return 1.0 if isinstance(experiment, MeasuredPeaks) else 2.4


def measured_positions(experiment: Measured | None) -> list[float]:
    """Return the positions that the axis must reach to, cm⁻¹."""
    if isinstance(experiment, MeasuredPeaks):
        return [position for position, _ in experiment.peaks]
    return []


def draw_measured(panel: "matplotlib.axes.Axes", experiment: Measured) -> None:
    """Draw an experiment upside down, as absorption in a transmission spectrum."""
    if isinstance(experiment, MeasuredPeaks):
        _draw_peaks(panel, experiment)
    else:
        _draw_curve(panel, experiment)


def _draw_peaks(panel: "matplotlib.axes.Axes", experiment: MeasuredPeaks) -> None:
    positions = [position for position, _ in experiment.peaks]
    heights = np.array([height for _, height in experiment.peaks])
    relative = heights / max(heights.max(initial=0.0), 1e-300)
    panel.vlines(positions, 0.0, relative, color=_MEASURED, linewidth=1.2)
    panel.set_ylim(1.15, 0.0)
    _hide_scale(panel)
    _name(panel, experiment.label)


def _draw_curve(panel: "matplotlib.axes.Axes", experiment: MeasuredSpectrum) -> None:
    x, y = experiment.wavenumbers, experiment.intensity
    shown = (x >= min(panel.get_xlim())) & (x <= max(panel.get_xlim()))
    top = float(y[shown].max(initial=0.0)) or 1.0
    panel.plot(x, y, color=_MEASURED, linewidth=0.8)
    panel.set_ylim(1.2 * top, 0.0)
    if experiment.saturated.any():
        lost = np.where(experiment.saturated, y, np.nan)
        panel.plot(x, lost, color=_SATURATED, linewidth=1.6)
        _name(panel, f"experiment, {experiment.title} (red: saturated)")
    else:
        _name(panel, f"experiment, {experiment.title}")
    if experiment.is_absolute:
        panel.set_ylabel("same unit", fontsize=8)
    else:
        _hide_scale(panel)


def _hide_scale(panel: "matplotlib.axes.Axes") -> None:
    """Hide an ordinate of which only ratios mean anything."""
    panel.spines["left"].set_visible(False)
    panel.set_yticks([])


def _name(panel: "matplotlib.axes.Axes", label: str) -> None:
    panel.text(
        0.005,
        0.04,
        label,
        transform=panel.transAxes,
        fontsize=8,
        color=_MEASURED,
        va="bottom",
    )
