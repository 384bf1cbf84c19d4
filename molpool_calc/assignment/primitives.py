"""Internal coordinates of a few atoms, and how they change with the positions.

The gradients are rows of Wilson's B matrix (Wilson, Decius & Cross 1955, Molecular
Vibrations, ch. 4), here of many frames at once. Lengths in Å, angles in rad.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Kind = Literal["bond", "angle", "linear", "torsion", "puckering"]
Vectors = Float[np.ndarray, "*frames 3"]
Gradient = Float[np.ndarray, "*frames members 3"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Primitive:
    """A distance, angle or the like, of atoms in the order that its kind asks for.

    ``bond`` a-b; ``angle`` a-b-c about b; ``linear``, the part along ``axis`` of the
    sum of the unit vectors from b to a and to c, of atoms that are nearly straight;
    ``torsion`` a-b-c-d about b-c; ``puckering``, the triple product of the unit vectors
    from a to its neighbours b, c and d, zero where these lie in a plane.
    """

    kind: Kind
    atoms: tuple[int, ...]
    axis: tuple[float, float, float] = (0.0, 0.0, 0.0)


def gradient(
    primitive: Primitive, positions: Float[np.ndarray, "*frames atoms 3"]
) -> Gradient:
    """Return the gradient of a primitive with respect to its own atoms.

    Args:
        primitive: Which.
        positions: Å. ``linear`` is fixed to the axes of the frame that they are in.
    """
    points = [positions[..., atom, :] for atom in primitive.atoms]
    if primitive.kind == "linear":
        return _linear(points, np.array(primitive.axis))
    return _GRADIENTS[primitive.kind](points)


def _unit(vectors: Vectors) -> tuple[Vectors, Float[np.ndarray, "*frames 1"]]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / lengths, lengths


def _dot(a: Vectors, b: Vectors) -> Float[np.ndarray, "*frames 1"]:
    return np.asarray((a * b).sum(axis=-1, keepdims=True))


def _stack(*parts: Vectors) -> Gradient:
    return np.stack(parts, axis=-2)


def _bond(points: list[Vectors]) -> Gradient:
    along, _ = _unit(points[1] - points[0])
    return _stack(-along, along)


def _angle(points: list[Vectors]) -> Gradient:
    u, u_length = _unit(points[0] - points[1])
    v, v_length = _unit(points[2] - points[1])
    cosine = _dot(u, v)
    sine = np.sqrt(np.maximum(1.0 - cosine**2, 1e-12))
    first = (cosine * u - v) / (u_length * sine)
    last = (cosine * v - u) / (v_length * sine)
    return _stack(first, -first - last, last)


def _linear(points: list[Vectors], axis: Float[np.ndarray, " 3"]) -> Gradient:
    u, u_length = _unit(points[0] - points[1])
    v, v_length = _unit(points[2] - points[1])
    first = (axis - _dot(u, np.broadcast_to(axis, u.shape)) * u) / u_length
    last = (axis - _dot(v, np.broadcast_to(axis, v.shape)) * v) / v_length
    return _stack(first, -first - last, last)


def _torsion(points: list[Vectors]) -> Gradient:
    """Return Eq. 27 of Blondel & Karplus 1996, J. Comput. Chem. 17, 1132."""
    f, g, h = (
        points[0] - points[1],
        points[1] - points[2],
        points[3] - points[2],
    )
    a, b = np.cross(f, g), np.cross(h, g)
    length = np.linalg.norm(g, axis=-1, keepdims=True)
    a = a / np.maximum(_dot(a, a), 1e-12)
    b = b / np.maximum(_dot(b, b), 1e-12)
    shared = _dot(f, g) / length * a - _dot(h, g) / length * b
    first, last = -length * a, length * b
    return _stack(first, shared - first, -shared - last, last)


def _puckering(points: list[Vectors]) -> Gradient:
    units = [_unit(point - points[0]) for point in points[1:]]
    outer = []
    for n, (unit, length) in enumerate(units):
        normal = np.cross(units[(n + 1) % 3][0], units[(n + 2) % 3][0])
        outer.append((normal - _dot(unit, normal) * unit) / length)
    return _stack(-outer[0] - outer[1] - outer[2], *outer)


_GRADIENTS: dict[str, Callable[[list[Vectors]], Gradient]] = {
    "bond": _bond,
    "angle": _angle,
    "torsion": _torsion,
    "puckering": _puckering,
}
