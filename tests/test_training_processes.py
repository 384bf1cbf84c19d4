"""Several processes train to what one trains to, and only the first writes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recipes import write_recipe

from molpool_calc.storage import load_potential
from molpool_calc.training.processes import ALONE, Processes, joined
from molpool_calc.training.recipe import load_recipe
from molpool_calc.training.train import Trainer


def test_alone_nothing_is_exchanged():
    with joined() as processes:
        assert processes == ALONE
    assert processes.is_first
    assert processes.gather("x") == ["x"]
    assert processes.from_first(lambda: 3) == 3
    ones = [torch.ones(2), torch.ones(3, 1)]
    assert all(map(torch.equal, processes.add(ones), ones))


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8])
def test_parts_of_a_batch_are_all_of_it(n):
    indices = np.arange(n)
    parts = [Processes(rank=rank, size=3).part(indices) for rank in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), indices)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_more_processes_than_frames_are_refused():
    Processes(size=4).demand_work(4)
    with pytest.raises(ValueError, match="batch of 3 frames was to be shared by 4"):
        Processes(size=4).demand_work(3)


def test_each_process_of_a_machine_has_a_gpu_of_its_own():
    second = Processes(rank=5, size=8, rank_on_machine=1)
    assert second.own(torch.device("cuda"), 2) == torch.device("cuda", 1)
    assert second.own(torch.device("cpu"), 0) == torch.device("cpu")
    assert ALONE.own(torch.device("cuda"), 1) == torch.device("cuda")
    with pytest.raises(ValueError, match="2 processes or more were to share the 1 GPU"):
        second.own(torch.device("cuda"), 1)


def torchrun(recipe: Path, folder: Path, *options: str) -> dict:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "-m", "molpool_calc", "train", str(recipe), "--json"]
    done = subprocess.run(
        [*command, "--out", str(folder), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # of one process: two objects would not parse


@pytest.mark.slow
def test_two_processes_stopped_and_resumed_end_where_one_ends(tmp_path: Path):
    options = {"dtype": "float64", "epochs": 2, "batch_size": 5}
    first = write_recipe(tmp_path, name="a.toml", max_minutes=1e-9, **options)
    recipe = write_recipe(tmp_path, name="b.toml", **options)
    found = torchrun(first, tmp_path / "two")
    assert (found["epochs"], found["processes"]) == (1, 2)
    found = torchrun(recipe, tmp_path / "two", "--resume")
    assert found["epochs"] == 2
    (tmp_path / "one").mkdir()
    trained = Trainer(load_recipe(recipe), tmp_path / "one").run()
    both = load_potential(tmp_path / "two")
    for one, two in zip(trained.potential.parameters(), both.parameters(), strict=True):
        torch.testing.assert_close(two, one, rtol=0, atol=1e-9)
    assert found["errors"]["forces"]["mae"] == pytest.approx(
        trained.errors["forces"].mae, rel=1e-9
    )
    curves = [tmp_path / run / "learning_curve.csv" for run in ("one", "two")]
    tables = [np.genfromtxt(path, delimiter=",", names=True) for path in curves]
    for name in tables[0].dtype.names:
        np.testing.assert_allclose(tables[0][name], tables[1][name], rtol=1e-6)
