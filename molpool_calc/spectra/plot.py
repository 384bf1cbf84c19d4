"""Pictures of spectra as a chemist would publish them; needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from molpool_calc.spectra.harmonic import HarmonicSpectrum
from molpool_calc.spectra.plot_measured import (
    Measured,
    draw_measured,
    measured_positions,
    panel_height,
)
from molpool_calc.spectra.plot_sticks import draw_sticks, heights_of
from molpool_calc.spectra.spectrum import INFRARED_UNIT, Spectrum, peaks

if TYPE_CHECKING:
    import matplotlib.artist
    import matplotlib.axes
    import matplotlib.figure

_LINE = "#1b3a5c"
_BAND = "#a9c4dd"
_CLASSICAL = "#9a9a9a"
_QUANTITIES = {"raman": "Raman scattering", "vdos": "density of states"}
_BAND_LABELS = "#3d6b4f"
_MOST_LABELS = 12
# Names of motions at the upper edge take up to a quarter of the height.
_ROOM_FOR_LABELS = 1.35
# Least distance of upright labels, as a fraction of the axis: 8 pt on 6 inches.
_LABEL_WIDTH = 0.019
# The axis ends at most this far above the highest intensity: the upper limit at the
# top of the strongest band of a short run would flatten all others.
_HIGHEST_BAND = 1.6


def plot_infrared(
    spectrum: Spectrum,
    path: str | Path,
    *,
    title: str,
    sticks: HarmonicSpectrum | None = None,
    experiment: Measured | None = None,
    labels: Sequence[tuple[float, str]] = (),
    classical: Spectrum | None = None,
) -> None:
    """Draw an infrared spectrum with its band to a PNG, SVG or PDF file.

    Args:
        spectrum: The line and, if it has one, the 95 % band.
        path: Where to write; the suffix decides on the format.
        title: Stands above the axes.
        sticks: Harmonic band strengths, on an axis of their own.
        experiment: Measured peaks or a measured curve, in a panel below.
        labels: Positions (cm⁻¹) and names of bands, at the upper edge.
        classical: With classical nuclei, where ``spectrum`` has quantum ones; grey.
    """
    figure = _compose(spectrum, title, sticks, experiment, labels, classical)
    figure.savefig(path, dpi=300)


def plot_spectrum(
    spectrum: Spectrum,
    path: str | Path,
    *,
    title: str,
    sticks: HarmonicSpectrum | None = None,
) -> None:
    """Draw a spectrum of any kind with its band to a PNG, SVG or PDF file.

    Args:
        spectrum: The line and, if it has one, the 95 % band.
        path: Where to write; the suffix decides on the format.
        title: Stands above the axes.
        sticks: Harmonic intensities, where the spectrum has such.
    """
    known = None if sticks is None or heights_of(spectrum, sticks) is None else sticks
    _compose(spectrum, title, known, None).savefig(path, dpi=300)


def _compose(
    spectrum: Spectrum,
    title: str,
    sticks: HarmonicSpectrum | None,
    experiment: Measured | None,
    labels: Sequence[tuple[float, str]] = (),
    classical: Spectrum | None = None,
) -> "matplotlib.figure.Figure":
    # Here, not above: computing spectra does not need matplotlib, and a figure made
    # without pyplot leaves the caller's figures and backend alone.
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415

    layout = ConstrainedLayoutEngine(h_pad=0.05, hspace=0.0)
    figure = Figure(figsize=(7.2, 4.4), layout=layout)
    axes, panel = _make_axes(figure, panel_height(experiment))
    left = _left_end(spectrum, sticks, experiment)
    axes.set_xlim(left, 0.0)
    shown = spectrum.wavenumbers <= left
    top = float(spectrum.intensity[shown].max(initial=0.0)) or 1.0
    if classical is not None:
        axes.plot(
            classical.wavenumbers,
            classical.intensity,
            color=_CLASSICAL,
            linewidth=0.9,
            label="classical nuclei",
        )
        top = max(top, float(classical.intensity.max(initial=0.0)))
    _draw_line(axes, spectrum, top)
    _label_peaks(axes, spectrum, left)
    _label_bands(axes, labels, left)
    handles, names = axes.get_legend_handles_labels()
    if sticks is not None:
        more_handles, more_names = draw_sticks(axes, spectrum, sticks)
        handles, names = [*handles, *more_handles], [*names, *more_names]
    if experiment is not None:
        draw_measured(panel, experiment)
    panel.set_xlabel("wavenumber / cm$^{-1}$")
    axes.set_title(title, loc="left", fontsize=11, pad=20)
    _place_legend(axes, handles, names)
    return figure


def _make_axes(
    figure: "matplotlib.figure.Figure", height: float
) -> tuple["matplotlib.axes.Axes", "matplotlib.axes.Axes"]:
    if height == 0.0:
        axes = figure.add_subplot()
        panel = axes
    else:
        axes, panel = figure.subplots(2, 1, sharex=True, height_ratios=(5.5, height))
    for each in {axes, panel}:
        each.minorticks_on()
        each.tick_params(which="both", direction="out", labelsize=9)
        each.spines[["top", "right"]].set_visible(False)
    return axes, panel


def _left_end(
    spectrum: Spectrum,
    sticks: HarmonicSpectrum | None,
    experiment: Measured | None,
) -> float:
    """Return the highest wavenumber worth showing, in full hundreds."""
    positions = [position for position, _ in peaks(spectrum)]
    if sticks is not None:
        positions.extend(sticks.wavenumbers_cm1.tolist())
    positions.extend(measured_positions(experiment))
    end = float(spectrum.wavenumbers[-1])
    highest = max(positions, default=end)
    return float(min(100.0 * np.ceil((1.04 * highest + 60.0) / 100.0), end))


def _draw_line(axes: "matplotlib.axes.Axes", spectrum: Spectrum, top: float) -> None:
    x = spectrum.wavenumbers
    highest = top
    if spectrum.lower is not None and spectrum.upper is not None:
        axes.fill_between(
            x,
            np.maximum(spectrum.lower, 0.0),
            spectrum.upper,
            color=_BAND,
            alpha=0.6,
            linewidth=0.0,
            label="95 % confidence",
        )
        shown = x <= axes.get_xlim()[0]
        highest = min(
            float(spectrum.upper[shown].max(initial=0.0)), _HIGHEST_BAND * top
        )
    scale = spectrum.metadata.get("wavenumber_scale")
    name = "quantum nuclei" if "beads" in spectrum.metadata else "MD"
    name = name if scale is None else f"{name}, wavenumbers × {scale:g}"
    axes.plot(x, spectrum.intensity, color=_LINE, linewidth=1.1, label=name)
    # Room for an upright label of four digits above the highest band.
    axes.set_ylim(0.0, max(1.22 * top, 1.05 * highest))
    unit = (
        "km mol$^{-1}$ per cm$^{-1}$"
        if spectrum.unit == INFRARED_UNIT
        else spectrum.unit
    )
    quantity = _QUANTITIES.get(str(spectrum.metadata.get("kind")), "absorption")
    axes.set_ylabel(f"{quantity} ({unit})")


def _label_peaks(axes: "matplotlib.axes.Axes", spectrum: Spectrum, left: float) -> None:
    from matplotlib.patheffects import withStroke  # noqa: PLC0415

    shown = [peak for peak in peaks(spectrum) if peak[0] <= left]
    strongest = sorted(sorted(shown, key=lambda peak: -peak[1])[:_MOST_LABELS])
    distance = _LABEL_WIDTH * left
    places = _spread([position for position, _ in strongest], distance)
    for (position, top), place in zip(strongest, places, strict=True):
        # A label clears the flanks of the neighbours that it stands above.
        below = np.abs(spectrum.wavenumbers - place) < 0.5 * distance
        height = max(top, float(spectrum.intensity[below].max(initial=0.0)))
        axes.annotate(
            f"{position:.0f}",
            (place, height),
            xytext=(0.0, 5.0),
            textcoords="offset points",
            rotation=90.0,
            ha="center",
            va="bottom",
            fontsize=7.5,
            color=_LINE,
            path_effects=[withStroke(linewidth=2.0, foreground="white")],
        )


def _label_bands(
    axes: "matplotlib.axes.Axes", labels: Sequence[tuple[float, str]], left: float
) -> None:
    """Write what moves in a band, from the upper edge down, with room made for it."""
    from matplotlib.patheffects import withStroke  # noqa: PLC0415

    shown = sorted((x, text) for x, text in labels if x <= left and text)
    if not shown:
        return
    axes.set_ylim(0.0, _ROOM_FOR_LABELS * axes.get_ylim()[1])
    places = _spread([x for x, _ in shown], 1.5 * _LABEL_WIDTH * left)
    for (_, text), place in zip(shown, places, strict=True):
        axes.text(
            place,
            0.99,
            text.replace(" + ", "\n+ "),
            transform=axes.get_xaxis_transform(),
            rotation=90.0,
            ha="center",
            va="top",
            fontsize=6.5,
            color=_BAND_LABELS,
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
        )


def _spread(positions: list[float], distance: float) -> list[float]:
    """Return ascending positions moved as little as possible to be a distance apart.

    Positions that are too close form a group around their mean; groups that come too
    close merge (least squares by pooling adjacent violators).
    """
    groups: list[tuple[float, int]] = []
    for position in positions:
        groups.append((position, 1))
        while len(groups) > 1:
            (left, n_left), (right, n_right) = groups[-2:]
            if right - left >= distance * (n_left + n_right) / 2.0:
                break
            n = n_left + n_right
            groups[-2:] = [((left * n_left + right * n_right) / n, n)]
    return [
        middle + distance * (k - (n - 1) / 2.0)
        for middle, n in groups
        for k in range(n)
    ]


def _place_legend(
    axes: "matplotlib.axes.Axes",
    handles: list["matplotlib.artist.Artist"],
    labels: list[str],
) -> None:
    axes.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.3,
        borderpad=0.0,
        ncols=len(handles),
        frameon=False,
        fontsize=8.5,
        handlelength=1.4,
    )
