"""Steps that are made before those before them are checked.

After a network the caches hold nothing of what checks and writes a step, which then
costs ten times as much as its arithmetic. So some steps are made ahead where the force
field allows it, and checked in one go. States never change: those after a bad one are
thrown away, and what is left is the same to the last bit, however many were ahead.
"""

import time
from collections.abc import Callable
from math import sqrt

import torch

from molpool_calc.md.failure import ForceFailure
from molpool_calc.md.state import MDState

TOGETHER = 16
"""Most steps together, where that is safe.

It is for molecules and networks of this package on the host, which answer for any
positions. Other programs may take their time or fail where a bad step leads, lists of
pairs of what flies apart may be long, and a GPU would be waited for at every step.
"""

PATIENCE_S = 0.1
"""Time for which steps are made ahead, so that slow ones are written one by one."""

# Root mean square of the forces on atoms, eV/Å, above which nothing is made ahead; 3 is
# usual. All forces of ethanol on one hydrogen would move it by 0.2 Å in half a fs.
_WILD = 30.0


def steps_ahead(
    step: Callable[[MDState], MDState],
    state: MDState,
    most: int,
    ends: Callable[[int], bool],
) -> list[MDState]:
    """Return the states of the next steps, unchecked.

    Args:
        step: makes one.
        state: where to begin.
        most: how many of them.
        ends: whether a step is the last one.

    Raises:
        ForceFailure: there are no forces for the first of them.
    """
    states: list[MDState] = []
    begun = time.perf_counter()
    while len(states) < most and not ends(state.step):
        try:
            state = step(state)
        except (ForceFailure, RuntimeError, ValueError):
            # perhaps since one of them is bad, which is to be found first; if none is,
            # the error comes again with the next step
            if not states:
                raise
            break
        states.append(state)
        if most > 1 and (_is_wild(state) or time.perf_counter() - begun > PATIENCE_S):
            break
    return states


def _is_wild(state: MDState) -> bool:
    """Return whether a step from a state might leave what a network can answer for."""
    forces = state.response.forces
    return not float(torch.linalg.vector_norm(forces)) <= _WILD * sqrt(len(forces))
