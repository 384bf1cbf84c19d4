"""Modules with the names and tensors of SchNetPack 2, written from its equations.

They stand in for SchNetPack where it is not installed: a model of them, saved by
``torch.save``, is a file of SchNetPack's layout. Their ``forward`` is an independent
computation (dense, one molecule, no neighbor list) of what the file means.
"""

import math
import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

MODULES = {
    "CastTo64": "schnetpack.transform.casting",
    "AddOffsets": "schnetpack.transform.atomistic",
    "ScaleProperty": "schnetpack.transform.atomistic",
    "PairwiseDistances": "schnetpack.atomistic.distances",
    "Forces": "schnetpack.atomistic.response",
    "Atomwise": "schnetpack.atomistic.atomwise",
    "DipoleMoment": "schnetpack.atomistic.atomwise",
    "Polarizability": "schnetpack.atomistic.atomwise",
    "Dense": "schnetpack.nn.base",
    "GatedEquivariantBlock": "schnetpack.nn.equivariant",
    "GaussianRBF": "schnetpack.nn.radial",
    "BesselRBF": "schnetpack.nn.radial",
    "CosineCutoff": "schnetpack.nn.cutoff",
    "MollifierCutoff": "schnetpack.nn.cutoff",
    "SwitchFunction": "schnetpack.nn.cutoff",
    "shifted_softplus": "schnetpack.nn.activations",
    "PaiNN": "schnetpack.representation.painn",
    "PaiNNInteraction": "schnetpack.representation.painn",
    "PaiNNMixing": "schnetpack.representation.painn",
    "SchNet": "schnetpack.representation.schnet",
    "SchNetInteraction": "schnetpack.representation.schnet",
    "SO3net": "schnetpack.representation.so3net",
    "NeuralNetworkPotential": "schnetpack.model.base",
}


@pytest.fixture
def schnetpack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``torch.save`` find the stand-ins under SchNetPack's names."""
    for name, module in MODULES.items():
        parts = module.split(".")
        for package in (".".join(parts[:n]) for n in range(1, len(parts) + 1)):
            if package not in sys.modules:
                monkeypatch.setitem(sys.modules, package, ModuleType(package))
        thing = globals()[name]
        monkeypatch.setattr(thing, "__module__", module)
        monkeypatch.setattr(sys.modules[module], name, thing, raising=False)


def shifted_softplus(x: Tensor) -> Tensor:
    return torch.log(0.5 * torch.exp(x) + 0.5)


class Dense(nn.Linear):
    def __init__(self, n_in, n_out, activation=None, bias=True):
        self.weight_init = nn.init.xavier_uniform_
        super().__init__(n_in, n_out, bias=bias)
        self.activation = nn.Identity() if activation is None else activation

    def forward(self, x):
        return self.activation(super().forward(x))


def two_layer(n_in, n_hidden, n_out, activation):
    return nn.Sequential(Dense(n_in, n_hidden, activation), Dense(n_hidden, n_out))


class GaussianRBF(nn.Module):
    def __init__(self, n_rbf, cutoff):
        super().__init__()
        self.n_rbf = n_rbf
        offsets = torch.linspace(0.0, cutoff, n_rbf)
        self.register_buffer("widths", torch.full((n_rbf,), float(offsets[1])))
        self.register_buffer("offsets", offsets)

    def forward(self, d):
        return torch.exp(-0.5 * ((d[..., None] - self.offsets) / self.widths) ** 2)


class BesselRBF(nn.Module):
    def __init__(self, n_rbf, cutoff):
        super().__init__()
        self.n_rbf = n_rbf
        self.register_buffer("freqs", torch.arange(1, n_rbf + 1) * math.pi / cutoff)

    def forward(self, d):
        return torch.sin(d[..., None] * self.freqs) / d[..., None]


class CosineCutoff(nn.Module):
    def __init__(self, cutoff):
        super().__init__()
        self.register_buffer("cutoff", torch.tensor([cutoff]))

    def forward(self, d):
        inside = 0.5 * (torch.cos(math.pi * d / self.cutoff) + 1.0)
        return torch.where(d < self.cutoff, inside, torch.zeros_like(d))


class MollifierCutoff(CosineCutoff):
    def __init__(self, cutoff):
        super().__init__(cutoff)
        self.register_buffer("eps", torch.tensor([1e-7]))

    def forward(self, d):
        x = torch.where(d < self.cutoff, d / self.cutoff, torch.zeros_like(d))
        inside = torch.exp(1.0 - 1.0 / (1.0 - x * x))
        return torch.where(d < self.cutoff, inside, torch.zeros_like(d))


class SwitchFunction(CosineCutoff):
    pass


class PaiNNInteraction(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.n_atom_basis = n
        self.interatomic_context_net = two_layer(n, n, 3 * n, functional.silu)


class PaiNNMixing(nn.Module):
    def __init__(self, n, epsilon):
        super().__init__()
        self.n_atom_basis, self.epsilon = n, epsilon
        self.intraatomic_context_net = two_layer(2 * n, n, 3 * n, functional.silu)
        self.mu_channel_mix = Dense(n, 2 * n, bias=False)


class PaiNN(nn.Module):
    def __init__(self, n, n_interactions, basis, cutoff_fn, *, shared=False, rows=12):
        super().__init__()
        self.n_atom_basis, self.n_interactions = n, n_interactions
        self.cutoff_fn, self.radial_basis = cutoff_fn, basis
        self.cutoff = cutoff_fn.cutoff
        self.share_filters = shared
        self.embedding = nn.Embedding(rows, n)
        width = 3 * n * (1 if shared else n_interactions)
        self.filter_net = Dense(basis.n_rbf, width)
        blocks = range(n_interactions)
        self.interactions = nn.ModuleList(PaiNNInteraction(n) for _ in blocks)
        self.mixing = nn.ModuleList(PaiNNMixing(n, 1e-8) for _ in blocks)

    def forward(self, numbers, positions):
        n = self.n_atom_basis
        r, d, pair = all_pairs(positions)
        envelope = (self.cutoff_fn(d) * pair)[..., None]
        filters = (self.filter_net(self.radial_basis(d)) * envelope).split(3 * n, -1)
        q = self.embedding(numbers)
        mu = q.new_zeros(len(q), 3, n)
        for k, (block, mixing) in enumerate(
            zip(self.interactions, self.mixing, strict=True)
        ):
            w = filters[0 if self.share_filters else k]
            scalar, direction, vector = (
                w * block.interatomic_context_net(q)[None, :, :]
            ).split(n, -1)
            unit = (r / d[..., None])[..., None]
            change = direction[:, :, None, :] * unit
            change = change + vector[:, :, None, :] * mu[None]
            q, mu = q + scalar.sum(1), mu + change.sum(1)
            v, w_mix = mixing.mu_channel_mix(mu).split(n, -1)
            norm = torch.sqrt((v**2).sum(1) + mixing.epsilon)
            context = mixing.intraatomic_context_net(torch.cat((q, norm), -1))
            s, m, t = context.split(n, -1)
            q = q + s + t * (v * w_mix).sum(1)
            mu = mu + m[:, None, :] * w_mix
        return q, mu


def all_pairs(positions):
    """Vectors from each atom to each, distances (1 on the diagonal), and a mask."""
    r = positions[None, :, :] - positions[:, None, :]
    same = torch.eye(len(positions), dtype=torch.bool)
    squared = (r * r).sum(-1)
    d = torch.sqrt(torch.where(same, torch.ones_like(squared), squared))
    return r, d, (~same).to(positions.dtype)


class SchNetInteraction(nn.Module):
    def __init__(self, n, n_rbf, n_filters):
        super().__init__()
        self.in2f = Dense(n, n_filters, bias=False)
        self.f2out = two_layer(n_filters, n, n, shifted_softplus)
        self.filter_network = two_layer(n_rbf, n_filters, n_filters, shifted_softplus)


class SchNet(nn.Module):
    def __init__(self, n, n_interactions, basis, cutoff_fn, *, n_filters=None, rows=12):
        super().__init__()
        self.n_atom_basis, self.size = n, (n,)
        self.n_filters = n_filters or n
        self.radial_basis, self.cutoff_fn = basis, cutoff_fn
        self.cutoff = cutoff_fn.cutoff
        self.embedding = nn.Embedding(rows, n, padding_idx=0)
        self.interactions = nn.ModuleList(
            SchNetInteraction(n, basis.n_rbf, self.n_filters)
            for _ in range(n_interactions)
        )

    def forward(self, numbers, positions):
        _, d, pair = all_pairs(positions)
        envelope = (self.cutoff_fn(d) * pair)[..., None]
        x = self.embedding(numbers)
        for block in self.interactions:
            w = block.filter_network(self.radial_basis(d)) * envelope
            x = x + block.f2out((block.in2f(x)[None, :, :] * w).sum(1))
        return x, None


class SO3net(nn.Module):
    pass


class Atomwise(nn.Module):
    def __init__(
        self, n, *, output_key="energy", aggregation_mode="sum", n_hidden=None
    ):
        super().__init__()
        hidden = n // 2 if n_hidden is None else n_hidden
        self.outnet = two_layer(n, hidden, 1, functional.silu)
        self.output_key, self.aggregation_mode = output_key, aggregation_mode
        self.model_outputs, self.per_atom_output_key = [output_key], None
        self.n_out = 1

    def forward(self, q, mu, positions):
        y = self.outnet(q)[:, 0]
        return y.sum() if self.aggregation_mode == "sum" else y.mean()


class GatedEquivariantBlock(nn.Module):
    def __init__(self, n_in, n_out, sactivation):
        super().__init__()
        self.n_vout = n_out
        self.mix_vectors = Dense(n_in, 2 * n_out, bias=False)
        self.scalar_net = two_layer(n_in + n_out, n_in, 2 * n_out, functional.silu)
        self.sactivation = sactivation

    def forward(self, inputs):
        s, v = inputs
        v, w = self.mix_vectors(v).split(self.n_vout, -1)
        s, gate = self.scalar_net(torch.cat((s, v.norm(dim=1)), -1)).chunk(2, -1)
        s = self.sactivation(s) if self.sactivation else s
        return s, gate[:, None, :] * w


def gated_readout(n):
    return nn.Sequential(
        GatedEquivariantBlock(n, n // 2, functional.silu),
        GatedEquivariantBlock(n // 2, 1, None),
    )


class DipoleMoment(nn.Module):
    def __init__(self, n, *, vectors):
        super().__init__()
        self.use_vector_representation = vectors
        self.predict_magnitude, self.correct_charges = False, True
        self.dipole_key, self.charges_key = "dipole_moment", "partial_charges"
        self.outnet = (
            gated_readout(n) if vectors else two_layer(n, n // 2, 1, functional.silu)
        )

    def forward(self, q, mu, positions):
        if self.use_vector_representation:
            charges, vectors = self.outnet((q, mu))
            dipoles = vectors[:, :, 0]
        else:
            charges, dipoles = self.outnet(q), 0.0
        charges = charges - charges.mean(0)
        return (charges * positions + dipoles).sum(0)


class Polarizability(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.outnet = gated_readout(n)
        self.polarizability_key = "polarizability"

    def forward(self, q, mu, positions):
        a, nu = self.outnet((q, mu))
        outer = nu[:, :, 0, None] * positions[:, None, :]
        return (a[:, :, None] * torch.eye(3) + outer + outer.transpose(1, 2)).sum(0)


class PairwiseDistances(nn.Module):
    pass


class Forces(nn.Module):
    def __init__(self):
        super().__init__()
        self.calc_forces, self.energy_key = True, "energy"


class CastTo64(nn.Module):
    def __init__(self, *, old=False):
        super().__init__()
        self.type_map = (
            {torch.float32: torch.float64} if old else {"float32": "float64"}
        )


class AddOffsets(nn.Module):
    def __init__(self, mean, atomref=None):
        super().__init__()
        self._property, self.is_extensive, self._aggregation = "energy", True, "sum"
        self.add_mean, self.add_atomrefs = mean is not None, atomref is not None
        self._atomrefs_initialized = self._mean_initialized = False
        self.register_buffer("atomref", torch.zeros(12) if atomref is None else atomref)
        self.register_buffer("mean", torch.tensor(mean or 0.0, dtype=torch.float64))

    def forward(self, energy, numbers):
        total = energy + self.mean * len(numbers) * self.add_mean
        return total + self.atomref.double()[numbers].sum() * self.add_atomrefs


class ScaleProperty(nn.Module):
    pass


class NeuralNetworkPotential(nn.Module):
    def __init__(self, representation, outputs, postprocessors=()):
        super().__init__()
        self.postprocessors = nn.ModuleList(postprocessors)
        self.representation = representation
        self.input_modules = nn.ModuleList([PairwiseDistances()])
        self.output_modules = nn.ModuleList(outputs)
        self.required_derivatives, self.model_outputs = ["_positions"], ["energy"]
        self.spk_version = "2.1.1"

    def forward(self, numbers, positions):
        """Value of each output module that has one, offsets included."""
        q, mu = self.representation(numbers, positions)
        values = []
        for module in self.output_modules:
            if isinstance(module, Forces):
                continue
            value = module(q, mu, positions)
            if isinstance(module, Atomwise):
                for post in self.postprocessors:
                    if isinstance(post, AddOffsets):
                        value = post(value.double(), numbers)
            values.append(value)
        return values
