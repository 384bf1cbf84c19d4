"""The Euclidean transformer and the terms of SO3LR in machine code of our own."""

from dataclasses import replace

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from small_potentials import (
    CPU,
    ELEMENTS,
    REFERENCE,
    ammonium,
    batch_of,
    crystal,
    ethanol,
    potential_of,
    small_spec,
    tiny_cell,
)
from test_so3lr import (
    MAX_ERROR,
    MOLECULES,
    SETTINGS,
    WANTED,
    atoms_of,
    error,
    so3lr,
    state_of,
    value,
    water_box,
)
from test_so3lr import batch_of as published_batch
from test_so3lr import pytestmark as needs_reference

from molpool_calc.atoms import ChargeAndSpin, batch_from_atoms
from molpool_calc.compilation.native import in_float64, verify
from molpool_calc.engine import EagerEngine
from molpool_calc.native.archive import archive_of
from molpool_calc.native.code import Code
from molpool_calc.native.names import NotCovered
from molpool_calc.neighbors import complete_pairs, dense_pairs, neighbor_list
from molpool_calc.potential import NeuralPotential, PotentialSpec

ASKED = frozenset(
    {"energy", "energies", "forces", "dipole", "charges", "hirshfeld_ratios"}
)
IN_CELLS = frozenset({"energy", "energies", "forces", "stress", "hirshfeld_ratios"})
TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-4}
VARIANTS: dict[str, dict] = {
    "as SO3LR": {
        "n_features": 32,
        "n_heads": 2,
        "degrees": [1, 2, 3, 4],
        "n_neighbors": 5.0,
        "radial_basis": "bernstein",
        "cutoff_function": "polynomial",
    },
    "uneven heads": {
        "n_heads": 6,
        "degrees": [1, 3, 4],
        "residual_mlp_2": True,
        "radial_basis": "gaussian",
        "cutoff_function": "exponential",
    },
    "bare": {
        "n_heads": 1,
        "degrees": [2],
        "charge_embedding": False,
        "spin_embedding": False,
        "layer_norm_1": False,
        "layer_norm_2": False,
        "residual_mlp_1": False,
        "radial_basis": "physnet",
    },
}
TERMS: dict[str, dict] = {
    "zbl": {"cutoff": 4.5},
    "electrostatics": {"cutoff": 6.0},
    "dispersion": {"cutoff": 7.0},
}


def engine_of(
    variant: str = "as SO3LR",
    *,
    terms: dict | None = None,
    dtype: torch.dtype = torch.float64,
) -> EagerEngine:
    heads = {
        "energy": {"pooling": "sum", "element_scales": True},
        "dipole": {"use_vectors": False, "element_charges": True},
        "hirshfeld": {},
    }
    heads["energy"]["reference_energies"] = {str(z): e for z, e in REFERENCE.items()}
    spec = PotentialSpec(
        name="small",
        elements=ELEMENTS,
        network=small_spec("so3krates-euclidean", **VARIANTS[variant]).network,
        heads=heads,
        terms=TERMS if terms is None else terms,
        total_charges=(-1, 0, 1),
    )
    return EagerEngine(potential_of(spec), CPU, dtype)


def assert_same(engine, code, batch, pairs, asked, tolerance=1e-11):
    found = code.evaluate(batch, pairs, asked)
    true = engine.evaluate(batch, pairs, asked)
    for name in asked:
        expected = getattr(true, name)
        off = float((getattr(found, name) - expected).abs().max())
        assert off <= tolerance * (1.0 + float(expected.abs().max())), name


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_molecules_of_any_size_get_what_the_network_gives(
    native_library, variant, dtype
):
    engine = engine_of(variant, dtype=dtype)
    code = Code(native_library, engine.potential)
    for structures in ([ethanol()], [Atoms("O")], [ethanol(), molecule("H2O")]):
        batch = batch_of(*structures, dtype=dtype)
        pairs = neighbor_list(batch, engine.potential.cutoff + 1.0)
        assert_same(engine, code, batch, pairs, ASKED, TOLERANCES[dtype])


@pytest.mark.parametrize("cell", [6.0, 2.6])
def test_cells_get_stress_also_where_atoms_see_their_own_images(native_library, cell):
    engine = engine_of()
    code = Code(native_library, engine.potential)
    batch = batch_of(tiny_cell(cell), crystal())
    pairs = neighbor_list(batch, engine.potential.cutoff + 0.5)
    assert_same(engine, code, batch, pairs, IN_CELLS)


@pytest.mark.parametrize("terms", [*TERMS, "none", "reach everywhere"])
def test_each_term_gives_its_part(native_library, terms):
    chosen = {terms: TERMS[terms]} if terms in TERMS else {}
    if terms == "reach everywhere":
        chosen = {"electrostatics": {}, "dispersion": {}}
    engine = engine_of("bare", terms=chosen)
    code = Code(native_library, engine.potential)
    structure = ethanol() + ethanol()
    structure.positions[9:] += [2.5, 1.5, 3.0]
    structure.positions[17] = structure.positions[0] + [0.5, 0.6, -0.2]  # too close
    batch = batch_of(structure)
    assert_same(engine, code, batch, complete_pairs(batch), ASKED)
    energy = frozenset({"energy"})
    assert_same(engine, code, batch, dense_pairs(batch), energy)
    assert ("stress" in code.properties) == (terms != "reach everywhere")


def test_ions_and_radicals_are_as_the_network_has_them(native_library):
    engine = engine_of()
    code = Code(native_library, engine.potential)
    batch = batch_from_atoms(
        [ammonium(), ethanol(), molecule("CH3")],
        dtype=torch.float64,
        device=CPU,
        states=[ChargeAndSpin(1, 0), ChargeAndSpin(-1, 0), ChargeAndSpin(0, 1)],
    )
    assert_same(engine, code, batch, complete_pairs(batch), ASKED)
    neutral = replace(batch, num_unpaired=torch.zeros_like(batch.num_unpaired))
    energies = [
        code.evaluate(b, complete_pairs(b), ASKED).energy for b in (batch, neutral)
    ]
    assert float((energies[1] - energies[0])[2].abs()) > 1e-3


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_system_does_not_feel_the_others_and_many_pairs_are_cut_into_blocks(
    native_library, dtype
):
    """Filters of many pairs are made anew on the way back, of few they are kept."""
    engine = engine_of(dtype=dtype)
    code = Code(native_library, engine.potential)
    batch = batch_of(crystal().repeat(2), crystal(), dtype=dtype)
    pairs = neighbor_list(batch, engine.potential.cutoff)
    assert pairs.center.shape[0] > 2000
    assert_same(engine, code, batch, pairs, IN_CELLS, TOLERANCES[dtype])
    alone = batch_of(crystal(), dtype=dtype)
    near = neighbor_list(alone, engine.potential.cutoff)
    forces = code.evaluate(alone, near, IN_CELLS).forces
    before = torch.get_num_threads()
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            together = code.evaluate(batch, pairs, IN_CELLS).forces
            assert torch.equal(together[-5:], forces)
    finally:
        torch.set_num_threads(before)


def test_filters_from_a_table_are_those_of_the_network(native_library):
    """At any distance, also nearer than the table begins, with the same slope."""
    single, double = engine_of(dtype=torch.float32), engine_of()
    code = Code(native_library, single.potential)
    distances = [0.15, *torch.linspace(0.3, 4.1, 40).tolist()]
    structures = [Atoms("OC", [[0, 0, 0], [0, 0.6 * d, 0.8 * d]]) for d in distances]
    batch = batch_of(*structures, dtype=torch.float32)
    pairs, asked = complete_pairs(batch), frozenset({"charges", "forces"})
    found = code.evaluate(batch, pairs, asked)
    true = double.evaluate(in_float64(batch), pairs, asked)
    off = (found.charges - true.charges).abs().view(41, 2)
    assert float(off.max()) < 2e-6
    off = (found.forces - true.forces).abs().view(41, 6).amax(1)
    assert bool((off < 1e-5 * (1.0 + true.forces.abs().view(41, 6).amax(1))).all())


def test_charges_from_vectors_are_left_to_the_network():
    spec = small_spec("painn")
    potential = potential_of(replace(spec, terms={"electrostatics": {}}))
    with pytest.raises(NotCovered, match="charges from vector features"):
        archive_of(potential)


def test_dispersion_of_elements_without_a_polarizability_is_left_to_the_network():
    potential = engine_of().potential
    spec = replace(potential.spec, elements=(1, 103))
    with pytest.raises(NotCovered, match="dispersion of element 103"):
        archive_of(NeuralPotential(spec))


def test_what_reaches_everywhere_is_verified_on_molecules_alone(native_library):
    engine = engine_of("bare", terms={"electrostatics": {}}, dtype=torch.float32)
    verify(Code(native_library, engine.potential), engine)


def code_of(library, cutoff):
    return Code(library, so3lr(cutoff))


@needs_reference
@pytest.mark.parametrize("setting", SETTINGS)
def test_published_weights_give_the_numbers_of_the_original(native_library, setting):
    code = code_of(native_library, SETTINGS[setting])
    for name in MOLECULES:
        batch = published_batch(name)
        centre = state_of(name).charge * atoms_of(name).get_center_of_mass()
        for pairs in (dense_pairs(batch), complete_pairs(batch)):
            found = code.evaluate(batch, pairs, WANTED)

            def there(what, name=name):
                return value(name, f"{setting}/{what}")

            assert error(found.energy, there("energy")[None]) < MAX_ERROR
            assert error(found.forces, there("forces")) < MAX_ERROR
            assert error(found.charges, there("partial_charges")) < MAX_ERROR
            assert error(found.hirshfeld_ratios, there("hirshfeld_ratios")) < MAX_ERROR
            assert error(found.dipole[0], there("dipole_vec") - centre) < MAX_ERROR


@needs_reference
def test_published_weights_are_near_in_float32(native_library):
    potential = so3lr(None).float()
    code = Code(native_library, potential)
    potential.double()  # it is that of other tests
    for name in ("ethanol", "aspirin"):
        batch = published_batch(name, dtype=torch.float32)
        found = code.evaluate(batch, dense_pairs(batch), WANTED)
        assert error(found.energy, value(name, "lrNone/energy")[None]) < 2e-5
        assert error(found.forces, value(name, "lrNone/forces")) < 2e-5


@needs_reference
def test_periodic_water_is_as_in_the_original(native_library):
    box, atoms = water_box()
    code = code_of(native_library, 12.0)
    batch = batch_of(atoms)
    pairs = neighbor_list(batch, 12.0)
    wanted = frozenset({"energy", "forces", "stress", "hirshfeld_ratios"})
    found = code.evaluate(batch, pairs, wanted)
    assert error(found.energy, box["energy"][None]) < 1e-9
    assert error(found.forces, box["forces"]) < 1e-9
    assert error(found.hirshfeld_ratios, box["hirshfeld_ratios"]) < 1e-9
    assert error(found.stress, box["stress_3x3"][None]) < 1e-11
