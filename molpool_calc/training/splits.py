"""Train, validation and test parts of a data set."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from molpool_calc.training.dataset import Dataset
from molpool_calc.training.recipe import Split

N_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Parts:
    """Frame indices of the three parts; no frame is in two of them."""

    train: Int[np.ndarray, " train"]
    valid: Int[np.ndarray, " valid"]
    test: Int[np.ndarray, " test"]


def split_frames(split: Literal["file"] | Split, dataset: Dataset) -> Parts:
    """Return the parts the recipe asks for.

    Raises:
        ValueError: the file states no split, or has fewer frames than asked for.
    """
    if isinstance(split, Split):
        return _random_parts(split, len(dataset))
    if dataset.split is None:
        raise ValueError(
            "split = 'file' was given, but the data file states none; give counts, "
            "e.g. split = { train = 1000, valid = 100, seed = 0 }"
        )
    train, valid, test = (
        np.flatnonzero(dataset.split == name) for name in ("train", "valid", "test")
    )
    if not (len(train) and len(valid)):
        raise ValueError(
            "the file's split has no train or no valid frames; its names are "
            f"{', '.join(sorted(set(dataset.split.tolist())))}; give counts instead"
        )
    return Parts(train=train, valid=valid, test=test)


def _random_parts(split: Split, n_frames: int) -> Parts:
    needed = split.train + split.valid + (split.test or 0)
    if needed > n_frames:
        raise ValueError(
            f"the split asks for {needed} frames, the data has {n_frames}; ask for less"
        )
    order = np.random.default_rng(split.seed).permutation(n_frames)
    ends = (split.train, split.train + split.valid)
    last = n_frames if split.test is None else ends[1] + split.test
    return Parts(
        train=np.sort(order[: ends[0]]),
        valid=np.sort(order[ends[0] : ends[1]]),
        test=np.sort(order[ends[1] : last]),
    )


def some_frames(dataset: Dataset, parts: Parts) -> Dataset:
    """Return a few frames of the test part, or of the validation part without one."""
    part = parts.test if len(parts.test) else parts.valid
    chosen = np.linspace(0, len(part) - 1, min(len(part), N_EXAMPLES))
    return dataset.select(part[chosen.astype(int)])
