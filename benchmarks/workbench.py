"""What every row of the speed table needs: peers, checkpoints, one way to measure.

``Workbench`` starts peers with the interpreters that ``make_peers.sh`` made and raises
``CannotRun`` where something is not at hand, which the table then says.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.bench.peer import Peer
from molpool_calc.bench.row import Bench, Job
from molpool_calc.bench.systems import bench_system
from molpool_calc.importers import import_schnetpack, import_so3lr
from molpool_calc.neighbors import neighbor_list
from molpool_calc.potential import NeuralPotential

HERE = Path(__file__).parent
WORKERS = HERE / "peers"
UNIT = "kcal/mol"
CHECKPOINTS = {
    "painn": "schnetpack_painn_rmd17_ethanol_1.best_model",
    "schnet": "schnetpack_schnet_rmd17_ethanol_hist_a.best_model",
    "aspirin": "schnetpack_painn_md17_aspirin_lammps.best_model",
    "so3lr": "so3lr_params.pkl",
}
"""Names of the files as published, with what they hold before them."""
LONG_RANGE = 12.0
"""Å, of SO3LR's electrostatics and dispersion, as its own calculator has it."""
ELEMENTS = ("H", "C", "O")

Row = dict[str, Any]


class CannotRun(Exception):
    """Something that a row needs is not here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A line of the table of targets.

    Args:
        work: what is measured.
        value: measured, ``None`` where it was not.
        limit: the target.
        unit: of both; ``×`` for a ratio.
        at_least: whether more is better.
        reason: why there is no value.
    """

    work: str
    value: float | None
    limit: float | None
    unit: str = "×"
    at_least: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """Rows, and the lines of the table of targets that they fill."""

    rows: list[Row]
    goals: list[Goal] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workbench:
    """Where things are, and how long to measure.

    Args:
        peers: folder of ``make_peers.sh``.
        checkpoints: folder that holds the published files, or one that has it inside.
        scratch: folder for what is passed between processes.
        cores: of the machine.
        quick: fewer rows, less time, nothing compiled anew.
    """

    peers: Path
    checkpoints: Path | None
    scratch: Path
    cores: int
    quick: bool
    bench: Bench

    @property
    def compile(self) -> str:
        """How MolPool's code is compiled."""
        return "cached" if self.quick else "now"

    @contextmanager
    def peer(self, environment: str, worker: str) -> Iterator[Peer]:
        """Give a worker in the process of a peer's interpreter."""
        with Peer(WORKERS / worker, self.python(environment)) as peer:
            yield peer

    def python(self, environment: str) -> Path:
        """Return a peer's interpreter."""
        found = self.peers / environment / "bin" / "python"
        if not found.is_file():
            raise CannotRun(
                f"{environment} is not installed: sh benchmarks/make_peers.sh "
                f"{self.peers} {environment}"
            )
        return found.absolute()

    def checkpoint(self, what: str) -> Path:
        """Return a published file."""
        name = CHECKPOINTS[what]
        if self.checkpoints is None:
            raise CannotRun(f"needs the published {name}: --checkpoints FOLDER")
        for folder in (self.checkpoints, self.checkpoints / "raw"):
            if (folder / name).is_file():
                return folder / name
        raise CannotRun(f"there is no {name} in the folder of --checkpoints")

    def published(self, what: str) -> NeuralPotential:
        """Return MolPool's potential of a published file."""
        if what == "so3lr":
            file = self.checkpoint(what)
            return import_so3lr(file, long_range_cutoff=LONG_RANGE)
        return import_schnetpack(self.checkpoint(what), unit=UNIT, elements=ELEMENTS)

    def beside_schnetpack(self, what: str, job: Job) -> Row:
        """Return a row beside SchNetPack's calculator with the same weights."""
        with self.peer("schnetpack", "schnetpack.py") as peer:
            facts = {"model_file": str(self.checkpoint(what)), "unit": UNIT}
            return self.row(job, peer, facts)

    def row(
        self, job: Job, peer: Peer | None = None, facts: Mapping[str, Any] | None = None
    ) -> Row:
        """Return one row."""
        return self.bench.row(job, peer, peer_facts=facts)


def aspirin() -> Atoms:
    """Return aspirin at the geometry of ``aspirin.xyz`` beside this file."""
    import ase.io  # noqa: PLC0415

    return ase.io.read(HERE / "aspirin.xyz")


def fit_exponent(n_atoms: list[int], milliseconds: list[float]) -> float:
    """Return p of time ∝ atomsᵖ, by least squares of the logarithms."""
    x = [math.log(n) for n in n_atoms]
    y = [math.log(t) for t in milliseconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def listed_pairs(atoms: Atoms, cutoff: float) -> dict[str, Any]:
    """Return all pairs within a cutoff, both directions, as lists for JSON."""
    batch = batch_from_atoms([atoms], dtype=torch.float64, device=torch.device("cpu"))
    pairs = neighbor_list(batch, cutoff)
    shift = pairs.shift
    if shift is None:
        shift = torch.zeros(len(pairs.center), 3)
    return {
        "center": pairs.center.tolist(),
        "neighbor": pairs.neighbor.tolist(),
        "shift": shift.tolist(),
    }


def water_job(bench: Workbench, n_molecules: int) -> Job:
    """Return energy and forces of a box of water."""
    # weights of ethanol: the forces on water mean nothing, but take as long
    name = f"water-{n_molecules}"
    return Job(
        system=name,
        atoms=bench_system(name),
        potential=bench.published("painn"),
        what="forces",
        threads=1,
        compile=bench.compile,
    )
