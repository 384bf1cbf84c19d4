"""One row of the speed table: MolPool's time, the peer's, and the floor of both."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from ase import Atoms

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.bench.floor import Rates, Work, measure_rates, weight_bytes, work_of
from molpool_calc.bench.memory import peak_mib
from molpool_calc.bench.peer import Peer, PeerFailure
from molpool_calc.bench.steps import (
    FRICTION_PER_FS,
    N_PLACES,
    TEMPERATURE,
    TIMESTEP_FS,
    batch_calls,
    force_calls,
    langevin_steps,
    moved,
)
from molpool_calc.bench.timing import (
    Clock,
    Steps,
    Times,
    alternate,
    clock,
    thread_count,
)
from molpool_calc.calculator import MolPoolCalculator, Source
from molpool_calc.compilation.engine import Compile, prepare
from molpool_calc.neighbors import neighbor_list

WHAT = {
    "langevin": "ASE Langevin step",
    "forces": "energy and forces",
    "batch": "energy and forces of {batch} at once, per structure",
}
"""What is timed, as the table says it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is to be timed.

    Args:
        system: its name in the table.
        atoms: the structure.
        potential: as ``MolPoolCalculator`` takes it.
        what: a key of ``WHAT``.
        batch: structures at once, for ``"batch"``.
        device: as the calculator takes it.
        dtype: of the network.
        threads: of torch; ``None`` for all that it uses by default.
        compile: as the calculator takes it.
    """

    system: str
    atoms: Atoms
    potential: Source
    what: str = "langevin"
    batch: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    threads: int | None = None
    compile: Compile = "now"


@dataclass(frozen=True, slots=True)
class Bench:
    """Makes rows; the rates of the machine are measured once for each kind of row.

    Args:
        seconds: to measure each row, the peer's part included.
        note: told what takes long.
    """

    seconds: float
    note: Callable[[str], None] = lambda _: None
    _rates: dict[tuple[str, str, int], Rates] = field(default_factory=dict)

    def row(
        self,
        job: Job,
        peer: Peer | None = None,
        progress: Callable[[float], None] = lambda _: None,
        peer_facts: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return one row.

        Args:
            job: what is timed.
            peer: a worker that times the same, if any; where it fails, the row says
                why in ``peer_failure``.
            progress: called with the fraction done.
            peer_facts: more for the peer's job: its model and unit.

        Raises:
            ValueError: a structure or option that the potential does not take.
        """
        with thread_count(job.threads) as n_threads:
            calculator = MolPoolCalculator(
                job.potential, device=job.device, dtype=job.dtype, compile=job.compile
            )
            steps, first = self._first_call(job, calculator)
            own, facts = clock(steps), dict[str, Any]()
            try:
                clocks: dict[str, Clock] = {"own": own}
                if peer is not None:
                    asked = {**peer_job(job, n_threads), **(peer_facts or {})}
                    facts = {"peer": peer.prepare(asked)}
                    clocks["peer"] = peer.seconds
                found = alternate(clocks, self.seconds, progress, multiple=job.batch)
            except PeerFailure as failure:  # a row without it is worth something too
                facts = {"peer_failure": str(failure)}
                clocks = {"own": own}
                found = alternate(clocks, self.seconds, progress, multiple=job.batch)
            device = calculator.evaluator.device
            peak = peak_mib(lambda: steps(job.batch), device)
            return {
                **described(job, calculator, n_threads),
                **compared(found),
                **self._floor(job, calculator, n_threads, found["own"]),
                "peak_memory_mib": peak,
                **first,
                **facts,
            }

    def _first_call(
        self, job: Job, calculator: MolPoolCalculator
    ) -> tuple[Steps, dict[str, Any]]:
        """Return the steps after the first one, and the seconds that took.

        ``first_call`` is ``cold`` if code was compiled for it.
        """
        built: list[bool] = []

        def waiting() -> None:
            built.append(True)
            self.note(f"compiling for {job.system} ({job.dtype}), about a minute")

        evaluator = calculator.evaluator
        wanted = {"energy", "forces"} & set(evaluator.properties)
        periodic = bool(job.atoms.pbc.any())
        wanted |= {"stress"} if periodic and evaluator.has_stress else set()
        start = time.perf_counter()
        calculator.evaluator.check(job.atoms, calculator.charge_and_spin(job.atoms))
        runs = prepare(
            evaluator.engines[0],
            frozenset(wanted),
            periodic=periodic,
            n_atoms=len(job.atoms),
            waiting=waiting,
        )
        steps = steps_of(job, calculator)
        steps(1)
        return steps, {
            "first_call_s": time.perf_counter() - start,
            "first_call": "cold" if built else "cached",
            "engine": runs,
        }

    def _floor(
        self, job: Job, calculator: MolPoolCalculator, n_threads: int, own: Times
    ) -> dict[str, Any]:
        evaluator = calculator.evaluator
        device, dtype = evaluator.device, evaluator.dtype
        key = (str(device), job.dtype, n_threads)
        if key not in self._rates:
            self._rates[key] = measure_rates(device, dtype)
        rates, work = self._rates[key], self._work(job, calculator)
        floor = rates.floor_ms(work)
        return {
            "floor_ms": floor,
            "fraction_of_floor": floor / own.median,
            "flop": work.flop,
            "bytes": work.bytes,
            "flop_per_s": rates.flop_per_s,
            "bytes_per_s": rates.bytes_per_s,
        }

    def _work(self, job: Job, calculator: MolPoolCalculator) -> Work:
        """Return the work of a step; of a batch, weights are shared by its members."""
        potential = calculator.evaluator.potential
        batch = batch_from_atoms(
            [job.atoms], dtype=potential.dtype, device=torch.device("cpu")
        )
        work = work_of(potential, batch)
        shared = weight_bytes(potential) * (1 - 1 / job.batch)
        return Work(flop=work.flop, bytes=work.bytes - shared)


def steps_of(job: Job, calculator: MolPoolCalculator) -> Steps:
    """Return the steps that are timed.

    Raises:
        ValueError: the job asks for something else than ``WHAT``.
    """
    if job.what == "langevin":
        return langevin_steps(job.atoms, calculator)
    if job.what == "forces":
        return force_calls(job.atoms, calculator)
    if job.what == "batch":
        return batch_calls(job.atoms, calculator, job.batch)
    raise ValueError(f"{job.what!r} cannot be timed; give one of {', '.join(WHAT)}")


def peer_job(job: Job, n_threads: int) -> dict[str, Any]:
    """Return a job as its peer's process gets it."""
    places = itertools.islice(moved(job.atoms), N_PLACES)
    return {
        "what": job.what,
        "batch": job.batch,
        "numbers": job.atoms.numbers.tolist(),
        "positions": job.atoms.positions.tolist(),
        "places": [place.tolist() for place in places],
        "cell": job.atoms.cell.tolist(),
        "pbc": job.atoms.pbc.tolist(),
        "timestep_fs": TIMESTEP_FS,
        "temperature": TEMPERATURE,
        "friction_per_fs": FRICTION_PER_FS,
        "dtype": job.dtype,
        "threads": n_threads,
        "device": job.device,
        "unit": "eV",
    }


def described(
    job: Job, calculator: MolPoolCalculator, n_threads: int
) -> dict[str, Any]:
    """Return what a row is about."""
    evaluator = calculator.evaluator
    batch = batch_from_atoms(
        [job.atoms], dtype=torch.float64, device=torch.device("cpu")
    )
    pairs = neighbor_list(batch, evaluator.potential.network.cutoff)
    return {
        "system": job.system,
        "n_atoms": len(job.atoms),
        "n_pairs": int(pairs.center.shape[0]),
        "network": evaluator.potential.spec.network["kind"],
        "potential": evaluator.potential.spec.name,
        "what": WHAT[job.what].format(batch=job.batch),
        "batch": job.batch,
        "device": str(evaluator.device),
        "dtype": job.dtype,
        "threads": n_threads,
    }


def compared(found: Mapping[str, Times]) -> dict[str, Any]:
    """Return medians and fastest blocks, and their ratios where there is a peer."""
    own, peer = found["own"], found.get("peer")
    return {
        "ms_per_step": own.median,
        "peer_ms_per_step": peer.median if peer else None,
        "ratio": peer.median / own.median if peer else None,
        "fastest_ms_per_step": own.fastest,
        "peer_fastest_ms_per_step": peer.fastest if peer else None,
        "ratio_of_fastest": peer.fastest / own.fastest if peer else None,
        "n_blocks": len(own.blocks),
    }
