"""Machine code of our own pools atoms as the poolings as written do."""

import pytest
import torch
from ase import Atoms
from small_potentials import (
    CPU,
    POOLINGS,
    batch_of,
    ethanol,
    fields,
    potential_of,
    small_spec,
    water,
)

from molpool_calc.compilation.native import verify
from molpool_calc.engine import EagerEngine
from molpool_calc.native.code import Code
from molpool_calc.neighbors import neighbor_list
from molpool_calc.storage import load_potential

POOLINGS = {
    **POOLINGS,
    "sharp": {"kind": "log-sum-exp", "sharpness": 3.0},
    "three layers": {"kind": "weighted-average", "n_layers": 3, "activation": "silu"},
    "normed": {
        "kind": "attention",
        "n_hidden": 20,
        "n_heads": 4,
        "n_seeds": 3,
        "layer_norm": True,
        "activation": "relu",
    },
}
DTYPES = (torch.float64, torch.float32)
TOLERANCES = {torch.float64: 1e-11, torch.float32: 2e-5}


def engine_of(dtype, pooling, *, design=None, **options):
    options["correction" if design == "correction" else "pooling"] = pooling
    spec = small_spec("schnet", scalars=("gap", "homo"), **options)
    if design in {"embedding", "atomwise"}:
        for head in ("energy", "gap", "homo"):
            spec.heads[head]["design"] = design
    return EagerEngine(potential_of(spec, dtype=dtype), CPU, dtype)


def deviations(library, engine, *structures):
    """Largest deviations of every property, relative to the largest of its values."""
    code = Code(library, engine.potential)
    batch = batch_of(*structures, dtype=engine.dtype)
    pairs = neighbor_list(batch, engine.potential.cutoff)
    asked = code.properties - {"stress"}
    found = fields(code.evaluate(batch, pairs, asked))
    true = fields(engine.evaluate(batch, pairs, asked))
    assert found.keys() == true.keys() >= {"energy", "forces", "gap", "homo"}
    return {
        name: float((found[name] - right).abs().max() / right.abs().max())
        for name, right in true.items()
    }


@pytest.mark.parametrize("design", ["usual", "embedding", "correction"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_gives_what_it_gives_as_written(native_library, pooling, design):
    structures = (ethanol(), Atoms("O"), water())
    for dtype in DTYPES:
        engine = engine_of(dtype, POOLINGS[pooling], design=design)
        off = deviations(native_library, engine, *structures)
        assert max(off.values()) <= TOLERANCES[dtype], off


def test_attention_to_one_number_is_covered_too(native_library):
    engine = engine_of(torch.float64, POOLINGS["attention"], design="atomwise")
    assert max(deviations(native_library, engine, ethanol()).values()) <= 1e-11


def test_slots_that_no_atom_fills_count_for_nothing_beside_any_score(native_library):
    engine = engine_of(torch.float64, POOLINGS["attention"])
    engine.potential.heads["gap"].pooling.encoder[0].project.weight.mul_(1e13)
    off = deviations(native_library, engine, ethanol())
    assert off["gap"] <= 1e-9  # scores of 1e25 are rounded by as much


def test_scalar_properties_are_computed_where_they_are_asked_for(native_library):
    engine = engine_of(torch.float64, "mean")
    code = Code(native_library, engine.potential)
    batch = batch_of(ethanol())
    pairs = neighbor_list(batch, engine.potential.cutoff)
    found = code.evaluate(batch, pairs, frozenset({"homo"}))
    assert fields(found).keys() == {"homo"}
    assert fields(code.evaluate(batch, pairs, frozenset({"dipole"}))).keys() == {
        "dipole",
        "charges",
    }


@pytest.mark.parametrize("name", ["painn-ethanol-attention", "schnet-qm7b-attention"])
def test_potentials_of_the_zoo_with_attention_are_verified(native_library, name):
    engine = EagerEngine(load_potential(name), CPU, torch.float32)
    verify(Code(native_library, engine.potential), engine)


def test_heads_of_compiled_and_of_other_form_stand_side_by_side(native_library):
    spec = small_spec("schnet", scalars=("gap", "homo"))
    padded = {**POOLINGS["attention"], "legacy_padding": 30}
    spec.heads["gap"] = {**spec.heads["homo"], "pooling": padded}
    engine = EagerEngine(potential_of(spec), CPU, torch.float64)
    assert Code(native_library, engine.potential).scalars == ["homo"]
    assert max(deviations(native_library, engine, ethanol()).values()) <= 1e-11
