"""Files in SchNetPack's layout become potentials with the same numbers.

The files are written by stand-ins for SchNetPack's classes, whose own ``forward`` is
an independent computation of the expected values.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from schnetpack_stand_in import (
    AddOffsets,
    Atomwise,
    BesselRBF,
    CastTo64,
    CosineCutoff,
    DipoleMoment,
    Forces,
    GaussianRBF,
    MollifierCutoff,
    NeuralNetworkPotential,
    PaiNN,
    Polarizability,
    ScaleProperty,
    SchNet,
    SO3net,
    SwitchFunction,
    schnetpack,  # noqa: F401 - a fixture
)
from torch import Tensor, nn
from torch.nn import functional

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.derivatives import evaluate
from molpool_calc.importers import import_schnetpack
from molpool_calc.interfaces import Prediction
from molpool_calc.neighbors import complete_pairs
from molpool_calc.potential import NeuralPotential
from molpool_calc.storage import load_potential, save_potential
from molpool_calc.units import (
    BOHR,
    COULOMB,
    DEBYE,
    HARTREE,
    KCAL_PER_MOL,
    KJ_PER_MOL,
)

pytestmark = pytest.mark.usefixtures("schnetpack")
CUTOFF = 2.5  # Å: some pairs of ethanol lie beyond it


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        yield


def painn(**changes: object) -> PaiNN:
    return PaiNN(8, 2, GaussianRBF(5, CUTOFF), CosineCutoff(CUTOFF), **changes)


def schnet(**changes: object) -> SchNet:
    return SchNet(8, 2, GaussianRBF(5, CUTOFF), CosineCutoff(CUTOFF), **changes)


def energy_model(network: nn.Module, *posts: nn.Module) -> NeuralNetworkPotential:
    return NeuralNetworkPotential(network, [Atomwise(8), Forces()], posts)


def saved(model: nn.Module, folder: Path) -> Path:
    """A file of the model with biases that are not zero, as after training."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.5, 0.5)
    torch.save(model, folder / "best_model")
    return folder / "best_model"


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=3)
    atoms.positions -= atoms.get_center_of_mass()
    return atoms


def predicted(potential: NeuralPotential, *properties: str) -> Prediction:
    batch = batch_from_atoms(
        [ethanol()], dtype=torch.float64, device=torch.device("cpu")
    )
    pairs = complete_pairs(batch)
    wanted = frozenset(properties)
    return evaluate(potential.double(), batch, pairs, properties=wanted)


def expected(model: nn.Module) -> tuple[list[Tensor], Tensor]:
    """The stand-in's values, and the forces of the first of them."""
    atoms = ethanol()
    positions = torch.tensor(atoms.positions, requires_grad=True)
    values = model.double()(torch.tensor(atoms.numbers), positions)
    forces = torch.zeros_like(positions)
    if values[0].dim() == 0:
        (gradient,) = torch.autograd.grad(values[0], positions)
        forces = -gradient
    return [value.detach() for value in values], forces


MODELS = {
    "painn": lambda: energy_model(painn(), CastTo64(), AddOffsets(-1234.5)),
    "painn with shared filters": lambda: energy_model(painn(shared=True)),
    "painn with a Bessel basis": lambda: energy_model(
        PaiNN(8, 2, BesselRBF(5, CUTOFF), CosineCutoff(CUTOFF))
    ),
    "painn with a mollifier": lambda: energy_model(
        PaiNN(8, 1, GaussianRBF(5, CUTOFF), MollifierCutoff(CUTOFF))
    ),
    "schnet": lambda: energy_model(schnet(), CastTo64(), AddOffsets(-1234.5)),
    "schnet with narrow filters": lambda: energy_model(schnet(n_filters=6)),
    "schnet with energies of elements": lambda: energy_model(
        schnet(), CastTo64(), AddOffsets(-0.5, torch.linspace(0.0, 1100.0, 12))
    ),
    "schnet with a mean and a wide readout": lambda: NeuralNetworkPotential(
        schnet(), [Atomwise(8, aggregation_mode="avg", n_hidden=11), Forces()]
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_energy_and_forces_are_those_of_the_model_in_the_file(
    name: str, tmp_path: Path
) -> None:
    model = MODELS[name]()
    potential = import_schnetpack(saved(model, tmp_path), unit="kcal/mol")
    found = predicted(potential, "energy", "forces")
    (energy,), forces = expected(model)
    assert float(forces.abs().max()) > 1e-3
    torch.testing.assert_close(
        found.energy[0], energy * KCAL_PER_MOL, rtol=0, atol=1e-11
    )
    torch.testing.assert_close(found.forces, forces * KCAL_PER_MOL, rtol=0, atol=1e-12)


@pytest.mark.parametrize("vectors", [True, False])
def test_dipole_and_polarizability_are_those_of_the_model_in_the_file(
    vectors: bool, tmp_path: Path
) -> None:
    outputs = [DipoleMoment(8, vectors=vectors), Polarizability(8)]
    model = NeuralNetworkPotential(painn(), outputs)
    path = saved(model, tmp_path)
    (dipole, alpha), _ = expected(model)
    for unit, factor in (("e*Angstrom", 1.0), ("Debye", DEBYE), ("a.u.", BOHR)):
        potential = import_schnetpack(
            path, unit=None, dipole_unit=unit, polarizability_unit="a.u."
        )
        found = predicted(potential, "dipole", "polarizability")
        # dipoles in other units than e·Å change the last layer, in float32
        tolerance = 1e-12 if factor == 1.0 else 1e-6
        torch.testing.assert_close(
            found.dipole[0], dipole * factor, rtol=0, atol=tolerance
        )
        in_atomic_units = found.polarizability[0] * (HARTREE / BOHR**2)
        torch.testing.assert_close(in_atomic_units, alpha, rtol=0, atol=1e-12)


def test_a_dipole_of_an_atom_without_vectors_has_a_finite_gradient(
    tmp_path: Path,
) -> None:
    model = NeuralNetworkPotential(painn(), [DipoleMoment(8, vectors=True)])
    path = saved(model, tmp_path)
    potential = import_schnetpack(path, unit=None, dipole_unit="e*Angstrom").double()
    # the middle atom is a centre of inversion: all its vectors vanish
    atoms = Atoms("OCO", [[-1.2, 0, 0], [0, 0, 0], [1.2, 0, 0]])
    batch = batch_from_atoms([atoms], dtype=torch.float64, device=torch.device("cpu"))
    batch.positions.requires_grad_()
    result = evaluate(
        potential,
        batch,
        complete_pairs(batch),
        properties=frozenset({"dipole"}),
        create_graph=True,
    )
    (gradient,) = torch.autograd.grad(result.dipole.sum(), batch.positions)
    assert bool(torch.isfinite(gradient).all())


def test_the_weights_are_those_of_the_file_bit_for_bit(tmp_path: Path) -> None:
    model = energy_model(painn())
    potential = import_schnetpack(saved(model, tmp_path), unit="kcal/mol")
    theirs, ours = model.state_dict(), potential.state_dict()
    filters = theirs["representation.filter_net.weight"].split(24)
    assert torch.equal(ours["network.filters.0.weight"], filters[0])
    assert torch.equal(ours["network.filters.1.weight"], filters[1])
    assert torch.equal(
        ours["network.radial.basis.centers"],
        theirs["representation.radial_basis.offsets"],
    )
    assert {value.dtype for value in ours.values()} == {torch.float32}
    assert sum(p.numel() for p in potential.parameters()) == sum(
        p.numel() for p in model.parameters()
    )


def test_a_model_in_float64_stays_so(tmp_path: Path) -> None:
    model = energy_model(schnet()).double()
    potential = import_schnetpack(saved(model, tmp_path), unit="eV")
    assert potential.dtype == torch.float64


def test_an_imported_potential_is_stored_and_loaded_unchanged(tmp_path: Path) -> None:
    path = saved(energy_model(painn(), AddOffsets(-9.0)), tmp_path)
    potential = import_schnetpack(
        path, unit="eV", name="mine", elements=["O", "H", "C"]
    )
    save_potential(potential, tmp_path / "mine")
    loaded = load_potential(tmp_path / "mine")
    assert loaded.spec.name == "mine"
    assert loaded.spec.symbols == ["H", "C", "O"]
    first, second = predicted(potential, "energy"), predicted(loaded, "energy")
    assert torch.equal(first.energy, second.energy)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("eV", 1.0),
        ("kcal/mol", KCAL_PER_MOL),
        ("kJ/mol", KJ_PER_MOL),
        ("Hartree", HARTREE),
    ],
)
def test_the_unit_scales_the_network_and_the_energies_of_elements(
    unit: str, factor: float, tmp_path: Path
) -> None:
    atomref = torch.arange(12.0)
    path = saved(energy_model(schnet(), AddOffsets(0.25, atomref)), tmp_path)
    head = import_schnetpack(path, unit=unit).spec.heads["energy"]
    assert head["scale"] == factor
    assert head["reference_energies"][8] == pytest.approx(8.25 * factor, rel=1e-15)


def test_a_missing_or_unknown_unit_is_refused(tmp_path: Path) -> None:
    outputs = [Atomwise(8), DipoleMoment(8, vectors=True), Polarizability(8)]
    path = saved(NeuralNetworkPotential(painn(), outputs), tmp_path)
    sentence = "does not say the unit of its energy, and none was given; give one of eV"
    with pytest.raises(ValueError, match=sentence):
        import_schnetpack(path, unit=None)
    with pytest.raises(
        ValueError, match="'kcal' is not known; give one of eV, kcal/mol"
    ):
        import_schnetpack(path, unit="kcal")
    with pytest.raises(ValueError, match="unit of its dipole, and none was given"):
        import_schnetpack(path, unit="eV")
    with pytest.raises(ValueError, match="unit of its polarizability, and none"):
        import_schnetpack(path, unit="eV", dipole_unit="Debye")


def test_polarizabilities_in_cubic_angstrom_become_those_of_the_project(
    tmp_path: Path,
) -> None:
    path = saved(NeuralNetworkPotential(painn(), [Polarizability(8)]), tmp_path)
    unit = "Angstrom^3"
    potential = import_schnetpack(path, unit=None, polarizability_unit=unit)
    scale = potential.spec.heads["polarizability"]["scale"]
    assert scale * COULOMB == pytest.approx(1.0)


def test_elements_are_those_given_or_referenced_or_else_all_rows(
    tmp_path: Path,
) -> None:
    path = saved(energy_model(schnet(), AddOffsets(-1.0)), tmp_path)
    everything = import_schnetpack(path, unit="eV")
    assert everything.spec.elements == tuple(range(1, 12))
    assert "does not say what elements" in everything.spec.description
    given = import_schnetpack(path, unit="eV", elements=["O", "C", "H", "H"])
    assert given.spec.elements == (1, 6, 8)
    assert given.species == {1, 6, 8}
    assert given.spec.description == ""
    with pytest.raises(ValueError, match="the elements Cl were asked for, but"):
        import_schnetpack(path, unit="eV", elements=["H", "Cl"])
    with pytest.raises(ValueError, match="'Hx' is no chemical symbol"):
        import_schnetpack(path, unit="eV", elements=["Hx"])
    with pytest.raises(ValueError, match=r"the elements \(none\) were asked for"):
        import_schnetpack(path, unit="eV", elements=[])
    atomref = torch.zeros(12)
    atomref[[1, 6]] = -3.0
    path = saved(energy_model(schnet(), AddOffsets(None, atomref)), tmp_path)
    assert import_schnetpack(path, unit="eV").spec.elements == (1, 6)
    with pytest.raises(ValueError, match="the elements O were asked for, but"):
        import_schnetpack(path, unit="eV", elements=["H", "O"])


def test_the_source_names_the_file_its_hash_and_the_version(tmp_path: Path) -> None:
    path = saved(energy_model(schnet()), tmp_path)
    potential = import_schnetpack(path, unit="eV")
    assert potential.spec.name == "best_model"
    assert "version 2.1.1" in potential.spec.source
    assert "SHA-256" in potential.spec.source


def test_a_model_of_an_older_version_is_read(tmp_path: Path) -> None:
    model = energy_model(painn(), CastTo64(old=True), AddOffsets(-5.0))
    del model.spk_version
    assert not hasattr(model, "do_postprocessing")
    assert not hasattr(model.representation, "electronic_embeddings")
    potential = import_schnetpack(saved(model, tmp_path), unit="eV")
    (energy,), _ = expected(model)
    found = predicted(potential, "energy").energy[0]
    torch.testing.assert_close(found, energy, rtol=0, atol=1e-11)
    assert "version unknown" in potential.spec.source


def test_a_module_used_in_every_round_is_copied_into_every_round(
    tmp_path: Path,
) -> None:
    model = energy_model(schnet())
    blocks = model.representation.interactions
    blocks[1] = blocks[0]
    potential = import_schnetpack(saved(model, tmp_path), unit="eV")
    (energy,), _ = expected(model)
    found = predicted(potential, "energy").energy[0]
    torch.testing.assert_close(found, energy, rtol=0, atol=1e-12)


def with_network(network: nn.Module) -> NeuralNetworkPotential:
    return energy_model(network)


def with_outputs(*outputs: nn.Module) -> NeuralNetworkPotential:
    return NeuralNetworkPotential(painn(), outputs)


def changed(model: nn.Module, path: str, **attributes: object) -> nn.Module:
    module = model.get_submodule(path)
    for name, value in attributes.items():
        if name == "activation":  # may be a module, which torch guards
            module._modules.pop(name, None)
        setattr(module, name, value)
    return model


def with_electrons() -> nn.Module:
    network = painn()
    network.electronic_embeddings = nn.ModuleList([nn.Embedding(3, 8)])
    return energy_model(network)


def with_layers(n: int) -> nn.Module:
    model = energy_model(painn())
    net = model.output_modules[0].outnet
    model.output_modules[0].outnet = nn.Sequential(*[net[0]] * (n - 1), net[1])
    return model


REFUSED = {
    "holds a torch.nn.modules.linear.Linear, but": lambda: nn.Linear(2, 2),
    "holds a dict, but": lambda: {"state_dict": {}},
    "is schnetpack.representation.so3net.SO3net, but only": lambda: with_network(
        SO3net()
    ),
    "its cutoff function is schnetpack.nn.cutoff.SwitchFunction": lambda: with_network(
        PaiNN(8, 2, GaussianRBF(5, CUTOFF), SwitchFunction(CUTOFF))
    ),
    "embeds charge or spin": with_electrons,
    "its embedding renormalizes": lambda: changed(
        energy_model(painn()), "representation.embedding", max_norm=1.0
    ),
    "its embedding is torch.nn.modules.linear.Linear": lambda: changed(
        energy_model(painn()), "representation", embedding=nn.Linear(2, 2)
    ),
    "input module 0 is torch.nn.modules.linear.Identity": lambda: changed(
        energy_model(painn()), "", input_modules=nn.ModuleList([nn.Identity()])
    ),
    "of interactions.1.interatomic_context_net are torch.nn.functional.relu": (
        lambda: changed(
            energy_model(painn()),
            "representation.interactions.1.interatomic_context_net.0",
            activation=functional.relu,
        )
    ),
    "function of interactions.0.f2out is silu, but": lambda: changed(
        energy_model(schnet()),
        "representation.interactions.0.f2out.0",
        activation=functional.silu,
    ),
    "and the second none": lambda: changed(
        energy_model(painn()),
        "output_modules.0.outnet.1",
        activation=functional.silu,
    ),
    r"outnet has the layers \['0', '1', '2'\], but must have two": lambda: with_layers(
        3
    ),
    "gives 'homo', but": lambda: with_outputs(Atomwise(8, output_key="homo")),
    "pools by 'max'": lambda: with_outputs(Atomwise(8, aggregation_mode="max")),
    "two outputs of the kind energy": lambda: with_outputs(Atomwise(8), Atomwise(8)),
    "neither energy nor dipole nor polarizability": lambda: with_outputs(Forces()),
    "gives the length of the dipole": lambda: changed(
        with_outputs(DipoleMoment(8, vectors=True)),
        "output_modules.0",
        predict_magnitude=True,
    ),
    "do not add up to the total charge": lambda: changed(
        with_outputs(DipoleMoment(8, vectors=True)),
        "output_modules.0",
        correct_charges=False,
    ),
    "outnet.1 are silu and torch.nn.functional.silu, but": lambda: changed(
        with_outputs(Polarizability(8)),
        "output_modules.0.outnet.1",
        sactivation=functional.silu,
    ),
    "postprocessors.0 is schnetpack.transform.atomistic.ScaleProperty": lambda: (
        energy_model(painn(), ScaleProperty())
    ),
    "does not grow with the number of atoms": lambda: changed(
        energy_model(painn(), AddOffsets(1.0)), "postprocessors.0", is_extensive=False
    ),
    "offset to something else than the energy": lambda: changed(
        energy_model(painn(), AddOffsets(1.0)), "postprocessors.0", _property="homo"
    ),
    "no common epsilon": lambda: changed(
        energy_model(painn()), "representation.mixing.1", epsilon=1e-3
    ),
    "n_atom_basis is no whole number": lambda: changed(
        energy_model(painn()), "representation", n_atom_basis=True
    ),
    "embedding.weight has shape .12, 8., but": lambda: changed(
        energy_model(painn()), "representation", n_atom_basis=9
    ),
    "the network that it describes has a matrix": lambda: changed(
        energy_model(schnet()), "representation", n_filters=10**6
    ),
    "representation.radial_basis.widths is missing|asks for": lambda: changed(
        energy_model(painn()), "representation.radial_basis", n_rbf=6
    ),
    "the tensor representation.filter_net.bias is missing": lambda: changed(
        energy_model(painn()), "representation.filter_net", bias=None
    ),
    "tensor output_modules.0.outnet.0.weight has shape .4, 7., but": lambda: changed(
        energy_model(painn()),
        "output_modules.0.outnet.0",
        weight=nn.Parameter(torch.ones(4, 7)),
    ),
    "tensor representation.filter_net.weight has shape .48, 4., but": lambda: changed(
        energy_model(painn()),
        "representation.filter_net",
        weight=nn.Parameter(torch.ones(48, 4)),
    ),
    "representation.filter_net.weight has shape .40, 5., but": lambda: changed(
        energy_model(painn()),
        "representation.filter_net",
        weight=nn.Parameter(torch.ones(40, 5)),
    ),
    "tensor representation.extra is left over": lambda: changed(
        energy_model(painn()), "representation", extra=nn.Parameter(torch.ones(1))
    ),
    "filter_net.bias does not hold finite": lambda: changed(
        energy_model(painn(shared=True)),
        "representation.filter_net",
        bias=nn.Parameter(torch.full((24,), float("nan"))),
    ),
    "cutoff is not one finite number": lambda: changed(
        energy_model(painn()),
        "representation.cutoff_fn",
        cutoff=torch.tensor([1.0, 2.0]),
    ),
    "its cutoff is -1.0 Å": lambda: changed(
        energy_model(painn()), "representation.cutoff_fn", cutoff=torch.tensor([-1.0])
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_equal_here_is_refused_by_name(
    message: str, tmp_path: Path
) -> None:
    torch.save(REFUSED[message](), tmp_path / "best_model")
    with pytest.raises(ValueError, match=message) as refusal:
        import_schnetpack(
            tmp_path / "best_model",
            unit="eV",
            dipole_unit="Debye",
            polarizability_unit="a.u.",
        )
    assert str(refusal.value).startswith(str(tmp_path / "best_model"))


def test_without_reference_energies_of_a_known_sign_the_file_is_refused(
    tmp_path: Path,
) -> None:
    offsets = AddOffsets(None, torch.ones(12))
    del offsets._atomrefs_initialized
    path = saved(energy_model(painn(), offsets), tmp_path)
    with pytest.raises(
        ValueError, match="no attribute _atomrefs_initialized; the file"
    ):
        import_schnetpack(path, unit="eV")


def test_a_changed_weight_changes_the_energy(tmp_path: Path) -> None:
    model = energy_model(painn())
    path = saved(model, tmp_path)
    before = predicted(import_schnetpack(path, unit="eV"), "energy").energy
    with torch.no_grad():
        model.representation.mixing[1].mu_channel_mix.weight[3, 2] += 1e-3
    torch.save(model, path)
    after = predicted(import_schnetpack(path, unit="eV"), "energy").energy
    assert 1e-7 < np.abs(float(after - before)) < 1.0
