"""What depends on the elements alone: tables, and positions from the centre of mass."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molpool_calc.elements import MAX_ATOMIC_NUMBER, mass_table
from molpool_calc.interfaces import AtomsBatch
from molpool_calc.segments import segment_sum


class ElementTable(nn.Module):
    """One float64 number for each element, whatever the dtype of the network.

    Neither a parameter nor a buffer: it follows the device of the head but is never
    cast, and it is rebuilt from the constructor arguments, not from the weights.
    """

    def __init__(self, values: Float[Tensor, " elements"]) -> None:
        super().__init__()
        self.values = values.double()

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "ElementTable":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.values = self.values.to(fn(self.values).device)
        return self

    def forward(self, atomic_numbers: Int[Tensor, " atoms"]) -> Float[Tensor, " atoms"]:
        """Return the value of each atom's element, float64."""
        return self.values[atomic_numbers]


def table_of_elements(values: Mapping[int, float] | None, what: str) -> ElementTable:
    """Return a table with the given values by atomic number, and 0 elsewhere.

    Raises:
        ValueError: a key is no atomic number; ``what`` names the argument.
    """
    table = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.float64)
    for atomic_number, value in (values or {}).items():
        if not 0 < atomic_number <= MAX_ATOMIC_NUMBER:
            raise ValueError(
                f"{what} has the atomic number {atomic_number}; "
                f"allowed are 1 to {MAX_ATOMIC_NUMBER}"
            )
        table[atomic_number] = value
    return ElementTable(table)


class MassCentered(nn.Module):
    """Positions relative to the centre of mass of each system."""

    def __init__(self) -> None:
        super().__init__()
        self.masses = ElementTable(mass_table())

    def forward(self, batch: AtomsBatch) -> Float[Tensor, "atoms 3"]:
        """Return r_i − r_COM in Å."""
        index, n = batch.systems.index, batch.systems.n_segments
        mass = self.masses(batch.atomic_numbers).to(batch.positions.dtype)[:, None]
        weighted = segment_sum(mass * batch.positions, index, n)
        return batch.positions - (weighted / segment_sum(mass, index, n))[index]
