"""The file ``run.json`` of a run: what was asked for, and how it ended.

Its keys: ``format``; ``status`` (``running`` also stands for killed); ``reason``;
``n_steps``; ``steps_done``; ``stopped``, the replicas that the guard has stopped so
far, see `stops.Stop`; ``inputs`` and everything else that the caller gave;
``dynamics``, what the run itself knows; and, once it has ended,
``drift_mev_per_atom_per_ps`` and ``mean_temperature`` for each replica and
``seconds``. A run may be resumed with the same ``inputs`` and ``dynamics`` only.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from molpool_calc.md.checks import observables_of
from molpool_calc.md.guard import NO_LIMITS, Limits
from molpool_calc.md.integrators import Integrator
from molpool_calc.md.records import write_atomically
from molpool_calc.md.run_files import MANIFEST
from molpool_calc.md.state import MDState, MDSystem

FORMAT = 1

Manifest = dict[str, Any]

_NEEDED = {
    "status": str,
    "inputs": dict,
    "dynamics": dict,
    "n_steps": int,
}
_NEEDED_TO_READ = (
    *("timestep_fs", "ensemble", "n_replicas", "observables"),
    *("atomic_numbers", "masses", "degrees_of_freedom", "cell", "pbc"),
)
"""Keys of ``dynamics`` without which records say nothing."""


def check_output(folder: Path, *, resume: bool, force: bool) -> None:
    """Refuse to write a run to a folder that has no place for it; changes nothing.

    Args:
        folder: Where a run is to be written.
        resume: A run must be there, and will go on.
        force: A run that is there will be replaced, once the new one is known to
            begin, see `run_files.remove_run`.

    Raises:
        ValueError: If the folder is in use without ``resume`` or ``force``, if there
            is nothing to resume, or if both are asked for.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"{folder} is a file, but a run needs a folder; choose another"
        )
    check_run(folder, resume=resume, force=force)
    holds_run = (folder / MANIFEST).exists()
    if not holds_run and folder.exists() and _in_use(folder):
        raise _occupied(folder, "other files")


def check_run(folder: Path, *, resume: bool, force: bool) -> None:
    """Refuse a folder that holds a run, or one without where a run is to go on.

    Other files may be there.

    Raises:
        ValueError: If it is so, or if both ``resume`` and ``force`` are asked for.
    """
    if resume and force:
        raise ValueError(
            "both resume and force were given, but a run either goes on or is "
            "replaced; choose one"
        )
    holds_run = (folder / MANIFEST).exists()
    if resume and not holds_run:
        raise ValueError(
            f"{folder} holds no run to resume (no {MANIFEST}); give the folder of a "
            "run, or start one without resume"
        )
    if holds_run and not (resume or force):
        raise _occupied(folder, "a run")


def describe_run(
    system: MDSystem,
    state: MDState,
    integrator: Integrator,
    *,
    every: int,
    n_steps: int,
    header: Mapping[str, Any],
    guard: Limits = NO_LIMITS,
) -> Manifest:
    """Return the manifest of a run that begins, in values that JSON returns alike.

    Raises:
        ValueError: If ``header`` has no ``inputs``, or if the systems are not
            replicas of one system.
    """
    if not isinstance(header.get("inputs"), Mapping):
        raise ValueError(
            f"the header has the keys {sorted(header)}, but needs a mapping 'inputs' "
            "with all that must stay the same when the run is resumed"
        )
    n_replicas, n_atoms = system.systems.n_segments, system.systems.max_size
    numbers, masses = system.atomic_numbers.tolist(), system.masses.tolist()
    first = (numbers[:n_atoms] * n_replicas, masses[:n_atoms] * n_replicas)
    if (numbers, masses) != first:
        raise ValueError(
            f"{n_replicas} systems of up to {n_atoms} atoms were given, but a run "
            "takes replicas of one system; run different systems one by one"
        )
    dynamics = {
        **integrator.describe(),
        "every": every,
        "n_replicas": n_replicas,
        "observables": observables_of(system, state),
        "atomic_numbers": numbers[:n_atoms],
        "masses": masses[:n_atoms],
        "free": system.free,
        "guard": asdict(guard),
        "degrees_of_freedom": system.degrees_of_freedom.tolist(),
        "cell": None if system.cell is None else system.cell.tolist(),
        "pbc": None if system.pbc is None else system.pbc.tolist(),
    }
    begun = {"format": FORMAT, "status": "running", "reason": None, "steps_done": 0}
    begun["stopped"] = []
    manifest = {**header, **begun, "n_steps": n_steps, "dynamics": dynamics}
    copy: Manifest = json.loads(json.dumps(manifest, allow_nan=False))
    return copy


def require_same_inputs(folder: Path, old: Manifest, new: Manifest) -> None:
    """Raise ValueError naming the first input in which two manifests differ.

    The number of steps, ``n_steps``, may differ.
    """
    for group in ("inputs", "dynamics"):
        before, now = old[group], new[group]
        for key in sorted((before.keys() | now.keys()) - {"n_steps"}, key=_cause):
            was, given = before.get(key, "absent"), now.get(key, "absent")
            # what a version did not know yet is as if it had not been given
            unknown = was in (None, "absent") and given in (None, "absent")
            if was != given and not unknown:
                raise ValueError(
                    f"the run in {folder} cannot be resumed with another {key}: it "
                    f"was {was!r} and is now {given!r}; give the same inputs, or "
                    "start a new run in another folder"
                )


def _cause(key: str) -> tuple[bool, str]:
    """Return what sorts the potential before all that differs because of it."""
    return key != "potential", key


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the run in a folder.

    Raises:
        ValueError: If the folder holds no run, or one of another format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no run (no {MANIFEST}); give the folder that a run of "
            "molecular dynamics wrote"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); restore it") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"{path} has the format {found!r}, but this version reads {FORMAT}; read "
            "the run with the version that wrote it"
        )
    for key, kind in _NEEDED.items():
        if not isinstance(manifest.get(key), kind):
            raise ValueError(
                f"{path} has no {key}, so it is not as a run wrote it; restore it"
            )
    checked: Manifest = manifest
    return checked


def require_dynamics(folder: Path, manifest: Manifest) -> None:
    """Raise ValueError unless a manifest says what its records hold."""
    for key in _NEEDED_TO_READ:
        if key not in manifest["dynamics"]:
            raise ValueError(
                f"{folder / MANIFEST} has no dynamics.{key}, so it is not as a run "
                "wrote it; restore it"
            )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest atomically."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / MANIFEST, (text + "\n").encode())


def _occupied(folder: Path, content: str) -> ValueError:
    return ValueError(
        f"{folder} already holds {content}; choose an empty or new folder, or "
        "for a run, continue it with resume or replace it with force"
    )


def _in_use(folder: Path) -> bool:
    """Whether there is anything but what a run killed at its very start left."""
    return any(path.name != MANIFEST + ".tmp" for path in folder.iterdir())
