"""Machine code of our own gives what the networks as written give."""

import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from small_potentials import (
    CPU,
    assert_same,
    batch_of,
    crystal,
    ethanol,
    fields,
    potential_of,
    small_spec,
    tiny_cell,
)

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.compilation import native as choosing
from molpool_calc.compilation.engine import CompiledEngine, make_engine, prepare
from molpool_calc.compilation.native import NativeCode, Refused, covers, verify
from molpool_calc.engine import EagerEngine
from molpool_calc.native import library
from molpool_calc.native.archive import archive_of, variant_of
from molpool_calc.native.code import COVERED, Code
from molpool_calc.native.names import NotCovered
from molpool_calc.neighbors import complete_pairs, dense_pairs, neighbor_list

ASKED = frozenset({"energy", "energies", "forces", "dipole", "charges"})
TOLERANCES = {torch.float64: 1e-11, torch.float32: 2e-5}
native_build = library.Libraries.build


def engine_of(network="painn", dtype=torch.float64, **options):
    potential = potential_of(small_spec(network, **options), dtype=dtype)
    return EagerEngine(potential, CPU, dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_molecules_of_any_size_get_what_the_network_gives(
    native_library, dtype, pooling
):
    engine = engine_of(dtype=dtype, pooling=pooling)
    code = Code(native_library, engine.potential)
    for structures in ([ethanol()], [Atoms("O")], [ethanol(), molecule("H2O")] * 2):
        batch = batch_of(*structures, dtype=dtype)
        pairs = neighbor_list(batch, engine.potential.cutoff + 1.0)
        asked = ASKED & code.properties
        true = engine.evaluate(batch, pairs, asked)
        found = code.evaluate(batch, pairs, asked)
        assert_same(found, true, asked, TOLERANCES[dtype])


@pytest.mark.parametrize("cell", [6.0, 2.6])
def test_cells_get_stress_also_where_atoms_see_their_own_images(native_library, cell):
    engine = engine_of()
    code = Code(native_library, engine.potential)
    batch = batch_of(tiny_cell(cell), crystal())
    pairs = neighbor_list(batch, engine.potential.cutoff)
    asked = frozenset({"energy", "energies", "forces", "stress"})
    found = code.evaluate(batch, pairs, asked)
    assert_same(found, engine.evaluate(batch, pairs, asked), asked, 1e-11)
    flat = replace(batch, cell=torch.zeros_like(batch.cell))
    with pytest.raises(ValueError, match="span a volume"):
        code.evaluate(flat, pairs, asked)


def test_what_a_system_gets_does_not_depend_on_the_others_or_on_threads(
    native_library,
):
    code = Code(native_library, engine_of(dtype=torch.float32).potential)
    structures = [ethanol(), molecule("C6H6"), molecule("H2O"), ethanol()]

    def forces(*chosen):
        batch = batch_of(*chosen, dtype=torch.float32)
        return code.evaluate(batch, neighbor_list(batch, 4.0), ASKED).forces

    alone = torch.cat([forces(one) for one in structures])
    assert torch.equal(forces(*structures), alone)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(forces(*structures), alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n_features", [12, 80])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_any_width_is_right_for_many_pairs(native_library, n_features, n_threads):
    """Some widths are no whole number of panels, so threads cannot share columns."""
    engine = engine_of(dtype=torch.float32, n_features=n_features)
    code = Code(native_library, engine.potential)
    batch = batch_of(crystal().repeat(5), dtype=torch.float32)
    pairs = neighbor_list(batch, engine.potential.cutoff)
    asked = frozenset({"energy", "forces", "stress"})
    true = engine.evaluate(batch, pairs, asked)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        assert_same(code.evaluate(batch, pairs, asked), true, asked, 5e-5)
    finally:
        torch.set_num_threads(before)


def test_an_atom_that_is_nowhere_is_not_overlooked(native_library):
    code = Code(native_library, engine_of().potential)
    batch = batch_of(ethanol(), ethanol())
    positions = batch.positions.clone()
    positions[3, 1] = torch.nan
    lost = replace(batch, positions=positions)
    found = code.evaluate(lost, dense_pairs(batch), ASKED)
    assert torch.isnan(found.energy[0])
    assert torch.isnan(found.forces[3]).all()
    assert torch.isnan(found.dipole[0]).all()
    assert torch.isfinite(found.energy[1])


def test_threads_share_a_large_system(native_library):
    # wide enough that each of three gets columns of the features
    engine = engine_of(n_features=48)
    code = Code(native_library, engine.potential)
    batch = batch_of(crystal().repeat(5))
    pairs = neighbor_list(batch, engine.potential.cutoff)
    asked = frozenset({"energy", "energies", "forces", "stress"})
    alone = code.evaluate(batch, pairs, asked)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for _ in range(3):
            shared = code.evaluate(batch, pairs, asked)
            assert_same(shared, alone, asked, 1e-12)
    finally:
        torch.set_num_threads(before)
    # summed in another order, so they did share it
    assert not torch.equal(shared.forces, alone.forces)


def test_filters_made_anew_are_those_that_were_kept(native_library):
    """Many pairs are computed in blocks, few at once (``MOST_KEPT``)."""
    engine = engine_of()
    code = Code(native_library, engine.potential)
    batch = batch_of(crystal().repeat(4))
    pairs = neighbor_list(batch, engine.potential.cutoff)
    assert pairs.center.shape[0] > 2000
    asked = frozenset({"energy", "forces", "stress"})
    found = code.evaluate(batch, pairs, asked)
    assert_same(found, engine.evaluate(batch, pairs, asked), asked, 1e-11)


def test_all_pairs_are_made_by_the_code_itself_and_in_any_order(native_library):
    code = Code(native_library, engine_of().potential)
    batch = batch_of(ethanol(), ethanol())
    dense = code.evaluate(batch, dense_pairs(batch), ASKED)
    listed = complete_pairs(batch)
    assert torch.equal(code.evaluate(batch, listed, ASKED).forces, dense.forces)
    order = torch.randperm(listed.center.shape[0], generator=torch.manual_seed(1))
    mixed = replace(
        listed, center=listed.center[order], neighbor=listed.neighbor[order]
    )
    torch.testing.assert_close(
        code.evaluate(batch, mixed, ASKED).forces, dense.forces, rtol=0, atol=1e-11
    )


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"network": "so3krates"}, "network So3krates"),
        ({"pooling": {"kind": "attention", "legacy_padding": 9}}, "legacy_padding"),
    ],
)
def test_what_the_code_does_not_compute_is_named(options, part):
    potential = engine_of(**options).potential
    with pytest.raises(NotCovered, match=part):
        archive_of(potential)
    assert not covers(potential)


def test_weights_of_another_size_are_refused(native_library, monkeypatch):
    potential = engine_of().potential
    whole = archive_of(potential)
    short = whole | {"filters.1.bias": whole["filters.1.bias"][:-1]}
    monkeypatch.setattr("molpool_calc.native.code.archive_of", lambda _p: short)
    with pytest.raises(ValueError, match=r"wrong size: filters\.1\.bias"):
        Code(native_library, potential)


class Wrong(Code):
    """Code that loses a thousandth of the forces."""

    def evaluate(self, *arguments):
        found = super().evaluate(*arguments)
        return replace(found, forces=found.forces * 0.999)


class Mistaken(Code):
    """Code that gives the heads wrong features."""

    def evaluate(self, *arguments):
        found = super().evaluate(*arguments)
        return replace(found, others={"gap": found.others["gap"] * 0.999})


@pytest.mark.parametrize("network", ["painn", "dimenet++"])
def test_heads_of_no_compiled_form_get_the_features_of_the_code(
    native_library, network
):
    engine = engine_of(network, heads=("energy",), scalars=("homo", "gap"))
    attentive = engine_of(network, heads=(), scalars=("homo",), pooling="attention")
    batch = batch_of(ethanol(), molecule("CO2"), Atoms("O"))
    pairs = neighbor_list(batch, engine.potential.cutoff)
    for one, asked in (
        (engine, ASKED - {"dipole", "charges"} | {"homo", "gap"}),
        (attentive, frozenset({"homo", "homo_weights"})),
    ):
        code = Code(native_library, one.potential)
        found, true = (each.evaluate(batch, pairs, asked) for each in (code, one))
        assert asked <= code.properties
        values, expected = fields(found), fields(true)
        assert values.keys() == expected.keys() == asked
        for name, value in expected.items():
            torch.testing.assert_close(values[name], value, rtol=1e-11, atol=1e-11)


def test_wrong_code_is_refused(native_library):
    engine = engine_of()
    verify(Code(native_library, engine.potential), engine)
    with pytest.raises(Refused, match="forces of 1 × 2 atoms deviates"):
        verify(Wrong(native_library, engine.potential), engine)
    engine = engine_of(scalars=("gap",))
    with pytest.raises(Refused, match="gap of 1 × 1 atoms deviates"):
        verify(Mistaken(native_library, engine.potential), engine)


@pytest.mark.parametrize(
    ("mode", "expected", "n_builds"),
    [("now", "native", 1), ("cached", "eager", 0), ("auto", "eager", 0)],
)
def test_the_mode_decides_whether_it_is_built(
    mode, expected, n_builds, native_builds, tmp_path
):
    engine = CompiledEngine(engine_of(), mode, tmp_path)
    announced = []
    for _ in range(2):
        kind = prepare(
            engine, ASKED, periodic=False, waiting=lambda: announced.append(1)
        )
        assert kind == expected
    assert len(native_builds) == len(announced) == n_builds


def test_what_was_built_and_verified_is_taken_by_the_next(
    native_builds, tmp_path, monkeypatch
):
    CompiledEngine(engine_of(), "now", tmp_path).prepare(ASKED, periodic=False)
    monkeypatch.setattr(choosing, "verify", lambda *_: pytest.fail("verified again"))
    later = CompiledEngine(engine_of(), "auto", tmp_path)
    assert later.prepare(ASKED, periodic=False) == "native"
    batch = batch_of(ethanol())
    pairs = dense_pairs(batch)
    forces = later.evaluate(batch, pairs, ASKED).forces
    assert not torch.equal(forces, later.eager.evaluate(batch, pairs, ASKED).forces)
    again = pickle.loads(pickle.dumps(later))
    assert torch.equal(again.evaluate(batch, pairs, ASKED).forces, forces)
    assert len(native_builds) == 1
    # what it does not give, the network as written gives
    assert later.prepare(frozenset({"gap"}), periodic=False) == "eager"


def test_a_long_series_builds_it_beside(native_builds, tmp_path, monkeypatch):
    monkeypatch.setattr(choosing, "PATIENCE", 3)
    monkeypatch.setattr(choosing, "POLL", 2)
    code = NativeCode(engine_of(), "auto", tmp_path)
    found = [code.find(ASKED) for _ in range(3)]
    assert found == [None] * 3
    assert code.thread is not None
    code.thread.join()
    assert [code.find(ASKED) is None for _ in range(2)][-1] is False
    assert len(native_builds) == 1


@pytest.mark.parametrize("fault", ["does not compile", "deviates"])
def test_what_failed_once_is_not_tried_again(
    fault, native_builds, tmp_path, monkeypatch
):
    def fail(*_arguments):
        native_builds.append("tried")
        raise (library.CannotBuild if fault == "does not compile" else Refused)(fault)

    if fault == "does not compile":
        monkeypatch.setattr(choosing.Libraries, "build", fail)
    else:
        monkeypatch.setattr(choosing, "verify", fail)
    for _ in range(2):
        assert NativeCode(engine_of(), "now", tmp_path).find(ASKED) is None
    assert native_builds.count("tried") == 1
    assert [path.read_text() for path in tmp_path.glob("*.refused")] == [fault + "\n"]


def test_a_compiler_that_fails_says_why(tmp_path, monkeypatch):
    libraries = library.Libraries(tmp_path)
    variant = variant_of(engine_of().potential)
    monkeypatch.setattr(library, "compiler", lambda: "/bin/false")
    with pytest.raises(library.CannotBuild, match="false failed"):
        libraries.build(variant)
    monkeypatch.setattr(library, "compiler", lambda: None)
    with pytest.raises(library.CannotBuild, match="was found"):
        libraries.build(variant)
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_is_stopped_is_asked_again(
    native_builds, tmp_path, monkeypatch
):
    def stopped(*_arguments, **_options):
        return SimpleNamespace(returncode=1, stderr="g++: fatal error: Killed signal")

    monkeypatch.setattr(choosing.Libraries, "build", native_build)
    monkeypatch.setattr(library.subprocess, "run", stopped)
    assert NativeCode(engine_of(), "now", tmp_path).find(ASKED) is None
    assert list(tmp_path.glob("*.refused")) == []
    assert native_builds == []


def test_each_network_and_type_of_numbers_has_a_library(tmp_path):
    libraries = library.Libraries(tmp_path)
    made = {
        libraries.path(variant_of(engine_of(network, dtype).potential)).name
        for network in ("painn", "schnet", "dimenet++", "so3krates-euclidean")
        for dtype in TOLERANCES
    }
    assert len(made) == 8


def test_neither_a_gpu_nor_never_takes_it(native_builds, tmp_path):
    engine = engine_of()
    assert NativeCode(engine, "now", tmp_path).is_open
    engine.device = torch.device("cuda")
    assert not NativeCode(engine, "now", tmp_path).is_open
    assert isinstance(make_engine(engine.potential, CPU, torch.float64), EagerEngine)
    assert native_builds == []


def test_every_property_of_the_record_is_one_of_a_prediction(native_library):
    potential = engine_of(
        heads=("energy", "dipole", "polarizability", "hirshfeld")
    ).potential
    code = Code(native_library, potential)
    assert code.properties == set(COVERED)


def test_a_calculator_leaves_far_pairs_to_the_code(native_builds):
    potential = engine_of().potential
    long = Atoms("C17", [[1.4 * k, 0.1 * (k % 3), 0.0] for k in range(17)])
    fast = MolPoolCalculator(potential, dtype="float64", compile="now")
    plain = MolPoolCalculator(potential, dtype="float64", compile="never")
    for structure in (long, crystal()):
        forces = fast.get_forces(structure)
        np.testing.assert_allclose(forces, plain.get_forces(structure), atol=1e-10)
    assert fast.evaluator.lists.exact is False
    assert plain.evaluator.lists.exact is True
    assert len(native_builds) == 1
    several = fast.calculate_many([long, ethanol()])
    np.testing.assert_array_equal(several[0]["forces"], fast.get_forces(long))
