"""Recorded evaluations: what they hold, that they are verified, that they are right.

On the CPU a stand-in for the CUDA graph is recorded: it runs the function again on the
same fixed tensors and writes the same output, as a replay does.
"""

import pickle
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from small_potentials import (
    CPU,
    NETWORKS,
    batch_of,
    crystal,
    ethanol,
    fields,
    glycol,
    rattled,
    small_potential,
)

from molpool_calc.compilation import engine as compiled_engine
from molpool_calc.compilation import graphs
from molpool_calc.compilation.buffers import Buffers, Slot, capacity_for
from molpool_calc.compilation.builder import start_build
from molpool_calc.compilation.capture import Recorded
from molpool_calc.compilation.engine import CompiledEngine, make_engine, prepare
from molpool_calc.compilation.graphs import GraphEngine
from molpool_calc.dynamics import DynamicsJob, _mode_of, run_dynamics
from molpool_calc.engine import EagerEngine, Recordable
from molpool_calc.md.manifest import read_manifest
from molpool_calc.md.trajectory import read_run
from molpool_calc.neighbors import dense_pairs, neighbor_list
from molpool_calc.packing import pack, unpack
from molpool_calc.storage import save_potential

ASKED = frozenset({"energy", "forces", "dipole"})
IN_CELLS = frozenset({"energy", "forces", "stress"})


class Rerun:
    """Stands in for the CUDA graph, and counts."""

    def __init__(self) -> None:
        self.n_records = self.n_replays = 0

    def __call__(self, function, device):
        self.n_records += 1
        output = function().clone()

        def replay():
            self.n_replays += 1
            output.copy_(function())

        return Recorded(replay=replay, output=output)


def engines(network="schnet", dtype=torch.float64, **options):
    eager = EagerEngine(small_potential(network, dtype=dtype), CPU, dtype)
    rerun = Rerun()
    return GraphEngine(eager, eager, record=rerun, **options), eager, rerun


def value_is_rounded(eager):
    return eager.dtype == torch.float32 and eager.device.type == "cuda"


def assert_same(graph, eager, batch, pairs, asked):
    found = fields(graph.evaluate(batch, pairs, asked))
    on_host = fields(graph.evaluate_to_host(batch, pairs, asked))
    # two runs: on a GPU they add in varying order, which float32 shows
    repeated = 1e-5 if value_is_rounded(eager) else 1e-6
    for name, value in found.items():
        torch.testing.assert_close(
            on_host[name], value.cpu(), rtol=repeated, atol=repeated
        )
    expected = fields(eager.evaluate(batch, pairs, asked))
    assert found.keys() == expected.keys()
    tolerance = 1e-10 if eager.dtype == torch.float64 else 1e-4
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=tolerance)


def test_a_prediction_comes_back_from_its_buffer():
    eager = engines("painn", torch.float32)[1]
    batch = batch_of(ethanol(), dtype=torch.float32)
    pairs = neighbor_list(batch, 4.0)
    first = eager.evaluate(batch, pairs, ASKED | {"energies"})
    first = replace(first, others={"gap": torch.tensor([1.5])})
    again = unpack(*pack(first))
    assert again.energy.dtype == torch.float64
    assert again.forces.dtype == torch.float32
    for name, value in fields(first).items():
        assert torch.equal(fields(again)[name], value), name


# dimenet++ cannot be recorded: its list of triplets depends on values
@pytest.mark.parametrize(
    ("network", "dtype"),
    [
        ("painn", torch.float64),
        ("schnet", torch.float32),
        ("so3krates-euclidean", torch.float64),
        ("so3krates-nonlocal", torch.float32),
    ],
)
def test_a_replay_gives_what_the_network_gives(network, dtype):
    graph, eager, rerun = engines(network, dtype)
    for structure in (ethanol(), crystal()):
        if structure.pbc.any() and eager.potential.cutoff == torch.inf:
            continue
        asked = IN_CELLS if structure.pbc.any() else ASKED
        for seed in range(2):
            batch = batch_of(rattled(structure, seed=seed), dtype=dtype)
            pairs = neighbor_list(batch, eager.potential.cutoff)
            layouts = [pairs] if structure.pbc.any() else [pairs, dense_pairs(batch)]
            for layout in layouts[-1:] if seed else layouts:
                assert_same(graph, eager, batch, layout, asked)
    assert graph.refusals == {}
    assert rerun.n_replays > rerun.n_records > 1


def test_unused_pairs_are_out_of_reach_and_add_nothing():
    eager = engines("painn")[1]
    for structure in (ethanol(), crystal()):
        batch = batch_of(structure)
        pairs = neighbor_list(batch, 4.0)
        buffers = Buffers(batch, pairs, 3 * len(pairs.center))
        unused = slice(len(pairs.center), None)
        away = buffers.neighbors.shift[unused] @ buffers.batch.cell[0]
        assert away.norm(dim=1).min() > 900.0
        padded = eager.compute(buffers.batch, buffers.neighbors, ASKED)
        expected = eager.evaluate(batch, pairs, ASKED)
        for name in ("forces", "energy"):  # matrix products round with their size
            found, true = getattr(padded, name), getattr(expected, name)
            torch.testing.assert_close(found, true, rtol=0, atol=1e-11)


def test_more_pairs_than_there_is_room_for_are_recorded_anew():
    graph, eager, rerun = engines()
    structure = glycol()
    counts = []
    for scale in (1.6, 1.58, 0.9, 1.6):
        squeezed = structure.copy()
        squeezed.positions *= scale
        batch = batch_of(squeezed)
        pairs = neighbor_list(batch, 4.0)
        assert_same(graph, eager, batch, pairs, ASKED)
        counts.append((len(pairs.center), rerun.n_records))
    (few, _), (_, second), (many, third), (_, fourth) = counts
    assert capacity_for(few) < many
    assert (second, third, fourth) == (1, 2, 2)


@pytest.mark.parametrize(("limit", "value"), [("N_KEPT", 2), ("MOST_PAIRS", 420)])
def test_shapes_take_turns_and_the_oldest_is_forgotten(monkeypatch, limit, value):
    monkeypatch.setattr(graphs, limit, value)  # 81, 162 and 243 pairs
    graph, eager, rerun = engines()
    batches = [batch_of(*[ethanol()] * n) for n in (1, 2, 3)]
    pairs = [dense_pairs(batch) for batch in batches]
    for place in (0, 1, 0, 2, 0, 1):
        assert_same(graph, eager, batches[place], pairs[place], ASKED)
    assert rerun.n_records == 4


def test_results_are_left_alone_by_later_replays():
    graph, *_ = engines()
    batch = batch_of(ethanol())
    first = graph.evaluate(batch, dense_pairs(batch), ASKED).forces
    kept = first.clone()
    moved = replace(batch, positions=1.01 * batch.positions)
    graph.evaluate(moved, dense_pairs(moved), ASKED)
    assert torch.equal(first, kept)


def test_a_change_in_place_is_noticed():
    slot = Slot(torch.zeros(2))
    source = torch.ones(2)
    slot.fill(source)
    source += 1.0
    slot.fill(source)
    assert slot.tensor.tolist() == [2.0, 2.0]


def test_a_wrong_recording_is_refused_and_the_network_runs():
    """Forces that lack a part, as a faulty compiler was seen to make."""
    graph, eager, _ = engines()

    class Wrong(EagerEngine):
        def compute(self, batch, neighbors, properties):
            right = super().compute(batch, neighbors, properties)
            return replace(right, forces=0.999 * right.forces)

    graph.inner = Wrong(eager.potential, CPU, torch.float64)
    batch = batch_of(ethanol())
    assert_same(graph, eager, batch, dense_pairs(batch), ASKED)
    assert "forces deviates by" in next(iter(graph.refusals.values()))


def test_what_cannot_be_recorded_runs_as_written():
    def refuse(function, device):
        raise RuntimeError("operation not permitted when stream is capturing")

    graph, eager, _ = engines()
    graph._record = refuse
    batch = batch_of(ethanol())
    for _ in range(2):
        assert_same(graph, eager, batch, dense_pairs(batch), ASKED)
    assert list(graph.refusals.values()) == [
        "operation not permitted when stream is capturing"
    ]


def test_patience_leaves_single_structures_to_the_network():
    graph, _, rerun = engines(patience=2)
    batch = batch_of(ethanol())
    for n_records in (0, 0, 1, 1):
        graph.evaluate(batch, dense_pairs(batch), ASKED)
        assert rerun.n_records == n_records


def test_stress_needs_a_volume_in_a_recording_too():
    graph, eager, _ = engines("painn")
    batch = batch_of(crystal())
    pairs = neighbor_list(batch, 4.0)
    assert_same(graph, eager, batch, pairs, IN_CELLS)
    flat = replace(batch, cell=torch.zeros_like(batch.cell))
    with pytest.raises(ValueError, match="span a volume"):
        graph.evaluate(flat, pairs, IN_CELLS)


def test_systems_that_are_periodic_in_different_ways_are_left_to_the_network():
    mixed = [
        Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], cell=[9, 9, 9], pbc=p) for p in (0, 1)
    ]
    batch = batch_of(*mixed)
    graph, eager, rerun = engines()
    assert_same(graph, eager, batch, neighbor_list(batch, 4.0), ASKED)
    assert rerun.n_records == 0


def test_code_compiled_meanwhile_is_recorded_anew():
    graph, eager, rerun = engines()
    ways = [None]

    class Changing(EagerEngine):
        def variant(self, batch, neighbors, properties):
            return ways[-1]

    graph.inner = Changing(eager.potential, CPU, torch.float64)
    batch = batch_of(ethanol())
    for way, n_records in ((None, 1), ("package", 2), ("package", 2)):
        if way != ways[-1]:
            ways.append(way)
        assert_same(graph, eager, batch, dense_pairs(batch), ASKED)
        assert rerun.n_records == n_records


def test_graph_engines_can_be_copied_and_pickled():
    eager = engines()[1]
    graph = GraphEngine(eager, eager)
    for copy in (deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        assert isinstance(copy, GraphEngine)
        assert copy.potential is copy.eager.potential


def test_engines_say_what_they_run_and_a_resumed_run_goes_on_with_it():
    compiled = make_engine(small_potential(), CPU, torch.float64, "cached")
    assert isinstance(compiled, CompiledEngine)
    assert isinstance(compiled, Recordable)
    graph = GraphEngine(compiled, compiled.eager)
    assert prepare(graph, ASKED, periodic=False, n_atoms=9) == "graph"
    plain = make_engine(small_potential(), CPU, torch.float64, "graph")
    assert prepare(plain, ASKED, periodic=False) == "eager"
    for begun, mode in (
        *(("graph", "graph"), ("compiled graph", "now"), ("eager", "never")),
        *((["graph", "graph"], "graph"), (["compiled graph", "graph"], "cached")),
    ):
        assert _mode_of(begun) == mode


GPU = torch.device("cuda")


def on_gpu(network="painn", dtype=torch.float32, mode="graph"):
    return make_engine(small_potential(network, dtype=dtype), GPU, dtype, mode)


def gpu_batch(*structures, dtype=torch.float32):
    from molpool_calc.atoms import batch_from_atoms  # noqa: PLC0415

    return batch_from_atoms(list(structures), dtype=dtype, device=GPU)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_cuda_graph_gives_what_the_network_gives(network, dtype):
    graph = on_gpu(network, dtype)
    for structure in (ethanol(), glycol(), crystal()):
        if structure.pbc.any() and graph.potential.cutoff == torch.inf:
            continue
        asked = IN_CELLS if structure.pbc.any() else ASKED
        for seed in range(2):
            batch = gpu_batch(rattled(structure, seed=seed), dtype=dtype)
            pairs = neighbor_list(batch, graph.potential.cutoff)
            layouts = [pairs] if structure.pbc.any() else [pairs, dense_pairs(batch)]
            for layout in layouts:
                assert_same(graph, graph.eager, batch, layout, asked)
    if network != "dimenet++":  # whose list of triplets depends on values
        assert graph.refusals == {}
        assert len(graph._graphs) > 1


@pytest.mark.gpu
def test_nothing_in_a_step_on_a_gpu_waits_for_it():
    from molpool_calc.md.network import NetworkForceField  # noqa: PLC0415

    engine = on_gpu()
    batch = gpu_batch(*[ethanol()] * 4)
    field = NetworkForceField(engine, batch, ASKED)
    positions = batch.positions.double()
    expected = field(positions)
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = field(positions.clone())
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    torch.testing.assert_close(found.forces, expected.forces, rtol=0, atol=1e-5)


@pytest.mark.gpu
def test_the_calculator_on_a_gpu_gives_what_it_gives_on_the_cpu():
    from molpool_calc import MolPoolCalculator  # noqa: PLC0415

    potential = small_potential("painn", dtype=torch.float64)
    results = []
    for device in ("cpu", "cuda"):
        atoms = molecule("CH3CH2OH")
        atoms.calc = MolPoolCalculator(
            potential, device=device, dtype="float64", compile="graph"
        )
        atoms.get_forces()
        atoms.positions[0] += 0.05
        many = atoms.calc.calculate_many([atoms, molecule("H2O"), glycol()])
        forces = np.concatenate([each["forces"] for each in many])
        results.append((atoms.get_forces(), atoms.get_dipole_moment(), forces))
    for there, here in zip(*results, strict=True):
        np.testing.assert_allclose(there, here, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # of the compiler about itself
def test_code_compiled_for_a_gpu_is_recorded_and_right(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_engine, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(compiled_engine, "start_build", start_build)
    graph = on_gpu("painn", torch.float64, "now")
    structure = ethanol()
    kind = prepare(graph, ASKED, periodic=False, n_atoms=len(structure))
    assert kind == "compiled graph"
    for n_systems in (1, 3):
        batch = gpu_batch(*[structure] * n_systems, dtype=torch.float64)
        found = graph.evaluate(batch, dense_pairs(batch), ASKED)
        expected = graph.eager.evaluate(batch, dense_pairs(batch), ASKED)
        for name in ASKED:
            torch.testing.assert_close(
                getattr(found, name), getattr(expected, name), rtol=0, atol=1e-10
            )
    assert graph.refusals == {}
    assert len(graph._graphs) == 2


@pytest.mark.gpu
def test_a_resumed_run_on_a_gpu_moves_on_bit_for_bit(tmp_path):
    save_potential(
        small_potential("painn", dtype=torch.float32, name="p"), tmp_path / "p"
    )

    def run(folder: str, n_steps: int, *, resume: bool = False):
        job = DynamicsJob(
            ensemble="nve",
            n_steps=n_steps,
            n_replicas=3,
            temperature=50.0,
            compile="graph",
        )
        place = tmp_path / folder
        source = str(tmp_path / "p")
        run_dynamics(
            molecule("CH3CH2OH"), source, place, job, resume=resume, device="cuda"
        )
        assert read_manifest(place)["inputs"]["engine"] == "graph"
        return read_run(place)

    whole = run("one", 20)
    run("two", 10)
    halves = run("two", 20, resume=True)
    np.testing.assert_array_equal(whole.positions, halves.positions)
