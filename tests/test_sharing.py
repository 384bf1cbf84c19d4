"""Threads of several ASE objects share one pass, and depend on nobody."""

import pickle
import threading
import time

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed
from ase.mep import NEB
from small_potentials import potential_of, small_spec

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.evaluator import Evaluator
from molpool_calc.sharing import PATIENCE, share_calculator

POTENTIAL = potential_of(small_spec("painn"), dtype=torch.float64)


@pytest.fixture
def calc():
    return MolPoolCalculator(POTENTIAL, device="cpu", dtype="float64")


@pytest.fixture
def passes(monkeypatch):
    """Numbers of structures of the passes made."""
    made = []
    alone, together = Evaluator.evaluate, Evaluator.evaluate_many

    def evaluate(self, *arguments):
        made.append(1)
        return alone(self, *arguments)

    def evaluate_many(self, structures, *arguments):
        made.append(len(structures))
        return together(self, structures, *arguments)

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    monkeypatch.setattr(Evaluator, "evaluate_many", evaluate_many)
    return made


def displaced(seed: int) -> Atoms:
    atoms = molecule("CH3OH")
    rng = np.random.default_rng(seed)
    atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
    return atoms


def forces_of(atoms: Atoms) -> np.ndarray:
    atoms.calc = MolPoolCalculator(POTENTIAL, device="cpu", dtype="float64")
    return atoms.get_forces()


def in_threads(functions) -> None:
    threads = [threading.Thread(target=f, daemon=True) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a thread waits for ever"


def test_images_of_a_band_are_evaluated_in_one_pass(calc, passes, monkeypatch):
    monkeypatch.setattr("molpool_calc.sharing.PATIENCE", 5.0)
    images = [displaced(0).copy() for _ in range(6)]
    for k, image in enumerate(images):
        image.positions[0, 0] += 0.05 * k
    expected = [forces_of(image.copy()) for image in images]
    for image, shared in zip(images[1:-1], share_calculator(calc, 4), strict=True):
        image.calc = shared
    passes.clear()
    NEB(images, parallel=True, method="aseneb").get_forces()
    assert passes == [4]
    for image, forces in zip(images[1:-1], expected[1:-1], strict=True):
        np.testing.assert_allclose(image.get_forces(), forces, atol=1e-10)
    assert passes == [4]  # and every image kept its own results


def test_wrong_input_raises_in_its_own_thread(calc, monkeypatch):
    monkeypatch.setattr("molpool_calc.sharing.PATIENCE", 5.0)
    structures = [displaced(k) for k in range(3)]
    structures[1].positions[1] = structures[1].positions[0]  # a distance of 0
    calculators, found = share_calculator(calc, 3), {}

    def ask(k):
        structures[k].calc = calculators[k]
        try:
            found[k] = structures[k].get_forces()
        except CalculationFailed as error:
            found[k] = error

    in_threads([lambda k=k: ask(k) for k in range(3)])
    assert isinstance(found[1], CalculationFailed)
    for k in (0, 2):
        np.testing.assert_allclose(found[k], forces_of(displaced(k)), atol=1e-10)


def test_a_thread_that_stops_does_not_hold_up_the_others(calc):
    calculators, found = share_calculator(calc, 3), {}

    def walk(k, n_steps):
        atoms = displaced(k)
        atoms.calc = calculators[k]
        for _ in range(n_steps):
            found[k] = atoms.get_forces()
            atoms.positions[0] += 0.01

    in_threads(
        [lambda k=k: walk(k, 2 + 6 * k) for k in range(2)]
    )  # a third never comes
    last = displaced(1)
    last.positions[0] += 7 * 0.01
    np.testing.assert_allclose(found[1], forces_of(last), atol=1e-10)


def test_one_after_another_nobody_is_waited_for(calc, passes, monkeypatch):
    monkeypatch.setattr("molpool_calc.sharing.PATIENCE", 0.5)
    structures = [displaced(k) for k in range(4)]
    for atoms, shared in zip(structures, share_calculator(calc, 4), strict=True):
        atoms.calc = shared
    structures[0].get_forces()  # waits once for those who never came
    start = time.monotonic()
    for atoms in structures[1:]:
        atoms.get_forces()
    assert time.monotonic() - start < 0.5
    assert passes == [1, 1, 1, 1]


def test_if_the_thread_at_work_is_interrupted_another_takes_over(calc, monkeypatch):
    monkeypatch.setattr("molpool_calc.sharing.PATIENCE", 5.0)
    calculators, found, original = (
        share_calculator(calc, 2),
        [],
        Evaluator.evaluate_many,
    )
    interrupted = []

    def evaluate_many(self, *arguments):
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(Evaluator, "evaluate_many", evaluate_many)

    def ask(k):
        atoms = displaced(k)
        atoms.calc = calculators[k]
        try:
            found.append(atoms.get_forces())
        except KeyboardInterrupt:
            found.append(None)

    monkeypatch.setattr("molpool_calc.sharing.PATIENCE", 0.2)
    in_threads([lambda k=k: ask(k) for k in range(2)])
    assert interrupted
    assert sum(forces is None for forces in found) == 1
    assert sum(forces is not None for forces in found) == 1


def test_shared_calculators_can_be_pickled(calc):
    shared = share_calculator(calc, 2)[0]
    again = pickle.loads(pickle.dumps(shared))
    atoms = displaced(0)
    atoms.calc = again
    np.testing.assert_allclose(atoms.get_forces(), forces_of(displaced(0)), atol=1e-10)


def test_at_least_one_calculator_is_asked_for(calc):
    with pytest.raises(ValueError, match="0 calculators were asked for; give at least"):
        share_calculator(calc, 0)
    assert PATIENCE < 0.01
