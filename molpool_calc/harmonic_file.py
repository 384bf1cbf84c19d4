"""The file ``harmonic.json``: the vibrations of one relaxed structure, for later use.

Its keys: ``format``; ``potential`` and ``sha256``, what the vibrations were made with
(lists for a committee); ``symbols``; ``positions_angstrom`` [atoms, 3]; ``masses_amu``;
``wavenumbers_cm1`` in ascending order, imaginary ones negative; ``ir_km_mol``,
``raman_a4_amu`` and ``depolarization``; ``modes_mass_weighted`` [modes, atoms, 3],
orthonormal; ``dipole_derivatives_e_per_sqrt_amu`` [modes, 3]; ``zpe_ev``. Without
a dipole or a polarizability in the potential, what comes from it is ``null``, and so is
the depolarization of a mode that scatters nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from molpool_calc.md.records import write_atomically
from molpool_calc.spectra import HarmonicSpectrum

HARMONIC = "harmonic.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class HarmonicResult:
    """Vibrations with the structure and the potential that they belong to.

    ``positions`` are in Å, ``masses`` in amu. ``has_dipole`` says whether the
    infrared intensities mean anything: without a dipole they are zero. Name and hash
    are lists for a committee.
    """

    potential: str | list[str]
    sha256: str | list[str]
    symbols: tuple[str, ...]
    positions: Float[np.ndarray, "atoms 3"]
    masses: Float[np.ndarray, " atoms"]
    spectrum: HarmonicSpectrum
    has_dipole: bool = True

    def is_of(self, masses: Float[np.ndarray, " others"] | Sequence[float]) -> bool:
        """Whether these are the masses (amu) of its atoms, in the same order."""
        given = np.asarray(masses)
        same = given.shape == self.masses.shape
        return same and bool(np.allclose(self.masses, given, atol=1e-3))


def write_harmonic(folder: Path, result: HarmonicResult) -> Path:
    """Write ``harmonic.json`` into a folder, atomically, and return its path."""
    spectrum = result.spectrum
    content = {
        "format": FORMAT,
        "potential": result.potential,
        "sha256": result.sha256,
        "symbols": list(result.symbols),
        "positions_angstrom": result.positions.tolist(),
        "masses_amu": result.masses.tolist(),
        "wavenumbers_cm1": spectrum.wavenumbers_cm1.tolist(),
        "ir_km_mol": spectrum.ir_km_mol.tolist() if result.has_dipole else None,
        "raman_a4_amu": _numbers(spectrum.raman_a4_amu),
        "depolarization": _numbers(spectrum.depolarization),
        "modes_mass_weighted": spectrum.modes.tolist(),
        "dipole_derivatives_e_per_sqrt_amu": spectrum.dipole_slopes.tolist()
        if result.has_dipole
        else None,
        "zpe_ev": spectrum.zpe_ev,
    }
    path = folder / HARMONIC
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode())
    return path


def read_harmonic(folder: Path) -> HarmonicResult | None:
    """Return what ``harmonic.json`` in a folder holds, ``None`` if there is none.

    Raises:
        ValueError: the file is damaged or of another format.
    """
    path = folder / HARMONIC
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r} instead of {FORMAT}")
        return _result(content)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or no file of harmonic vibrations ({error}); remove "
            "it, or write it again with molpool vib --out"
        ) from error


def _result(content: dict[str, Any]) -> HarmonicResult:
    wavenumbers = np.array(content["wavenumbers_cm1"], np.float64)
    symbols = tuple(map(str, content["symbols"]))
    n_modes, n_atoms = len(wavenumbers), len(symbols)

    def array(name: str, *shape: int) -> Any:
        if content[name] is None:
            return None
        return np.array(content[name], np.float64).reshape(shape)

    infrared = array("ir_km_mol", n_modes)
    slopes = array("dipole_derivatives_e_per_sqrt_amu", n_modes, 3)
    spectrum = HarmonicSpectrum(
        wavenumbers_cm1=wavenumbers,
        ir_km_mol=np.zeros(n_modes) if infrared is None else infrared,
        raman_a4_amu=array("raman_a4_amu", n_modes),
        depolarization=array("depolarization", n_modes),
        dipole_slopes=np.zeros((n_modes, 3)) if slopes is None else slopes,
        modes=array("modes_mass_weighted", n_modes, n_atoms, 3),
        zpe_ev=float(content["zpe_ev"]),
    )
    return HarmonicResult(
        potential=_names(content["potential"]),
        sha256=_names(content["sha256"]),
        symbols=symbols,
        positions=array("positions_angstrom", n_atoms, 3),
        masses=array("masses_amu", n_atoms),
        spectrum=spectrum,
        has_dipole=infrared is not None,
    )


def _names(value: Any) -> str | list[str]:
    return [str(name) for name in value] if isinstance(value, list) else str(value)


def _numbers(values: Sequence[float] | np.ndarray | None) -> list[float | None] | None:
    """Return values for JSON, which knows no NaN."""
    if values is None:
        return None
    return [float(value) if np.isfinite(value) else None for value in values]
