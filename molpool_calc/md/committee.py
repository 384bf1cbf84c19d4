"""Several force fields as one: their mean moves the atoms, their spread is watched."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from molpool_calc.md.cell import cell_force_field
from molpool_calc.md.state import ForceField, Response


class CommitteeForceField:
    """Positions of all replicas in, the mean of the members' answers out.

    A mean of energies has the mean of the forces as its gradient, so that committees
    conserve energy as their members do. The answer depends on the positions alone if
    that of every member does.

    Args:
        members: two or more, which give the same properties.
        n_systems: that they answer for, of the same number of atoms each.
    """

    def __init__(self, members: Sequence[ForceField], n_systems: int) -> None:
        self._members, self._n_systems = tuple(members), n_systems

    def __call__(self, positions: Float64[Tensor, "atoms 3"]) -> Response:
        """Return the mean response, with the spread of the forces (eV/Å)."""
        return self._mean([member(positions) for member in self._members])

    def in_cell(
        self,
        positions: Float64[Tensor, "atoms 3"],
        cell: Float64[Tensor, "systems 3 3"],
    ) -> Response:
        """Return the same with the stress (eV/Å³), in cells that may be others.

        Raises:
            ValueError: a member does not answer in other cells.
        """
        fields = [cell_force_field(member) for member in self._members]
        return self._mean([field.in_cell(positions, cell) for field in fields])

    def _mean(self, answers: Sequence[Response]) -> Response:
        forces = torch.stack([answer.forces for answer in answers])
        return Response(
            energy=torch.stack([answer.energy for answer in answers]).mean(0),
            forces=forces.mean(0),
            dipole=_optional(answers, lambda answer: answer.dipole),
            others={
                name: torch.stack([answer.others[name] for answer in answers]).mean(0)
                for name in answers[0].others
            },
            stress=_optional(answers, lambda answer: answer.stress),
            spread=force_spread(forces, self._n_systems),
        )


def force_spread(
    forces: Float64[Tensor, "members atoms 3"], n_systems: int
) -> Float64[Tensor, " systems"]:
    """Return by how much the members disagree on the forces of each system, eV/Å.

    ``max_i sqrt(Σ_a s_ia²)``: s is the sample standard deviation (n - 1) of a component
    over the members, which the calculator has in ``results_std["forces"]``. The norm of
    an atom does not change when the molecule turns, as its largest component would.
    """
    variances = forces.var(0, correction=1).sum(1)
    return variances.view(n_systems, -1).amax(1).sqrt()


def _optional(
    answers: Sequence[Response], part: Callable[[Response], Tensor | None]
) -> Tensor | None:
    """Return the mean of what all members give, ``None`` where one gives nothing."""
    given = [value for answer in answers if (value := part(answer)) is not None]
    return torch.stack(given).mean(0) if len(given) == len(answers) else None
