"""SchNetPack with a model file that is given: it is unpickled, so trust it.

All else is the worker of ``molpool bench``, which makes its own model. A job of
``training`` makes steps of an optimizer instead, on the batch of all ``places`` with
energies ``E`` and forces ``F``.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "molpool_calc" / "bench" / "worker_schnetpack.py"


def prepare(job: dict[str, Any]) -> tuple[Callable[[int], None], dict[str, Any]]:
    """Return the steps of a job, and facts about them."""
    specification = importlib.util.spec_from_file_location("worker_schnetpack", FILE)
    worker = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(worker)
    if job["what"] == "training":
        return _training(worker, job), {"versions": worker.versions()}
    file = job.get("model_file")
    return worker.prepare(job, None if file is None else Path(file))


def _training(worker: Any, job: dict[str, Any]) -> Callable[[int], None]:
    """Return steps of AdamW on a batch whose pairs have been found."""
    import torch  # noqa: PLC0415 - after the worker, which makes SchNetPack importable

    torch.set_num_threads(job["threads"])
    with tempfile.TemporaryDirectory() as place:
        file = worker.random_model(job["network"], place)
        model = worker.load(file, job, 5.0).model.train().requires_grad_()
    inputs = worker.batch(job, 5.0)
    energies = torch.tensor(job["E"], dtype=torch.float64)
    energies = energies - energies.mean()
    forces = torch.tensor(job["F"], dtype=torch.float32).reshape(-1, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    mse = torch.nn.functional.mse_loss

    def steps(n_steps: int) -> None:
        for _ in range(n_steps):
            optimizer.zero_grad()
            result = model(dict(inputs))
            loss = mse(result["energy"].double(), energies)
            loss = loss + 10.0 * mse(result["forces"], forces)
            loss.backward()
            optimizer.step()

    return steps
