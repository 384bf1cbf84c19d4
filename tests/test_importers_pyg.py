"""SchNet and DimeNet++ of PyTorch Geometric, read from state dicts.

The references were computed by torch_geometric 2.8.1 in float64 from the same weights.
They are not part of this repository: without the reference folder beside it, the tests
that need them are skipped.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from safetensors.torch import load_file
from small_potentials import predict

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.derivatives import evaluate
from molpool_calc.importers import PyGSettings, import_pyg, potential_from_pyg
from molpool_calc.neighbors import complete_pairs, dense_pairs
from molpool_calc.networks import DimeNetPlusPlus
from molpool_calc.potential import count_parameters
from molpool_calc.units import HARTREE, KCAL_PER_MOL

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the reference folder is not here"
)


def published(name: str) -> dict[str, torch.Tensor]:
    return load_file(REFERENCE / f"{name}_weights.safetensors")


def errors(potential, name, *, dense=False):
    """Largest deviations of energies and forces, in the unit of the file, eV."""
    with np.load(REFERENCE / f"{name}.npz") as arrays:
        frames = dict(arrays)
    atoms = [Atoms(frames["numbers"], r) for r in frames["positions"]]
    batch = batch_from_atoms(atoms, dtype=torch.float64, device=torch.device("cpu"))
    pairs = dense_pairs(batch) if dense else complete_pairs(batch)
    wanted = frozenset({"energy", "forces"})
    found = evaluate(potential, batch, pairs, properties=wanted)
    forces = found.forces.numpy().reshape(frames["neg_gradient"].shape)
    return (
        float(np.abs(found.energy.numpy() - frames["output"]).max()),
        float(np.abs(forces - frames["neg_gradient"]).max()),
    )


@needs_reference
@pytest.mark.parametrize("dense", [True, False])
def test_dimenet_gives_the_energies_and_forces_of_pyg(tmp_path, dense):
    file = tmp_path / "dimenet.pt"
    torch.save(published("dimenetpp_pyg_random"), file)
    potential = import_pyg(file, unit="eV", cutoff=5.0, elements=["H", "C", "O"])
    assert potential.spec.name == "dimenet"
    assert potential.spec.network == {
        "kind": "dimenet++",
        "n_features": 1,
        "n_hidden": 128,
        "n_int_embedding": 64,
        "n_basis_embedding": 8,
        "n_out_embedding": 256,
        "n_interactions": 4,
        "n_spherical": 7,
        "n_radial": 6,
        "cutoff": 5.0,
        "envelope_exponent": 5,
        "n_before_skip": 1,
        "n_after_skip": 2,
        "n_output_layers": 3,
        "variant": "pyg",
        "max_atomic_number": 94,
    }
    assert count_parameters(potential) == 1_885_830
    energy, forces = errors(potential.double(), "dimenetpp_pyg_random", dense=dense)
    # what PyG's float32 roots of the Bessel functions leave
    assert energy < 2e-7
    assert forces < 1e-6


@needs_reference
@pytest.mark.parametrize(
    "entry",
    [
        "rbf.freq",
        "interaction_blocks.1.lin_sbf1.weight",
        "interaction_blocks.3.lin_kj.bias",
        "interaction_blocks.2.layers_after_skip.1.lin2.weight",
        "output_blocks.4.lins.2.bias",
    ],
)
def test_one_number_of_dimenet_changed_by_a_hundredth_is_noticed(entry):
    tensors = published("dimenetpp_pyg_random")
    tensors[entry].view(-1)[0] += 1e-2
    changed = potential_from_pyg(tensors, unit="eV", name="x", cutoff=5.0).double()
    energy, forces = errors(changed, "dimenetpp_pyg_random", dense=True)
    assert energy > 2e-7
    assert forces > 1e-6


def in_full_width(potential):
    """The original was built in float64: its spacing is that before the rounding."""
    potential = potential.double()
    potential.network.radial.basis.widths.fill_(10 / 49)
    return potential


@needs_reference
def test_schnet_gives_the_energies_and_forces_of_pyg(tmp_path):
    tensors = published("schnet_pyg_random")
    for layer in range(6):  # as PyG saves them: each filter twice
        for part in ("0.weight", "0.bias", "2.weight", "2.bias"):
            name = f"interactions.{layer}.mlp.{part}"
            tensors[name.replace(".mlp.", ".conv.nn.")] = tensors[name]
    file = tmp_path / "schnet.pt"
    torch.save(tensors, file)
    potential = import_pyg(file, unit="eV", name="net", elements=["H", "C", "O"])
    assert potential.cutoff == 10.0
    assert potential.spec.name == "net"
    assert potential.spec.symbols == ["H", "C", "O"]
    assert count_parameters(potential) == 455_809
    energy, forces = errors(in_full_width(potential), "schnet_pyg_random")
    assert energy < 1e-10
    assert forces < 1e-10


@needs_reference
@pytest.mark.parametrize(
    "entry", ["lin1.bias", "interactions.5.lin.weight", "interactions.0.mlp.0.weight"]
)
def test_one_number_of_schnet_changed_by_a_thousandth_is_noticed(entry):
    tensors = published("schnet_pyg_random")
    tensors[entry].view(-1)[0] += 1e-3
    potential = potential_from_pyg(tensors, unit="eV", name="x")
    energy, _ = errors(in_full_width(potential), "schnet_pyg_random")
    assert energy > 1e-10


def schnet_tensors(n=6, n_filters=4, n_rbf=5, rows=10):
    """A SchNet of PyG with one interaction and random numbers."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "embedding.weight": (rows, n),
        "lin1.weight": (n // 2, n),
        "lin1.bias": (n // 2,),
        "lin2.weight": (1, n // 2),
        "lin2.bias": (1,),
        "interactions.0.mlp.0.weight": (n_filters, n_rbf),
        "interactions.0.mlp.0.bias": (n_filters,),
        "interactions.0.mlp.2.weight": (n_filters, n_filters),
        "interactions.0.mlp.2.bias": (n_filters,),
        "interactions.0.conv.lin1.weight": (n_filters, n),
        "interactions.0.conv.lin2.weight": (n, n_filters),
        "interactions.0.conv.lin2.bias": (n,),
        "interactions.0.lin.weight": (n, n),
        "interactions.0.lin.bias": (n,),
    }
    tensors = {k: torch.randn(s, generator=generator) for k, s in shapes.items()}
    tensors["distance_expansion.offset"] = torch.linspace(0.0, 4.0, n_rbf)
    return tensors


def dimenet_tensors(n_after=1):
    """A narrow DimeNet++ of PyG with one interaction and random numbers."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "rbf.freq": (3,),
        "emb.emb.weight": (10, 6),
        "emb.lin_rbf.weight": (6, 3),
        "emb.lin_rbf.bias": (6,),
        "emb.lin.weight": (6, 18),
        "emb.lin.bias": (6,),
    }
    for block in range(2):
        out = f"output_blocks.{block}"
        shapes |= {
            f"{out}.lin_rbf.weight": (6, 3),
            f"{out}.lin_up.weight": (7, 6),
            f"{out}.lins.0.weight": (7, 7),
            f"{out}.lins.0.bias": (7,),
            f"{out}.lin.weight": (1, 7),
        }
    one = "interaction_blocks.0"
    for name, n_out, n_in in (
        ("lin_rbf1", 2, 3),
        ("lin_rbf2", 6, 2),
        ("lin_sbf1", 2, 9),
        ("lin_sbf2", 4, 2),
        ("lin_down", 4, 6),
        ("lin_up", 6, 4),
    ):
        shapes[f"{one}.{name}.weight"] = (n_out, n_in)
    square = ["lin_ji", "lin_kj", "lin"]
    for where, count in (("before", 1), ("after", n_after)):
        for k in range(count):
            square += [f"layers_{where}_skip.{k}.lin{n}" for n in (1, 2)]
    for name in square:
        shapes[f"{one}.{name}.weight"] = (6, 6)
        shapes[f"{one}.{name}.bias"] = (6,)
    return {k: torch.randn(s, generator=generator) for k, s in shapes.items()}


WATER = Atoms("OHH", [[0, 0, 0.1], [0, 0.76, -0.47], [0, -0.76, -0.5]])


def energy_of(tensors, **arguments):
    potential = potential_from_pyg(tensors, name="x", **arguments).double()
    return float(predict(potential, WATER, properties={"energy"}).energy)


def test_mean_std_and_atom_energies_are_added_in_the_unit_of_the_file():
    tensors = schnet_tensors()
    bare = energy_of(tensors, unit="eV")
    settings = PyGSettings(mean=-7.5, std=0.3)
    expected = (0.3 * bare - 3 * 7.5) * HARTREE
    scaled = energy_of(tensors, unit="Hartree", settings=settings)
    assert scaled == pytest.approx(expected, abs=1e-6)
    tensors["atomref.weight"] = torch.arange(10.0)[:, None]
    with_atoms = energy_of(tensors, unit="kcal/mol", settings=settings)
    expected = (0.3 * bare - 3 * 7.5 + 8 + 1 + 1) * KCAL_PER_MOL
    assert with_atoms == pytest.approx(expected, abs=1e-6)
    mean = PyGSettings(pooling="mean")
    with pytest.raises(ValueError, match="averages energies of atoms"):
        energy_of(tensors, unit="eV", settings=mean)
    del tensors["atomref.weight"]
    assert energy_of(tensors, unit="eV", settings=mean) == pytest.approx(bare / 3)


def test_sizes_are_read_off_the_tensors():
    potential = potential_from_pyg(schnet_tensors(), unit="eV", name="x")
    arguments = dict(potential.spec.network)
    assert (arguments["n_features"], arguments["n_filters"]) == (6, 4)
    assert (arguments["n_rbf"], arguments["cutoff"]) == (5, 4.0)
    assert potential.spec.elements == tuple(range(1, 10))
    assert "does not say what elements" in potential.spec.description
    potential = potential_from_pyg(dimenet_tensors(), unit="eV", name="x", cutoff=3.0)
    assert isinstance(potential.network, DimeNetPlusPlus)
    assert potential.cutoff == 3.0
    assert potential.spec.network["n_spherical"] == 3


def test_the_code_of_the_pooling_paper_has_other_angles():
    tensors = dimenet_tensors()
    energies = [
        energy_of(tensors, unit="eV", cutoff=3.0, settings=PyGSettings(variant=variant))
        for variant in ("pyg", "pooling-paper")
    ]
    assert abs(energies[0] - energies[1]) > 1e-6
    with pytest.raises(ValueError, match=r"after_skip\.1"):
        energy_of(
            dimenet_tensors(n_after=2),
            unit="eV",
            cutoff=3.0,
            settings=PyGSettings(variant="pooling-paper"),
        )


def without(name):
    return {k: v for k, v in schnet_tensors().items() if k != name}


@pytest.mark.parametrize(
    ("tensors", "arguments", "message"),
    [
        (schnet_tensors(), {"unit": None}, "none was given; give one of eV"),
        (schnet_tensors(), {"unit": "Ry"}, "'Ry' is not known"),
        (schnet_tensors(), {"kind": "dimenet++"}, r"dimenet\+\+ was asked for, but"),
        (schnet_tensors(), {"elements": ["Cl"]}, "elements Cl were asked for"),
        (without("lin2.bias"), {}, r"tensor lin2\.bias is missing"),
        (
            schnet_tensors() | {"odd": torch.ones(1)},
            {},
            "tensor odd is left over: MolPool's schnet",
        ),
        (
            schnet_tensors() | {"lin2.bias": torch.ones(2)},
            {},
            r"before\.second\.bias has shape \[2\]",
        ),
        (
            schnet_tensors() | {"lin2.bias": torch.tensor([float("nan")])},
            {},
            r"lin2\.bias does not hold finite real numbers",
        ),
        (
            schnet_tensors() | {"embedding.weight": torch.ones(1, 5000)},
            {},
            "a network of width 5000",
        ),
        (schnet_tensors() | {"atomic_mass": torch.ones(5)}, {}, "SchNet of dipoles"),
        ({"weight": torch.ones(1)}, {}, r"neither those .* torch\.save\(model\.state"),
        (dimenet_tensors(), {}, "does not say its cutoff; give it in Å"),
        (
            dimenet_tensors()
            | {f"output_blocks.{n}.lin.weight": torch.ones(3, 7) for n in range(2)},
            {"cutoff": 5.0},
            "gives 3 numbers for an atom",
        ),
        (
            {"interaction_blocks.0.W": torch.ones(1)},
            {"cutoff": 5.0},
            r"a DimeNet, but only DimeNet\+\+",
        ),
    ],
)
def test_what_cannot_be_imported_is_named(tensors, arguments, message):
    with pytest.raises(ValueError, match=message):
        potential_from_pyg(tensors, **{"unit": "eV", "name": "x", **arguments})


class Hostile:
    """Runs a command when unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("hostile-was-here",))


def test_a_hostile_file_is_refused_by_the_name_of_what_it_calls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({**schnet_tensors(), "extra": Hostile()}, "bad.pt")
    with pytest.raises(ValueError, match=r"names the global \w+\.mkdir"):
        import_pyg("bad.pt", unit="eV")
    assert not Path("hostile-was-here").exists()


@pytest.mark.parametrize("content", [{"epoch": 3}, [1.0], {"model": {"x": "y"}}])
def test_a_file_of_something_else_says_how_to_save_it(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"torch\.save\(model\.state_dict\(\), file\)"):
        import_pyg(tmp_path / "x.pt", unit="eV")
