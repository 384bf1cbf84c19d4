"""Volumes of the atoms in a molecule."""

from dataclasses import replace
from math import sqrt

import torch
from torch import nn

from molpool_calc.elements import MAX_ATOMIC_NUMBER
from molpool_calc.interfaces import AtomFeatures, AtomsBatch, Prediction
from molpool_calc.networks.layers import Activation, TwoLayer


class HirshfeldHead(nn.Module):
    """h_i = |v_Z + t_Z · MLP(x_i) / √n|: Hirshfeld volume over that of the free atom.

    v and t are learned for each element, t with the n numbers that the MLP gives, as
    in the published code of SO3LR.

    Args:
        n_features: width of the atom features.
        n_hidden: width n of the hidden layer and of t; by default half of
            ``n_features``.
        activation: of the hidden layer.
    """

    properties = frozenset({"hirshfeld_ratios"})
    needs_vectors = False

    def __init__(
        self,
        *,
        n_features: int,
        n_hidden: int | None = None,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        width = max(n_features // 2, 1) if n_hidden is None else n_hidden
        self.scale = 1.0 / sqrt(width)
        self.readout = TwoLayer(n_features, width, width, activation)
        n_rows = MAX_ATOMIC_NUMBER + 1
        self.element_ratio = nn.Parameter(torch.ones(n_rows))
        self.element_query = nn.Parameter(torch.randn(n_rows, width))

    def forward(
        self, features: AtomFeatures, batch: AtomsBatch, prediction: Prediction
    ) -> Prediction:
        """Fill ``hirshfeld_ratios``."""
        numbers = batch.atomic_numbers
        query = self.element_query.index_select(0, numbers) * self.scale
        change = (query * self.readout(features.scalars)).sum(1)
        ratios = (self.element_ratio.index_select(0, numbers) + change).abs()
        return replace(prediction, hirshfeld_ratios=ratios)
