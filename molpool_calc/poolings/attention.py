"""Attention-based pooling: a Set Transformer over the atoms of a system.

Buterez, Janet, Kiddle, Oglic, Liò, Commun. Chem. 2023; blocks of Lee et al., ICML 2019:

=============================  ===================================================
MAB(A, B)                      ``AttentionBlock``
SAB(X) = MAB(X, X)             ``AttentionBlock.among`` (q, k, v from one matrix)
PMA_k(X) = MAB(S, X)           ``SeedBlock``, S the learned ``seeds`` [k d]
encoder                        ``n_encoder_blocks`` SABs
decoder                        PMA_k → SAB → Lin, then the mean over the k seeds
=============================  ===================================================

As in the published code and unlike elsewhere: scores are divided by √d with the full
width d and not that of a head, the residual is the projected query, and no feed-forward
layer stands in front of PMA. Unlike there, the atoms of one system see nothing but each
other (``legacy_padding`` brings the published padding back).
"""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import Segments
from molpool_calc.poolings.layers import (
    KINKED,
    activation_of,
    require_counts,
)
from molpool_calc.poolings.padded import empty_slots, from_padded, to_padded

Mask = Float[Tensor, "systems 1 slots"] | None


class AttentionBlock(nn.Module):
    """Heads of attention, then o + act(Lin o), with layer norms if asked for.

    o_h = q_h + softmax(q_h k_hᵀ/√d) v_h for each head h, a contiguous slice.
    """

    def __init__(
        self, width: int, n_heads: int, activation: str, *, layer_norm: bool
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.scale = 1.0 / sqrt(width)
        self.activation = activation_of(activation)
        self.mix = nn.Linear(width, width)
        self.norms = nn.ModuleList(
            nn.LayerNorm(width) for _ in range(2 if layer_norm else 0)
        )

    def attend(
        self,
        query: Float[Tensor, "systems_heads queries per_head"],
        key: Float[Tensor, "systems_heads slots per_head"],
        mask: Mask,
    ) -> Float[Tensor, "systems_heads queries slots"]:
        """Return how much each query looks at each key; nowhere where masked."""
        turned = key.transpose(1, 2)
        if mask is None:
            nothing = query.new_zeros(1)
            scores = torch.baddbmm(nothing, query, turned, beta=0.0, alpha=self.scale)
        else:
            added = mask.repeat_interleave(self.n_heads, 0)
            scores = torch.baddbmm(added, query, turned, alpha=self.scale)
        return torch.softmax(scores, 2)

    def forward(
        self,
        query: Float[Tensor, "systems_heads queries per_head"],
        key: Float[Tensor, "systems_heads slots per_head"],
        value: Float[Tensor, "systems_heads slots per_head"],
        mask: Mask,
    ) -> Float[Tensor, "systems queries d"]:
        """Return the block's output, its heads one after another again."""
        heads = torch.baddbmm(query, self.attend(query, key, mask), value)
        merged = _merged(heads, self.n_heads)
        if not self.norms:
            return merged + self.activation(self.mix(merged))
        first, second = self.norms
        merged = first(merged)
        result: Tensor = second(merged + self.activation(self.mix(merged)))
        return result


class SelfBlock(nn.Module):
    """SAB: every row attends to the rows of its system."""

    def __init__(
        self,
        n_in: int,
        width: int,
        n_heads: int,
        activation: str,
        *,
        layer_norm: bool,
    ) -> None:
        super().__init__()
        # rows in the order query, key, value
        self.project = nn.Linear(n_in, 3 * width)
        self.block = AttentionBlock(width, n_heads, activation, layer_norm=layer_norm)

    def forward(
        self, rows: Float[Tensor, "systems slots n_in"], mask: Mask
    ) -> Float[Tensor, "systems slots d"]:
        """Return the new rows."""
        parts = _split(self.project(rows), 3, self.block.n_heads)
        result: Tensor = self.block(*parts, mask)
        return result


class SeedBlock(nn.Module):
    """PMA: k learned seeds attend to the rows of each system."""

    def __init__(
        self,
        width: int,
        n_heads: int,
        n_seeds: int,
        activation: str,
        *,
        layer_norm: bool,
    ) -> None:
        super().__init__()
        # drawn with an extra axis, as in the original: Xavier's fans depend on it
        seeds = nn.init.xavier_uniform_(torch.empty(1, n_seeds, width))
        self.seeds = nn.Parameter(seeds[0])
        self.query = nn.Linear(width, width)
        self.project = nn.Linear(width, 2 * width)  # key, value
        self.block = AttentionBlock(width, n_heads, activation, layer_norm=layer_norm)

    def _parts(self, rows: Float[Tensor, "systems slots d"]) -> list[Tensor]:
        n_heads = self.block.n_heads
        query = self.query(self.seeds)[None].expand(rows.shape[0], -1, -1)
        return [*_split(query, 1, n_heads), *_split(self.project(rows), 2, n_heads)]

    def forward(
        self, rows: Float[Tensor, "systems slots d"], mask: Mask
    ) -> Float[Tensor, "systems seeds d"]:
        """Return one row for each seed."""
        result: Tensor = self.block(*self._parts(rows), mask)
        return result

    def weights(
        self, rows: Float[Tensor, "systems slots d"], mask: Mask
    ) -> Float[Tensor, "systems slots"]:
        """Return how much is looked at each row, averaged over seeds and heads."""
        query, key, _ = self._parts(rows)
        attention = self.block.attend(query, key, mask)
        per_head = attention.view(rows.shape[0], -1, *attention.shape[1:])
        return per_head.mean((1, 2))


class AttentionPooling(nn.Module):
    """Attention-based pooling of Buterez et al. 2023.

    Like a mean, it does not change when a system is taken twice. Every atom has to do
    with every other however far, at a cost that grows with the square of their number.
    The published models use ``n_hidden`` 512, 16 heads, 2 encoder blocks, and 32 seeds
    with ReLU on SchNet or 1 seed with silu on DimeNet++, without layer norm.

    Args:
        n_in: width of the features.
        n_out: width of the pooled rows.
        n_hidden: width d of the attention.
        n_heads: number of heads; divides ``n_hidden``.
        n_seeds: number k of seeds, over which the pooled rows are averaged.
        n_encoder_blocks: number of SABs before the seeds.
        activation: within the blocks; ``"relu"`` makes the pooling, and with it forces,
            not smooth.
        layer_norm: normalise twice in every block.
        legacy_padding: run weights that were trained with zero rows instead of masks:
            the number of rows each system is filled up to. The result depends on it.

    Raises:
        ValueError: a count is not positive, ``n_heads`` does not divide ``n_hidden``,
            or an unknown activation; in a call, a system larger than the padding.
    """

    extensive = False
    learned = True

    def __init__(  # noqa: PLR0913 - the hyper-parameters of the paper
        self,
        n_in: int,
        n_out: int,
        *,
        n_hidden: int = 128,
        n_heads: int = 4,
        n_seeds: int = 8,
        n_encoder_blocks: int = 2,
        activation: str = "silu",
        layer_norm: bool = False,
        legacy_padding: int | None = None,
    ) -> None:
        super().__init__()
        require_counts(
            n_in=n_in,
            n_out=n_out,
            n_hidden=n_hidden,
            n_heads=n_heads,
            n_seeds=n_seeds,
            n_encoder_blocks=n_encoder_blocks,
        )
        if n_hidden % n_heads:
            raise ValueError(
                f"n_hidden is {n_hidden}, which {n_heads} heads cannot share; give a "
                "multiple of n_heads"
            )
        if legacy_padding is not None:
            require_counts(legacy_padding=legacy_padding)
        self.legacy_padding = legacy_padding
        self.smooth = activation not in KINKED
        heads, norm = (n_heads, activation), layer_norm
        self.encoder = nn.ModuleList(
            SelfBlock(n_hidden if k else n_in, n_hidden, *heads, layer_norm=norm)
            for k in range(n_encoder_blocks)
        )
        self.seeds = SeedBlock(
            n_hidden, n_heads, n_seeds, activation, layer_norm=layer_norm
        )
        self.decoder = SelfBlock(n_hidden, n_hidden, *heads, layer_norm=norm)
        self.last = nn.Linear(n_hidden, n_out)

    def forward(
        self, features: Float[Tensor, "atoms n_in"], segments: Segments
    ) -> Float[Tensor, "systems n_out"]:
        """Return the pooled row of each system."""
        rows = self.decoder(self.seeds(*self._encoded(features, segments)), None)
        # the mean first: the last layer is linear
        result: Tensor = self.last(rows.mean(1))
        return result

    def weights(
        self, features: Float[Tensor, "atoms n_in"], segments: Segments
    ) -> Float[Tensor, " atoms"]:
        """Return the attention of the seeds to each atom, averaged over the heads.

        It sums to 1 over the atoms of each system, except under ``legacy_padding``,
        where the empty rows have their share.
        """
        return from_padded(
            self.seeds.weights(*self._encoded(features, segments)), segments
        )

    def _encoded(
        self, features: Float[Tensor, "atoms n_in"], segments: Segments
    ) -> tuple[Float[Tensor, "systems slots d"], Mask]:
        n_slots, mask = segments.max_size, None
        if self.legacy_padding is None:
            mask = empty_slots(segments, features)
        elif n_slots > self.legacy_padding:
            raise ValueError(
                f"a system of {n_slots} atoms was given, but this pooling pads to "
                f"{self.legacy_padding}; give a larger legacy_padding"
            )
        else:
            n_slots = self.legacy_padding
        rows = to_padded(features, segments, n_slots)
        for block in self.encoder:
            rows = block(rows, mask)
        return rows, mask


def _split(
    rows: Float[Tensor, "systems slots parts_d"], n_parts: int, n_heads: int
) -> tuple[Float[Tensor, "systems_heads slots per_head"], ...]:
    """Return each part with its heads apart, as further systems."""
    systems, slots, width = rows.shape
    per_head = width // (n_parts * n_heads)
    apart = rows.reshape(systems, slots, n_parts, n_heads, per_head)
    # [parts systems heads slots per_head]
    turned = apart.permute(2, 0, 3, 1, 4)
    return turned.reshape(n_parts, systems * n_heads, slots, per_head).unbind(0)


def _merged(
    heads: Float[Tensor, "systems_heads slots per_head"], n_heads: int
) -> Float[Tensor, "systems slots d"]:
    """Return the heads side by side again."""
    _, slots, per_head = heads.shape
    apart = heads.view(-1, n_heads, slots, per_head).transpose(1, 2)
    return apart.reshape(-1, slots, n_heads * per_head)
