"""Threads are a matter of the moment."""

from contextlib import suppress

import pytest
import torch

from molpool_calc.threads import SMALL, threads_for


@pytest.mark.parametrize(("n_atoms", "expected"), [(9, 1), (SMALL, 1), (SMALL + 1, 2)])
def test_small_structures_take_one_thread_and_give_the_others_back(
    n_atoms: int, expected: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with suppress(ArithmeticError), threads_for(n_atoms):
            seen = torch.get_num_threads()
            raise ArithmeticError
        assert (seen, torch.get_num_threads()) == (expected, 2)
    finally:
        torch.set_num_threads(before)
