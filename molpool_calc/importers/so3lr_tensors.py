"""Tensors of the published SO3LR → parameters of MolPool, bit for bit.

The file holds flax tables: kernels are (in, out), where torch has (out, in). Filters
of all layers are stacked here, and tables of elements, which have 100 rows there, get
rows of zeros up to the number of elements here.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from molpool_calc.elements import MAX_ATOMIC_NUMBER

N_FEATURES, N_LAYERS, N_HEADS, N_RBF, N_RATIO = 128, 3, 4, 32, 64
WIDTH = N_FEATURES // N_HEADS
N_DEGREES = 4
N_MIXED = N_FEATURES + N_DEGREES
N_ROWS, N_SHORT_ROWS = 119, 100
ELECTRONS = {
    "total_charge": "feature_embeddings_1",
    "num_unpaired": "feature_embeddings_2",
}
ATTENTION = {
    "queries": "Wq1",
    "keys": "Wk1",
    "values": "Wv1",
    "degree_queries": "Wq2",
    "degree_keys": "Wk2",
}
CHARGES = "observables_0.electrostatic_energy.partial_charges"


class Published:
    """The tensors of the file, each taken once, with the shape that it must have."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.left = dict(tensors)

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a tensor.

        Raises:
            ValueError: it is missing, of another shape, or not of finite numbers.
        """
        full = f"params.{name}"
        if full not in self.left:
            raise ValueError(f"the tensor {full} is missing")
        value = self.left.pop(full)
        if tuple(value.shape) != shape:
            raise ValueError(
                f"the tensor {full} has shape {list(value.shape)}, but the published "
                f"one has {list(shape)}"
            )
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise ValueError(f"the tensor {full} does not hold finite real numbers")
        return value

    def weight(self, name: str, n_in: int, n_out: int) -> Tensor:
        """Return a kernel in torch's layout."""
        return self.take(f"{name}.kernel", n_in, n_out).T

    def bias(self, name: str, n_out: int) -> Tensor:
        """Return a bias."""
        return self.take(f"{name}.bias", n_out)

    def rows(self, name: str, *shape: int) -> Tensor:
        """Return a table of elements, with zeros for the elements it does not have."""
        table = self.take(name, N_SHORT_ROWS, *shape)
        missing = MAX_ATOMIC_NUMBER + 1 - N_SHORT_ROWS
        return torch.cat((table, table.new_zeros(missing, *shape)))


def so3lr_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of MolPool's SO3LR.

    Raises:
        ValueError: a missing, misshapen or left-over tensor; the message names it.
    """
    published = Published(tensors)
    state = {
        **{f"network.{name}": value for name, value in _network(published)},
        **{f"heads.{name}": value for name, value in _heads(published)},
        **{f"terms.zbl.{name}": value for name, value in _repulsion(published)},
    }
    for name in sorted(published.left):
        raise ValueError(
            f"the tensor {name} is left over: MolPool's SO3LR has no part for it"
        )
    return {name: value.contiguous() for name, value in state.items()}


def _network(published: Published) -> Iterator[tuple[str, Tensor]]:
    take, f = published.take, N_FEATURES
    name = "feature_embeddings_0.Embed_0.embedding"
    yield "embedding.weight", take(name, N_ROWS, f)
    for ours, theirs in ELECTRONS.items():
        prefix = f"{theirs}.ChargeSpinEmbedSparse_0"
        parts = {"queries": N_ROWS, "keys": 2, "values": 2}
        for n, (part, n_rows) in enumerate(parts.items()):
            table = take(f"{prefix}.Embed_{n}.embedding", n_rows, f)
            yield f"electrons.{ours}.{part}.weight", table
        for n, part in enumerate(("first", "second")):
            weight = published.weight(f"{prefix}.Residual_0.layers_{n}", f, f)
            yield f"electrons.{ours}.{part}.weight", weight
    yield from _radial(published)
    for layer in range(N_LAYERS):
        for name, value in _layer(published, f"layers_{layer}"):
            yield f"layers.{layer}.{name}", value


def _filters(
    published: Published, prefixes: list[str], n_in: int, n_hidden: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield the stacked two-layer networks of several filters."""
    firsts = [f"{prefix}_layer_1" for prefix in prefixes]
    seconds = [f"{prefix}_layer_2" for prefix in prefixes]
    weights = [published.weight(name, n_in, n_hidden) for name in firsts]
    yield "first.weight", torch.cat(weights)
    yield "first.bias", torch.cat([published.bias(name, n_hidden) for name in firsts])
    kernels = [
        published.take(f"{name}.kernel", n_hidden, N_FEATURES) for name in seconds
    ]
    yield "second", torch.stack(kernels)
    biases = [published.bias(name, N_FEATURES) for name in seconds]
    yield "bias", torch.stack(biases)[:, None]


def _radial(published: Published) -> Iterator[tuple[str, Tensor]]:
    prefixes = [
        f"layers_{layer}.attention_block.radial_filter{n}"
        for layer in range(N_LAYERS)
        for n in (1, 2)
    ]
    for name, value in _filters(published, prefixes, N_RBF, N_FEATURES):
        yield f"radial.{name}", value


def _layer(published: Published, prefix: str) -> Iterator[tuple[str, Tensor]]:
    f, attention = N_FEATURES, f"{prefix}.attention_block"
    prefixes = [f"{attention}.spherical_filter{n}" for n in (1, 2)]
    for name, value in _filters(published, prefixes, N_DEGREES, f // 4):
        yield f"spherical.{name}", value
    for ours, theirs in ATTENTION.items():
        # theirs act from the left on the features of a head
        value = published.take(f"{attention}.{theirs}", N_HEADS, WIDTH, WIDTH)
        yield f"attention.{ours}", value.transpose(1, 2)
    for n in (1, 2):
        norm = f"{prefix}.layer_normalization_{n}"
        yield f"norm_{n}.weight", published.take(f"{norm}.scale", f)
        yield f"norm_{n}.bias", published.bias(norm, f)
    for n, part in enumerate(("first", "second"), start=1):
        residual = f"{prefix}.res_mlp_1_layer_{n}"
        yield f"residual_1.mlp.{part}.weight", published.weight(residual, f, f)
        yield f"residual_1.mlp.{part}.bias", published.bias(residual, f)
    exchange = f"{prefix}.exchange_block.mlp_layer_2"
    yield "exchange.weight", published.weight(exchange, N_MIXED, N_MIXED)
    yield "exchange.bias", published.bias(exchange, N_MIXED)


def _two_layers(
    published: Published, names: tuple[str, str], n_hidden: int, n_out: int
) -> Iterator[tuple[str, Tensor]]:
    widths = ((N_FEATURES, n_hidden), (n_hidden, n_out))
    for part, name, (n_in, n) in zip(("first", "second"), names, widths, strict=True):
        yield f"{part}.weight", published.weight(name, n_in, n)
        yield f"{part}.bias", published.bias(name, n)


def _heads(published: Published) -> Iterator[tuple[str, Tensor]]:
    f, energy, ratios = N_FEATURES, "observables_0.energy_dense", "observables_2"
    names = (f"{energy}_regression", f"{energy}_final")
    for name, value in _two_layers(published, names, f, 1):
        yield f"energy.before.{name}", value
    for ours, theirs in {"factor": "atomic_scales", "offset": "energy_offset"}.items():
        yield (
            f"energy.element_{ours}",
            published.take(f"observables_0.{theirs}", N_ROWS),
        )
    dense = f"{CHARGES}.charge_dense"
    names = (f"{dense}_regression_vec", f"{dense}_final_vec")
    for name, value in _two_layers(published, names, f, 1):
        yield f"dipole.readout.{name}", value
    charges = published.rows(f"{CHARGES}.Embed_0.embedding", 1)
    yield "dipole.element_charge", charges[:, 0]
    dense = f"{ratios}.hirshfeld_ratios_dense"
    names = (f"{dense}_regression", f"{dense}_final")
    for name, value in _two_layers(published, names, N_RATIO, N_RATIO):
        yield f"hirshfeld.readout.{name}", value
    ratio = published.rows(f"{ratios}.Embed_0.embedding", 1)
    yield "hirshfeld.element_ratio", ratio[:, 0]
    query = published.rows(f"{ratios}.Embed_1.embedding", N_RATIO)
    yield "hirshfeld.element_query", query


def _repulsion(published: Published) -> Iterator[tuple[str, Tensor]]:
    prefix = "observables_0.zbl_repulsion"
    for ours, theirs in {"exponents": "a", "weights": "c"}.items():
        parts = [published.take(f"{prefix}.{theirs}{n}", 1) for n in range(1, 5)]
        yield ours, torch.cat(parts)
    yield "power", published.take(f"{prefix}.p", 1)
    yield "inverse_length", published.take(f"{prefix}.d", 1)
