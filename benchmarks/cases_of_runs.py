"""Rows of the speed table that take a process of their own, or a whole command."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from workbench import (
    WORKERS,
    CannotRun,
    Goal,
    Result,
    Row,
    Workbench,
    fit_exponent,
    listed_pairs,
    water_job,
)

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.bench.floor import measure_rates, work_of
from molpool_calc.bench.peer import Peer, PeerFailure
from molpool_calc.bench.row import Job, compared, peer_job
from molpool_calc.bench.systems import bench_system
from molpool_calc.bench.timing import Times, thread_count
from molpool_calc.storage import find_folder, save_potential
from molpool_calc.training.recipe import load_recipe
from molpool_calc.training.sections import TrainingSection
from molpool_calc.training.train import Trainer

CPU = torch.device("cpu")
SIZES = (64, 512, 4096)
RECIPE = """\
[potential]
name = "step"
level_of_theory = "B3LYP/def2-SVPD"
license = "MIT"
description = "Trained to be timed."

[data]
file = "ethanol.npz"
units = {{ energy = "eV", length = "Angstrom" }}
keys = {{ numbers = "Z", positions = "R", energy = "E", forces = "F" }}
split = {{ train = {n_train}, valid = 10, test = 10, seed = 0 }}

[network]
kind = "painn"
n_features = 128
n_interactions = 3
n_rbf = 20
cutoff = 5.0

[heads.energy]
pooling = "sum"

[loss]
energy = 1.0
forces = 10.0

[training]
batch_size = {batch}
epochs = {epochs}
validate_every = {epochs}
{more}"""
TRAINING_BATCH, STEPS_PER_EPOCH = 10, 20
PUBLISHED = {
    "kind": "painn",
    "n_features": 128,
    "n_interactions": 3,
    "n_rbf": 20,
    "cutoff": 5.0,
}
MEMORY = ("peak_memory_mib", "memory_growth_mib")


def scaling(bench: Workbench) -> Result:
    """Time and memory per atom from 192 to 12 288 atoms, PaiNN of published size."""
    potential, folder = bench.published("painn"), bench.scratch / "painn"
    save_potential(potential, folder)
    with thread_count(1):
        rates = measure_rates(CPU, torch.float32)
    rows: list[Row] = []
    for n_molecules in SIZES[: 2 if bench.quick else 3]:
        job = water_job(bench, n_molecules)
        rows.append(_box_row(bench, job, folder))
        if "failure" in rows[-1]:
            break
        batch = batch_from_atoms([job.atoms], dtype=torch.float32, device=CPU)
        floor = rates.floor_ms(work_of(potential, batch))
        rows[-1] |= {
            "floor_ms": floor,
            "fraction_of_floor": floor / rows[-1]["ms_per_step"],
        }
    return Result(rows, _scaling_goals(rows))


def _box_row(bench: Workbench, job: Job, folder: Path) -> Row:
    """Return time and memory of both programs, or why there is none."""
    row: Row = {"system": job.system, "n_atoms": len(job.atoms), "network": "painn"}
    row["n_pairs"] = len(listed_pairs(job.atoms, 5.0)["center"])
    facts = {"potential": str(folder), "compile": job.compile, "system": job.system}
    try:
        with Peer(WORKERS / "molpool.py") as own:
            row |= _alone(own, job, facts)
    except PeerFailure as failure:
        return {**row, "failure": str(failure)}
    facts = {
        "model_file": str(bench.checkpoint("painn")),
        "unit": "kcal/mol",
        "neighbors": "matscipy",
    }
    try:
        with bench.peer("schnetpack", "schnetpack.py") as peer:
            theirs = _alone(peer, job, facts)
    except PeerFailure as failure:
        return {**row, "peer_failure": str(failure)}
    row |= {f"peer_{key}": theirs[key] for key in (*MEMORY, "ms_per_step")}
    return {**row, "ratio": row["peer_ms_per_step"] / row["ms_per_step"]}


def _alone(peer: Peer, job: Job, facts: dict[str, Any]) -> Row:
    """Return time and peak memory of few steps in a process that does nothing else."""
    before = peer.prepare({**peer_job(job, 1), **facts, "call": False})
    peer.block(1)  # code is loaded, buffers are made
    n_steps = max(1, min(20, round(2.0 / peer.seconds(1))))
    blocks = [peer.block(n_steps) for _ in range(3)]
    peak = max(block["peak_memory_mib"] for block in blocks)
    return {
        "what": "energy and forces",
        "dtype": job.dtype,
        "threads": 1,
        "ms_per_step": 1e3 * min(b["seconds"] for b in blocks) / n_steps,
        "peak_memory_mib": peak,
        "memory_growth_mib": peak - before["peak_memory_mib"],
    }


def _scaling_goals(rows: list[Row]) -> list[Goal]:
    done = [row for row in rows if "ms_per_step" in row]
    both = [row for row in done if "peer_peak_memory_mib" in row]
    goals = []
    if len(done) > 1:
        sizes = [row["n_atoms"] for row in done]
        exponent = fit_exponent(sizes, [row["ms_per_step"] for row in done])
        for row in done:
            row["us_per_atom"] = 1e3 * row["ms_per_step"] / row["n_atoms"]
            row["exponent"] = exponent
        per_atom = [row["us_per_atom"] for row in done]
        goals.append(
            Goal(
                work=f"time per atom from {sizes[0]} to {sizes[-1]} atoms, PaiNN, "
                f"periodic (time ∝ atoms^{exponent:.2f})",
                value=max(per_atom) / min(per_atom),
                limit=1.3,
                at_least=False,
            )
        )
    if both:
        last = both[-1]
        largest = "" if last is rows[-1] else ", the largest box that both can do here"
        goals.append(
            Goal(
                work="peak memory of the whole process, over SchNetPack's, "
                f"{last['n_atoms']} atoms{largest}",
                value=last["peak_memory_mib"] / last["peer_peak_memory_mib"],
                limit=1 / 3,
                at_least=False,
            )
        )
    return goals


def first_call(bench: Workbench) -> Result:
    """Seconds until the first forces, without and with compiled code kept."""
    if bench.quick:
        return Result([])
    folder, cache = bench.scratch / "first", bench.scratch / "cache"
    source = bench.published("painn") if bench.checkpoints else "painn-ethanol"
    if isinstance(source, str):
        folder = Path(source)
    else:
        save_potential(source, folder)
    job = Job(system="ethanol", atoms=bench_system("ethanol"), potential=str(folder))
    rows = []
    for state in ("cold", "cached"):
        facts = {
            "potential": str(folder),
            "compile": "now",
            "system": "ethanol",
            "cache": str(cache),
        }
        with Peer(WORKERS / "molpool.py") as own:
            found = own.prepare({**peer_job(job, 1), **facts})
        rows.append(
            {
                "system": "ethanol",
                "n_atoms": 9,
                "network": "painn",
                "what": "first call of a new process",
                "first_call": state,
                "first_call_s": found["first_call_s"],
            }
        )
    return Result(rows)


def infrared(bench: Workbench) -> Result:
    """``molpool ir ethanol`` with its defaults, without and with compiled code kept."""
    if bench.quick:
        return Result([])
    rows, goals = [], []
    environment = {**os.environ, "XDG_CACHE_HOME": str(bench.scratch / "ir-cache")}
    environment.pop("OMP_NUM_THREADS", None)
    for state, limit in (("cold", 120.0), ("warm", 60.0)):
        out = bench.scratch / f"ir-{state}"
        words = ["ir", "ethanol", "--out", str(out), "--json"]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "molpool_calc", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - start
        found = json.loads(done.stdout)
        rows.append(
            {
                "system": "ethanol",
                "n_atoms": 9,
                "network": "painn",
                "what": "molpool ir ethanol",
                "cache": state,
                "seconds": seconds,
                "integrated_km_mol": found["integrated_km_mol"],
            }
        )
        work = f"molpool ir ethanol, defaults, {state} cache, {bench.cores} cores"
        goals.append(
            Goal(work=work, value=seconds, limit=limit, unit="s", at_least=False)
        )
    return Result(rows, goals)


def gpu(bench: Workbench) -> Result:
    """Steps, batches and boxes of water on a GPU."""
    if not torch.cuda.is_available():
        raise CannotRun("there is no GPU")
    out = bench.scratch / "gpu.json"
    words = ["--painn", bench.checkpoint("painn"), "--so3lr", bench.checkpoint("so3lr")]
    words += ["--peer-python", bench.python("schnetpack"), "--out", out]
    script = Path(__file__).with_name("gpu.py")
    subprocess.run([sys.executable, script, *words], check=True)
    return Result(json.loads(out.read_text(encoding="utf-8"))["rows"])


def training(bench: Workbench) -> Result:
    """A training step: PaiNN (128 features, 3 rounds), ten ethanols, energy and forces.

    MolPool's is one of ``molpool train``, its neighbor search and all else included;
    SchNetPack's is forward, backward and AdamW on a batch that is ready.
    """
    epochs = 4 if bench.quick else 10
    data = find_folder("painn-ethanol") / "ethanol_b3lyp_def2svpd.npz"
    with np.load(data) as file:
        arrays = {key: file[key][:400] for key in ("R", "E", "F")} | {"Z": file["Z"]}
    np.savez(bench.scratch / "ethanol.npz", **arrays)
    path = bench.scratch / "step.toml"
    fields = {field.name for field in dataclasses.fields(TrainingSection)}
    more = f'compile = "{bench.compile}"\n' if "compile" in fields else ""
    text = RECIPE.format(
        n_train=TRAINING_BATCH * STEPS_PER_EPOCH,
        batch=TRAINING_BATCH,
        epochs=epochs,
        more=more + "threads = 1\n",
    )
    path.write_text(text, encoding="utf-8")
    trainer = Trainer(load_recipe(path), bench.scratch)
    own, theirs = [], []
    atoms = bench_system("ethanol")
    job = Job(system="ethanol", atoms=atoms, potential="", what="training", batch=10)
    facts = {"network": PUBLISHED, "places": arrays["R"][:TRAINING_BATCH].tolist()}
    facts |= {key: arrays[key][:TRAINING_BATCH].tolist() for key in ("E", "F")}
    with bench.peer("schnetpack", "schnetpack.py") as peer:
        answer = peer.prepare({**peer_job(job, 1), **facts})
        peer.seconds(2)
        start = time.perf_counter()

        def epoch_is_over(epoch: int, _row: object) -> None:
            nonlocal start
            elapsed = time.perf_counter() - start
            if 1 < epoch < epochs:  # the first one warms up, the last one validates
                own.append(1e3 * elapsed / STEPS_PER_EPOCH)
                theirs.append(1e3 * peer.seconds(STEPS_PER_EPOCH) / STEPS_PER_EPOCH)
            start = time.perf_counter()

        trainer.run(epoch_is_over)
    times = {"own": Times(blocks=tuple(own)), "peer": Times(blocks=tuple(theirs))}
    row = {
        "system": "ethanol",
        "n_atoms": len(atoms),
        "network": "painn",
        "what": f"training step of {TRAINING_BATCH} molecules",
        "dtype": "float32",
        "threads": 1,
        **compared(times),
        "peer": answer,
    }
    work = "training step, PaiNN ethanol batch 10, forces, vs SchNetPack's"
    return Result([row], [Goal(work=work, value=row["ratio"], limit=2)])
