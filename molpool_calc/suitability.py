"""Which poolings may drive dynamics, and of what.

Every pooling that is smooth gives conservative forces of one molecule. Whatever is not
a sum makes the force on an atom depend on all atoms however far, so that two molecules
in a box act on each other at any distance, and a periodic energy is that of a cell and
not of the substance.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list
from torch import nn

from molpool_calc.potential import NeuralPotential
from molpool_calc.snapshot import Snapshot, same_system, take_snapshot

BOND = 1.25
"""Two atoms are bonded below this multiple of the sum of their covalent radii."""
INSIST = "or allow it with allow_unsuitable_pooling (--allow-unsuitable-pooling)"
SUM = "a potential with the pooling sum"
CUTOFF = "a potential whose network has a cutoff"


def why_unsuitable(
    potential: NeuralPotential, atoms: Atoms, audit: Mapping[str, Any] | None
) -> str | None:
    """Return why dynamics of a structure should not run with a potential, if so.

    Args:
        potential: with or without energy; without one there is nothing to refuse.
        atoms: the structure that is to move.
        audit: what ``molpool audit`` found of these weights, if it was run.

    Returns:
        One sentence, or ``None`` where nothing speaks against it.
    """
    if "energy" not in potential.properties:
        return None
    name, pooling = potential.spec.name, potential.spec.pooling
    if not potential.smooth:
        return (
            f"{name} pools its energy in a way whose slope jumps ({pooling}, ReLU), so "
            "that its forces jump and dynamics does not conserve energy; take a "
            f"potential with a smooth pooling, {INSIST}"
        )
    if potential.extensive:
        return None
    energy = potential.heads["energy"]
    if energy.extensive:  # then it is the network
        what = f"the network of {name} has no cutoff, and its energy is not extensive"
        return _why_not_one_molecule(what, CUTOFF, atoms)
    corrected = _has_sum_below(energy)
    what = (
        f"{name} adds a pooled correction to its energy, which is then not extensive"
        if corrected
        else f"{name} pools its energy by {pooling}, which is not extensive"
    )
    return _why_not_one_molecule(what, SUM, atoms) or (
        None if corrected else _why_not_audited(name, pooling, audit)
    )


def _has_sum_below(energy: Any) -> bool:
    """Whether the energy is a sum over atoms and a correction that is not."""
    is_sum = energy.pooling.extensive and isinstance(energy.after, nn.Identity)
    return energy.correction is not None and is_sum


def _why_not_one_molecule(what: str, remedy: str, atoms: Atoms) -> str | None:
    if atoms.pbc.any():
        return (
            f"{what}, so that it has no meaning for the periodic structure given; take "
            f"{remedy}, {INSIST}"
        )
    n_molecules = count_molecules(atoms)
    if n_molecules > 1:
        return (
            f"{what}, so that the {n_molecules} molecules given would act on each "
            f"other at any distance; give one molecule, take {remedy}, {INSIST}"
        )
    return None


def _why_not_audited(
    name: str, pooling: str, audit: Mapping[str, Any] | None
) -> str | None:
    if audit is None:
        return (
            f"{name} pools its energy by {pooling}, and no audit of its weights says "
            "that its forces are smooth; save it to a folder and run molpool audit "
            f"first, {INSIST}"
        )
    measured = audit.get("smoothness")
    if not isinstance(measured, Mapping) or measured.get("passed") is not True:
        found = measured.get("value") if isinstance(measured, Mapping) else None
        size = f" of {found:.2g} eV/Å" if isinstance(found, float) else ""
        return (
            f"{name} pools its energy by {pooling}, and its audit found jumps{size} of "
            f"the forces; take a potential that passed, {INSIST}"
        )
    return None


class Gate:
    """Lets systems through to dynamics, each looked at once.

    Args:
        potentials: one, or the members of a committee.
        audits: of the weights of each, if there is one.
        is_open: let everything through.
    """

    def __init__(
        self,
        potentials: Iterable[NeuralPotential],
        audits: Iterable[Mapping[str, Any] | None],
        *,
        is_open: bool,
    ) -> None:
        # a sum is suitable for every structure
        self.members = [
            (potential, audit)
            for potential, audit in zip(potentials, audits, strict=True)
            if not (is_open or (potential.extensive and potential.smooth))
        ]
        self._passed: Snapshot | None = None

    def require(self, atoms: Atoms, charge: float, num_unpaired: float) -> None:
        """Check a structure, unless it is the last one with its atoms moved.

        Raises:
            ValueError: a potential is unsuitable for it.
        """
        if not self.members or same_system(self._passed, atoms, charge, num_unpaired):
            return
        for potential, audit in self.members:
            reason = why_unsuitable(potential, atoms, audit)
            if reason is not None:
                raise ValueError(reason)
        self._passed = take_snapshot(atoms, charge, num_unpaired)


def why_no_stress(potential: NeuralPotential) -> str:
    """Return why a potential has no stress, in one sentence."""
    if "energy" not in potential.properties:
        return f"{potential.spec.name} predicts no energy, and so no stress"
    if potential.heads["energy"].extensive:
        return (
            f"the network of {potential.spec.name} has no cutoff, and so no periodic "
            f"structures and no stress; take {CUTOFF}"
        )
    return (
        f"{potential.spec.name} pools its energy by {potential.spec.pooling}, which is "
        "not extensive: its energy does not grow with the cell, and so it has no "
        "stress; take a potential with the pooling sum"
    )


def require_pressure(potential: NeuralPotential, atoms: Atoms) -> None:
    """Check that constant pressure has a meaning for a structure and a potential.

    Raises:
        ValueError: the structure is not periodic in all directions, or the potential
            has no stress.
    """
    if not atoms.pbc.all() or abs(atoms.cell.volume) == 0.0:
        raise ValueError(
            "constant pressure needs a structure that is periodic in all three "
            "directions; give one with a cell, or choose the ensemble nvt"
        )
    if "energy" not in potential.properties or not potential.extensive:
        raise ValueError(why_no_stress(potential))


def count_molecules(atoms: Atoms) -> int:
    """Return the number of groups of bonded atoms, by covalent radii."""
    cutoffs = natural_cutoffs(atoms, mult=BOND)  # type: ignore[no-untyped-call]
    first, second = neighbor_list("ij", atoms, cutoffs)  # type: ignore[no-untyped-call]
    group = np.arange(len(atoms))
    while True:
        # every atom takes the smallest number among its neighbors, until none changes
        smallest = group.copy()
        np.minimum.at(smallest, first, group[second])
        smallest = smallest[smallest]
        if (smallest == group).all():
            return len(np.unique(group))
        group = smallest
