"""``molpool bench``: this machine's speed table, with the floor and a peer."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molpool_calc.commands.console import Console
from molpool_calc.commands.options import (
    POTENTIAL_HELP,
    add_device,
    positive_float,
    positive_int,
)
from molpool_calc.commands.tables import significant, table

if TYPE_CHECKING:
    from molpool_calc.bench.peer import Peer
    from molpool_calc.bench.row import Job

NAME = "bench"
HELP = "time steps on this machine, beside a peer and the least time they could take"
SYSTEMS = ["ethanol"]
PEERS = ("schnetpack",)
FALLBACK = "painn-ethanol"
DYNAMICS_UP_TO = 100
"""Atoms; larger structures are timed without integrating their motion."""
TICKS = 100


def add_arguments(parser: ArgumentParser) -> None:
    """Add what to time, and beside what."""
    parser.epilog = (
        "example: molpool bench --system ethanol water-64\n\n"
        "A peer runs in a process of its own, which may have another interpreter:\n"
        "molpool bench --peer schnetpack --peer-python spk/bin/python"
    )
    parser.add_argument(
        "--system",
        nargs="+",
        default=SYSTEMS,
        metavar="SYSTEM",
        help="bundled molecules, structure files, or boxes of water as in water-64 "
        "(default: ethanol)",
    )
    parser.add_argument(
        "-p",
        "--potential",
        metavar="POTENTIAL",
        help=f"{POTENTIAL_HELP}; by default the one made for a bundled molecule, else "
        f"{FALLBACK}, whose forces on water mean nothing but take as long",
    )
    parser.add_argument(
        "--peer",
        help=f"what to measure beside it: {', '.join(PEERS)}, with a network of the "
        "same size",
    )
    parser.add_argument(
        "--peer-python",
        type=Path,
        metavar="PYTHON",
        help="interpreter that has the peer installed (default: this one)",
    )
    _add_measure(parser)
    add_device(parser)


def _add_measure(parser: ArgumentParser) -> None:
    """Add how it is measured."""
    parser.add_argument(
        "--threads",
        nargs="+",
        type=positive_int,
        metavar="N",
        help="numbers of threads (default: 1, and all of the machine)",
    )
    parser.add_argument(
        "--dtype",
        nargs="+",
        choices=("float32", "float64"),
        default=["float32"],
        help="precisions of the network (default: float32)",
    )
    parser.add_argument(
        "--batch",
        nargs="+",
        type=positive_int,
        default=[],
        metavar="N",
        help="also time N copies of each system computed at once",
    )
    parser.add_argument(
        "--seconds",
        type=positive_float,
        default=4.0,
        help="to measure each row (default: 4)",
    )
    parser.add_argument(
        "--compile",
        choices=("now", "cached", "never"),
        default="now",
        help="code compiled for this machine: now builds what is missing, a minute for "
        "each network, precision and kind of system (default: now)",
    )


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Measure all rows, and return them with machine and versions."""
    from molpool_calc.bench.machine import machine, versions  # noqa: PLC0415
    from molpool_calc.bench.row import Bench  # noqa: PLC0415 - light start

    jobs = list(_jobs(arguments))
    found: dict[str, Any] = {"machine": machine(), "versions": versions()}
    bench = Bench(arguments.seconds, console.note)
    rows = []
    with ExitStack() as stack:
        peer = _peer(arguments, stack)
        for job in jobs:
            title = f"{job.system}, {job.dtype}, {job.threads} threads"
            with console.progress(TICKS, title, "%") as bar:

                def advance(fraction: float) -> None:
                    bar.update(round(TICKS * fraction) - bar.n)

                rows.append(bench.row(job, peer, advance, _peer_facts(job, peer)))
    found["load_at_end"] = machine()["load"]
    return {**found, "peer": arguments.peer, "rows": rows}


def summary(result: Mapping[str, Any]) -> str:
    """Return the table, and a line on machine and versions."""
    header = ["system", "network", "what", "dtype", "threads", "ms per\nstep"]
    header += ["peer's\nms", "ratio", "floor\nms", "fraction\nof floor", "peak\nMiB"]
    rows = [
        [
            row["system"],
            row["network"],
            row["what"],
            row["dtype"],
            str(row["threads"]),
            *(
                "–" if row[key] is None else significant(row[key])
                for key in (
                    *("ms_per_step", "peer_ms_per_step", "ratio", "floor_ms"),
                    *("fraction_of_floor", "peak_memory_mib"),
                )
            ),
        ]
        for row in result["rows"]
    ]
    failures = {r["peer_failure"] for r in result["rows"] if "peer_failure" in r}
    firsts = sorted({(r["engine"], r["first_call"]) for r in result["rows"]})
    machine = result["machine"]
    return "\n".join(
        [
            table(header, rows, n_left=4),
            "",
            *(f"The peer failed: {failure}" for failure in sorted(failures)),
            f"{machine['processor']}, {machine['cores']} cores, load "
            f"{machine['load']}; code {', '.join(' '.join(f) for f in firsts)}; "
            + ", ".join(f"{k} {v}" for k, v in result["versions"].items()),
        ]
    )


def _jobs(arguments: Namespace) -> "Iterator[Job]":
    """Yield what is to be timed; all structures are read before anything is."""
    import os  # noqa: PLC0415

    from molpool_calc.bench.row import Job  # noqa: PLC0415 - light start
    from molpool_calc.bench.systems import bench_system  # noqa: PLC0415
    from molpool_calc.engine import resolve_device  # noqa: PLC0415
    from molpool_calc.molecules import default_potential  # noqa: PLC0415

    device = str(resolve_device(arguments.device))
    everything = sorted({1, os.cpu_count() or 1}) if device == "cpu" else [1]
    systems = {name: bench_system(name) for name in arguments.system}
    for name, atoms in systems.items():
        potential = arguments.potential or default_potential(name) or FALLBACK
        alone = "langevin" if len(atoms) <= DYNAMICS_UP_TO else "forces"
        for dtype in arguments.dtype:
            for threads in arguments.threads or everything:
                for batch in [0, *arguments.batch]:
                    yield Job(
                        system=name,
                        atoms=atoms,
                        potential=potential,
                        what="batch" if batch else alone,
                        batch=batch or 1,
                        device=device,
                        dtype=dtype,
                        threads=threads,
                        compile=arguments.compile,
                    )


def _peer(arguments: Namespace, stack: ExitStack) -> "Peer | None":
    """Return the peer asked for, its process started.

    Raises:
        ValueError: there is no such peer.
        ImportError: it is not installed where it is looked for.
    """
    if arguments.peer is None:
        if arguments.peer_python is not None:
            raise ValueError("--peer-python was given without a --peer; add one")
        return None
    if arguments.peer not in PEERS:
        raise ValueError(
            f"there is no peer {arguments.peer!r}; give one of {', '.join(PEERS)}"
        )
    from molpool_calc.bench.peer import (  # noqa: PLC0415 - light start
        SCHNETPACK,
        Peer,
        PeerFailure,
    )

    try:
        peer = stack.enter_context(Peer(SCHNETPACK, arguments.peer_python))
        peer.seconds(0)
    except PeerFailure as failure:
        raise ImportError(
            f"SchNetPack cannot be run ({failure}); install it into an environment of "
            "its own (benchmarks/make_peers.sh does) and name its interpreter with "
            "--peer-python"
        ) from failure
    return peer


def _peer_facts(job: "Job", peer: "Peer | None") -> Mapping[str, Any]:
    """Return the size of the network for a peer that has the same.

    Raises:
        ValueError: it has no such network.
    """
    if peer is None:
        return {}
    from molpool_calc.storage import find_folder, read_json  # noqa: PLC0415

    network = read_json(find_folder(str(job.potential)))["network"]
    if network["kind"] not in {"painn", "schnet"}:
        raise ValueError(
            f"SchNetPack has no {network['kind']}, the network of {job.potential}; "
            "give a potential whose network is painn or schnet"
        )
    keys = ("kind", "n_features", "n_interactions", "n_rbf", "cutoff")
    return {"network": {key: network[key] for key in keys}}
