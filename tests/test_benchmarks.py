"""The benchmarks' page is that of the results that lie beside it."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(FOLDER)
    import report  # noqa: PLC0415 - a script beside the package

    yield report
    sys.modules.pop("report")


def test_the_page_is_made_from_the_results(report) -> None:
    text = report.README.read_text(encoding="utf-8")
    assert report.with_tables(text, report.RESULTS) == text


def test_a_target_that_is_missed_is_said_to_be(report, tmp_path: Path) -> None:
    goals = [
        {"work": "a", "value": 4.5, "limit": 9.0, "unit": "×", "at_least": True},
        {"work": "b", "value": 1.2, "limit": 1.3, "unit": "×", "at_least": False},
        {"work": "c", "value": 130.0, "limit": 60.0, "unit": "s", "at_least": False},
        {"work": "d", "value": None, "limit": 2.0, "unit": "×", "at_least": True},
    ]
    goals[3]["reason"] = "no GPU"
    content = {
        "title": "Some steps.",
        "date": "2026-11-26",
        "machine": {"processor": "abacus", "cores": 1, "load": 0.1},
        "versions": {"molpool-calc": "0"},
        "goals": goals,
        "rows": [{"system": "ethanol", "n_atoms": 9, "ms_per_step": 0.625}],
    }
    path = tmp_path / "ethanol-painn.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    page = report.with_tables(f"{report.BEGIN}old\n{report.END}rest", tmp_path)
    assert "| a | ≥ 9.0 × | 4.50 × | missed by a factor of 2.00 |" in page
    assert "| b | ≤ 1.3 × | 1.20 × | reached |" in page
    assert "| c | ≤ 60 s | 130 s | missed by a factor of 2.17 |" in page
    assert "| d | ≥ 2.0 × | – | not measured: no GPU |" in page
    assert "| ethanol | 9 | 0.625 |" in page
    assert "abacus, 1 cores, load 0.1; molpool-calc 0." in page
    assert "old" not in page
    assert page.endswith("rest")
    assert report.with_tables(page, tmp_path) == page


def test_targets_of_a_gpu_are_read_from_its_rows(report) -> None:
    rows = [
        {"title": "ethanol, never", "ms_per_step": 6.0, "ratio": 1.5},
        {"title": "ethanol, graph", "ms_per_step": 0.3, "ratio": 30.0},
        {"title": "1024 replicas, graph", "failure": "out of memory"},
        {"title": "so3lr water-4096", "ms_per_step": 80.0, "floor_ms": 20.0},
    ]
    step, ratio, batch, long_range = report.goal_lines(
        {"goals": report.gpu_goals(rows)}
    )
    assert step.endswith("| ≤ 0.35 ms | 0.300 ms | reached |")
    assert ratio.endswith("| ≥ 10 × | 30.0 × | reached |")
    assert batch.endswith("| – | not measured: out of memory |")
    absent = list(report.goal_lines({"goals": report.gpu_goals([])}))
    assert all("| – | not measured: no GPU was at hand" in line for line in absent)
    assert "(floor 20.0 ms) | – | 80.0 ms | reported |" in long_range


def test_results_tell_machine_versions_and_what_was_timed(report) -> None:
    for content in report.read_results(report.RESULTS):
        assert {"machine", "versions", "rows"} <= content.keys()
        for row in content["rows"]:
            assert row["system"] or row.get("title")
