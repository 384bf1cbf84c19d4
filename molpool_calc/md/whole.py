"""The part of a run in which every replica is good."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from molpool_calc.md.trajectory import RunData

# Arrays without an axis of replicas.
_COMMON = ("times_fs", "frame_steps", "atomic_numbers", "masses")
_CONSTANT = ("degrees_of_freedom", "cell", "pbc", "good_steps")
_BY_FRAME = ("positions", "velocities", "cells")


def whole_replicas(run: RunData) -> RunData:
    """Return the replicas that ran to the end; if none did, what all have in common.

    Of a run whose replicas were all stopped, every replica is kept up to the first
    stop, since to keep the longest ones would favour the rare.
    """
    n_steps = len(run.times_fs)
    complete = run.good_steps == n_steps
    if complete.all():
        return run
    if run.status == "stopped" or not complete.any():
        return _cut(run, np.arange(len(complete)), int(run.good_steps.min()))
    return _cut(run, np.flatnonzero(complete), n_steps)


def _cut(run: RunData, replicas: Int[np.ndarray, " kept"], n_steps: int) -> RunData:
    """Return some replicas of a run, up to a number of steps."""
    n_frames = int((run.frame_steps < n_steps).sum())

    def cut(name: str, value: Any) -> Any:
        if name == "times_fs":
            return value[:n_steps]
        if name == "frame_steps":
            return value[:n_frames]
        if isinstance(value, Mapping) and name == "others":
            return {key: cut(key, array) for key, array in value.items()}
        if name in _COMMON or not isinstance(value, np.ndarray):
            return value
        if name in _CONSTANT:
            return value[replicas]
        length = n_frames if name in _BY_FRAME else n_steps
        return np.ascontiguousarray(value[replicas, :length])

    changed = {
        field.name: cut(field.name, getattr(run, field.name)) for field in fields(run)
    }
    changed["good_steps"] = np.minimum(changed["good_steps"], n_steps)
    return replace(run, **changed)
