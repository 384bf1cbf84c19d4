"""Time and memory of infrared spectra of long runs, at once and block by block.

python benchmarks/spectra.py [--samples 1000000] [--replicas 16]

The series are noise, whose spectrum costs what any other does. Memory is the growth of
the resident size; all samples at once are held by the caller before it is measured.
"""

import argparse
import resource
import time

import numpy as np

from molpool_calc.spectra import Estimator, infrared_spectrum
from molpool_calc.spectra.streaming import StreamingDensity

TIMESTEP_FS = 0.5
BLOCK = 10_000


def peak_mb() -> float:
    """Return the largest resident memory so far in MiB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def streamed(n_samples: int, n_replicas: int) -> tuple[float, list[float]]:
    """Return seconds, and the peak memory at every tenth of the run."""
    density = StreamingDensity(
        Estimator(),
        TIMESTEP_FS,
        n_replicas=n_replicas,
        n_components=3,
        differentiate=True,
        n_samples=n_samples,
    )
    rng = np.random.default_rng(1)
    seconds, peaks = 0.0, []
    for block in range(n_samples // BLOCK):
        samples = rng.normal(size=(n_replicas, BLOCK, 3))
        start = time.perf_counter()
        density.add(samples)
        seconds += time.perf_counter() - start
        if block % (n_samples // BLOCK // 10) == 0:
            peaks.append(peak_mb())
    start = time.perf_counter()
    density.density()
    return seconds + time.perf_counter() - start, peaks


def at_once(n_samples: int, n_replicas: int) -> tuple[float, float]:
    """Return seconds, and MiB beyond the samples themselves."""
    rng = np.random.default_rng(1)
    dipoles = rng.normal(size=(n_replicas, n_samples, 3))
    before, start = peak_mb(), time.perf_counter()
    infrared_spectrum(dipoles, timestep_fs=TIMESTEP_FS, temperature=300.0)
    return time.perf_counter() - start, peak_mb() - before


def main() -> None:
    """Print both, the one of constant memory first, since peaks only grow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--replicas", type=int, default=16)
    arguments = parser.parse_args()
    size = (arguments.samples, arguments.replicas)
    seconds, peaks = streamed(*size)
    shown = ", ".join(f"{peak:.0f}" for peak in peaks)
    print(f"block by block: {seconds:.1f} s; peak memory along the run {shown} MiB")
    seconds, growth = at_once(*size)
    print(f"at once: {seconds:.1f} s and {growth:.0f} MiB beside the samples")


if __name__ == "__main__":
    main()
