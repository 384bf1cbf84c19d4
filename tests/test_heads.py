"""Heads: charges, dipoles and polarizabilities obey their definitions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from safetensors.torch import load_file
from small_potentials import (
    REFERENCE,
    batch_of,
    ethanol,
    glycol,
    potential_of,
    predict,
    rotation,
    small_potential,
    small_spec,
    water,
)

from molpool_calc.edges import edges_from_positions
from molpool_calc.heads import HEADS, DipoleHead, EnergyHead, Head
from molpool_calc.heads.elements import ElementTable
from molpool_calc.neighbors import complete_pairs, neighbor_list
from molpool_calc.potential import NeuralPotential, PotentialSpec, composition_of

SHARED = Path(__file__).parents[2] / "shared" / "reference"
ALL = ("energy", "dipole", "polarizability")


def charged(atoms: Atoms, charge: float) -> Atoms:
    atoms.info["charge"] = charge
    return atoms


@pytest.fixture(params=["painn", "schnet"])
def network(request):
    return request.param


def test_charges_sum_to_the_total_charge_of_each_system(network):
    potential = small_potential(network)
    structures = [charged(ethanol(), 1.0), water(), charged(glycol(), -1.0)]
    charges = predict(potential, *structures, properties={"charges"}).charges
    sums = [float(part.sum()) for part in torch.split(charges, [9, 3, 15])]
    np.testing.assert_allclose(sums, [1, 0, -1], atol=1e-13)


def test_the_excess_charge_is_shared_equally(network):
    potential = small_potential(network)
    neutral = predict(potential, ethanol()).charges
    cation = predict(potential, charged(ethanol(), 1.0)).charges
    torch.testing.assert_close(cation - neutral, torch.full_like(cation, 1 / 9))


@pytest.mark.parametrize("charge", [0.0, 1.0, -1.0])
def test_the_dipole_does_not_depend_on_the_origin(network, charge):
    potential = small_potential(network)
    here, there = charged(ethanol(), charge), charged(ethanol(), charge)
    there.positions += [10.0, -20.0, 5.0]
    torch.testing.assert_close(
        predict(potential, here).dipole,
        predict(potential, there).dipole,
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("charge", [0.0, 1.0])
def test_the_dipole_is_that_of_the_charges_about_the_center_of_mass(charge):
    """Without vector features there are no atomic dipoles."""
    atoms = charged(ethanol(), charge)
    result = predict(small_potential("schnet"), atoms)
    arms = atoms.positions - atoms.get_center_of_mass()
    expected = result.charges.numpy() @ arms
    np.testing.assert_allclose(result.dipole[0].numpy(), expected, atol=1e-12)


def test_the_dipole_of_an_ion_about_another_point_differs_by_charge_times_distance():
    """A change of origin must be made outside: μ' = μ − Q·d."""
    atoms = charged(ethanol(), -1.0)
    result = predict(small_potential("schnet"), atoms)
    about_zero = result.charges.numpy() @ atoms.positions
    shift = result.dipole[0].numpy() - about_zero
    np.testing.assert_allclose(shift, atoms.get_center_of_mass(), atol=1e-12)


@pytest.mark.parametrize("charge", [0.0, 1.0])
def test_the_dipole_of_an_ion_turns_with_it(network, charge):
    potential, matrix = small_potential(network), -rotation(3)
    turned = charged(ethanol(), charge)
    turned.positions = turned.positions @ matrix.numpy().T
    before = predict(potential, charged(ethanol(), charge)).dipole
    torch.testing.assert_close(
        before @ matrix.T, predict(potential, turned).dipole, rtol=0, atol=1e-12
    )
    assert float(before.norm()) > 0.01


def test_a_dipole_of_a_symmetric_molecule_vanishes_off_its_axis():
    """Two mirror planes leave water a dipole along its axis only."""
    symmetric = Atoms("OHH", [[0, 0, 0.12], [0, 0.76, -0.47], [0, -0.76, -0.47]])
    dipole = predict(small_potential(), symmetric).dipole[0]
    assert float(dipole[:2].abs().max()) < 1e-13
    assert abs(float(dipole[2])) > 1e-3


def test_the_polarizability_is_symmetric_and_free_of_the_origin():
    potential = small_potential(heads=ALL)
    moved = ethanol()
    moved.positions += [100.0, 0, -30.0]
    here = predict(potential, ethanol()).polarizability[0]
    there = predict(potential, moved).polarizability[0]
    torch.testing.assert_close(here, here.T, rtol=0, atol=1e-13)
    torch.testing.assert_close(here, there, rtol=0, atol=1e-11)
    assert float((here - here.trace() / 3 * torch.eye(3)).abs().max()) > 1e-3


def test_scales_multiply_what_the_networks_give():
    spec = small_spec(heads=("energy", "polarizability"))
    heads = {
        "energy": {**spec.heads["energy"], "scale": 1.5, "reference_energies": {}},
        "polarizability": {"scale": 6.0},
    }
    once = potential_of(replace(spec, heads={**spec.heads, "energy": {"scale": 0.5}}))
    thrice = potential_of(replace(spec, heads=heads))
    small, large = predict(once, ethanol()), predict(thrice, ethanol())
    torch.testing.assert_close(3 * small.energy, large.energy)
    torch.testing.assert_close(3 * small.forces, large.forces)
    torch.testing.assert_close(3 * small.polarizability, large.polarizability)


@pytest.mark.parametrize(
    "pooling",
    [
        "mean",
        "softmax",
        "log-sum-exp",
        "weighted-average",
        {"kind": "attention", "n_hidden": 8, "n_heads": 2},
    ],
)
def test_the_scale_multiplies_the_pooled_energy_whatever_the_pooling(pooling):
    spec = small_spec("painn")
    energies = {}
    for scale in (1.0, 3.0):
        head = {"pooling": pooling, "scale": scale}
        potential = potential_of(replace(spec, heads={"energy": head}))
        energies[scale] = predict(potential, ethanol(), water()).energy
    torch.testing.assert_close(energies[3.0], 3.0 * energies[1.0], rtol=1e-12, atol=0)


def test_reference_energies_are_added_exactly_whatever_the_dtype():
    """With float32 tables −5000 eV would be off by up to 2e-4 eV."""
    spec = small_spec(heads=("energy",))
    energies = {"1": -13.123456789012, "8": -2042.987654321098}
    head = {**spec.heads["energy"], "reference_energies": energies}
    for dtype in (torch.float32, torch.float64):
        with_table = potential_of(replace(spec, heads={"energy": head}), dtype=dtype)
        without = potential_of(replace(spec, heads={"energy": {"scale": 0.5}}))
        difference = (
            predict(with_table, water(), dtype=dtype).energy
            - predict(without.to(dtype), water(), dtype=dtype).energy
        )
        expected = 2 * -13.123456789012 - 2042.987654321098
        np.testing.assert_allclose(difference.item(), expected, rtol=0, atol=1e-12)


def test_reference_energies_of_a_mean_are_still_summed():
    """E = mean over the atoms of the network's part + Σ E⁰ of all of them."""
    spec = small_spec(heads=("energy",), pooling="mean")
    bare = {**spec.heads["energy"], "reference_energies": {}}
    with_table = predict(potential_of(spec), water()).energy
    without = predict(potential_of(replace(spec, heads={"energy": bare})), water())
    expected = 2 * REFERENCE[1] + REFERENCE[8]
    torch.testing.assert_close(
        with_table - without.energy, torch.tensor([expected], dtype=torch.float64)
    )


def test_an_element_table_stays_float64_and_out_of_the_weights():
    table = ElementTable(torch.tensor([0.0, 0.1, 1 / 3]))
    for convert in (table.float, table.half, table.double):
        assert convert().values.dtype == torch.float64
    assert not table.state_dict()
    assert not list(table.parameters())


@pytest.mark.parametrize(
    ("network", "heads", "idle"),
    [
        ("painn", ALL, set()),
        ("schnet", ALL[:2], {"heads.dipole.readout.second.bias"}),
    ],
)
def test_gradients_reach_every_weight_that_has_influence(network, heads, idle):
    """A constant on all charges is taken away again by charge conservation."""
    potential = small_potential(network, heads=heads)
    batch = batch_of(ethanol(), charged(water(), 1.0))
    wanted = frozenset(potential.properties)
    result = potential(batch, complete_pairs(batch), wanted)
    parts = [getattr(result, name) for name in wanted]
    sum(part.double().square().sum() for part in parts).backward()
    unreached = {
        name
        for name, weight in potential.named_parameters()
        if weight.grad is None or float(weight.grad.abs().max()) < 1e-12
    }
    assert unreached == idle


def test_a_head_that_needs_vectors_is_refused_on_a_network_without():
    spec = small_spec("schnet")
    message = "head dipole needs vector features, which schnet does not have; take pain"
    with pytest.raises(ValueError, match=message):
        NeuralPotential(replace(spec, heads={"dipole": {}}))
    with pytest.raises(ValueError, match="head polarizability needs vector features"):
        NeuralPotential(replace(spec, heads={"polarizability": {}}))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"H": -13.6},
            r"reference_energies has the keys \['H'\], but must have atomic",
        ),
        ({"500": 1.0}, "the atomic number 500; allowed are 1 to 118"),
        ({"0": 1.0}, "the atomic number 0; allowed are 1 to 118"),
    ],
)
def test_a_wrong_table_of_element_energies_is_named(table, message):
    spec = replace(small_spec(), heads={"energy": {"reference_energies": table}})
    with pytest.raises(ValueError, match=message):
        NeuralPotential(spec)


def test_a_wrong_argument_of_a_head_is_named():
    spec = replace(small_spec(), heads={"energy": {"poolling": "sum"}})
    with pytest.raises(ValueError, match=r"head energy: .*'poolling'.*EnergyHead"):
        NeuralPotential(spec)
    spec = replace(small_spec(), heads={"energy": {"pooling": "softmax2"}})
    with pytest.raises(ValueError, match="pooling 'softmax2' is unknown"):
        NeuralPotential(spec)


@pytest.mark.parametrize("name", HEADS)
def test_heads_keep_the_protocol(name):
    named = {"name": "gap"} if name == "scalar" else {}
    assert isinstance(HEADS[name](n_features=8, **named), Head)


def test_a_potential_says_what_it_gives():
    assert small_potential(heads=ALL).properties == {
        "energy",
        "energies",
        "dipole",
        "charges",
        "polarizability",
    }
    assert EnergyHead(n_features=4, pooling="mean").properties == {"energy"}
    assert DipoleHead(n_features=4, use_vectors=False).needs_vectors is False


def two_layers(ours: str, theirs: str) -> dict[str, str]:
    return {
        f"{ours}.{mine}.{kind}": f"{theirs}.{index}.{kind}"
        for index, mine in enumerate(("first", "second"))
        for kind in ("weight", "bias")
    }


def gated(ours: str, theirs: str) -> dict[str, str]:
    names = {}
    for index, mine in enumerate(("first", "second")):
        block = f"{theirs}.{index}"
        names[f"{ours}.{mine}.mix.weight"] = f"{block}.mix_vectors.weight"
        names |= two_layers(f"{ours}.{mine}.context", f"{block}.scalar_net")
    return names


def schnetpack_weights() -> dict[str, torch.Tensor]:
    """The random weights of the reference model under our names."""
    theirs = load_file(SHARED / "painn_tensor_random_weights.safetensors")
    names = {
        "network.embedding.weight": "representation.embedding.weight",
        "network.radial.basis.centers": "representation.radial_basis.offsets",
        "network.radial.basis.widths": "representation.radial_basis.widths",
        **two_layers("heads.energy.before", "output_modules.0.outnet"),
        **gated("heads.dipole.readout", "output_modules.1.outnet"),
        **two_layers("heads.charges.readout", "output_modules.2.outnet"),
        **gated("heads.polarizability.readout", "output_modules.4.outnet"),
    }
    for k in range(3):
        part = "representation.{}." + str(k) + ".{}_context_net"
        message, mixing = f"network.messages.{k}", f"network.updates.{k}"
        names |= two_layers(
            f"{message}.context", part.format("interactions", "interatomic")
        )
        names |= two_layers(f"{mixing}.context", part.format("mixing", "intraatomic"))
        names[f"{mixing}.mix.weight"] = (
            f"representation.mixing.{k}.mu_channel_mix.weight"
        )
    weights = {ours: theirs[name] for ours, name in names.items()}
    for kind in ("weight", "bias"):
        parts = theirs[f"representation.filter_net.{kind}"].chunk(3)
        for k, part in enumerate(parts):
            weights[f"network.filters.{k}.{kind}"] = part
    return weights


def schnetpack_potential(dipole: str) -> NeuralPotential:
    """``dipole``: the head with vectors, or the one with charges only."""
    heads = {
        "energy": {},
        "dipole": {"use_vectors": dipole == "dipole", "epsilon": 0.0},
        "polarizability": {"epsilon": 0.0},
    }
    spec = PotentialSpec(
        name="random",
        elements=(1, 6, 8),
        network={"kind": "painn", "n_features": 32},
        heads=heads,
    )
    potential = NeuralPotential(spec)
    weights = schnetpack_weights()
    chosen = {
        name.replace(dipole, "dipole"): weight
        for name, weight in weights.items()
        if name.startswith((f"heads.{dipole}.", "heads.energy", "heads.pol", "network"))
    }
    potential.load_state_dict(chosen)
    return potential.double()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the reference folder is not here")
@pytest.mark.parametrize(
    ("head", "dipole", "charges"),
    [
        ("dipole", "dipole_vec", "partial_charges"),
        ("charges", "dipole_scalar", "latent_charges_scalar"),
    ],
)
def test_heads_give_what_schnetpack_gives_with_the_same_weights(head, dipole, charges):
    expected = np.load(SHARED / "painn_tensor_random.npz")
    potential = schnetpack_potential(head)
    frames = [Atoms(expected["numbers"], frame) for frame in expected["positions"]]
    result = predict(potential, *frames)
    close = {"rtol": 0, "atol": 1e-10}
    np.testing.assert_allclose(result.energy, expected["energy"][:, 0], **close)
    np.testing.assert_allclose(result.forces.view(5, 9, 3), expected["forces"], **close)
    latent = expected[charges][:, :, 0]
    if head == "charges":  # theirs are those before the correction
        latent = latent - latent.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(result.charges.view(5, 9), latent, **close)
    np.testing.assert_allclose(result.dipole, expected[dipole][:, 0], **close)
    np.testing.assert_allclose(
        result.polarizability.numpy() + origin_terms(potential, frames),
        expected["polarizability"][:, 0],
        **close,
    )


def origin_terms(potential: NeuralPotential, frames: list[Atoms]) -> np.ndarray:
    """What their polarizability, taken about the origin, has besides ours: ν Rᵀ + R νᵀ.

    R is the center of mass and ν the sum of the atomic vectors.
    """
    terms = []
    for frame in frames:
        batch = batch_of(frame)
        edges = edges_from_positions(batch, neighbor_list(batch, potential.cutoff))
        features = potential.network(composition_of(batch), edges)
        _, vectors = potential.heads["polarizability"].readout(features)
        outer = np.outer(vectors.detach().sum(0).numpy(), frame.get_center_of_mass())
        terms.append(outer + outer.T)
    return np.stack(terms)
