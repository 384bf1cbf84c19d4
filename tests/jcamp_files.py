"""Small JCAMP-DX files of our own, written by hand to the letter of the format."""

from pathlib import Path

import numpy as np


def block(x, y, *, head="", **labels):
    """The text of one spectrum with five ordinates a line."""
    stated = {
        "TITLE": "test gas",
        "JCAMP-DX": "4.24",
        "DATA TYPE": "INFRARED SPECTRUM",
        "ORIGIN": "the test bench",
        "STATE": "gas",
        "XUNITS": "1/CM",
        "YUNITS": "TRANSMITTANCE",
        "XFACTOR": "1.0",
        "YFACTOR": "1.0",
        "FIRSTX": f"{x[0]:.8g}",
        "LASTX": f"{x[-1]:.8g}",
        "NPOINTS": str(len(x)),
        **{key.replace("_", " "): value for key, value in labels.items()},
    }
    lines = [f"##{key}={value}" for key, value in stated.items() if value is not None]
    lines += [head] if head else []
    lines.append("##XYDATA=(X++(Y..Y))")
    for start in range(0, len(x), 5):
        ordinates = " ".join(f"{value:.8g}" for value in y[start : start + 5])
        lines.append(f"{x[start]:.8g} {ordinates}")
    return "\n".join([*lines, "##END="]) + "\n"


def write(path: Path, *blocks: str) -> Path:
    path.write_text("".join(blocks), encoding="utf-8")
    return path


def gaussian(x, position, fwhm, area):
    """A line of the given area."""
    width = fwhm / (2.0 * np.sqrt(2.0 * np.log(2.0)))
    line = np.exp(-0.5 * ((x - position) / width) ** 2)
    return area * line / (width * np.sqrt(2.0 * np.pi))
