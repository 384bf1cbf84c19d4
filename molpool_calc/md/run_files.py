"""Which files of a folder belong to a run, and go with it when it is replaced."""

import shutil
from pathlib import Path

from molpool_calc.md.checkpoint import CHECKPOINT
from molpool_calc.md.records import FRAMES, STEPS

MANIFEST = "run.json"
TRAJECTORY = "trajectory.h5"
LAST_FRAMES = "stopped_replica_{replica}.extxyz"
RINGS = "quantum"
"""Folder of the ring polymers that started from the structure of the run."""

DERIVED = (
    *("spectrum.csv", "spectrum_ir.csv", "spectrum_raman.csv", "spectrum_vdos.csv"),
    *("spectrum.png", "spectrum_ir.png", "spectrum_raman.png", "spectrum_vdos.png"),
    *("spectrum_ir_quantum.csv", "relaxed.xyz", "harmonic.json"),
    *("assignment.csv", "experiment.csv", "experiment_curve.csv", "report.html"),
)
"""What the layers above derive from a run; beside another one they would lie."""

# Of the writers that put a file in its place once it is whole.
_UNFINISHED = (".tmp", ".part")


def remove_run(folder: Path) -> None:
    """Remove the run in a folder, and all that is derived from it; other files stay.

    The manifest goes last: until then it is still a run, which may be replaced. A
    folder without one is left alone.
    """
    if not (folder / MANIFEST).exists():
        return
    if (folder / RINGS).is_dir():
        shutil.rmtree(folder / RINGS)
    for path in folder.glob(LAST_FRAMES.format(replica="*")):
        path.unlink()
    for name in (*DERIVED, CHECKPOINT, TRAJECTORY, STEPS, FRAMES, MANIFEST):
        for suffix in (*_UNFINISHED, ""):
            (folder / (name + suffix)).unlink(missing_ok=True)
