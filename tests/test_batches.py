"""Many structures in few passes: how they are cut, and what happens without memory."""

import threading

import numpy as np
import pytest
import torch
from ase.build import molecule
from small_potentials import CPU, potential_of, small_spec

from molpool_calc.batches import ATOMS_ON_CPU, Batches, beside, cut
from molpool_calc.calculator import MolPoolCalculator

NO_MEMORY = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"


def test_ranges_hold_at_most_so_many_atoms_or_one_structure():
    assert cut([3, 3, 3, 9, 1, 1], 6) == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert cut([7], 6) == [(0, 1)]
    assert cut([], 6) == []


class Memory:
    """Holds so many structures, and notes what was tried."""

    def __init__(self, most: int, error: RuntimeError) -> None:
        self.most, self.error, self.tried = most, error, []

    def __call__(self, first: int, last: int) -> list[int]:
        self.tried.append((first, last))
        if last - first > self.most:
            raise self.error
        return list(range(first, last))


@pytest.mark.parametrize(
    "error", [RuntimeError(NO_MEMORY), torch.cuda.OutOfMemoryError("CUDA out of mem")]
)
def test_a_pass_without_memory_is_halved_and_the_size_kept(error):
    batches, memory = Batches(CPU, 10**6), Memory(3, error)
    sizes = [9] * 10  # one pass of 90 atoms, if there is memory
    assert batches.evaluate(sizes, memory) == list(range(10))
    assert memory.tried[:3] == [(0, 10), (0, 5), (0, 2)]
    assert batches.most_atoms == 22
    memory.tried.clear()
    assert batches.evaluate(sizes, memory) == list(range(10))
    assert memory.tried == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]


def test_memory_that_does_not_hold_one_structure_is_an_error():
    with pytest.raises(RuntimeError, match="can't allocate"):
        Batches(CPU, 90).evaluate([9] * 4, Memory(0, RuntimeError(NO_MEMORY)))


def test_another_error_is_not_taken_for_a_lack_of_memory():
    memory = Memory(1, RuntimeError("index out of range"))
    with pytest.raises(RuntimeError, match="out of range"):
        Batches(CPU, 90).evaluate([9] * 4, memory)
    assert memory.tried == [(0, 4)]


def test_torch_says_what_is_listened_for_when_memory_ends():
    def huge(first: int, last: int) -> list[int]:
        torch.empty((last - first - 1) * 2**58, dtype=torch.uint8)
        return list(range(first, last))

    assert Batches(CPU, 90).evaluate([9] * 4, huge) == [0, 1, 2, 3]


def test_places_are_visited_beside_each_other_with_one_thread_each():
    both, before = threading.Barrier(2, timeout=10), torch.get_num_threads()

    def visit(place):
        both.wait()
        return place, torch.get_num_threads()

    found = beside(visit, [(0, 1), (1, 2)], 2)
    assert found == [((0, 1), 1), ((1, 2), 1)]
    assert torch.get_num_threads() == before


def test_many_structures_do_not_depend_on_the_number_of_threads(monkeypatch):
    calc = MolPoolCalculator(
        potential_of(small_spec("painn"), dtype=torch.float64),
        device="cpu",
        dtype="float64",
    )
    structures = [molecule(name) for name in ("CH3CH2OH", "H2O", "CH4") * 12]
    rng = np.random.default_rng(0)
    for atoms in structures:
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
    assert sum(map(len, structures)) > 2 * ATOMS_ON_CPU
    one = calc.calculate_many(structures)
    monkeypatch.setattr("molpool_calc.batches.torch.get_num_threads", lambda: 3)
    monkeypatch.setattr("molpool_calc.batches.torch.set_num_threads", lambda _n: None)
    three = calc.calculate_many(structures)
    for atoms, alone, found in zip(structures, one, three, strict=True):
        np.testing.assert_array_equal(alone["forces"], found["forces"])
        assert alone["energy"] == found["energy"]
        atoms.calc = calc
        assert found["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(found["forces"], atoms.get_forces(), atol=1e-10)
