"""``molpool ir``, ``spectrum --assign`` and ``vib`` say what moves in the bands."""

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from command_line import CommandLine

from molpool_calc.md.trajectory import read_run
from molpool_calc.molecules import read_system
from molpool_calc.run_bands import assign_run, describe_motions, require_frames
from molpool_calc.spectra.spectrum import spectrum_from_units
from molpool_calc.statics import harmonic_result

SHORT = (
    *("--picoseconds", "0.21", "--equilibration-ps", "0.005", "--replicas", "2"),
    *("--temperature", "10", "--compile", "never"),
)


def test_ir_assigns_its_bands_and_spectrum_repeats_it(
    molpool: CommandLine, tmp_path: Path
) -> None:
    folder = tmp_path / "ir"
    called = molpool("ir", "formaldehyde", "--out", folder, *SHORT, "--json")
    assert called.code == 0, called.err
    result = called.json["assignment"]
    path = folder / "assignment.csv"
    written = path.read_bytes()
    assert result["projection"] == "curvilinear"
    assert len(path.read_text("utf-8").splitlines()) == 2 + len(result["bands"])
    for band in result["bands"]:
        assert sum(mode["share"] for mode in band["modes"]) <= 1.0 + 1e-9
    # 0.2 ps tell C-H stretches, modes 5 and 6, from all others
    last = result["bands"][-1]
    assert {mode["number"] for mode in last["modes"][:2]} == {5, 6}
    assert sum(mode["share"] for mode in last["modes"][:2]) > 0.95
    assert last["label"] in {"CH2 a-stretch", "CH2 s-stretch"}
    for band in result["bands"][:-1]:
        assert band["modes"][0]["number"] < 5
    run = read_run(folder)
    assert np.diff(run.frame_steps).max() * run.timestep_fs == 3.0
    path.unlink()
    again = molpool("spectrum", folder, "--assign", "--plot")
    assert again.code == 0, again.err
    assert path.read_bytes() == written
    assert "bands by mode velocities" in again.out
    refused_for_frames(folder)
    (folder / "harmonic.json").unlink()
    sentence = molpool.refused("spectrum", folder, "--assign")
    assert "has no harmonic.json" in sentence
    assert "molpool vib SYSTEM" in sentence
    words = ["spectrum", folder, "--kind", "vdos", "--assign"]
    assert "--assign means nothing" in molpool.refused(*words)


def refused_for_frames(folder: Path) -> None:
    """Samples every 50 fs resolve 333.6 cm⁻¹; 4200 cm⁻¹ ask for 3.97 fs, 7 steps."""
    run = read_run(folder)
    rare = replace(run, frame_steps=100 * np.arange(len(run.frame_steps)))
    with pytest.raises(
        ValueError, match=r"every 100 steps of 0\.5 fs.* 334 cm-1.*7 or"
    ):
        require_frames(rare, folder, 4200.0)
    few = replace(
        run,
        frame_steps=run.frame_steps[:10],
        positions=run.positions[:, :10],
        velocities=run.velocities[:, :10],
    )
    with pytest.raises(ValueError, match=r"in 10 frames; run longer, until there are"):
        require_frames(few, folder, 4200.0)


def test_bands_of_what_is_no_run_of_a_molecule_are_not_assigned(
    molpool: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "md.xyz"
    ase.io.write(path, [molecule("H2O")] * 8)
    words = ["spectrum", path, "--timestep-fs", "0.5", "-p", "painn-ethanol"]
    assert "needs a run of molpool md or ir" in molpool.refused(*words, "--assign")
    x = np.arange(1.0, 100.0)
    bulk = spectrum_from_units(x, x[None], unit="cm-1", facts={"temperature": 300.0})
    with pytest.raises(ValueError, match=r"is in cm-1, not in km/mol per cm-1"):
        assign_run(tmp_path, bulk)


def test_formaldehyde_of_the_bundled_potential_has_the_known_assignment() -> None:
    """NIST CCCBDB: wag, rock, scissors, C=O stretch, CH2 s- and a-stretch."""
    atoms = read_system("formaldehyde")
    found = describe_motions(harmonic_result(atoms, "painn-formaldehyde", device="cpu"))
    assert [mode["label"] for mode in found] == [
        "CH2 wag",
        "CH2 rock",
        "CH2 scissors",
        "C=O stretch",
        "CH2 s-stretch",
        "CH2 a-stretch",
    ]
