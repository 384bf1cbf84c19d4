"""The vibrations of a structure as a file that others build on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from molpool_calc.harmonic_file import (
    HarmonicResult,
    read_harmonic,
    write_harmonic,
)
from molpool_calc.spectra import harmonic_analysis

KEYS = {
    *("format", "potential", "sha256", "symbols", "positions_angstrom", "masses_amu"),
    *("wavenumbers_cm1", "ir_km_mol", "raman_a4_amu", "depolarization", "zpe_ev"),
    *("modes_mass_weighted", "dipole_derivatives_e_per_sqrt_amu"),
}


def water_like(*, raman: bool = True) -> HarmonicResult:
    rng = np.random.default_rng(5)
    positions, masses = rng.normal(size=(3, 3)), np.array([16.0, 1.0, 1.0])
    matrix, tensors = rng.normal(size=(9, 9)), rng.normal(size=(9, 3, 3))
    tensors += tensors.transpose(0, 2, 1)
    spectrum = harmonic_analysis(
        positions,
        masses,
        matrix @ matrix.T,
        rng.normal(size=(9, 3)),
        tensors if raman else None,
    )
    return HarmonicResult(
        potential="springs",
        sha256="ab" * 32,
        symbols=("O", "H", "H"),
        positions=positions,
        masses=masses,
        spectrum=spectrum,
    )


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    written = water_like()
    path = write_harmonic(tmp_path, written)
    assert json.loads(path.read_text(encoding="utf-8")).keys() == KEYS
    read = read_harmonic(tmp_path)
    assert read is not None
    assert (read.potential, read.sha256) == (written.potential, written.sha256)
    assert (read.symbols, read.has_dipole) == (written.symbols, True)
    np.testing.assert_array_equal(read.positions, written.positions)
    np.testing.assert_array_equal(read.masses, written.masses)
    for name in written.spectrum.__dataclass_fields__:
        mine, theirs = getattr(written.spectrum, name), getattr(read.spectrum, name)
        np.testing.assert_array_equal(mine, theirs)


def test_what_the_potential_does_not_predict_is_null(tmp_path: Path) -> None:
    path = write_harmonic(tmp_path, replace(water_like(raman=False), has_dipole=False))
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in ("ir_km_mol", "raman_a4_amu", "depolarization"):
        assert content[name] is None
    assert content["dipole_derivatives_e_per_sqrt_amu"] is None
    read = read_harmonic(tmp_path)
    assert read is not None
    assert not read.has_dipole
    assert read.spectrum.raman_a4_amu is None


def test_the_depolarization_of_a_silent_mode_is_unknown(tmp_path: Path) -> None:
    result = water_like()
    ratios = np.array([0.75, np.nan, 0.1])
    silent = replace(result, spectrum=replace(result.spectrum, depolarization=ratios))
    path = write_harmonic(tmp_path, silent)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["depolarization"] == [0.75, None, 0.1]
    read = read_harmonic(tmp_path)
    assert read is not None
    np.testing.assert_array_equal(read.spectrum.depolarization, ratios)


def test_a_folder_without_the_file_has_none(tmp_path: Path) -> None:
    assert read_harmonic(tmp_path) is None


@pytest.mark.parametrize(
    "break_it",
    [
        lambda content: {**content, "format": 2},
        lambda content: {**content, "modes_mass_weighted": [[1.0]]},
        lambda content: {k: v for k, v in content.items() if k != "symbols"},
        lambda _content: "nonsense",
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, break_it) -> None:
    path = write_harmonic(tmp_path, water_like())
    content = break_it(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"harmonic\.json is damaged .* vib --out"):
        read_harmonic(tmp_path)
