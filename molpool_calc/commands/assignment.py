"""What moves in the bands, as ``ir``, ``spectrum`` and ``vib`` say it."""

from collections.abc import Mapping, Sequence
from typing import Any

from molpool_calc.commands.tables import table

_MOST_MODES = 3
_UNRELIABLE = 0.5


def assignment_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a table of the bands with modes and motions for people to read."""
    rows = [
        [
            f"{band['position_cm1']:.0f}",
            f"{band['area_km_mol']:.3g}",
            _modes(band["modes"]) + _doubt(band["reliability"]),
            motions_text(band["motions"]),
        ]
        for band in result["bands"]
    ]
    header = ["band\ncm⁻¹", "area\nkm/mol", "modes\n", "motions\n"]
    lines = ["bands by mode velocities:", table(header, rows, n_left=len(header))]
    if any(band["reliability"] < _UNRELIABLE for band in result["bands"]):
        lines.append(
            "? less than half of the motion in this band is of modes that vibrate here "
            "in the harmonic limit: the structure has left its reference"
        )
    return lines


def motions_text(motions: Sequence[Mapping[str, Any]]) -> str:
    """Return the motions that make up most of a band or mode, with their per cents."""
    named = [motion for motion in motions if motion["share"] >= 0.1]  # noqa: PLR2004
    return ", ".join(f"{m['motion']} {100.0 * m['share']:.0f} %" for m in named)


def _modes(modes: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(f"{m['number']}" for m in modes[:_MOST_MODES])


def _doubt(reliability: float) -> str:
    return " ?" if reliability < _UNRELIABLE else ""
