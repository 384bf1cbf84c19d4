"""Rows of the speed table that time a step, each a function from a workbench."""

import itertools
import time
from typing import Any

import numpy as np
import torch
from ase import Atoms
from workbench import (
    LONG_RANGE,
    Goal,
    Result,
    Row,
    Workbench,
    aspirin,
    listed_pairs,
    water_job,
)

from molpool_calc.bench.row import Job, peer_job
from molpool_calc.bench.systems import bench_system
from molpool_calc.bench.timing import alternate
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.importers import potential_from_pyg
from molpool_calc.importers.numpy_pickle import read_numpy_pickle
from molpool_calc.pair_terms.free_atoms import C6_COEFFICIENTS, POLARIZABILITIES

SAME_FORCES = 1e-3
"""eV/Å in float32; more means that a peer has other weights."""
SHORT_RANGE, LIST_SKIN = 4.5, 0.3
"""Å: the cutoff of SO3LR's network, and what its lists in JAX hold beyond."""
BATCHES = (1, 4, 16, 64, 256, 1024)


def ethanol_painn(bench: Workbench) -> Result:
    """One ASE Langevin step of ethanol with published PaiNN weights."""
    rows = _ethanol_steps(bench, "painn")
    first = rows[0]
    return Result(
        rows,
        [
            Goal(
                work="ethanol, published PaiNN weights, ASE Langevin step, 1 thread, "
                "float32, vs SchNetPack",
                value=first["ratio"],
                limit=9,
            ),
            Goal(
                work="fraction of the counted floor, ethanol PaiNN, 1 thread",
                value=100 * first["fraction_of_floor"],
                limit=60,
                unit="%",
            ),
        ],
    )


def ethanol_schnet(bench: Workbench) -> Result:
    """One ASE Langevin step of ethanol with published SchNet weights."""
    rows = _ethanol_steps(bench, "schnet")
    work = "the same with published SchNet weights"
    return Result(rows, [Goal(work=work, value=rows[0]["ratio"], limit=8)])


def _ethanol_steps(bench: Workbench, what: str) -> list[Row]:
    threads = [1] if bench.quick else sorted({1, bench.cores})
    dtypes = ["float32"] if bench.quick else ["float32", "float64"]
    potential, atoms = bench.published(what), bench_system("ethanol")
    return [
        bench.beside_schnetpack(
            what,
            Job(
                system="ethanol",
                atoms=atoms,
                potential=potential,
                dtype=dtype,
                threads=n,
                compile=bench.compile,
            ),
        )
        for dtype, n in itertools.product(dtypes, threads)
    ]


def aspirin_painn(bench: Workbench) -> Result:
    """One ASE Langevin step of aspirin with published PaiNN weights."""
    job = Job(
        system="aspirin",
        atoms=aspirin(),
        potential=bench.published("aspirin"),
        threads=1,
        compile=bench.compile,
    )
    row = bench.beside_schnetpack("aspirin", job)
    work = "aspirin (21 atoms), published PaiNN weights"
    return Result([row], [Goal(work=work, value=row["ratio"], limit=5)])


def water_painn(bench: Workbench) -> Result:
    """Energy and forces of 64 waters in a box, PaiNN of the published size."""
    row = bench.beside_schnetpack("painn", water_job(bench, 64))
    work = f"192 waters' atoms ({row['n_pairs']} pairs), PaiNN, 1 thread, vs SchNetPack"
    return Result([row], [Goal(work=work, value=row["ratio"], limit=4)])


def ethanol_batch(bench: Workbench) -> Result:
    """A hundred ethanols at once on all cores, per molecule."""
    row = bench.beside_schnetpack("painn", _batch_job(bench, 100, bench.cores))
    row["peer_processes"] = 1
    split = _split_over_processes(bench, row)
    work = "100 ethanols, per molecule, all cores, vs SchNetPack batch"
    return Result([row, split], [Goal(work=work, value=row["ratio"], limit=3)])


def _batch_job(bench: Workbench, size: int, threads: int) -> Job:
    return Job(
        system="ethanol",
        atoms=bench_system("ethanol"),
        potential=bench.published("painn"),
        what="batch",
        batch=size,
        threads=threads,
        compile=bench.compile,
    )


def _split_over_processes(bench: Workbench, own: Row) -> Row:
    """Return the row with SchNetPack's batch split into a process for each core."""
    share = 100 // bench.cores
    job = _batch_job(bench, share, 1)
    asked = {
        **peer_job(job, 1),
        "model_file": str(bench.checkpoint("painn")),
        "unit": "kcal/mol",
    }
    with (
        bench.peer("schnetpack", "schnetpack.py") as first,
        bench.peer("schnetpack", "schnetpack.py") as second,
    ):
        team = [first, second][: bench.cores]
        for peer in team:
            peer.prepare(asked)

        def seconds(n_steps: int) -> float:
            start = time.perf_counter()
            for peer in team:
                peer.send({"steps": n_steps // len(team)})
            for peer in team:
                peer.answer()
            return time.perf_counter() - start

        found = alternate(
            {"peer": seconds}, bench.bench.seconds / 2, multiple=share * len(team)
        )["peer"]
    return {
        **own,
        "peer_processes": len(team),
        "peer_ms_per_step": found.median,
        "peer_fastest_ms_per_step": found.fastest,
        "ratio": found.median / own["ms_per_step"],
        "ratio_of_fastest": found.fastest / own["fastest_ms_per_step"],
    }


def ethanol_batches(bench: Workbench) -> Result:
    """Batches from 1 to 1 024 ethanols, all cores, per molecule."""
    sizes = BATCHES[:3] if bench.quick else BATCHES
    rows = [
        bench.beside_schnetpack("painn", _batch_job(bench, n, bench.cores))
        for n in sizes
    ]
    return Result(rows)


def so3lr(bench: Workbench) -> Result:
    """SO3LR weights, a calculator call against the jitted equations in JAX."""
    params = bench.checkpoint("so3lr")
    np.savez(
        bench.scratch / "so3lr.npz",
        **{k: np.asarray(v) for k, v in read_numpy_pickle(params).tensors.items()},
    )
    systems = {"ethanol": bench_system("ethanol"), "aspirin": aspirin()}
    if not bench.quick:
        systems["water-64"] = bench_system("water-64")
    rows, goals = [], []
    for name, atoms in systems.items():
        job = Job(
            system=name,
            atoms=atoms,
            potential=bench.published("so3lr"),
            what="forces",
            threads=1,
            compile=bench.compile,
        )
        with bench.peer("jax", "so3lr_jax.py") as peer:
            row = _checked(bench.row(job, peer, _jax_facts(bench, atoms)), job)
        rows.append({**row, "peer_name": "JAX, jitted, pairs found once"})
        work = f"SO3LR weights vs jitted JAX, {name}, float32"
        goals.append(Goal(work=work, value=row["ratio"], limit=1.5))
        with bench.peer("so3krates-torch", "so3krates_torch.py") as peer:
            row = _checked(bench.row(job, peer, {"cutoff": LONG_RANGE}), job)
        rows.append({**row, "peer_name": "so3krates-torch"})
    return Result(rows, goals)


def _jax_facts(bench: Workbench, atoms: Atoms) -> dict[str, Any]:
    return {
        "params_file": str(bench.scratch / "so3lr.npz"),
        "short": listed_pairs(atoms, SHORT_RANGE + LIST_SKIN),
        "long": listed_pairs(atoms, LONG_RANGE + LIST_SKIN),
        "cutoff": LONG_RANGE,
        "free_atoms": {"alpha": POLARIZABILITIES, "c6": C6_COEFFICIENTS},
    }


def _checked(row: Row, job: Job) -> Row:
    """Return the row without the peer's forces, but with how far ours are from them.

    Raises:
        RuntimeError: they are so far apart that the weights cannot be the same.
    """
    if "peer" not in row:
        return row
    calculator = MolPoolCalculator(
        job.potential, device="cpu", dtype=job.dtype, compile=job.compile
    )
    atoms = job.atoms.copy()
    atoms.calc = calculator
    theirs = np.array(row["peer"].pop("forces"))
    difference = float(np.abs(atoms.get_forces() - theirs).max())
    if difference > SAME_FORCES:
        raise RuntimeError(f"{job.system}: forces differ by {difference:.1g} eV/Å")
    return {**row, "largest_force_difference": difference}


def dimenet(bench: Workbench) -> Result:
    """DimeNet++ with the same random weights, against PyG."""
    rows, goals, file = [], [], bench.scratch / "dimenet.pt"
    facts = {"weights_file": str(file), "cutoff": 5.0}
    systems = {"ethanol": bench_system("ethanol"), "aspirin": aspirin()}
    with bench.peer("pyg", "pyg.py") as peer:
        given = Job(system="", atoms=systems["ethanol"], potential="")
        peer.prepare({**peer_job(given, 1), **facts})  # writes its weights
        potential = potential_from_pyg(
            torch.load(file, weights_only=True), unit="eV", name="dimenet++", cutoff=5.0
        )
        for name, atoms in systems.items():
            job = Job(
                system=name,
                atoms=atoms,
                potential=potential,
                what="forces",
                threads=1,
                compile=bench.compile,
            )
            row = _checked(bench.row(job, peer, facts), job)
            rows.append(row)
            work = f"DimeNet++ vs PyG, same weights, energy + forces, {name}"
            goals.append(Goal(work=work, value=row["ratio"], limit=2))
    return Result(rows, goals)


def xtb(bench: Workbench) -> Result:
    """One ASE Langevin step of ethanol against GFN2-xTB by tblite."""
    job = Job(
        system="ethanol",
        atoms=bench_system("ethanol"),
        potential=bench.published("painn") if bench.checkpoints else "painn-ethanol",
        threads=1,
        compile=bench.compile,
    )
    with bench.peer("tblite", "tblite.py") as peer:
        return Result([bench.row(job, peer)])
