"""DimeNet++: messages between atoms that depend on distances and angles.

Gasteiger, Giri, Margraf, Günnemann, arXiv:2011.14115, after Gasteiger, Groß,
Günnemann, ICLR 2020 (arXiv:2003.03123). Part of the published code → code:

=============================  ==============================================
radial and spherical basis     ``spherical_bessel.BesselBases``
embedding block                ``DimeNetPlusPlus._embed``
interaction block              ``dimenet_layers.Interaction``
output blocks                  ``dimenet_layers.Outputs``
sum over triplets k → j → i    ``triplets.Triplets.sum_arriving``
=============================  ==============================================

The message of a pair goes from its neighbor j to its center i. The angular filter of
a triplet is linear in the spherical basis R_ln(d_jk) P_l(cos α_ijk), so what does not
depend on α is multiplied out for each pair, and the sum over n and the two filter
matrices are done before triplets are looked at:

    Σ_k t_jk ⊙ S₂S₁ sbf_kj,ji = Σ_k Σ_l P_l(cos α_ijk) [t_jk ⊙ S₂ Σ_n S₁,ln R_ln(d_jk)]
"""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from molpool_calc.interfaces import AtomFeatures, Composition, Edges
from molpool_calc.networks.dimenet_layers import (
    Interaction,
    OutputInit,
    Outputs,
    orthogonal,
)
from molpool_calc.networks.layers import choose, require_positive
from molpool_calc.networks.spherical_bessel import BesselBases
from molpool_calc.networks.triplets import AngleAt, pairs_inside, triplets

Variant = Literal["pyg", "pooling-paper"]
ANGLES: dict[str, AngleAt] = {"pyg": "middle", "pooling-paper": "end"}
OUTPUT_INITS: dict[str, OutputInit] = {"zeros": "zeros", "orthogonal": "orthogonal"}
MIN_SPHERICAL, MAX_SPHERICAL = 2, 16
"""One Legendre polynomial has no angles; j_l beyond these orders is not accurate."""


class DimeNetPlusPlus(nn.Module):
    """DimeNet++ with the layout of the published PyTorch Geometric code.

    Deviations from that code: no limit to the number of neighbors, all pairs below the
    cutoff count; a periodic image of atom i counts among the neighbors of j (see
    ``triplets``); the roots of the Bessel functions are float64, which changes
    energies by some 1e-8 of their unit.

    Args:
        n_features: width of the atom features; 1 for atomic energies as published.
        n_hidden: width of the messages.
        n_int_embedding: width of what arrives from triplets.
        n_basis_embedding: width between the two filter matrices.
        n_out_embedding: width of the output blocks.
        n_interactions: number of interaction blocks.
        n_spherical: number of Legendre polynomials.
        n_radial: number of radial functions, and of roots of each Bessel function.
        cutoff: distance in Å at and beyond which a pair contributes nothing (C²).
        envelope_exponent: p − 1 of the envelope.
        n_before_skip: residual layers of an interaction before the skip connection.
        n_after_skip: residual layers after it.
        n_output_layers: dense layers of an output block before the last.
        variant: ``"pooling-paper"`` is the older code that Buterez et al. pooled:
            angles at i between j and k, and ``n_before_skip`` layers after the skip.
        output_init: the last layers start as ``"zeros"``, as published, or
            ``"orthogonal"``. By default zeros with one feature only: of features that
            are all zero, a learned pooling may have no gradient to start with.
        max_atomic_number: largest atomic number the embedding has a row for.

    Raises:
        ValueError: a number that is not positive, or an unknown choice.
    """

    has_vectors = False
    prefers_dense = True

    def __init__(  # noqa: PLR0913 - the hyper-parameters of the paper
        self,
        *,
        n_features: int = 64,
        n_hidden: int = 128,
        n_int_embedding: int = 64,
        n_basis_embedding: int = 8,
        n_out_embedding: int = 256,
        n_interactions: int = 4,
        n_spherical: int = 7,
        n_radial: int = 6,
        cutoff: float = 5.0,
        envelope_exponent: int = 5,
        n_before_skip: int = 1,
        n_after_skip: int = 2,
        n_output_layers: int = 3,
        variant: Variant = "pyg",
        output_init: OutputInit | None = None,
        max_atomic_number: int = 94,
    ) -> None:
        super().__init__()
        require_positive(
            n_features=n_features,
            n_hidden=n_hidden,
            n_int_embedding=n_int_embedding,
            n_basis_embedding=n_basis_embedding,
            n_out_embedding=n_out_embedding,
            n_interactions=n_interactions,
            n_radial=n_radial,
            cutoff=cutoff,
            envelope_exponent=envelope_exponent,
        )
        if not MIN_SPHERICAL <= n_spherical <= MAX_SPHERICAL:
            raise ValueError(
                f"n_spherical is {n_spherical!r}, but must be from {MIN_SPHERICAL} to "
                f"{MAX_SPHERICAL}"
            )
        self.angle_at = choose(ANGLES, variant, "variant")
        self.n_features, self.cutoff = n_features, cutoff
        self.max_atomic_number, self.n_spherical = max_atomic_number, n_spherical
        self.bases = BesselBases(
            n_spherical=n_spherical,
            n_radial=n_radial,
            cutoff=cutoff,
            envelope_exponent=envelope_exponent,
        )
        self.embedding = nn.Embedding(max_atomic_number + 1, n_hidden)
        nn.init.uniform_(self.embedding.weight, -(3.0**0.5), 3.0**0.5)
        self.embed_radial = orthogonal(n_radial, n_hidden)
        self.embed_pair = orthogonal(3 * n_hidden, n_hidden)
        self.interactions = nn.ModuleList(
            Interaction(
                n_hidden=n_hidden,
                n_int_embedding=n_int_embedding,
                n_basis_embedding=n_basis_embedding,
                n_radial=n_radial,
                n_spherical=n_spherical,
                n_before_skip=n_before_skip,
                n_after_skip=n_after_skip if variant == "pyg" else n_before_skip,
            )
            for _ in range(n_interactions)
        )
        init = output_init or ("zeros" if n_features == 1 else "orthogonal")
        self.outputs = Outputs(
            n_blocks=n_interactions + 1,
            n_hidden=n_hidden,
            n_radial=n_radial,
            widths=(n_out_embedding,) * (n_output_layers + 1),
            n_features=n_features,
            init=choose(OUTPUT_INITS, init, "output_init"),
        )

    def forward(self, composition: Composition, edges: Edges) -> AtomFeatures:
        """Return scalar features of every atom."""
        edges = pairs_inside(edges, self.cutoff)
        radial, spherical = self.bases(edges.distances)
        filters = self._radial_filters(radial)
        angular = self._angular_filters(spherical)
        paths = triplets(edges, n_orders=self.n_spherical, angle_at=self.angle_at)
        embed_filter, *radial_filters, gates = filters
        messages = [self._embed(composition, edges, embed_filter)]
        for block, radial_filter, angular_filter in zip(
            self.interactions, radial_filters, angular, strict=True
        ):
            messages.append(block(messages[-1], radial_filter, angular_filter, paths))
        scalars = self.outputs(messages, gates, edges)
        return AtomFeatures(scalars=scalars, vectors=None)

    def _blocks(self) -> Iterator[Interaction]:
        for block in self.interactions:
            assert isinstance(block, Interaction)  # for the type checker
            yield block

    def _radial_filters(
        self, radial: Float[Tensor, "pairs radial"]
    ) -> tuple[Float[Tensor, "pairs features"], ...]:
        """Return what depends on distances only, of all blocks, by one product.

        Filters of the embedding, of each interaction, and of all outputs together.
        """
        matrices = [
            self.embed_radial.weight,
            *(block.radial_filter() for block in self._blocks()),
            self.outputs.gate.weight.flatten(0, 1),
        ]
        all_filters = radial @ torch.cat(matrices).T
        return torch.split(all_filters, [len(matrix) for matrix in matrices], dim=1)

    def _angular_filters(
        self, spherical: Float[Tensor, "pairs spherical_radial"]
    ) -> list[Float[Tensor, "pairs orders embedding"]]:
        """Return S₂ Σ_n S₁,ln R_ln of every pair and order, for each interaction."""
        blocks, n_orders = list(self._blocks()), self.n_spherical
        first = torch.cat([block.angular_first.weight for block in blocks])
        # [orders, pairs, n] @ [orders, n, blocks·basis]
        by_order = torch.stack(spherical.chunk(n_orders, dim=1))
        matrices = first.view(first.shape[0], n_orders, -1).permute(1, 2, 0)
        reduced = (by_order @ matrices).transpose(0, 1).chunk(len(blocks), dim=2)
        return [
            block.angular_second(part)
            for block, part in zip(blocks, reduced, strict=True)
        ]

    def _embed(
        self,
        composition: Composition,
        edges: Edges,
        radial: Float[Tensor, "pairs features"],
    ) -> Float[Tensor, "pairs features"]:
        """Return silu(Lin[x_i, x_j, silu(Lin rbf)]), the first messages."""
        of_center, of_neighbor, of_radial = self.embed_pair.weight.chunk(3, dim=1)
        atoms = self.embedding(composition.atomic_numbers)
        ends = atoms @ torch.cat((of_center, of_neighbor)).T
        center, neighbor = ends.chunk(2, dim=1)
        pairs = torch.addmm(
            self.embed_pair.bias, silu(radial + self.embed_radial.bias), of_radial.T
        )
        n = edges.n_dense
        if n is None:
            pairs = pairs + center.index_select(0, edges.center)
            return silu(pairs + neighbor.index_select(0, edges.neighbor))
        width = pairs.shape[1]
        by_atom = pairs.view(-1, n, n, width) + center.view(-1, n, 1, width)
        return silu(by_atom + neighbor.view(-1, 1, n, width)).view(pairs.shape)
