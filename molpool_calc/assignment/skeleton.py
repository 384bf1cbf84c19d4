"""Which atoms are bonded, by which kind of bond, and how chemists write it."""

from dataclasses import dataclass
from math import degrees

import numpy as np
from jaxtyping import Float

# Atoms are bonded up to this multiple of the sum of their covalent radii.
_BONDED = 1.3
_LINEAR_DEGREES = 170.0
# Radii (Å) of single, double and triple bonds: Pyykkö & Atsumi 2009, Chem. Eur. J. 15,
# 186 and 12770; Pyykkö, Riedel & Patzschke 2005, Chem. Eur. J. 11, 3511.
_RADII = {
    "C": (0.75, 0.67, 0.60),
    "N": (0.71, 0.60, 0.54),
    "O": (0.63, 0.57, 0.53),
    "P": (1.11, 1.02, 0.94),
    "S": (1.03, 0.94, 0.95),
}
_SIGNS = ("–", "=", "≡")


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Skeleton:
    """A relaxed structure (Å) with the bonded neighbours of every atom."""

    symbols: tuple[str, ...]
    positions: Float[np.ndarray, "atoms 3"]
    neighbors: tuple[tuple[int, ...], ...]

    def hydrogens(self, atom: int) -> list[int]:
        """Return the hydrogen atoms bonded to an atom."""
        return [n for n in self.neighbors[atom] if self.symbols[n] == "H"]

    def others(self, atom: int) -> list[int]:
        """Return the bonded atoms that are not hydrogen."""
        return [n for n in self.neighbors[atom] if self.symbols[n] != "H"]

    def angle(self, a: int, b: int, c: int) -> float:
        """Return an angle about ``b`` in degrees."""
        u, v = (
            self.positions[a] - self.positions[b],
            (self.positions[c] - self.positions[b]),
        )
        cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
        return degrees(float(np.arccos(np.clip(cosine, -1.0, 1.0))))

    def is_linear(self, a: int, b: int, c: int) -> bool:
        """Whether three atoms are nearly straight."""
        return self.angle(a, b, c) > _LINEAR_DEGREES

    def bond(self, a: int, b: int) -> str:
        """Return a bond as in ``C=O``: carbon first, hydrogen last."""
        first, last = sorted((a, b), key=lambda atom: _rank(self.symbols[atom]))
        return f"{self.symbols[first]}{self._sign(a, b)}{self.symbols[last]}"

    def chain(self, a: int, b: int, c: int) -> str:
        """Return three atoms in a row as in ``COH``: carbon first, hydrogen last."""
        ends = sorted((self.symbols[a], self.symbols[c]), key=_rank)
        return f"{ends[0]}{self.symbols[b]}{ends[1]}"

    def group(self, atom: int) -> str:
        """Return an atom with its hydrogen atoms as in ``CH3``."""
        n, symbol = len(self.hydrogens(atom)), self.symbols[atom]
        count = "" if n == 1 else str(n)
        return f"H{count}O" if symbol == "O" and n > 1 else f"{symbol}H{count}"

    def _sign(self, a: int, b: int) -> str:
        """Return the sign of the bond whose length is nearest."""
        pair = [self.symbols[a], self.symbols[b]]
        if not set(pair) <= set(_RADII):
            return _SIGNS[0]
        length = float(np.linalg.norm(self.positions[a] - self.positions[b]))
        lengths = [_RADII[pair[0]][n] + _RADII[pair[1]][n] for n in range(3)]
        order = int(np.argmin(np.abs(np.array(lengths) - length)))
        # Oxygen has a triple bond in carbon monoxide only.
        most = 1 if "O" in pair and len(self.symbols) > 2 else 2  # noqa: PLR2004
        return _SIGNS[min(order, most)]


def skeleton_of(
    symbols: tuple[str, ...],
    positions: Float[np.ndarray, "atoms 3"],
    radii: Float[np.ndarray, " atoms"],
) -> Skeleton:
    """Return a structure with its bonds, by distance.

    Args:
        symbols: Of the elements.
        positions: Relaxed, Å.
        radii: Covalent, Å.
    """
    apart = np.linalg.norm(positions[:, None] - positions, axis=-1)
    bonded = apart < _BONDED * (radii[:, None] + radii)
    np.fill_diagonal(bonded, val=False)
    neighbors = tuple(tuple(np.flatnonzero(row).tolist()) for row in bonded)
    return Skeleton(symbols=symbols, positions=positions, neighbors=neighbors)


def _rank(symbol: str) -> tuple[int, str]:
    return {"C": 0, "H": 2}.get(symbol, 1), symbol
