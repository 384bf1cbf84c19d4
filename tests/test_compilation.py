"""Compiled packages: what they cover, that they are verified, that they are right."""

import os
import pickle
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from small_potentials import batch_of, crystal, ethanol, potential_of, small_spec

from molpool_calc.compilation import build as building
from molpool_calc.compilation import engine as engines
from molpool_calc.compilation.builder import STALE_SECONDS, lock_path, start_build
from molpool_calc.compilation.cache import key_of
from molpool_calc.compilation.engine import CompiledEngine, make_engine
from molpool_calc.compilation.package import Package, refusal_path
from molpool_calc.compilation.request import (
    FIELDS,
    Request,
    batch_of_inputs,
    fits,
    inputs_of,
    pair_limit,
    request_for,
)
from molpool_calc.compilation.structures import JITTER, SPACING, random_batch
from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.engine import EagerEngine
from molpool_calc.md.manifest import read_manifest
from molpool_calc.md.trajectory import read_run
from molpool_calc.neighbors import dense_pairs, neighbor_list
from molpool_calc.storage import save_potential

CPU = torch.device("cpu")
ASKED = frozenset({"energy", "forces", "dipole"})


def small(**options):
    return potential_of(small_spec("schnet", **options), dtype=torch.float64)


def test_one_request_covers_all_that_is_cheap():
    request = request_for(small(), ASKED, periodic=False)
    assert request.properties == {"energy", "energies", "forces", "dipole", "charges"}
    assert request == request_for(small(), frozenset({"energy"}), periodic=False)
    cells = request_for(small(), frozenset({"stress"}), periodic=True)
    assert "stress" in cells.properties
    assert request_for(small(), frozenset({"stress"}), periodic=False) is None
    assert request_for(small(), frozenset({"gap"}), periodic=False) is None


def test_inputs_lead_back_to_the_batch():
    structure = molecule("CH3OH")
    batch = batch_of(structure, structure)
    pairs = neighbor_list(batch, 4.0)
    request = request_for(small(), ASKED, periodic=False)
    again, listed = batch_of_inputs(inputs_of(batch, pairs, request))
    for name in ("atomic_numbers", "positions", "total_charge", "num_unpaired"):
        assert torch.equal(getattr(again, name), getattr(batch, name)), name
    for name in ("index", "slot"):
        assert torch.equal(getattr(again.systems, name), getattr(batch.systems, name))
    assert torch.equal(listed.neighbor, pairs.neighbor)


def test_a_package_of_all_pairs_makes_them_itself():
    batch = batch_of(ethanol(), ethanol())
    pairs = dense_pairs(batch)
    request = request_for(small(), ASKED, periodic=False, n_dense=9)
    assert (request.dense, request.n_atoms) == (True, 9)
    inputs = inputs_of(batch, pairs, request)
    assert len(inputs) == 4
    assert fits(batch, pairs, request, 10)
    assert not fits(batch_of(molecule("H2O")), pairs, replace(request, dense=False), 10)
    _, again = batch_of_inputs(inputs)
    assert again.n_dense == 9
    assert torch.equal(again.center, pairs.center)
    assert torch.equal(again.neighbor, pairs.neighbor)


def test_a_package_is_for_systems_of_one_size_and_so_many_pairs():
    one_size = batch_of(ethanol(), ethanol())
    request = request_for(small(), ASKED, periodic=False)
    assert fits(one_size, neighbor_list(one_size, 4.0), request, 1000)
    assert not fits(one_size, neighbor_list(one_size, 4.0), request, 10)
    ragged = batch_of(ethanol(), molecule("H2O"))
    assert not fits(ragged, neighbor_list(ragged, 4.0), request, 1000)
    assert pair_limit(small()) > 1e6


@pytest.mark.parametrize("network", ["so3krates-euclidean", "dimenet++"])
def test_a_network_that_prefers_all_pairs_gets_them_for_molecules(network):
    potential = potential_of(small_spec(network), dtype=torch.float64)
    request = request_for(potential, frozenset({"forces"}), periodic=False)
    assert request.dense
    assert "dense" in request.words
    assert not request_for(potential, frozenset({"forces"}), periodic=True).dense
    assert not request_for(small(), frozenset({"forces"}), periodic=False).dense
    batch = batch_of(ethanol())
    assert len(inputs_of(batch, dense_pairs(batch), request)) == 4
    for structure, expected in ((molecule("C60"), True), (Atoms("H"), False)):
        batch = batch_of(structure)
        assert fits(batch, neighbor_list(batch, 4.0), request, 10) == expected
    many = batch_of(Atoms("C65", [[2.0 * k, 0.0, 0.0] for k in range(65)]))
    assert not fits(many, neighbor_list(many, 4.0), request, 1_000_000)


def test_the_key_depends_on_weights_dtype_and_request():
    request = request_for(small(), ASKED, periodic=False)
    first = small()
    keys = {key_of(first, request), key_of(small(), request)}
    assert len(keys) == 1
    keys.add(key_of(first, replace(request, periodic=True)))
    keys.add(key_of(first, replace(request, properties=frozenset({"energy"}))))
    keys.add(key_of(first.float(), request))
    with torch.no_grad():
        next(first.parameters()).add_(1e-3)
    keys.add(key_of(first, request))
    assert len(keys) == 5


@pytest.mark.parametrize("periodic", [False, True])
def test_random_structures_have_no_two_atoms_too_close(periodic):
    batch, pairs = random_batch(small(), 2, 23, periodic=periodic)
    assert (pairs.shift is not None) == periodic
    offsets = 0.0 if pairs.shift is None else pairs.shift @ batch.cell[0]
    ends = batch.positions[pairs.neighbor] + offsets
    distances = (ends - batch.positions[pairs.center]).norm(dim=1)
    assert distances.min() > SPACING - 2 * np.sqrt(3) * JITTER
    assert set(batch.atomic_numbers.tolist()) <= small().species


def test_without_a_package_the_network_runs_as_written():
    batch = batch_of(ethanol())
    pairs = dense_pairs(batch)
    compiled = make_engine(small(), CPU, torch.float64, "auto")
    eager = make_engine(small(), CPU, torch.float64)
    assert isinstance(compiled, CompiledEngine)
    assert isinstance(eager, EagerEngine)
    assert engines.prepare(compiled, ASKED, periodic=False) == "eager"
    first = compiled.evaluate(batch, pairs, ASKED)
    assert torch.equal(first.forces, eager.evaluate(batch, pairs, ASKED).forces)


def test_a_long_series_starts_one_build_behind(monkeypatch):
    started = []
    monkeypatch.setattr(engines, "PATIENCE", 3)
    monkeypatch.setattr(engines, "start_build", lambda *a: started.append(a))
    batch = batch_of(ethanol())
    pairs = dense_pairs(batch)
    for mode, expected in (("cached", 0), ("auto", 1)):
        engine = make_engine(small(), CPU, torch.float64, mode)
        for _ in range(7):
            engine.evaluate(batch, pairs, ASKED)
        assert len(started) == expected


def test_no_build_is_started_where_one_runs_or_was_refused(tmp_path, monkeypatch):
    request = request_for(small(), ASKED, periodic=False)
    target = tmp_path / "package.pt2"
    lock_path(target).touch()
    assert start_build(small(), request, target) is None
    lock_path(target).unlink()
    refusal_path(target).write_text("it is slower")
    assert start_build(small(), request, target) is None
    refusal_path(target).unlink()
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert start_build(small(), request, target) is None


def test_the_lock_of_a_dead_process_does_not_stay(tmp_path):
    target = tmp_path / "package.pt2"
    old = time.time() - 2 * STALE_SECONDS
    lock_path(target).touch()
    os.utime(lock_path(target), (old, old))
    request = request_for(small(), ASKED, periodic=False)
    build = start_build(small(), request, target)
    assert build is not None
    assert lock_path(target).exists()
    build.process.kill()
    build.wait()
    del build
    assert not lock_path(target).exists()


def test_a_failed_build_is_not_tried_again_and_says_why(tmp_path):
    request = Request(properties=frozenset({"nonsense"}), periodic=False)
    target = tmp_path / "package.pt2"
    build = start_build(small(), request, target)
    build.wait()
    assert build.is_over
    assert not target.exists()
    assert "nonsense" in refusal_path(target).read_text()
    assert start_build(small(), request, target) is None


class Wrong(Package):
    """A package whose forces lack a part, as a faulty compiler was seen to make."""

    def __init__(self, function, request):
        self.function, self.request = function, request
        self.names = [name for name in FIELDS if name in request.properties]

    def run(self, inputs):
        outputs = self.function(*inputs)
        outputs[self.names.index("forces")] *= 0.999
        return outputs


def test_a_wrong_package_is_refused():
    potential = small()
    request = request_for(potential, ASKED, periodic=False)
    function = building.function_of(potential, request)
    with pytest.raises(building.Refused, match="forces of 1 systems of 2 atoms devia"):
        building.verify(Wrong(function, request), function, potential)


def test_a_wait_is_announced_before_it_begins(tmp_path, monkeypatch):
    announced = []
    monkeypatch.setattr(engines, "cache_folder", lambda: tmp_path)
    for mode, expected in (("cached", 0), ("now", 1)):
        engine = make_engine(small(), CPU, torch.float64, mode)
        asked = {"periodic": False, "waiting": lambda: announced.append(1)}
        for _ in range(2):
            assert engines.prepare(engine, ASKED, **asked) == "eager"
        assert len(announced) == expected


def test_engines_can_be_copied_and_pickled():
    engine = make_engine(small(), CPU, torch.float64, "auto")
    batch = batch_of(ethanol())
    pairs = dense_pairs(batch)
    forces = engine.evaluate(batch, pairs, ASKED).forces
    for copy in (deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        assert torch.equal(copy.evaluate(batch, pairs, ASKED).forces, forces)


def package_of(potential, folder: Path, properties: frozenset[str], *, periodic: bool):
    request = request_for(potential, properties, periodic=periodic)
    target = folder / f"{periodic}.pt2"
    building.build(potential.eval().requires_grad_(False), request, target)
    return Package(target, request, potential.dtype)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler about itself
@pytest.mark.parametrize(
    ("network", "pooling"),
    [
        ("painn", "sum"),
        ("schnet", "mean"),
        ("so3krates", "sum"),
        ("so3krates-euclidean", "attention"),
    ],
)
def test_a_package_gives_what_the_network_gives_at_any_size(
    network, pooling, tmp_path, monkeypatch
):
    potential = potential_of(small_spec(network, pooling=pooling), dtype=torch.float64)
    monkeypatch.setattr(building, "_demand_faster", lambda *_arguments: None)
    package = package_of(potential, tmp_path, ASKED, periodic=False)
    monkeypatch.setattr(CompiledEngine, "_load", lambda _self, _request: package)
    engine = make_engine(potential, CPU, torch.float64, "cached")
    for structures in ([ethanol()], [ethanol()] * 3, [molecule("CH4")] * 2):
        batch = batch_of(*structures)
        for pairs in (dense_pairs(batch), neighbor_list(batch, potential.cutoff)):
            found = engine.evaluate(batch, pairs, ASKED)
            expected = engine.eager.evaluate(batch, pairs, ASKED)
            for name in ASKED:
                torch.testing.assert_close(
                    getattr(found, name), getattr(expected, name), rtol=0, atol=1e-10
                )
    ragged = batch_of(ethanol(), molecule("H2O"))
    pairs = neighbor_list(ragged, potential.cutoff)
    found = engine.evaluate(ragged, pairs, ASKED)
    assert torch.equal(found.forces, engine.eager.evaluate(ragged, pairs, ASKED).forces)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_package_of_cells_gives_stress_and_refuses_other_inputs(
    tmp_path, monkeypatch
):
    potential = potential_of(small_spec("painn"), dtype=torch.float64)
    monkeypatch.setattr(building, "_demand_faster", lambda *_arguments: None)
    asked = frozenset({"energy", "forces", "stress"})
    package = package_of(potential, tmp_path, asked, periodic=True)
    monkeypatch.setattr(CompiledEngine, "_load", lambda _self, _request: package)
    engine = make_engine(potential, CPU, torch.float64, "cached")
    batch = batch_of(crystal())
    pairs = neighbor_list(batch, potential.cutoff)
    found = engine.evaluate(batch, pairs, asked)
    expected = engine.eager.evaluate(batch, pairs, asked)
    for name in asked:
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=0, atol=1e-10
        )
    flat = replace(batch, cell=torch.zeros_like(batch.cell))
    with pytest.raises(ValueError, match="span a volume"):
        engine.evaluate(flat, pairs, asked)
    inputs = inputs_of(batch, pairs, package.request)
    for place, wrong in ((1, inputs[1].float()), (4, inputs[4].int())):
        with pytest.raises(TypeError, match=f"input {place} of a package is"):
            package.run([*inputs[:place], wrong, *inputs[place + 1 :]])


@pytest.mark.slow
def test_now_builds_and_a_run_goes_on_with_the_same_engine(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "cache_folder", lambda: tmp_path / "packages")
    monkeypatch.setattr(engines, "start_build", start_build)
    save_potential(small(name="p").float(), tmp_path / "p")

    def run(folder: str, n_steps: int, mode: str, *, resume: bool = False):
        job = DynamicsJob(
            ensemble="nve", n_steps=n_steps, temperature=50.0, compile=mode
        )
        atoms = molecule("H2O")
        run_dynamics(atoms, str(tmp_path / "p"), tmp_path / folder, job, resume=resume)
        return read_run(tmp_path / folder)

    whole = run("one", 20, "now")
    assert read_manifest(tmp_path / "one")["inputs"]["engine"] == "compiled"
    run("two", 10, "cached")
    halves = run("two", 20, "never", resume=True)
    assert read_manifest(tmp_path / "two")["inputs"]["engine"] == "compiled"
    np.testing.assert_array_equal(whole.positions, halves.positions)
    eager = run("three", 20, "never")
    np.testing.assert_allclose(whole.positions, eager.positions, atol=1e-4)
    assert not np.array_equal(whole.energies, eager.energies)


def test_a_request_is_named_by_its_words():
    request = Request(properties=frozenset({"forces", "energy"}), periodic=True)
    assert request.words == ["energy", "forces", "periodic"]
