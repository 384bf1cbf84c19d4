"""DimeNet++ in machine code gives what the network as written and PyG give."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from safetensors.torch import load_file
from small_potentials import (
    CPU,
    assert_same,
    batch_of,
    crystal,
    ethanol,
    glycol,
    potential_of,
    small_spec,
)

from molpool_calc.engine import EagerEngine
from molpool_calc.importers import potential_from_pyg
from molpool_calc.native.code import Code
from molpool_calc.neighbors import complete_pairs, dense_pairs, neighbor_list
from molpool_calc.potential import PotentialSpec

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
ASKED = frozenset({"energy", "energies", "forces"})
TOLERANCES = {torch.float64: 1e-11, torch.float32: 2e-5}
WIDE = {"n_interactions": 2, "n_spherical": 7, "n_radial": 6, "n_int_embedding": 20}
VARIANTS = {
    "pyg": {"n_output_layers": 2, "n_before_skip": 2, **WIDE},
    "pooling-paper": {"n_output_layers": 0, **WIDE},
}


def engine_of(variant, dtype=torch.float64):
    spec = small_spec(
        "dimenet++", heads=("energy",), variant=variant, **VARIANTS[variant]
    )
    return EagerEngine(potential_of(spec, dtype=dtype), CPU, dtype)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_molecules_get_what_the_network_gives(native_library, dtype, variant):
    engine = engine_of(variant, dtype)
    code = Code(native_library, engine.potential)
    # also nearer than where the Bessel functions end
    nearly_fused = Atoms("OH", [[0.0, 0.0, 0.0], [0.0, 0.05, 0.0]])
    many = [glycol(), molecule("CO2"), Atoms("O"), ethanol(), nearly_fused]
    for structures in ([ethanol()], [Atoms("O")], many):
        batch = batch_of(*structures, dtype=dtype)
        pairs = neighbor_list(batch, engine.potential.cutoff + 1.0)
        found = code.evaluate(batch, pairs, ASKED)
        true = engine.evaluate(batch, pairs, ASKED)
        assert_same(found, true, ASKED, TOLERANCES[dtype])


@pytest.mark.parametrize("variant", VARIANTS)
def test_cells_get_stress_also_where_atoms_see_their_own_images(
    native_library, variant
):
    engine = engine_of(variant)
    code = Code(native_library, engine.potential)
    pair = Atoms("OC", [[0.0, 0.1, 0.0], [1.2, 0.0, 0.3]], pbc=True)
    pair.set_cell([[2.9, 0.2, 0.0], [0.0, 2.8, 0.3], [0.1, 0.0, 3.0]])
    batch = batch_of(pair, crystal())
    pairs = neighbor_list(batch, engine.potential.cutoff)
    asked = ASKED | {"stress"}
    found = code.evaluate(batch, pairs, asked)
    assert_same(found, engine.evaluate(batch, pairs, asked), asked, 1e-11)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_computed_once_more_for_the_gradient_is_as_it_was(
    native_library, variant, monkeypatch
):
    potential = engine_of(variant, torch.float32).potential
    batch = batch_of(glycol(), ethanol(), dtype=torch.float32)
    pairs = neighbor_list(batch, potential.cutoff)
    assert pairs.center.shape[0] > 200  # several blocks
    kept = Code(native_library, potential).evaluate(batch, pairs, ASKED)
    monkeypatch.setattr("molpool_calc.native.archive.MOST_KEPT", 0)
    again = Code(native_library, potential).evaluate(batch, pairs, ASKED)
    assert torch.equal(again.forces, kept.forces)
    assert torch.equal(again.energies, kept.energies)


def test_what_a_molecule_gets_does_not_depend_on_the_others(native_library):
    code = Code(native_library, engine_of("pyg", torch.float32).potential)
    structures = [ethanol(), molecule("C6H6"), molecule("H2O"), glycol()]

    def forces(*chosen):
        batch = batch_of(*chosen, dtype=torch.float32)
        return code.evaluate(batch, neighbor_list(batch, 4.0), ASKED).forces

    assert torch.equal(
        forces(*structures), torch.cat([forces(one) for one in structures])
    )


def test_all_pairs_are_made_by_the_code_itself(native_library):
    engine = engine_of("pyg")
    code = Code(native_library, engine.potential)
    batch = batch_of(ethanol(), ethanol())
    found = code.evaluate(batch, dense_pairs(batch), ASKED)
    assert_same(
        found, engine.evaluate(batch, complete_pairs(batch), ASKED), ASKED, 1e-11
    )


def test_features_feed_a_network_of_the_head_or_are_the_energy(native_library):
    spec = PotentialSpec(
        name="published form",
        elements=(1, 6, 8),
        network={"kind": "dimenet++", "n_features": 1, "n_hidden": 20, **WIDE},
        heads={"energy": {"n_hidden": 0, "scale": 0.1, "pooling": "mean"}},
    )
    engine = EagerEngine(potential_of(spec), CPU, torch.float64)
    code = Code(native_library, engine.potential)
    batch = batch_of(ethanol(), molecule("CO2"))
    pairs = neighbor_list(batch, engine.potential.cutoff)
    asked = ASKED - {"energies"}  # a mean has none
    found = code.evaluate(batch, pairs, asked)
    assert_same(found, engine.evaluate(batch, pairs, asked), asked, 1e-11)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference folder is not here")
def test_published_weights_give_the_energies_and_forces_of_pyg(native_library):
    name = "dimenetpp_pyg_random"
    potential = potential_from_pyg(
        load_file(REFERENCE / f"{name}_weights.safetensors"),
        unit="eV",
        name=name,
        cutoff=5.0,
        elements=["H", "C", "O"],
    )
    code = Code(native_library, potential.double())
    with np.load(os.fspath(REFERENCE / f"{name}.npz")) as arrays:
        frames = dict(arrays)
    batch = batch_of(*(Atoms(frames["numbers"], r) for r in frames["positions"]))
    found = code.evaluate(batch, complete_pairs(batch), frozenset({"energy", "forces"}))
    # what PyG's float32 roots of the Bessel functions leave
    np.testing.assert_allclose(found.energy, frames["output"], rtol=0, atol=2e-7)
    forces = found.forces.numpy().reshape(frames["neg_gradient"].shape)
    np.testing.assert_allclose(forces, frames["neg_gradient"], rtol=0, atol=1e-6)
