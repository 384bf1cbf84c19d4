"""The options of ``molpool spectrum`` that belong to some kinds of spectra only."""

from argparse import ArgumentParser, Namespace
from typing import Any

KINDS = ("ir", "raman", "vdos")
CORRECTIONS = ("harmonic", "standard", "schofield", "classical")
POLARIZATIONS = (
    "unpolarized",
    "parallel",
    "perpendicular",
    "isotropic",
    "anisotropic",
)
# Options that not all kinds have, with those that do.
_BELONG = {
    "quantum_correction": ("ir", "raman"),
    "temperature": ("ir", "raman"),
    "laser_nm": ("raman",),
    "polarization": ("raman",),
    "quantity": ("raman",),
    "per": ("vdos",),
    "assign": ("ir",),
    "experiment": ("ir",),
    "scale_wavenumbers": ("ir",),
}
# Those that the estimate of the spectrum does not depend on.
_AFTERWARDS = ("assign", "experiment", "scale_wavenumbers")


def add_options_of_kinds(parser: ArgumentParser) -> None:
    """Add options without default values, so that a misplaced one is noticed."""
    add = parser.add_argument
    add(
        "--quantum-correction",
        choices=CORRECTIONS,
        help="of ir and raman: of the classical autocorrelation (default: harmonic)",
    )
    add(
        "--temperature",
        type=float,
        help="of ir and raman: in K, where none is stated (default of trajectory "
        "files: as their atoms move)",
    )
    add("--laser-nm", type=float, help="of raman: wavelength (default: 532)")
    add(
        "--polarization",
        choices=POLARIZATIONS,
        help="of raman: of the scattered light, or a part of it (default: unpolarized)",
    )
    add(
        "--quantity",
        choices=("cross-section", "activity"),
        help="of raman: differential cross section of Stokes scattering, or activity "
        "(default: cross-section)",
    )
    add(
        "--per",
        choices=("element", "atom"),
        help="of vdos: whose shares to give in further columns (default: element)",
    )


def options_of_kind(arguments: Namespace) -> dict[str, Any]:
    """Return the options of the kind that were given.

    Raises:
        ValueError: one of another kind was given.
    """
    given = {
        name: getattr(arguments, name)
        for name in _BELONG
        if getattr(arguments, name) is not None
    }
    for name in given:
        if arguments.kind not in _BELONG[name]:
            raise ValueError(
                f"--{name.replace('_', '-')} means nothing to a spectrum of kind "
                f"{arguments.kind}; leave it out, or give --kind "
                f"{' or '.join(_BELONG[name])}"
            )
    for name in _AFTERWARDS:
        given.pop(name, None)
    if "quantum_correction" in given:
        given["correction"] = given.pop("quantum_correction")
    if arguments.kind == "raman":
        from molpool_calc.spectra import Scattering  # noqa: PLC0415 - light start

        names = ("laser_nm", "polarization", "quantity")
        chosen = {name: given.pop(name) for name in names if name in given}
        given["scattering"] = Scattering(**chosen)
    return given
