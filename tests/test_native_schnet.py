"""Machine code of our own gives what SchNet as written gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from safetensors.torch import load_file
from small_potentials import (
    CPU,
    batch_of,
    crystal,
    ethanol,
    glycol,
    potential_of,
    small_spec,
)

from molpool_calc.engine import EagerEngine
from molpool_calc.importers import import_pyg, import_schnetpack
from molpool_calc.native.code import Code
from molpool_calc.neighbors import neighbor_list
from molpool_calc.units import KCAL_PER_MOL

SHARED = Path(__file__).parents[2] / "shared"
needs_reference = pytest.mark.skipif(
    not (SHARED / "reference").is_dir(), reason="the reference folder is not here"
)
DTYPES = (torch.float64, torch.float32)
TOLERANCES = {torch.float64: 1e-11, torch.float32: 2e-5}
MOLECULES = ([ethanol()], [Atoms("O")], [ethanol(), molecule("H2O")] * 2)
TINY = Atoms("OC", [[0.0, 0.1, 0.0], [1.2, 0.0, 0.3]], cell=[2.6, 2.8, 3.0], pbc=True)


def engine_of(dtype, **options):
    return EagerEngine(potential_of(small_spec("schnet", **options)), CPU, dtype)


def deviations(library, engine, structures, asked):
    """Largest deviations from the network as written, relative to 1 + the largest."""
    code = Code(library, engine.potential)
    batch = batch_of(*structures, dtype=engine.dtype)
    pairs = neighbor_list(batch, engine.potential.cutoff + 1.0)
    true = engine.evaluate(batch, pairs, asked)
    found = code.evaluate(batch, pairs, asked)
    fields = [(getattr(found, name), getattr(true, name)) for name in asked]
    return [
        float((value - right).abs().max() / (1.0 + right.abs().max()))
        for value, right in fields
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "mean"},
        {"n_filters": 20, "radial_basis": "bessel", "cutoff_function": "polynomial"},
        {"n_filters": 5, "n_interactions": 1, "cutoff_function": "mollifier"},
    ],
)
def test_molecules_of_any_size_get_what_the_network_gives(
    native_library, dtype, options
):
    engine = engine_of(dtype, **options)
    asked = (engine.potential.properties | {"forces"}) - {"energy_weights"}
    for structures in MOLECULES:
        off = deviations(native_library, engine, structures, asked)
        assert max(off) <= TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("structure", [TINY, crystal(), crystal().repeat(3)])
def test_cells_get_stress_with_filters_kept_and_made_anew(
    native_library, dtype, structure
):
    asked = frozenset({"energy", "energies", "forces", "stress"})
    off = deviations(native_library, engine_of(dtype), [structure], asked)
    assert max(off) <= TOLERANCES[dtype]


def test_filters_too_narrow_for_a_table_are_computed(native_library):
    engine = engine_of(torch.float32, n_rbf=4)
    # half a thousandth of the cutoff: no table of a thousand intervals follows them
    engine.potential.network.radial.basis.widths.fill_(0.002)
    centers = engine.potential.network.radial.basis.centers
    apart = [float(r) for r in centers[1:3] + 0.001]
    line = Atoms("HCO", [[0, 0, 0], [apart[0], 0, 0], [0, apart[1], 0]])
    off = deviations(native_library, engine, [line], frozenset({"energy", "forces"}))
    assert max(off) <= TOLERANCES[torch.float32]


def test_large_inputs_of_the_activation_are_cut_where_torch_cuts_them(native_library):
    """Beyond 20 softplus is the identity, 2e-9 off, which float64 shows."""
    engine = engine_of(torch.float64)
    engine.potential.network.embedding.weight.mul_(10.0)
    asked = frozenset({"energies", "forces"})
    assert max(deviations(native_library, engine, [glycol()], asked)) <= 1e-11


@pytest.mark.parametrize("network", ["published", "small"])
def test_tables_of_filters_add_no_error_to_that_of_float32(native_library, network):
    """As near to float64 as the network as written, whose filters are computed."""
    if network == "published" and not (SHARED / "weights").is_dir():
        pytest.skip("the folder of weights is not here")
    errors = []
    engines = {
        d: published(d) if network == "published" else engine_of(d) for d in DTYPES
    }
    for seed in range(6):
        atoms = molecule("CH3CH2OH")
        atoms.positions += np.random.default_rng(seed).normal(0, 0.1, (9, 3))
        batch, half = batch_of(atoms), batch_of(atoms, dtype=torch.float32)
        pairs = neighbor_list(batch, 5.0)
        asked = frozenset({"energy", "forces"})
        true = engines[torch.float64].evaluate(batch, pairs, asked).forces
        engine = engines[torch.float32]
        code = Code(native_library, engine.potential)
        errors.append(
            [
                float((some.evaluate(half, pairs, asked).forces - true).norm())
                for some in (code, engine)
            ]
        )
    of_code, of_network = np.mean(errors, axis=0)
    assert of_code < 1.3 * of_network


def published(dtype):
    file = "schnetpack_schnet_rmd17_ethanol_hist_a.best_model"
    potential = import_schnetpack(
        SHARED / "weights" / "raw" / file, unit="kcal/mol", elements=["H", "C", "O"]
    )
    return EagerEngine(potential, CPU, dtype)


def native_values(library, potential, frames):
    structures = [Atoms(frames["numbers"], r) for r in frames["positions"]]
    batch = batch_of(*structures)
    pairs = neighbor_list(batch, potential.cutoff)
    asked = frozenset({"energy", "forces"})
    found = Code(library, potential).evaluate(batch, pairs, asked)
    return found.energy.numpy(), found.forces.reshape(len(structures), -1, 3).numpy()


@needs_reference
def test_published_weights_give_the_values_of_schnetpack(native_library):
    with np.load(SHARED / "reference" / "schnet_rmd17_ethanol_hist_a.npz") as arrays:
        frames = dict(arrays)
    potential = published(torch.float64).potential
    energy, forces = native_values(native_library, potential, frames)
    np.testing.assert_allclose(energy, frames["energy_f64"] * KCAL_PER_MOL, atol=1e-9)
    np.testing.assert_allclose(
        forces, frames["forces_f64"] * KCAL_PER_MOL, rtol=0, atol=1e-11
    )


@needs_reference
def test_weights_of_pyg_give_the_values_of_pyg(native_library, tmp_path):
    tensors = load_file(SHARED / "reference" / "schnet_pyg_random_weights.safetensors")
    torch.save(tensors, tmp_path / "schnet.pt")
    potential = import_pyg(tmp_path / "schnet.pt", unit="eV").double()
    potential.network.radial.basis.widths.fill_(10 / 49)  # before it was rounded
    with np.load(SHARED / "reference" / "schnet_pyg_random.npz") as arrays:
        frames = dict(arrays)
    energy, forces = native_values(native_library, potential, frames)
    np.testing.assert_allclose(energy, frames["output"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(forces, frames["neg_gradient"], rtol=0, atol=1e-10)
