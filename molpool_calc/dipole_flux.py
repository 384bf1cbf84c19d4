"""The rate at which the dipole of molecules, or of a periodic cell, changes.

A cell has no dipole of its own: moving an atom to another image changes ``Σ q_i r_i``
by a charge times a lattice vector. Its rate of change has no such freedom as long as
charge moves along the shortest way. With charges ``q_i`` and atomic dipoles ``ν_i``
that the potential predicts,

``Ṁ = Σ_i q_i v_i + Σ_i q̇_i (r_i - R_m) + Σ_i ν̇_i + J``

where ``R_m`` is the centre of mass of the molecule of atom ``i``, made whole by its
bonds. These are the atomic polar tensors ``P_iab = ∂M_b/∂r_ia`` contracted with the
velocities, ``Ṁ_b = Σ_ia P_iab v_ia``, in a gauge that is local to each molecule. ``J``
is the charge that flows between molecules: the rates ``Q̇_m = Σ_i q̇_i`` do not say
which way it takes, so it takes that of an electric network,

``J = Σ_{m<n} w_mn (φ_m - φ_n)(R_m - R_n)``,  ``Σ_n w_mn (φ_m - φ_n) = Q̇_m``,

with distances to the nearest image and conductances ``w ∝ |R_m - R_n|⁻⁸`` that reach
zero at half the width of the cell: nearly all of it flows between neighbours. For any
molecules that are close together ``Ṁ`` is exactly the derivative of their dipole,
whatever the conductances. The formula is ours; charge that flows between molecules
further apart than half a cell, which has no path, is left out.
"""

from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor

from molpool_calc.connectivity import (
    Molecules,
    centres,
    find_molecules,
    make_whole,
    minimum_image,
)
from molpool_calc.elements import mass_table
from molpool_calc.engine import Engine
from molpool_calc.interfaces import AtomsBatch
from molpool_calc.neighbors import VerletList
from molpool_calc.tangents import dipole_rates

DIPOLE_FLUX = "dipole_flux"
"""Name under which it is recorded; e·Å/fs."""

_SKIN = 1.0  # Å
_DECAY = -8.0
_CLOSEST = 0.5
"""Centres of mass nearer than this (Å) conduct no better."""


class DipoleFlux:
    """Positions and velocities of all systems in, rates of their dipoles out.

    Args:
        engine: Of a potential that predicts charges and dipoles.
        batch: One structure, or several of the same atoms, in one order.
        molecules: Of the structure; by default found by its bonds.

    Raises:
        ValueError: the potential predicts no charges, or a molecule is bonded to its
            own periodic image.
    """

    def __init__(
        self, engine: Engine, batch: AtomsBatch, molecules: Molecules | None = None
    ) -> None:
        needed = ("charges", "dipole")
        missing = [name for name in needed if name not in engine.potential.properties]
        if missing:
            raise ValueError(
                f"{engine.potential.spec.name} predicts no {', no '.join(missing)}, "
                "so there is no dipole flux; take a potential with a dipole head (see "
                "molpool list)"
            )
        self.engine, self.batch = engine, batch
        self.lists = VerletList(engine.potential.cutoff, _SKIN)
        found = find_molecules(_first(batch)) if molecules is None else molecules
        self.molecules = found.to(engine.device)
        n_atoms = batch.systems.max_size
        numbers = batch.atomic_numbers[:n_atoms]
        # The standard masses: those of the centre in the dipole of the potential.
        self.masses = mass_table().to(engine.device)[numbers]

    def __call__(
        self,
        positions: Float64[Tensor, "atoms 3"],
        velocities: Float64[Tensor, "atoms 3"],
        cells: Float64[Tensor, "systems 3 3"] | None = None,
    ) -> Float64[Tensor, "systems 3"]:
        """Return ``Ṁ`` in e·Å per the time of the velocities.

        Args:
            positions: In Å, wrapped or not.
            velocities: In Å per any unit of time.
            cells: Lattice vectors as rows, if they change.
        """
        n = self.batch.systems.n_segments
        pbc = self.batch.pbc
        own = self.batch.cell.double() if cells is None else cells
        whole = make_whole(self.molecules, positions.view(n, -1, 3), own, pbc)
        batch = replace(
            self.batch,
            positions=whole.reshape(-1, 3).to(self.engine.dtype),
            cell=own.to(self.engine.dtype),
        )
        pairs = self.lists.update(batch)
        charges, charge_rates, rates = dipole_rates(
            self.engine.potential, batch, pairs, velocities.to(self.engine.dtype)
        )
        if not bool(pbc.any()):
            return rates.double()
        return rates.double() + self._of_cell(
            charges.double().view(n, -1),
            charge_rates.double().view(n, -1),
            whole,
            velocities.view(n, -1, 3),
            own,
        )

    def _of_cell(
        self,
        charges: Float64[Tensor, "systems atoms"],
        charge_rates: Float64[Tensor, "systems atoms"],
        whole: Float64[Tensor, "systems atoms 3"],
        velocities: Float64[Tensor, "systems atoms 3"],
        cells: Float64[Tensor, "systems 3 3"],
    ) -> Float64[Tensor, "systems 3"]:
        """Return what turns the rate about the centre of mass into that of the cell."""
        share = (self.masses / self.masses.sum())[:, None]
        centre = (share * whole).sum(1)
        drift = (share * velocities).sum(1)
        places = centres(self.molecules, whole, self.masses)
        arms = centre[:, None] - places[:, self.molecules.index]
        local = (charge_rates[:, :, None] * arms).sum(1)
        moving = charges.sum(1)[:, None] * drift
        zero = charge_rates.new_zeros((len(whole), self.molecules.n_molecules))
        gains = zero.index_add(1, self.molecules.index, charge_rates)
        return local + moving + current(gains, places, cells, self.batch.pbc)


def current(
    gains: Float64[Tensor, "systems molecules"],
    places: Float64[Tensor, "systems molecules 3"],
    cells: Float64[Tensor, "systems 3 3"],
    pbc: Tensor,
) -> Float64[Tensor, "systems 3"]:
    """Return the current ``J`` of charge that flows between molecules.

    Args:
        gains: Charge that each molecule gains per time.
        places: Where the molecules are, Å.
        cells: Lattice vectors as rows.
        pbc: Which of them are periodic.
    """
    n = gains.shape[1]
    steps = minimum_image(places[:, :, None] - places[:, None, :], cells, pbc)
    distances = steps.norm(dim=3).clamp(min=_CLOSEST)
    reach = _half_width(cells, pbc)[:, None, None]
    fraction = (distances / reach).clamp(max=1.0)
    alone = torch.eye(n, dtype=torch.bool, device=gains.device)
    weights = (distances**_DECAY * (1.0 - fraction**2) ** 2).masked_fill(alone, 0.0)
    # Only their ratios count; one system's weights may be far below another's.
    weights = weights / weights.amax(dim=(1, 2), keepdim=True).clamp(min=1e-300)
    network = torch.diag_embed(weights.sum(2)) - weights
    potentials = torch.linalg.pinv(network, hermitian=True) @ gains[:, :, None]
    flows = weights * (potentials - potentials.transpose(1, 2))
    total: Tensor = 0.5 * (flows[..., None] * steps).sum((1, 2))
    return total


def _half_width(
    cells: Float64[Tensor, "systems 3 3"], pbc: Tensor
) -> Float64[Tensor, " systems"]:
    """Return half the smallest width of each cell along its periodic directions."""
    widths = 1.0 / torch.linalg.pinv(cells).norm(dim=1).clamp(min=1e-300)
    widths = torch.where(pbc, widths, torch.full_like(widths, torch.inf))
    return 0.5 * widths.amin(1)


def _first(batch: AtomsBatch) -> AtomsBatch:
    n = batch.systems.max_size
    systems = batch.systems
    return AtomsBatch(
        atomic_numbers=batch.atomic_numbers[:n],
        positions=batch.positions[:n].double(),
        cell=batch.cell[:1].double(),
        pbc=batch.pbc[:1],
        total_charge=batch.total_charge[:1],
        num_unpaired=batch.num_unpaired[:1],
        systems=replace(
            systems, index=systems.index[:n], slot=systems.slot[:n], n_segments=1
        ),
    )
