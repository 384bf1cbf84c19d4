"""Natural internal coordinates: what chemists call the motions of a molecule.

At every atom the local combinations of Pulay, Fogarasi, Pang & Boggs 1979, J. Am.
Chem. Soc. 101, 2550 (Table III), which for chains and branches are complete and not
redundant; for every bond between other atoms, the mean of its torsions. Rings and
atoms with five or more neighbours get all their angles, which are redundant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from molpool_calc.assignment.primitives import Primitive
from molpool_calc.assignment.skeleton import Skeleton

# Three angles about an atom in the plane of its neighbours sum up to 360°.
_PLANAR_DEGREES = 350.0


@dataclass(frozen=True, kw_only=True, slots=True)
class InternalCoordinate:
    """A combination of primitives, under the name of the motion that it is."""

    motion: str
    terms: tuple[tuple[float, Primitive], ...]


def internal_coordinates(skeleton: Skeleton) -> list[InternalCoordinate]:
    """Return the stretches, bends and torsions of a molecule."""
    bonds = [(a, b) for a, near in enumerate(skeleton.neighbors) for b in near if a < b]
    coordinates = _stretches(skeleton, bonds)
    for atom in range(len(skeleton.symbols)):
        coordinates += _bends(skeleton, atom)
    for a, b in bonds:
        coordinates += _torsion(skeleton, a, b)
    return coordinates


def _combination(
    motion: str, weights: Sequence[int | float], primitives: Sequence[Primitive]
) -> InternalCoordinate:
    pairs = zip(weights, primitives, strict=True)
    return InternalCoordinate(
        motion=motion, terms=tuple((float(w), p) for w, p in pairs if w)
    )


# Combinations of equal bonds: symmetric, then degenerate or antisymmetric ones.
_OF_BONDS: dict[int, tuple[tuple[str, tuple[int, ...]], ...]] = {
    1: (("stretch", (1,)),),
    2: (("s-stretch", (1, 1)), ("a-stretch", (1, -1))),
    3: (
        ("s-stretch", (1, 1, 1)),
        ("d-stretch", (2, -1, -1)),
        ("d-stretch", (0, 1, -1)),
    ),
    4: (
        ("s-stretch", (1, 1, 1, 1)),
        ("d-stretch", (1, 1, -1, -1)),
        ("d-stretch", (1, -1, 1, -1)),
        ("d-stretch", (1, -1, -1, 1)),
    ),
}


def _stretches(
    skeleton: Skeleton, bonds: Sequence[tuple[int, int]]
) -> list[InternalCoordinate]:
    """Return stretches, those of equal bonds at one atom as combinations."""
    coordinates, grouped = [], set()
    for atom in range(len(skeleton.symbols)):
        for members in (skeleton.hydrogens(atom), _equal_ends(skeleton, atom)):
            if not 2 <= len(members) <= 4:  # noqa: PLR2004
                continue
            name = skeleton.group(atom)
            if skeleton.symbols[members[0]] != "H":
                name = skeleton.chain(members[0], atom, members[1])
            stretches = [Primitive(kind="bond", atoms=(atom, m)) for m in members]
            grouped |= {frozenset((atom, member)) for member in members}
            coordinates += [
                _combination(f"{name} {kind}", weights, stretches)
                for kind, weights in _OF_BONDS[len(members)]
            ]
    return coordinates + [
        _combination(
            f"{skeleton.bond(a, b)} stretch",
            (1,),
            [Primitive(kind="bond", atoms=(a, b))],
        )
        for a, b in bonds
        if frozenset((a, b)) not in grouped
    ]


def _equal_ends(skeleton: Skeleton, atom: int) -> list[int]:
    """Return two equal groups at the ends of an atom, as the methyls of acetone."""

    def sort(end: int) -> tuple[str, int]:
        return skeleton.bond(atom, end), len(skeleton.hydrogens(end))

    ends = [end for end in skeleton.others(atom) if skeleton.others(end) == [atom]]
    equal = [[e for e in ends if sort(e) == sort(end)] for end in ends]
    return next((group for group in equal if len(group) == 2), [])  # noqa: PLR2004


def _bends(skeleton: Skeleton, atom: int) -> list[InternalCoordinate]:
    n_neighbors = len(skeleton.neighbors[atom])
    if n_neighbors < 2:  # noqa: PLR2004
        return []
    if n_neighbors == 2:  # noqa: PLR2004
        return _between_two(skeleton, atom)
    if n_neighbors == 3:  # noqa: PLR2004
        return _among_three(skeleton, atom)
    if n_neighbors == 4:  # noqa: PLR2004
        return _among_four(skeleton, atom)
    return _all_angles(skeleton, atom)


def _angle(a: int, b: int, c: int) -> Primitive:
    return Primitive(kind="angle", atoms=(a, b, c))


def _all_angles(skeleton: Skeleton, atom: int) -> list[InternalCoordinate]:
    return [
        _combination(f"{skeleton.chain(a, atom, c)} bend", (1,), [_angle(a, atom, c)])
        for a, c in combinations(skeleton.neighbors[atom], 2)
    ]


def _between_two(skeleton: Skeleton, atom: int) -> list[InternalCoordinate]:
    a, c = skeleton.neighbors[atom]
    if not skeleton.is_linear(a, atom, c):
        return _all_angles(skeleton, atom)
    along = skeleton.positions[c] - skeleton.positions[a]
    _, _, axes = np.linalg.svd(along[None])
    return [
        _combination(
            f"{skeleton.chain(a, atom, c)} bend",
            (1,),
            [
                Primitive(
                    kind="linear",
                    atoms=(a, atom, c),
                    axis=(float(x), float(y), float(z)),
                )
            ],
        )
        for x, y, z in axes[1:]
    ]


def _among_three(skeleton: Skeleton, atom: int) -> list[InternalCoordinate]:
    near = skeleton.neighbors[atom]
    n_hydrogens = len(skeleton.hydrogens(atom))
    angles = [_angle(a, atom, c) for a, c in combinations(near, 2)]
    total = sum(skeleton.angle(a, atom, c) for a, c in combinations(near, 2))
    is_planar = total > _PLANAR_DEGREES
    if n_hydrogens == 3 and not is_planar:  # noqa: PLR2004
        name = skeleton.group(atom)
        return [
            _combination(f"{name} umbrella", (1, 1, 1), angles),
            _combination(f"{name} d-deform", (2, -1, -1), angles),
            _combination(f"{name} d-deform", (0, 1, -1), angles),
        ]
    unique = _unique_of_three(skeleton, atom)
    p, q = (n for n in near if n != unique)
    local = [_angle(p, atom, q), _angle(p, atom, unique), _angle(q, atom, unique)]
    bend, in_plane, out = _names_of_three(skeleton, atom, unique)
    if is_planar:
        flat = Primitive(kind="puckering", atoms=(atom, p, q, unique))
        return [
            _combination(bend, (2, -1, -1), local),
            _combination(in_plane, (0, 1, -1), local),
            _combination(out, (1,), [flat]),
        ]
    if n_hydrogens == 2:  # noqa: PLR2004
        name = skeleton.group(atom)
        return [
            _combination(f"{name} scissors", (1, 0, 0), local),
            _combination(f"{name} wag", (0, 1, 1), local),
            _combination(f"{name} twist", (0, 1, -1), local),
        ]
    return _all_angles(skeleton, atom)


def _unique_of_three(skeleton: Skeleton, atom: int) -> int:
    """Return the neighbour that differs: the other one beside or among hydrogens."""
    hydrogens, others = skeleton.hydrogens(atom), skeleton.others(atom)
    if len(hydrogens) == 1:
        return hydrogens[0]
    if len(others) == 1:
        return others[0]
    near = list(skeleton.neighbors[atom])
    kinds = [skeleton.bond(atom, n) for n in near]
    odd = [n for n, kind in zip(near, kinds, strict=True) if kinds.count(kind) == 1]
    return odd[0] if odd else near[0]


def _names_of_three(skeleton: Skeleton, atom: int, unique: int) -> tuple[str, str, str]:
    p, q = (n for n in skeleton.neighbors[atom] if n != unique)
    if len(skeleton.hydrogens(atom)) == 2:  # noqa: PLR2004
        name = skeleton.group(atom)
        return f"{name} scissors", f"{name} rock", f"{name} wag"
    bond = skeleton.bond(atom, unique)
    return (
        f"{skeleton.chain(p, atom, q)} bend",
        f"{bond} in-plane bend",
        f"{bond} out-of-plane bend",
    )


def _among_four(skeleton: Skeleton, atom: int) -> list[InternalCoordinate]:
    hydrogens, others = skeleton.hydrogens(atom), skeleton.others(atom)
    if len(hydrogens) == 2:  # noqa: PLR2004
        return _methylene(skeleton, atom)
    if {len(hydrogens), len(others)} != {1, 3}:
        return _all_angles(skeleton, atom)
    is_methyl = len(others) == 1
    unique, three = (others[0], hydrogens) if is_methyl else (hydrogens[0], others)
    inner = [_angle(*pair) for pair in _opposite(three, atom)]
    outer = [_angle(unique, atom, member) for member in three]
    name = skeleton.group(atom)
    symmetric, degenerate, rock = (
        (f"{name} s-deform", f"{name} d-deform", f"{name} rock")
        if is_methyl
        else (*[f"{skeleton.chain(three[0], atom, three[1])} bend"] * 2, f"{name} bend")
    )
    return [
        _combination(symmetric, (1, 1, 1, -1, -1, -1), [*inner, *outer]),
        _combination(degenerate, (2, -1, -1), inner),
        _combination(degenerate, (0, 1, -1), inner),
        _combination(rock, (2, -1, -1), outer),
        _combination(rock, (0, 1, -1), outer),
    ]


def _opposite(three: Sequence[int], atom: int) -> list[tuple[int, int, int]]:
    """Return the angle between two of three atoms, opposite to each of them."""
    return [(three[n - 2], atom, three[n - 1]) for n in range(3)]


def _methylene(skeleton: Skeleton, atom: int) -> list[InternalCoordinate]:
    (h, k), (y, z) = skeleton.hydrogens(atom), skeleton.others(atom)
    between = [_angle(h, atom, k), _angle(y, atom, z)]
    mixed = [_angle(o, atom, n) for o, n in ((y, h), (y, k), (z, h), (z, k))]
    name = skeleton.group(atom)
    return [
        _combination(f"{name} scissors", (5, 1), between),
        _combination(f"{skeleton.chain(y, atom, z)} bend", (1, 5), between),
        _combination(f"{name} rock", (1, -1, 1, -1), mixed),
        _combination(f"{name} wag", (1, 1, -1, -1), mixed),
        _combination(f"{name} twist", (1, -1, -1, 1), mixed),
    ]


def _torsion(skeleton: Skeleton, b: int, c: int) -> list[InternalCoordinate]:
    """Return the mean torsion about a bond, if its ends are not straight."""
    left = [a for a in skeleton.neighbors[b] if a != c]
    right = [d for d in skeleton.neighbors[c] if d != b]
    torsions = [
        Primitive(kind="torsion", atoms=(a, b, c, d))
        for a, d in product(left, right)
        if a != d
        and not skeleton.is_linear(a, b, c)
        and not skeleton.is_linear(b, c, d)
    ]
    if not torsions:
        return []
    share = 1.0 / len(torsions)
    name = f"{skeleton.bond(b, c)} torsion"
    return [_combination(name, [share] * len(torsions), torsions)]
