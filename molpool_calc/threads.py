"""How many threads torch takes, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 32
"""Atoms of a structure for which more than one thread only costs time.

The operations of a network are then too short to be shared: ethanol in float64 takes
twice as long on two cores, and fifty times as long where another program uses one of
them, since each operation ends when the slower thread does.
"""


@contextmanager
def threads_for(n_atoms: int) -> Iterator[None]:
    """Let torch take one thread for small structures; afterwards as many as before."""
    before = torch.get_num_threads()
    if n_atoms > SMALL or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
