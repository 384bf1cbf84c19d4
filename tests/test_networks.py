"""The parts of the networks, and the networks against the equations of their papers."""

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from small_potentials import (
    CUTOFF,
    OWN_CUTOFF_FUNCTION,
    WITH_VECTORS,
    batch_of,
    crystal,
    dense_pairs,
    ethanol,
    fields,
    predict,
    rotation,
    small_potential,
    small_spec,
    water,
)
from torch import nn

from molpool_calc.edges import edges_from_positions
from molpool_calc.interfaces import NeighborList, Network
from molpool_calc.neighbors import complete_pairs, neighbor_list
from molpool_calc.networks import NETWORKS, PaiNN, SchNet
from molpool_calc.networks.layers import (
    CUTOFF_FUNCTIONS,
    BesselBasis,
    GaussianBasis,
    TwoLayer,
    choose,
    enveloped_linear,
    shifted_softplus,
)
from molpool_calc.potential import NeuralPotential, composition_of

DISTANCES = torch.linspace(0.3, 5.5, 27, dtype=torch.float64)


def test_shifted_softplus_is_ln_of_half_exp_plus_half():
    x = torch.linspace(-5, 5, 21, dtype=torch.float64)
    torch.testing.assert_close(shifted_softplus(x), torch.log(0.5 * x.exp() + 0.5))
    assert float(shifted_softplus(torch.zeros(1, dtype=torch.float64))) == 0


def test_gaussian_basis_has_even_centers_and_the_width_of_their_spacing():
    basis = GaussianBasis(6, 5.0).double()
    for k in range(6):
        expected = torch.exp(-((DISTANCES - k) ** 2) / 2)
        torch.testing.assert_close(basis(DISTANCES)[:, k], expected)


def test_bessel_basis_is_an_unscaled_sine_over_the_distance():
    basis = BesselBasis(4, 5.0).double()
    for n in range(1, 5):
        expected = torch.sin(n * torch.pi * DISTANCES / 5.0) / DISTANCES
        torch.testing.assert_close(
            basis(DISTANCES)[:, n - 1], expected, rtol=1e-6, atol=1e-7
        )


def test_bessel_basis_has_its_limit_and_no_slope_at_zero_distance():
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    value = BesselBasis(3, 5.0).double()(zero)
    expected = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64) * math.pi / 5
    torch.testing.assert_close(value.detach(), expected, rtol=1e-6, atol=0)
    (slope,) = torch.autograd.grad(value.sum(), zero)
    assert float(slope) == 0


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("cosine", lambda x: 0.5 * (np.cos(np.pi * x) + 1)),
        ("polynomial", lambda x: 1 - 6 * x**5 + 15 * x**4 - 10 * x**3),
        ("mollifier", lambda x: np.exp(1 - 1 / (1 - x**2))),
    ],
)
def test_cutoff_functions_follow_their_formulas_below_the_cutoff(name, formula):
    x = np.linspace(0, 0.999, 50)
    value = CUTOFF_FUNCTIONS[name](torch.from_numpy(3.0 * x), 3.0)
    np.testing.assert_allclose(value.numpy(), formula(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", CUTOFF_FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cutoff_functions_are_exactly_zero_with_their_slope_beyond(name, dtype):
    distances = torch.tensor([3.0, 3.0001, 4.0, 1e3, 1e9], dtype=dtype)
    distances.requires_grad_()
    value = CUTOFF_FUNCTIONS[name](distances, 3.0)
    (slope,) = torch.autograd.grad(value.sum(), distances)
    assert not value.any()
    assert not slope.any()


@pytest.mark.parametrize(
    ("name", "order"), [("cosine", 1), ("polynomial", 2), ("mollifier", 3)]
)
def test_cutoff_functions_are_as_smooth_as_they_say(name, order):
    """The derivatives up to that order vanish as the cutoff is approached."""
    distance = torch.tensor([3.0 - 1e-5], dtype=torch.float64, requires_grad=True)
    value = CUTOFF_FUNCTIONS[name](distance, 3.0)
    for _ in range(order):
        (value,) = torch.autograd.grad(value.sum(), distance, create_graph=True)
        assert abs(float(value.detach())) < 1e-3
    if name == "cosine":  # and no further: the curvature jumps
        (value,) = torch.autograd.grad(value.sum(), distance)
        assert abs(float(value)) > 0.1


def test_an_enveloped_linear_layer_is_the_cutoff_times_the_layer():
    layer = nn.Linear(4, 7).double()
    nn.init.normal_(layer.bias)
    phi = torch.rand(5, 4, dtype=torch.float64)
    fc = torch.rand(5, 1, dtype=torch.float64)
    radial = torch.cat((phi * fc, fc), dim=1)
    torch.testing.assert_close(enveloped_linear(layer, radial), fc * layer(phi))


def test_two_layers_start_with_xavier_weights_and_zero_biases():
    block = TwoLayer(30, 40, 20, "silu")
    for layer in (block.first, block.second):
        weight = layer.weight.detach()
        bound = math.sqrt(6 / sum(weight.shape))
        assert not layer.bias.any()
        assert float(weight.abs().max()) <= bound
        assert abs(float(weight.std()) - bound / math.sqrt(3)) < 0.1 * bound


def test_a_choice_from_a_table_names_what_there_is():
    with pytest.raises(
        ValueError, match=r"activation 'relu' is unknown; .* silu, tanh"
    ):
        choose({"silu": 1, "tanh": 2}, "relu", "activation")


def small_edges(network, structure):
    """What a network is called with."""
    batch = batch_of(structure)
    edges = edges_from_positions(batch, neighbor_list(batch, network.cutoff))
    return composition_of(batch), edges


def painn_by_hand(net, numbers, edges):
    """Schütt et al. 2021, with loops over atoms and pairs."""
    silu, n = nn.functional.silu, net.n_features
    fc = CUTOFF_FUNCTIONS["cosine"](edges.distances, net.cutoff)
    phi = torch.exp(
        -((edges.distances[:, None] - net.radial.basis.centers) ** 2)
        / (2 * net.radial.basis.widths**2)
    )
    q = [net.embedding.weight[z] for z in numbers]
    mu = [torch.zeros(3, n, dtype=torch.float64) for _ in numbers]
    for layer, (message, update) in enumerate(
        zip(net.messages, net.updates, strict=True)
    ):
        context, linear = message.context, net.filters[layer % len(net.filters)]
        new_q, new_mu = list(q), list(mu)
        for p, (i, j) in enumerate(
            zip(edges.center.tolist(), edges.neighbor.tolist(), strict=True)
        ):
            w = (linear.weight @ phi[p] + linear.bias) * fc[p]
            x = context.second(silu(context.first(q[j])))
            a, b, c = (w * x).split(n)
            unit = edges.vectors[p] / edges.distances[p]
            new_q[i] = new_q[i] + a
            new_mu[i] = new_mu[i] + torch.outer(unit, b) + mu[j] * c
        q, mu = new_q, new_mu
        for i in range(len(numbers)):
            v, u = (mu[i] @ update.mix.weight.T).split(n, dim=1)
            norm = torch.sqrt((v**2).sum(0) + 1e-8)
            inner = silu(update.context.first(torch.cat((q[i], norm))))
            s, m, t = update.context.second(inner).split(n)
            q[i], mu[i] = q[i] + s + t * (v * u).sum(0), mu[i] + m * u
    return torch.stack(q), torch.stack(mu)


@pytest.mark.parametrize("structure", [water, crystal])
def test_painn_is_what_its_equations_say(structure):
    net = small_potential("painn").network
    composition, edges = small_edges(net, structure())
    with torch.no_grad():
        features = net(composition, edges)
        q, mu = painn_by_hand(net, composition.atomic_numbers.tolist(), edges)
    torch.testing.assert_close(features.scalars, q)
    torch.testing.assert_close(features.vectors, mu)


def schnet_by_hand(net, numbers, edges):
    """Schütt et al. 2018, with a loop over pairs."""
    fc = CUTOFF_FUNCTIONS["cosine"](edges.distances, net.cutoff)
    spacing = net.cutoff / (len(net.radial.basis.centers) - 1)
    x = net.embedding.weight[numbers]
    for block in net.interactions:
        received = torch.zeros_like(x)
        projected = x @ block.project.weight.T
        for p, (i, j) in enumerate(
            zip(edges.center.tolist(), edges.neighbor.tolist(), strict=True)
        ):
            offsets = spacing * torch.arange(6, dtype=torch.float64)
            gaussians = torch.exp(
                -((edges.distances[p] - offsets) ** 2) / (2 * spacing**2)
            )
            hidden = shifted_softplus(block.filter.first(gaussians))
            received[i] += projected[j] * block.filter.second(hidden) * fc[p]
        hidden = shifted_softplus(block.output.first(received))
        x = x + block.output.second(hidden)
    return x


@pytest.mark.parametrize("structure", [water, crystal])
def test_schnet_is_what_its_equations_say(structure):
    net = small_potential("schnet").network
    composition, edges = small_edges(net, structure())
    with torch.no_grad():
        features = net(composition, edges)
        expected = schnet_by_hand(net, composition.atomic_numbers, edges)
    assert features.vectors is None
    torch.testing.assert_close(features.scalars, expected, rtol=1e-6, atol=1e-6)


def test_shared_filters_are_one_filter_in_every_round():
    separate = NeuralPotential(small_spec("painn")).network
    arguments = {"n_features": 12, "n_interactions": 2, "n_rbf": 6, "cutoff": CUTOFF}
    shared = PaiNN(**arguments, shared_filters=True)
    assert len(shared.filters) == 1
    state = separate.state_dict()
    for name in ("weight", "bias"):
        state[f"filters.1.{name}"] = state[f"filters.0.{name}"]
    separate.load_state_dict(state)
    shared.load_state_dict({k: v for k, v in state.items() if "filters.1" not in k})
    composition, edges = small_edges(shared.double(), ethanol())
    torch.testing.assert_close(
        shared(composition, edges).scalars,
        separate.double()(composition, edges).scalars,
    )


@pytest.mark.parametrize(
    ("make", "count"), [(PaiNN, 580_736), (SchNet, 432_769 - 8_321)]
)
def test_networks_have_as_many_parameters_as_the_published_ones(make, count):
    network = make()
    assert sum(p.numel() for p in network.parameters()) == count


DEFAULTS = {
    "painn": (128, 5.0, 99),
    "schnet": (128, 5.0, 99),
    "so3krates": (132, 5.0, 99),
    "so3krates-euclidean": (128, 4.5, 118),
    "so3krates-nonlocal": (132, math.inf, 99),
    "dimenet++": (64, 5.0, 94),
}
"""Width, reach and largest element of every network as it comes."""


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_keep_the_protocol(kind):
    network = NETWORKS[kind]()
    assert isinstance(network, Network)
    n_features, cutoff, max_atomic_number = DEFAULTS[kind]
    assert network.n_features == n_features
    assert network.cutoff == cutoff
    assert network.max_atomic_number == max_atomic_number
    assert network.has_vectors == (kind in WITH_VECTORS)
    composition, edges = small_edges(network, water())
    features = network.double()(composition, edges)
    assert (features.vectors is not None) == network.has_vectors
    assert features.scalars.shape == (3, n_features)
    assert torch.isfinite(features.scalars).all()


@pytest.mark.parametrize("kind", NETWORKS)
def test_small_networks_say_what_they_were_given(kind):
    network = NeuralPotential(small_spec(kind)).network
    assert network.n_features == 12
    reach = math.inf if kind == "so3krates-nonlocal" else CUTOFF
    assert network.cutoff == reach


@pytest.mark.parametrize("kind", NETWORKS)
def test_features_are_those_of_the_elements_and_not_of_the_order(kind):
    """The features of an atom go with it, and differ between unlike atoms."""
    net = small_potential(kind).network
    order = [2, 0, 1]
    features, permuted = (
        net(*small_edges(net, atoms)).scalars for atoms in (water(), water()[order])
    )
    torch.testing.assert_close(features[order], permuted)
    assert float((features[0] - features[1]).detach().abs().max()) > 1e-3


def test_vector_features_turn_with_the_structure():
    net = small_potential("painn").network
    composition, edges = small_edges(net, crystal())
    matrix = -rotation(4)
    turned = replace(edges, vectors=edges.vectors @ matrix.T)
    before, after = (net(composition, e) for e in (edges, turned))
    torch.testing.assert_close(before.scalars, after.scalars)
    torch.testing.assert_close(matrix @ before.vectors, after.vectors)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("make", [water, ethanol])
def test_the_dense_layout_of_a_batch_gives_what_the_list_gives(network, make):
    potential = small_potential(network)
    structures = (make(), make()[::-1])
    batch = batch_of(*structures)
    wanted = {"energy", "energies", "forces", "dipole", "charges"}
    listed = predict(potential, *structures, properties=wanted)
    dense = predict(potential, *structures, properties=wanted, pairs=dense_pairs(batch))
    for name in wanted:
        torch.testing.assert_close(getattr(listed, name), getattr(dense, name))


@pytest.mark.parametrize("network", NETWORKS)
def test_one_atom_has_finite_features_in_either_layout(network):
    """It has no pair at all, or itself out of reach."""
    net = small_potential(network).network
    batch = batch_of(Atoms("N", [[1.0, 2.0, 3.0]]))
    listed, dense = (
        net(composition_of(batch), edges_from_positions(batch, pairs))
        for pairs in (complete_pairs(batch), dense_pairs(batch))
    )
    assert torch.isfinite(listed.scalars).all()
    torch.testing.assert_close(listed.scalars, dense.scalars, rtol=0, atol=1e-13)
    if network in WITH_VECTORS:
        assert not listed.vectors.any()
        assert not dense.vectors.any()


def with_cutoff(network, function="cosine"):
    """A potential in which a pair at the cutoff counts for nothing."""
    options = {}
    if network not in OWN_CUTOFF_FUNCTION:
        options["cutoff_function"] = function
    if network == "so3krates-nonlocal":  # local, then
        options["chi_cut"] = None
    return small_potential(network, **options)


EVERY_CUTOFF = [
    (network, function)
    for network in NETWORKS
    for function in (
        ["its own"] if network in OWN_CUTOFF_FUNCTION else CUTOFF_FUNCTIONS
    )
]
"""Every network with every cutoff function it may have."""


@pytest.mark.parametrize(("network", "function"), EVERY_CUTOFF)
@pytest.mark.parametrize("distance", [CUTOFF, np.nextafter(CUTOFF, 9), CUTOFF + 0.3])
def test_a_pair_at_or_beyond_the_cutoff_counts_for_nothing_bit_for_bit(
    network, function, distance
):
    potential = with_cutoff(network, function)
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, distance]])
    pairs = complete_pairs(batch_of(atoms))
    none = NeighborList(center=pairs.center[:0], neighbor=pairs.center[:0], shift=None)
    with_pair = fields(predict(potential, atoms, pairs=pairs))
    without = fields(predict(potential, atoms, pairs=none))
    assert with_pair.keys() == without.keys()
    for name, value in without.items():
        assert torch.equal(with_pair[name], value), name


@pytest.mark.parametrize("network", NETWORKS)
def test_a_pair_just_below_the_cutoff_counts(network):
    potential = with_cutoff(network)
    far = Atoms("CO", [[0, 0, 0], [0, 0, CUTOFF + 0.1]])
    near = Atoms("CO", [[0, 0, 0], [0, 0, CUTOFF - 0.1]])
    difference = predict(potential, near).energy - predict(potential, far).energy
    assert abs(float(difference)) > 1e-7


LEAVING = {
    "one of its neighbors": ("OCNH", [1.2, 1.0]),
    "its last neighbor": ("OCN", [1.2]),
}


@pytest.mark.parametrize("what_leaves", LEAVING)
@pytest.mark.parametrize(("network", "function"), EVERY_CUTOFF)
def test_energy_and_forces_are_continuous_at_the_cutoff(network, function, what_leaves):
    if network == "so3krates-nonlocal" and what_leaves == "its last neighbor":
        pytest.skip("its coordinates are averages over neighbors, of whom none remains")
    potential = with_cutoff(network, function)
    symbols, beside = LEAVING[what_leaves]

    def at(distance):
        """C beside O, and N, with or without H, leaving them."""
        positions = [[0, 0, 0], [0, 0, beside[0]], [0, distance, 0]]
        positions += [[0, distance + further, 0] for further in beside[1:]]
        return predict(potential, Atoms(symbols, positions))

    outside, bulk = at(CUTOFF + 1e-7), at(CUTOFF - 0.5)
    gaps = []
    for step in (1e-3, 1e-4):
        inside = at(CUTOFF - step)
        gaps.append(float((inside.forces - outside.forces).abs().max()))
        assert float((inside.energy - outside.energy).abs().max()) < 10 * step**2
    assert float((bulk.forces - outside.forces).abs().max()) > 1e-4
    # the jump in the force vanishes at least linearly as the cutoff is approached
    assert gaps[1] < 0.2 * gaps[0] + 1e-9
    assert gaps[0] < 1e-2


WRONG = {
    "n_features": 0,
    "n_interactions": 0,
    "cutoff": -5.0,
    "n_rbf": 0,
    "cutoff_function": "none",
    "radial_basis": "fourier",
    "n_heads": 0,
    "n_hidden": 0,
    "n_int_embedding": 0,
    "n_basis_embedding": 0,
    "n_out_embedding": 0,
    "n_spherical": 1,
    "n_radial": 0,
    "envelope_exponent": 0,
    "output_init": "ones",
    "variant": "dimenet",
    "epsilon": 0.0,
    "chi_cut": 1.5,
    "degrees": [2, 1],
    "n_neighbors": -1.0,
    "sphc_normalization": 0.0,
}
FREE = {"epsilon": ("painn",)}
"""Arguments that a network takes as they are."""


def wrong_arguments():
    for kind, make in NETWORKS.items():
        known = inspect.signature(make).parameters
        for argument, value in WRONG.items():
            if argument in known and kind not in FREE.get(argument, ()):
                yield kind, argument, value
        yield kind, "cutoff", float("nan")
        yield kind, "width", 3
        if "n_rbf" in known:
            yield kind, "n_rbf", 1
        if "n_heads" in known:
            yield kind, "n_heads", 5


@pytest.mark.parametrize(("kind", "argument", "value"), list(wrong_arguments()))
def test_a_wrong_argument_of_a_network_is_named(kind, argument, value):
    spec = small_spec(kind)
    wrong = replace(spec, network={**spec.network, argument: value})
    named = argument.replace("_", "[_ ]")
    with pytest.raises(ValueError, match=named):
        NeuralPotential(wrong)


def test_an_element_beyond_the_embedding_is_refused():
    spec = replace(small_spec(), elements=(1, 103))
    with pytest.raises(ValueError, match=r"element 103 is beyond .* which goes to 99"):
        NeuralPotential(spec)


def test_an_unknown_network_or_head_is_refused():
    spec = small_spec()
    with pytest.raises(ValueError, match=r"network 'nequip' is unknown; .*painn"):
        NeuralPotential(replace(spec, network={"kind": "nequip"}))
    with pytest.raises(ValueError, match="head 'magmom' is unknown; choose of energy"):
        NeuralPotential(replace(spec, heads={"magmom": {}}))
