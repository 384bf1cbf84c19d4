"""``molpool bench``."""

from pathlib import Path

import pytest
from command_line import CommandLine

from molpool_calc.bench import floor

COLUMNS = {
    *("system", "n_atoms", "network", "what", "ms_per_step", "peer_ms_per_step"),
    *("ratio", "n_pairs", "dtype", "threads", "floor_ms", "fraction_of_floor"),
    *("peak_memory_mib", "first_call_s", "first_call"),
}
QUICK = ("--threads", 1, "--seconds", 0.01, "--compile", "never")


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "MATRIX_SIDE", {"cpu": 128})
    monkeypatch.setattr(floor, "COPY_BYTES", {"cpu": 2**20})


def test_bench_tells_times_floor_and_machine(
    molpool: CommandLine, potential: Path
) -> None:
    called = molpool(
        *("bench", "--system", "water", "water-8", "-p", potential, "--json", *QUICK)
    )
    assert called.code == 0
    assert called.err == ""
    assert {"machine", "versions", "rows"} <= called.json.keys()
    molecule, box = called.json["rows"]
    assert molecule.keys() >= COLUMNS
    assert (molecule["system"], molecule["n_atoms"]) == ("water", 3)
    assert molecule["what"] == "ASE Langevin step"
    assert (molecule["network"], molecule["dtype"]) == ("painn", "float32")
    assert molecule["peer_ms_per_step"] is molecule["ratio"] is None
    assert molecule["floor_ms"] > 0
    assert (box["n_atoms"], box["threads"]) == (24, 1)


def test_bench_prints_a_table(molpool: CommandLine, potential: Path) -> None:
    called = molpool("bench", "-p", potential, *QUICK)
    assert called.code == 0
    assert "ethanol  painn" in called.out
    assert "code eager cached" in called.out


def test_bench_refuses_what_it_cannot_time(
    molpool: CommandLine, potential: Path, tmp_path: Path
) -> None:
    start = ("bench", *QUICK)
    assert "no structure 'unobtainium'" in molpool.refused(
        *start, "--system", "unobtainium"
    )
    assert "must be a cube" in molpool.refused(*start, "--system", "water-9")
    assert "no peer 'dftb'; give one of schnetpack" in molpool.refused(
        *start, "--peer", "dftb"
    )
    assert "SchNetPack cannot be run" in molpool.refused(
        *start, "--peer", "schnetpack", "--peer-python", tmp_path / "python"
    )
    assert "without a --peer" in molpool.refused(*start, "--peer-python", "python3")
    assert "element" in molpool.refused(
        *start, "-p", "painn-ethanol", "--system", "ammonia"
    )
