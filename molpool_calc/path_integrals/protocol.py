"""What the program that steps i-PI and the one that starts it agree on."""

import re
from pathlib import Path

PROGRESS, FAILED = "molpool-steps", "molpool-failed"
"""First words of the lines that the child means for its parent."""

_STEP = re.compile(r"<step>\s*(\d+)\s*</step>")


def checkpoint_of(folder: Path, stage: str) -> Path:
    """Return where a stage leaves the state from which it goes on."""
    return folder / f"{stage}.restart"


def steps_in(folder: Path, stage: str) -> int:
    """Return the steps done at the checkpoint of a stage, 0 without one."""
    checkpoint = checkpoint_of(folder, stage)
    if not checkpoint.is_file():
        return 0
    found = _STEP.search(checkpoint.read_text(encoding="utf-8"))
    return int(found.group(1)) if found else 0
