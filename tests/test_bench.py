"""Speed tables: what is counted, how it is timed, and what a peer's process does."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.data import atomic_masses
from ase.units import mol
from small_potentials import CPU, SIZES, small_potential

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.bench import floor
from molpool_calc.bench.floor import Rates, Work, measure_rates, work_of
from molpool_calc.bench.memory import peak_mib, resident_mib
from molpool_calc.bench.peer import Peer, PeerFailure
from molpool_calc.bench.row import Bench, Job
from molpool_calc.bench.systems import bench_system, water_box
from molpool_calc.bench.timing import alternate, thread_count
from molpool_calc.molecules import read_system
from molpool_calc.neighbors import neighbor_list
from molpool_calc.potential import NeuralPotential

WORKER = """
import time

def prepare(job):
    if job.get("refuse"):
        raise ValueError("no such thing")
    print("a library says something")
    return (lambda n: time.sleep(job["seconds"] * n)), {"threads": job["threads"]}
"""


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    path = tmp_path / "worker_of_test.py"
    path.write_text(WORKER, encoding="utf-8")
    return path


def test_the_arithmetic_of_schnet_is_what_its_equations_say() -> None:
    """Schütt et al. 2018, products of Eqs. 4 to 8 counted by hand for 9 atoms."""
    potential = small_potential("schnet")
    batch = batch_from_atoms([read_system("ethanol")], dtype=torch.float32, device=CPU)
    pairs = neighbor_list(batch, potential.cutoff)
    atoms, edges = 9, pairs.center.shape[0]
    f, rbf, layers = SIZES["n_features"], SIZES["n_rbf"], SIZES["n_interactions"]
    by_atom, by_pair = layers * 3 * f * f, layers * (rbf * f + f * f)
    head = f * (f // 2) + f // 2
    forward = atoms * (by_atom + head) + edges * by_pair
    # backward once more, but the embeddings of the elements need no gradient
    both = 2 * forward - atoms * f * f
    assert work_of(potential, batch).flop == 2 * both


def test_the_work_of_a_large_system_is_scaled_up_exactly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    potential = small_potential("painn")
    batch = batch_from_atoms([water_box(64)], dtype=torch.float32, device=CPU)
    run = work_of(potential, batch)
    monkeypatch.setattr(floor, "COUNTED_PAIRS", 0)
    scaled = work_of(potential, batch)
    assert scaled.flop == pytest.approx(run.flop, rel=1e-12)
    assert scaled.bytes == run.bytes


def test_the_floor_is_the_longer_of_arithmetic_and_traffic() -> None:
    rates = Rates(flop_per_s=2e9, bytes_per_s=1e9)
    assert rates.floor_ms(Work(flop=2e6, bytes=1e3)) == pytest.approx(1.0)
    assert rates.floor_ms(Work(flop=2e3, bytes=3e6)) == pytest.approx(3.0)


def test_measured_rates_are_those_of_some_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(floor, "MATRIX_SIDE", {"cpu": 256})
    monkeypatch.setattr(floor, "COPY_BYTES", {"cpu": 2**22})
    rates = measure_rates(CPU, torch.float32)
    assert 1e8 < rates.flop_per_s < 1e15
    assert 1e7 < rates.bytes_per_s < 1e13


def test_a_box_of_water_has_the_density_and_the_molecules_of_water() -> None:
    box = water_box(27)
    grams = atomic_masses[box.numbers].sum() / mol
    density = grams / (box.get_volume() * 1e-24)
    assert density == pytest.approx(0.997, abs=0.003)
    bonds = np.linalg.norm(box.positions[1::3] - box.positions[::3], axis=1)
    assert np.allclose(bonds, 0.9572)
    assert np.allclose(box.get_angle(1, 0, 2), 104.52)
    assert len(bench_system("water-64")) == 192
    with pytest.raises(ValueError, match="must be a cube, such as 64"):
        bench_system("water-65")


def test_blocks_alternate_and_the_threads_are_put_back() -> None:
    called: list[tuple[str, int]] = []

    def tick(name: str, seconds: float):
        def run(n_steps: int) -> float:
            called.append((name, n_steps))
            return seconds * n_steps

        return run

    with thread_count(1) as n_threads:
        found = alternate({"a": tick("a", 0.1), "b": tick("b", 0.05)}, seconds=1e-9)
    assert n_threads == 1
    assert found["a"].median == pytest.approx(100.0)
    assert found["b"].fastest == pytest.approx(50.0)
    blocks = called[-6:]
    assert blocks == [("a", 2), ("b", 4)] * 3
    in_tens = alternate({"a": tick("a", 0.001)}, seconds=1e-9, multiple=10)
    assert in_tens["a"].median == pytest.approx(1.0)
    assert {n_steps % 10 for _, n_steps in called[-4:]} == {0}
    before = torch.get_num_threads()
    with thread_count(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_peak_memory_sees_what_was_freed_again() -> None:
    if resident_mib() is None:
        pytest.skip("this system does not tell the size of a process")

    def take() -> None:
        np.ones(64 * 2**17).sum()  # 64 MiB

    before = resident_mib()
    assert peak_mib(take, CPU) == pytest.approx(before + 64, abs=8)
    assert peak_mib(lambda: None, CPU) < before + 32


def test_a_peer_is_timed_in_its_own_process(worker: Path) -> None:
    with Peer(worker) as peer:
        assert peer.prepare({"seconds": 0.01, "threads": 7})["threads"] == 7
        start = time.perf_counter()
        inside = peer.seconds(5)
        assert 0.05 <= inside <= time.perf_counter() - start
        assert peer.block(1)["peak_memory_mib"] > 1


def test_a_peer_says_what_it_cannot_do(worker: Path, tmp_path: Path) -> None:
    with Peer(worker) as peer:
        with pytest.raises(PeerFailure, match="worker_of_test: ValueError: no such"):
            peer.prepare({"refuse": True})
        assert peer.prepare({"seconds": 0, "threads": 1})["threads"] == 1
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name", encoding="utf-8")
    with (
        Peer(broken) as peer,
        pytest.raises(PeerFailure, match="broken ended: ModuleNotFoundError"),
    ):
        peer.seconds(1)
    with pytest.raises(PeerFailure, match="cannot be run"):
        Peer(worker, tmp_path / "no-python")


def eager_ethanol() -> Job:
    return Job(
        system="ethanol",
        atoms=read_system("ethanol"),
        potential=small_potential("painn"),
        threads=1,
        compile="never",
    )


@pytest.fixture
def rates_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates that need no measuring."""
    monkeypatch.setattr(
        "molpool_calc.bench.row.measure_rates",
        lambda *_: Rates(flop_per_s=1e12, bytes_per_s=1e12),
    )


@pytest.mark.usefixtures("rates_known")
def test_the_ratio_is_the_time_of_the_peer_over_ours(worker: Path) -> None:
    job = eager_ethanol()
    with Peer(worker) as peer:
        row = Bench(0.01).row(job, peer, peer_facts={"seconds": 0.05})
    assert row["peer_ms_per_step"] == pytest.approx(50, rel=0.2)
    assert row["ratio"] == row["peer_ms_per_step"] / row["ms_per_step"]
    assert row["fraction_of_floor"] == row["floor_ms"] / row["ms_per_step"] < 1
    assert (row["n_atoms"], row["n_pairs"]) == (9, 72 - _beyond(job, 4.0))


def _beyond(job: Job, cutoff: float) -> int:
    distances = job.atoms.get_all_distances()
    return int((distances >= cutoff).sum())


@pytest.mark.usefixtures("rates_known")
def test_a_row_stands_without_a_peer_that_fails(worker: Path) -> None:
    with Peer(worker) as peer:
        row = Bench(0.01).row(eager_ethanol(), peer, peer_facts={"refuse": True})
    assert row["ratio"] is row["peer_ms_per_step"] is None
    assert row["peer_failure"] == "worker_of_test: ValueError: no such thing"
    assert row["ms_per_step"] > 0


@pytest.mark.usefixtures("rates_known")
def test_a_batch_counts_its_weights_once() -> None:
    job = eager_ethanol()
    potential: NeuralPotential = job.potential
    alone = Bench(0.01).row(job)
    four = Bench(0.01).row(dataclasses.replace(job, what="batch", batch=4))
    weights = sum(4 * p.numel() for p in potential.parameters())
    assert alone["bytes"] - four["bytes"] == pytest.approx(0.75 * weights)
    assert four["flop"] == alone["flop"]
    assert four["what"] == "energy and forces of 4 at once, per structure"
