"""``assignment.csv``, ``experiment.csv`` and ``experiment_curve.csv``.

The first line of each is a comment with units and metadata, the second names the
columns. Fields of several values separate them by semicolons. What is unknown is empty.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from molpool_calc.spectra.assigned import BandAssignment
from molpool_calc.spectra.comparison import (
    INTENSITY_LIMIT,
    POSITION_LIMIT,
    ExperimentComparison,
)
from molpool_calc.spectra.files import METADATA, write_whole
from molpool_calc.spectra.measured import MeasuredSpectrum

ASSIGNMENT = "assignment.csv"
EXPERIMENT = "experiment.csv"
EXPERIMENT_CURVE = "experiment_curve.csv"

_ASSIGNMENT_COLUMNS = (
    "band_cm-1,low_cm-1,high_cm-1,area_km_mol,label,modes,mode_wavenumbers_cm-1,"
    "mode_shares,motions,motion_shares,reliability"
)
_EXPERIMENT_COLUMNS = (
    "computed_cm-1,measured_cm-1,shift_cm-1,computed_km_mol,lower_km_mol,"
    "upper_km_mol,measured_km_mol,computed_share,measured_share,saturated,label"
)
_CURVE_COLUMNS = "wavenumber_cm-1,intensity"


def write_assignment(
    bands: Sequence[BandAssignment], path: Path, facts: Mapping[str, Any]
) -> None:
    """Write the bands with their modes and motions.

    Args:
        bands: In the order of the rows.
        path: Of the file.
        facts: Metadata, of what JSON knows.
    """
    rows = [
        [
            f"{band.position_cm1:.1f}",
            f"{band.low_cm1:.1f}",
            f"{band.high_cm1:.1f}",
            f"{band.area_km_mol:.4g}",
            band.label,
            ";".join(str(mode.number) for mode in band.modes),
            ";".join(f"{mode.wavenumber_cm1:.1f}" for mode in band.modes),
            ";".join(f"{mode.share:.3f}" for mode in band.modes),
            ";".join(motion.motion for motion in band.motions),
            ";".join(f"{motion.share:.3f}" for motion in band.motions),
            f"{band.reliability:.3f}",
        ]
        for band in bands
    ]
    units = "cm-1 and km/mol, shares are fractions"
    _write(path, units, facts, _ASSIGNMENT_COLUMNS, rows)


def write_comparison(comparison: ExperimentComparison, path: Path) -> None:
    """Write computed beside measured bands."""
    rows = [
        [
            _fixed(band.computed_cm1),
            _fixed(band.measured_cm1),
            _fixed(band.shift_cm1),
            _short(band.computed_km_mol),
            _short(band.lower_km_mol),
            _short(band.upper_km_mol),
            _short(band.measured_km_mol),
            _short(band.computed_share),
            _short(band.measured_share),
            str(int(band.saturated)),
            band.label,
        ]
        for band in comparison.bands
    ]
    units = "cm-1 and km/mol, shares are fractions, shift is computed minus measured"
    _write(path, units, comparison_facts(comparison), _EXPERIMENT_COLUMNS, rows)


def write_measured(measured: MeasuredSpectrum, path: Path) -> None:
    """Write a measured curve; its ordinate is what the comment says."""
    facts = {"title": measured.title, "source": measured.source}
    points = zip(measured.wavenumbers, measured.intensity, strict=True)
    rows = [[f"{x:.10g}", f"{y:.6g}"] for x, y in points]
    _write(path, measured.unit, facts, _CURVE_COLUMNS, rows)


def comparison_facts(comparison: ExperimentComparison) -> dict[str, Any]:
    """Return what was compared with what, for files and JSON."""
    measured = comparison.measured
    return {
        "title": measured.title,
        "source": measured.source,
        "unit": measured.unit,
        "remarks": list(measured.remarks),
        "wavenumber_scale": comparison.scale,
        "smoothing_cm1": comparison.width,
        "position_limit_cm1": POSITION_LIMIT[0],
        "position_limit_relative": POSITION_LIMIT[1],
        "intensity_limit_decades": INTENSITY_LIMIT,
        "range_cm1": [comparison.low, comparison.high],
        "computed_km_mol": comparison.computed_km_mol.value,
        "computed_95_percent": [
            comparison.computed_km_mol.lower,
            comparison.computed_km_mol.upper,
        ],
        "measured_km_mol": comparison.measured_km_mol,
    }


def _write(
    path: Path,
    unit: str,
    facts: Mapping[str, Any],
    columns: str,
    rows: Iterable[Sequence[str]],
) -> None:
    text = io.StringIO()
    metadata = json.dumps(dict(facts), ensure_ascii=True)
    text.write(f"# unit: {unit}{METADATA}{metadata}\n{columns}\n")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(path, text.getvalue())


def _fixed(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
