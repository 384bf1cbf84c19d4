"""The training step: its parts, its compiled form, and which of them runs."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from small_potentials import batch_of, crystal, ethanol, potential_of, small_spec
from tiny_recipes import write_recipe

from molpool_calc.neighbors import dense_pairs, neighbor_list
from molpool_calc.training import choice, compiled_step
from molpool_calc.training.build_step import Refused, random_example, unlike, verify
from molpool_calc.training.choice import PAYS_AFTER, choose_step
from molpool_calc.training.frames import Labels
from molpool_calc.training.losses import Objective
from molpool_calc.training.processes import ALONE, Processes
from molpool_calc.training.recipe import load_recipe
from molpool_calc.training.step_request import (
    StepRequest,
    example_of,
    fits,
    inputs_of,
    key_of,
    request_of,
)
from molpool_calc.training.steps import EagerStep, gradient_at
from molpool_calc.training.train import Trainer

OBJECTIVE = Objective(weights={"energy": 2.0, "forces": 10.0, "dipole": 3.0})


def potential(network: str = "painn", dtype: torch.dtype = torch.float64):
    made = potential_of(small_spec(network), dtype=dtype)
    return made.requires_grad_(requires_grad=True)


def example(*structures, dense: bool = False):
    batch = batch_of(*structures)
    pairs = dense_pairs(batch) if dense else neighbor_list(batch, 4.0)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    n = len(structures)
    labels = Labels(
        energy=random(n),
        forces=random(len(batch.positions), 3),
        dipole=random(n, 3),
        polarizability=None,
    )
    return batch, pairs, labels, torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)


EXAMPLES = {
    "dense": example(ethanol(), ethanol(), dense=True),
    "listed": example(ethanol(), molecule("H2O"), molecule("CH4")),
    "periodic": example(crystal(), crystal()),
}


def test_inputs_of_a_compiled_step_lead_back_to_the_batch():
    batch = EXAMPLES["dense"]
    request = request_of(batch, OBJECTIVE)
    assert StepRequest.from_json(request.to_json()) == request
    again = example_of(inputs_of(batch, request), request)
    step = EagerStep(potential(), OBJECTIVE)
    for one, other in zip(step(*batch), step(*again), strict=True):
        assert torch.equal(one, other)


def test_what_is_traced_gives_what_backward_gives():
    made, batch = potential(), EXAMPLES["listed"]
    parameters = [p.detach().clone() for p in made.parameters()]
    traced = gradient_at(parameters, made, OBJECTIVE, batch)
    for one, other in zip(traced, EagerStep(made, OBJECTIVE)(*batch), strict=True):
        assert torch.equal(one, other)
    moved = [p + 0.1 for p in parameters]
    found = gradient_at(moved, made, OBJECTIVE, batch)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1)
    for one, other in zip(found, EagerStep(made, OBJECTIVE)(*batch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_the_gradient_is_the_finite_difference_of_the_loss():
    made, batch = potential(), EXAMPLES["listed"]
    parameters = [p.detach().clone() for p in made.parameters()]
    gradients = gradient_at(parameters, made, OBJECTIVE, batch)[1:]
    generator = torch.Generator().manual_seed(1)
    along = [
        torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters
    ]

    def loss_at(distance: float) -> float:
        moved = [p + distance * d for p, d in zip(parameters, along, strict=True)]
        return float(gradient_at(moved, made, OBJECTIVE, batch)[0])

    slope = sum(float((g * d).sum()) for g, d in zip(gradients, along, strict=True))
    difference = (loss_at(1e-6) - loss_at(-1e-6)) / 2e-6
    assert difference == pytest.approx(slope, rel=1e-6)


def test_a_compiled_step_is_for_two_molecules_or_more_of_one_size():
    request = request_of(EXAMPLES["dense"], OBJECTIVE)
    assert fits(EXAMPLES["dense"], request)
    assert not fits(example(ethanol(), dense=True), request)
    assert not fits(example(molecule("H2O"), molecule("H2O"), dense=True), request)
    for layout in ("listed", "periodic"):
        assert request_of(EXAMPLES[layout], OBJECTIVE) is None
        assert not fits(EXAMPLES[layout], request)


def test_the_key_holds_for_all_weights_of_an_architecture():
    request = request_of(EXAMPLES["dense"], OBJECTIVE)
    first, other = potential(), potential()
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    keys = {key_of(first, request), key_of(other, request)}
    assert len(keys) == 1
    keys.add(key_of(first.float(), request))
    keys.add(key_of(potential("schnet"), request))
    keys.add(key_of(potential(), replace(request, n_dense=3)))
    order = Objective(weights=dict(reversed(OBJECTIVE.weights.items())))
    keys.add(key_of(potential(), replace(request, objective=order)))
    assert len(keys) == 5


def test_the_traced_number_of_molecules_is_unlike_all_other_sizes():
    for sizes in ((11, 13), (12, 3), (143, 15), (1573, 1716)):
        for n_dense in (3, 11):
            n = unlike([torch.zeros(sizes)], n_dense)
            assert not {n, n * n_dense, n * n_dense**2} & {*sizes, n_dense, n_dense**2}


class Faulty:
    """A package that leaves out a part of one gradient, as a compiler once did."""

    def __init__(self, made, request, factor: float) -> None:
        self.made, self.request, self.factor = made, request, factor
        self.n = len(list(made.parameters()))

    def run(self, inputs):
        batch = example_of(inputs[self.n :], self.request)
        found = gradient_at(inputs[: self.n], self.made, self.request.objective, batch)
        found[7] = found[7] * self.factor
        return found


def test_a_wrong_package_is_refused():
    made, request = potential(), request_of(EXAMPLES["dense"], OBJECTIVE)
    verify(Faulty(made, request, 1.0).run, made, request)
    with pytest.raises(Refused, match=r"2 molecules: .* deviates by"):
        verify(Faulty(made, request, 1.0001).run, made, request)


def test_random_labels_are_missing_where_some_may_be():
    objective = Objective(
        weights={"energy": 1.0, "polarizability": 1.0},
        partly_labelled=frozenset({"polarizability"}),
    )
    request = StepRequest(objective=objective, n_dense=5, device="cpu")
    _, _, labels, shares = random_example(potential(), request, 3)
    missing = labels.polarizability.isnan().all((1, 2))
    assert missing.tolist() == [True, False, False]
    assert shares.shape == (2,)


class Compiled:
    name = "compiled"

    def __call__(self, *_example):
        return []


@pytest.mark.parametrize(
    ("mode", "n_steps", "kept", "built", "chosen"),
    [
        ("never", 10**9, None, None, "eager"),
        ("auto", PAYS_AFTER - 1, None, False, "compiled"),
        ("auto", PAYS_AFTER, None, True, "compiled"),
        ("cached", 10**9, None, False, "compiled"),
        ("now", 1, None, True, "compiled"),
        ("auto", 1, "compiled", True, "compiled"),
        ("now", 10**9, "eager", None, "eager"),
        ("never", 1, "compiled", None, "eager"),
    ],
)
def test_what_runs_follows_from_recipe_and_checkpoint(
    mode, n_steps, kept, built, chosen, monkeypatch
):
    asked = []

    def find(_eager, _example, *, build, waiting):
        asked.append(build)
        return Compiled()

    monkeypatch.setattr(choice, "find_step", find)
    eager = EagerStep(potential(), OBJECTIVE)
    options = {"kept": kept, "n_steps": n_steps, "processes": ALONE}
    batch = EXAMPLES["dense"]
    step = choose_step(eager, batch, mode, **options, waiting=lambda: None)
    assert step.name == chosen
    assert asked == ([] if built is None else [built])


def test_without_a_compiler_the_network_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_step, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    eager, waited = EagerStep(potential(), OBJECTIVE), []
    arguments = (eager, EXAMPLES["dense"], "now")
    options = {"n_steps": 1, "processes": ALONE, "waiting": lambda: waited.append(1)}
    assert choose_step(*arguments, kept=None, **options) is eager
    with pytest.raises(ValueError, match="begun with a compiled step"):
        choose_step(*arguments, kept="compiled", **options)
    assert not waited


def test_who_interrupts_the_compiler_can_resume(tmp_path: Path, monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    recipe = load_recipe(write_recipe(tmp_path, epochs=1, compile="now"))
    with monkeypatch.context() as patch:
        patch.setattr(compiled_step, "_build", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Trainer(recipe, tmp_path).run()
    monkeypatch.setattr(compiled_step, "_build", lambda *_arguments: None)
    trainer = Trainer(recipe, tmp_path)
    trainer.resume()
    assert (trainer.progress.epoch, trainer.progress.engine) == (0, "")
    assert trainer.run().engine == "eager"


def test_an_interrupt_ends_the_compiler_which_cleans_up(tmp_path: Path, monkeypatch):
    begun, cleaned = tmp_path / "begun", tmp_path / "cleaned"
    code = (
        "import pathlib, sys, time\n"
        "try:\n pathlib.Path(sys.argv[1]).touch(); time.sleep(60)\n"
        "finally:\n pathlib.Path(sys.argv[2]).touch()\n"
    )

    def communicate(_process, timeout):
        while not begun.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen.communicate", communicate)
    with pytest.raises(KeyboardInterrupt):
        compiled_step._run([sys.executable, "-c", code, str(begun), str(cleaned)])
    assert cleaned.exists()


def test_only_a_failed_build_is_not_tried_again():
    def run(code: str) -> str | None:
        return compiled_step._run([sys.executable, "-c", code])

    assert run("import sys; print('x', file=sys.stderr)") is None
    assert run("raise SystemExit('first\\nwhy it failed')") == "why it failed"
    assert run("import os; os.kill(os.getpid(), 9)") is None


def test_parts_of_a_batch_add_up_to_its_gradient(tmp_path: Path):
    """However unequal the parts: frames of several sizes, labels here and there."""
    trainer = Trainer(load_recipe(write_recipe(tmp_path, dtype="float64")), tmp_path)
    indices = trainer.parts.train[:7]
    labels = trainer.frames.dataset.dipole
    labels[indices[[1, 2, 3]]] = np.nan
    trainer.objective = Objective(
        weights={"energy": 1.0, "forces": 10.0, "dipole": 50.0},
        partly_labelled=frozenset({"dipole"}),
    )
    step = EagerStep(trainer.potential, trainer.objective)
    whole = step(*trainer._example(indices))
    parts = []
    for rank in range(3):
        trainer.processes = Processes(rank=rank, size=3)
        parts.append(step(*trainer._example(indices)))
    for total, *shares in zip(whole, *parts, strict=True):
        torch.testing.assert_close(sum(shares), total, rtol=1e-12, atol=1e-12)
    assert float(whole[0]) == pytest.approx(sum(float(part[0]) for part in parts))
