"""What ``molpool spectrum`` makes of ring polymers, in ``quantum`` of a run."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from molpool_calc.commands.spectrum_files import fineness_of

if TYPE_CHECKING:
    from molpool_calc.spectra import Spectrum

# Options that ask for what ring polymers do not have, with what they have instead.
_WHY_NOT = {
    "quantum_correction": "their dipole needs no correction",
    "temperature": "their run states it",
    "assign": "their velocities are no vibrations",
    "experiment": "bands are compared with those of classical runs",
}


def are_rings(source: Path) -> bool:
    """Return whether the source is a run of ring polymers."""
    from molpool_calc.path_integrals.spectrum import holds_rings  # noqa: PLC0415

    return source.is_dir() and holds_rings(source)


def spectrum_of_rings(arguments: Namespace) -> "Spectrum":
    """Return the infrared spectrum of a run of ring polymers.

    Raises:
        ValueError: another kind, or an option that is of classical runs.
    """
    from molpool_calc.path_integrals.spectrum import (  # noqa: PLC0415 - light start
        quantum_spectrum,
    )

    folder = arguments.sources[0]
    if arguments.kind != "ir":
        raise ValueError(
            f"{folder} is a run of ring polymers, which records dipoles only and so "
            f"has no spectrum of kind {arguments.kind}; give --kind ir, or the folder "
            "of a classical run"
        )
    for name, why in _WHY_NOT.items():
        if getattr(arguments, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} means nothing to the run of ring polymers "
                f"in {folder}: {why}; leave it out"
            )
    return quantum_spectrum(folder, fineness_of(arguments))
