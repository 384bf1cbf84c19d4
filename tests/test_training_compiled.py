"""A compiled training is that of the network as written, and is resumed as such."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recipes import write_recipe

from molpool_calc.training import compiled_step
from molpool_calc.training.recipe import load_recipe
from molpool_calc.training.steps import EagerStep
from molpool_calc.training.train import Trained, Trainer

OPTIONS = {"dtype": "float64", "epochs": 3}


def trainer_in(folder: Path, mode: str) -> Trainer:
    folder.mkdir(exist_ok=True)
    return Trainer(load_recipe(write_recipe(folder, compile=mode, **OPTIONS)), folder)


def weights(trained: Trained) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trained.potential.parameters()])


@pytest.mark.slow
def test_a_compiled_training_ends_where_an_eager_one_ends_resumed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled_step, "cache_folder", lambda: tmp_path / "cache")
    eager_calls = []
    original, original_step = EagerStep.__call__, Trainer._step

    def counted(self: EagerStep, *example: object) -> list[torch.Tensor]:
        eager_calls.append(example)
        return original(self, *example)

    def dying(self: Trainer, indices: np.ndarray) -> float:
        if self.progress.step == 4:  # in the middle of the second epoch
            raise KeyboardInterrupt
        return original_step(self, indices)

    eager = trainer_in(tmp_path / "eager", "never").run()
    monkeypatch.setattr(EagerStep, "__call__", counted)
    straight = trainer_in(tmp_path / "straight", "now").run()
    refusals = [path.read_text() for path in tmp_path.glob("cache/*.refused")]
    assert straight.engine == "compiled", refusals
    assert len(eager_calls) == 1  # the check on the first batch
    torch.testing.assert_close(weights(straight), weights(eager), rtol=0, atol=1e-9)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            trainer_in(tmp_path / "killed", "cached").run()
    resumed = trainer_in(tmp_path / "killed", "cached")
    resumed.resume()
    again = resumed.run()
    assert (resumed.progress.engine, again.epochs) == ("compiled", 3)
    assert torch.equal(weights(again), weights(straight))
    assert again.history == straight.history
