"""What the modules that fill the archive of the compiled code have in common."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Archive = dict[str, NDArray[np.float64]]
Settings = dict[str, int | float | NDArray[np.float64]]

ENVELOPES = ("cosine_cutoff", "polynomial_cutoff", "mollifier_cutoff")
SAME_ENVELOPES = {"exponential_cutoff": "mollifier_cutoff"}


class NotCovered(ValueError):
    """The code has no form of a part of the potential; the message names it."""


def place(choices: tuple[str, ...], name: str, what: str) -> int:
    """Return the place of a choice in the order of the code's enumeration.

    Raises:
        NotCovered: it is not among them.
    """
    if name not in choices:
        raise NotCovered(f"the {what} {name}")
    return choices.index(name)


def envelope_of(function: Callable[..., Any]) -> int:
    """Return the place of a cutoff function of ``networks.radial``."""
    name = function.__name__
    return place(ENVELOPES, SAME_ENVELOPES.get(name, name), "cutoff function")
