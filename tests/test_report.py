"""The page of a run: complete, equal to the files, safe, and never in the way."""

import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from command_line import CommandLine
from small_potentials import WITH_MINIMUM, small_potential

from molpool_calc import infrared
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.cli import main
from molpool_calc.harmonic_file import HarmonicResult, read_harmonic
from molpool_calc.md.trajectory import read_run
from molpool_calc.report import page as page_module
from molpool_calc.report import read_content, render, write_report
from molpool_calc.report.citations import citations
from molpool_calc.report.html import element, table
from molpool_calc.report.numbers import exact, resolved
from molpool_calc.report.series import envelope
from molpool_calc.report.viewer import bonds, chosen_frames, modes_data
from molpool_calc.spectra import harmonic_analysis, peaks, read_spectrum, total_integral
from molpool_calc.storage import save_potential

EVIL = "</script><script>alert(1)</script>&\"'"


@pytest.fixture
def molpool(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def words(potential: Path | str, folder: Path, *more: str) -> list[object]:
    short = ["--picoseconds", "0.03", "--equilibration-ps", "0.005"]
    start = ["ir", "formaldehyde", "-p", potential, "--out", folder]
    # random weights let atoms meet
    return [*start, *short, "--guard", "off", *more]


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("potential")
    save_potential(small_potential(dtype=torch.float32, seed=WITH_MINIMUM), folder)
    return folder


@pytest.fixture(scope="module")
def finished(potential: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main([str(word) for word in words(potential, folder)]) == 0
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be changed as a test likes."""
    return shutil.copytree(finished, tmp_path / "run")


class Page(HTMLParser):
    """What a browser would find in a page: elements, what they fetch, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {
                "src",
                "href",
                "srcset",
                "action",
                "data",
                "poster",
                "xlink:href",
            }:
                self.fetched.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def layer(chart: Any, key: str) -> Any:
    return next(each for each in chart["layers"] if each["key"] == key)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def test_the_infrared_command_writes_a_page_that_fetches_nothing(run: Path) -> None:
    text = page_of(run)
    assert len(text) < 15e6
    parsed = Page(text)
    assert parsed.fetched == []
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(parsed.tags)
    assert "default-src 'none'" in text
    assert "connect-src" not in text
    assert not re.search(r"@import|url\(\s*['\"]?http", text)


class Finished:
    """Stands for the run of ``molpool ir``, which has just ended."""

    assignment = comparison = None

    def describe(self) -> dict[str, Any]:
        return {
            "peaks": [],
            "integrated_km_mol": 1.0,
            "harmonic_ir_km_mol": [1.0],
            "drift_mev_per_atom_per_ps": None,
            "mean_temperature_k": 10.0,
            "seconds": 0.1,
        }


@pytest.fixture
def just_ended(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (run / "report.html").unlink()
    monkeypatch.setattr(infrared, "run_infrared", lambda *_a, **_k: Finished())
    return run


def test_the_page_can_be_left_out(
    potential: Path, just_ended: Path, molpool: CommandLine
) -> None:
    called = molpool(*words(potential, just_ended), "--no-report")
    assert called.code == 0
    assert not (just_ended / "report.html").exists()
    assert "report.html" not in called.out
    result = molpool(*words(potential, just_ended), "--json").json
    assert result["report"] == str(just_ended / "report.html")


def test_a_full_disk_spares_the_run(
    potential: Path,
    just_ended: Path,
    molpool: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page_module, "write_atomically", fail)
    called = molpool(*words(potential, just_ended))
    assert called.code == 0
    assert "the run is complete in" in called.err
    assert "No space left" in called.err
    assert "report.html" not in called.out


def test_numbers_of_the_page_are_those_of_the_files(run: Path) -> None:
    text, spectrum = page_of(run), read_spectrum(run / "spectrum_ir.csv")
    (chart,) = data_of(text)["spectra"]
    for key, name, values in (
        ("line", "x", spectrum.wavenumbers),
        ("line", "y", spectrum.intensity),
        ("band", "low", spectrum.lower),
        ("band", "high", spectrum.upper),
    ):
        np.testing.assert_array_equal(layer(chart, key)[name], values)
    harmonic = read_harmonic(run)
    assert harmonic is not None
    np.testing.assert_array_equal(
        layer(chart, "sticks")["y"], harmonic.spectrum.ir_km_mol
    )
    words_of = " ".join(Page(text).texts)
    total = total_integral(spectrum).value
    assert f"{total:.4g} km mol⁻¹" in words_of
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert f"{np.mean(manifest['mean_temperature']):.0f} K" in words_of
    assert manifest["inputs"]["sha256"] in words_of
    for position, _ in peaks(spectrum):
        assert f"{position:.1f}" in words_of


def test_the_integral_of_a_spectrum_comes_with_its_limits(run: Path) -> None:
    facts = read_spectrum(run / "spectrum_ir.csv").metadata
    assert facts["integral_lower"] < facts["integral"] < facts["integral_upper"]
    low, high = facts["integral_lower"], facts["integral_upper"]
    assert f"95 %: {low:.4g} to {high:.4g}" in page_of(run)


def test_it_says_how_to_make_the_run_again(run: Path, potential: Path) -> None:
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert manifest["system"] == "formaldehyde"
    assert manifest["command"].startswith(f"molpool ir formaldehyde -p {potential}")
    assert f"<pre><code>{manifest['command']}</code></pre>" in page_of(run)


def test_the_hashes_are_those_of_the_files(run: Path) -> None:
    text = page_of(run)
    for name in ("run.json", "trajectory.h5", "spectrum_ir.csv", "harmonic.json"):
        assert hashlib.sha256((run / name).read_bytes()).hexdigest() in text


def test_names_of_users_are_text_and_never_markup(
    run: Path, tmp_path: Path, molpool: CommandLine
) -> None:
    before = Page(page_of(run)).tags.count("script")
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    inputs = {**manifest["inputs"], EVIL: EVIL, "potential": EVIL}
    stopped = [{"replica": 0, "reason": EVIL, "step": 3}]
    edit(run, system=EVIL, command=EVIL, reason=EVIL, inputs=inputs, stopped=stopped)
    (run / "a<script>.csv").write_text("x", encoding="utf-8")
    assert molpool("report", run).code == 0
    text = page_of(run)
    assert "<script>alert" not in text
    assert Page(text).tags.count("script") == before
    assert any(EVIL in piece for piece in Page(text).texts)


def test_nothing_in_the_data_can_end_their_element() -> None:
    data = {"name": EVIL, "text": "<!--"}
    embedded = page_module._embedded(data)
    assert "<" not in embedded
    assert json.loads(embedded) == data


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("spectrum_ir.csv", "There is no spectrum in this folder"),
        ("harmonic.json", ""),
        ("trajectory.h5", "resume it or run it again"),
        ("relaxed.xyz", ""),
    ],
)
def test_a_page_is_made_of_what_is_left(run: Path, lost: str, says: str) -> None:
    (run / lost).unlink()
    text = write_report(run, device="cpu").read_text(encoding="utf-8")
    assert says in text
    data = data_of(text)
    assert (data["modes"] is None) == (lost == "harmonic.json")
    assert (data["trajectory"] is None) == (lost == "trajectory.h5")
    assert bool(data["spectra"]) == (lost != "spectrum_ir.csv")


@pytest.mark.parametrize(
    "name", ["spectrum_ir.csv", "harmonic.json", "trajectory.h5", "assignment.csv"]
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(run: Path, name: str) -> None:
    (run / name).write_text("{", encoding="utf-8")
    text = write_report(run, device="cpu").read_text(encoding="utf-8")
    assert name in " ".join(re.findall(r'<p class="remark">(.*?)</p>', text))


def test_a_run_of_dynamics_has_a_page_with_all_its_spectra(
    tmp_path: Path, molpool: CommandLine
) -> None:
    folder, potential = tmp_path / "md", tmp_path / "potential"
    heads = ("energy", "dipole", "polarizability")
    made = small_potential(dtype=torch.float32, heads=heads, seed=WITH_MINIMUM)
    save_potential(made, potential)
    start = ["md", "formaldehyde", "-p", potential, "--out", folder, "--replicas", 2]
    more = ["--steps", 60, "--every", 1, "--record", "polarizability"]
    assert molpool(*start, *more, "--temperature", 10, "--guard", "off").code == 0
    for kind in ("ir", "raman", "vdos"):
        assert molpool("spectrum", folder, "--kind", kind).code == 0
    result = molpool("report", folder, "-p", potential, "--json").json
    assert result["bytes"] == (folder / "report.html").stat().st_size
    data = data_of(page_of(folder))
    assert [chart["key"] for chart in data["spectra"]] == ["ir", "raman", "vdos"]
    names = [each["name"] for each in data["spectra"][2]["layers"]]
    assert {"O", "C", "H"} <= set(names)
    assert data["series"]["n_replicas"] == 2


def test_a_folder_without_a_run_is_refused(
    tmp_path: Path, molpool: CommandLine
) -> None:
    assert "holds no run" in molpool.refused("report", tmp_path)


def test_another_potential_than_that_of_the_run_is_refused(
    run: Path, molpool: CommandLine
) -> None:
    sentence = molpool.refused("report", run, "-p", "painn-formaldehyde")
    assert "the run was made with" in sentence


def test_an_interrupted_run_says_how_far_it_came(run: Path) -> None:
    edit(run, status="interrupted", steps_done=20)
    assert "interrupted after 20 of 60 steps" in render(read_content(run), device="cpu")
    edit(run, status="running")
    assert "running or killed, 60 of 60 steps" in render(read_content(run))


def test_bands_curve_and_quantum_nuclei_join_the_spectrum(run: Path) -> None:
    head = "# unit: cm-1 and km/mol; metadata: {}\nband_cm-1,label,motion_shares\n"
    (run / "assignment.csv").write_text(f"{head}1500.0,C=O stretch,0.8;0.2\n")
    curve = "# unit: absorbance; metadata: {}\nwavenumber_cm-1,intensity\n"
    (run / "experiment_curve.csv").write_text(f"{curve}1700,0.5\n1600,2.0\n")
    shutil.copy(run / "spectrum_ir.csv", run / "spectrum_ir_quantum.csv")
    text = render(read_content(run), device="cpu")
    (chart,) = data_of(text)["spectra"]
    assert layer(chart, "labels")["text"] == ["1500 C=O stretch"]
    assert layer(chart, "measured")["x"] == [1600.0, 1700.0]
    assert layer(chart, "measured")["y"] == [1.0, 0.25]
    assert layer(chart, "quantum")["y"] == layer(chart, "line")["y"]
    assert "<td>0.8; 0.2</td>" in text
    assert "with quantum nuclei, total" in text


def test_an_envelope_keeps_every_extreme_and_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=(3, 1001))
    found = envelope(values, 40)
    assert found.mean.shape == (3, 40)
    assert found.low.min() == values.min()
    assert found.high.max() == values.max()
    np.testing.assert_array_equal(envelope(values, 5000).mean, values)
    start, end = 1001 // 40, 2 * 1001 // 40
    np.testing.assert_allclose(found.mean[:, 1], values[:, start:end].mean(axis=1))


def test_frames_are_spread_evenly_from_the_first_to_the_last() -> None:
    assert chosen_frames(1001, 10**6).tolist()[:3] == [0, 2, 4]
    assert chosen_frames(1001, 10**6).tolist()[-1] == 1000
    assert len(chosen_frames(10**5, 10**6)) == 500
    assert chosen_frames(7, 10**6).tolist() == list(range(7))
    assert chosen_frames(9, 0).tolist() == [0]


def test_bonds_are_those_of_chemistry() -> None:
    atoms = molecule("CH3CH2OH")
    found = bonds(atoms.numbers, atoms.positions)
    valence = np.bincount(np.array(found).ravel(), minlength=9)
    by_element = {symbol: set() for symbol in "COH"}
    for symbol, count in zip(atoms.symbols, valence, strict=True):
        by_element[symbol].add(int(count))
    assert by_element == {"C": {4}, "O": {2}, "H": {1}}
    apart = Atoms("Ar2", [[0, 0, 0], [3.8, 0, 0]])
    assert bonds(apart.numbers, apart.positions) == []


def test_a_mode_moves_light_atoms_as_masses_demand() -> None:
    """In a stretched diatomic the displacements are as the inverse masses."""
    masses, direction = np.array([1.008, 34.969]), np.array([1.0, 0.0, 0.0])
    force = np.kron([[1.0, -1.0], [-1.0, 1.0]], np.outer(direction, direction))
    positions = np.array([[0.0, 0.0, 0.0], [1.27, 0.0, 0.0]])
    spectrum = harmonic_analysis(positions, masses, force, np.zeros((6, 3)))
    found = modes_data(
        HarmonicResult(
            potential="",
            sha256="",
            symbols=("H", "Cl"),
            positions=positions,
            masses=masses,
            spectrum=spectrum,
        )
    )
    moved = np.array(found["displacements"][0]).reshape(2, 3)
    assert abs(moved[0]).max() == 1.0
    assert moved[1, 0] / moved[0, 0] == pytest.approx(-1.008 / 34.969, abs=1e-3)
    assert found["bonds"] == [[0, 1]]


def test_colours_are_what_the_calculator_says(run: Path, potential: Path) -> None:
    write_report(run, potential=str(potential), device="cpu")
    trajectory = data_of(page_of(run))["trajectory"]
    recorded = read_run(run)
    atoms = Atoms(recorded.atomic_numbers, recorded.positions[1, -1])
    calculator = MolPoolCalculator(str(potential), device="cpu", compile="never")
    atoms.calc = calculator
    colours = {each["name"]: each["values"] for each in trajectory["colours"]}
    sizes = np.linalg.norm(atoms.get_forces(), axis=1)
    np.testing.assert_allclose(colours["force"][1][-4:], sizes, atol=1e-3 * sizes.max())
    np.testing.assert_allclose(
        colours["charge"][1][-4:], atoms.get_charges(), atol=1e-3
    )
    shown = np.array(trajectory["positions"][1][-12:]).reshape(4, 3)
    np.testing.assert_allclose(
        shown - shown[0], atoms.positions - atoms.positions[0], atol=2e-3
    )


def test_weights_of_the_pooling_colour_the_atoms(
    tmp_path: Path, molpool: CommandLine
) -> None:
    start = ["md", "ethanol", "-p", "painn-ethanol-attention", "--steps", 4]
    folder = tmp_path / "md"
    more = ["--every", 2, "--temperature", 10, "--compile", "never", "--out", folder]
    assert molpool(*start, *more).code == 0
    write_report(folder, device="cpu")
    colours = data_of(page_of(folder))["trajectory"]["colours"]
    (weights,) = [c for c in colours if c["name"] == "weights of the energy"]
    sums = np.array(weights["values"][0]).reshape(3, 9).sum(axis=1)
    np.testing.assert_allclose(sums, 1.0, atol=5e-3)
    recorded = read_run(folder)
    atoms = Atoms(recorded.atomic_numbers, recorded.positions[0, 0])
    calculator = MolPoolCalculator("painn-ethanol-attention", compile="never")
    expected = calculator.get_property("energy_weights", atoms)
    np.testing.assert_allclose(weights["values"][0][:9], expected, atol=1e-4)
    references = citations(read_content(folder))
    assert any("Buterez" in text for text in references)


def test_a_replica_that_was_stopped_ends_in_the_viewer_too(run: Path) -> None:
    content = read_content(run)
    assert content.run is not None
    content.run.positions[1, -1] = np.nan
    content.run.energies[1, -3:] = np.nan
    data = data_of(render(content, device="cpu"))
    frames = np.array(data["trajectory"]["positions"][1], dtype=float)
    assert np.isnan(frames[-12:]).all()
    assert np.isfinite(frames[:-12]).all()
    assert data["series"]["charts"][1]["mean"][1][-1] is None


def test_fragments_are_escaped_once() -> None:
    assert element("p", "a < b & c").text == "<p>a &lt; b &amp; c</p>"
    assert element("p", element("b", "<")).text == "<p><b>&lt;</b></p>"
    assert "<script" not in table("<script>", ["<script>"], [["<script>"]]).text


def test_numbers_keep_their_digits_and_lose_what_is_no_number() -> None:
    assert exact([0.1, np.nan, np.inf]) == [0.1, None, None]
    assert resolved([123.456789, 0.000123456], 6) == [123.457, 0.0]
    assert resolved([0.0, 0.0]) == [0.0, 0.0]
    assert resolved(np.array([[1.5, np.nan]]), 2) == [[1.5, None]]
