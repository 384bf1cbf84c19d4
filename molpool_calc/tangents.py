"""Rates of change along a motion, for all outputs of a potential at once.

Where `derivatives` asks how one number depends on every position, this asks how many
numbers ``f_k`` change along one velocity. With weights ``u``, the gradient of ``u·f``
is linear in ``u``, so that the derivative of ``v·∂(u·f)/∂r`` with respect to ``u`` is
``∂f/∂r·v``: two backward passes, however many numbers there are.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.interfaces import AtomsBatch, NeighborList, Potential


class DipoleRates(NamedTuple):
    """Charges (e), their rates and those of the dipoles, per the velocities' time."""

    charges: Float[Tensor, " atoms"]
    charge_rates: Float[Tensor, " atoms"]
    dipole_rates: Float[Tensor, "systems 3"]


def dipole_rates(
    potential: Potential,
    batch: AtomsBatch,
    neighbors: NeighborList,
    velocities: Float[Tensor, "atoms 3"],
) -> DipoleRates:
    """Return ``q_i``, ``q̇_i = Σ_j ∂q_i/∂r_j·v_j`` and ``μ̇ = Σ_j ∂μ/∂r_j·v_j``.

    Raises:
        ValueError: the potential gives no charges or no dipole.
    """
    positions = batch.positions.detach().requires_grad_()
    with torch.enable_grad():
        moved = replace(batch, positions=positions)
        found = potential(moved, neighbors, frozenset({"dipole", "charges"}))
        if found.charges is None or found.dipole is None:
            raise ValueError(
                "this potential gives no charges or no dipole; take one with a dipole "
                "head"
            )
        values = (found.charges, found.dipole)
        weights = [torch.zeros_like(value, requires_grad=True) for value in values]
        (slope,) = torch.autograd.grad(
            values, positions, weights, create_graph=True, materialize_grads=True
        )
        rates = torch.autograd.grad(
            (slope * velocities).sum(), weights, materialize_grads=True
        )
    return DipoleRates(found.charges.detach(), *rates)
