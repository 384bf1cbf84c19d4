"""Spectral densities in constant memory, from samples that come block by block.

What is kept does not depend on the length of a run: sums of products at a fixed
number of lags and two stretches of that many samples. The result equals that of
`estimator.spectral_density` from all samples at once, to rounding.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from scipy.fft import irfft, next_fast_len, rfft

from molpool_calc.spectra.correlation import central_difference, shortest_length_fs
from molpool_calc.spectra.estimator import (
    Estimator,
    SpectralDensity,
    UnitLayout,
    density_of_correlations,
    require_sampling,
    unit_layout,
)

# Samples transformed at once, in lags: with four, a fifth of the transform is overlap.
_CHUNK = 4


@dataclass(eq=False)
class StreamingCorrelation:
    """The autocorrelation of one series whose samples are added block by block.

    ``S_k = Σ_t x_t·x_{t-k}`` grows by overlap-save: each stretch of new samples is
    correlated with itself and the ``n_lags - 1`` samples before it. The mean ``m`` of
    all ``N`` samples, known at the end only, is then removed by

    ``Σ_t (x_t - m)·(x_{t-k} - m) = S_k - m·(2Σx - H_k - T_k) + (N - k)|m|²``

    with ``H_k`` and ``T_k`` the sums of the first and of the last ``k`` samples. All
    samples are counted from the first one, so that an offset costs no digits.

    Args:
        n_lags: Number of lags, the first of which is zero.
        n_components: Of each sample.
    """

    n_lags: int
    n_components: int
    n_samples: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        nothing = np.empty((0, self.n_components))
        self._origin = np.zeros(self.n_components)
        self._sums = np.zeros(self.n_lags)
        self._total = np.zeros(self.n_components)
        self._head = self._tail = nothing
        self._waiting: list[Float[np.ndarray, "samples components"]] = []
        self._n_waiting = 0

    def add(self, samples: Float[np.ndarray, "samples components"]) -> None:
        """Add the samples that follow those added before."""
        if len(samples) == 0:
            return
        if self.n_samples == 0:
            self._origin = np.array(samples[0], dtype=np.float64)
        self._waiting.append(samples - self._origin)
        self._n_waiting += len(samples)
        self.n_samples += len(samples)
        if self._n_waiting >= _CHUNK * self.n_lags:
            self._flush()

    def autocorrelation(
        self, n_lags: int, *, biased: bool
    ) -> Float[np.ndarray, " lags"]:
        """Return what `correlation.autocorrelation` does of all samples so far.

        Args:
            n_lags: At most as many as are kept, and as there are samples.
            biased: Divide by the number of samples instead of that of the products.

        Raises:
            ValueError: More lags were asked for.
        """
        most = min(self.n_lags, self.n_samples)
        if not 1 <= n_lags <= most:
            raise ValueError(
                f"{n_lags} lags were asked of {self.n_samples} samples added with "
                f"{self.n_lags} lags kept; ask for 1 to {most}"
            )
        self._flush()
        mean = self._total / self.n_samples
        none = np.zeros((1, self.n_components))
        first = np.concatenate([none, self._head.cumsum(axis=0)])[:n_lags]
        last = np.concatenate([none, self._tail[::-1].cumsum(axis=0)])[:n_lags]
        products = self.n_samples - np.arange(n_lags)
        sums = self._sums[:n_lags] - (2.0 * self._total - first - last) @ mean
        sums = sums + products * (mean @ mean)
        return np.asarray(sums / (self.n_samples if biased else products))

    def _flush(self) -> None:
        """Correlate the samples that wait, in stretches of bounded length."""
        if self._n_waiting == 0:
            return
        samples = np.concatenate(self._waiting)
        self._waiting, self._n_waiting = [], 0
        length = _CHUNK * self.n_lags
        for start in range(0, len(samples), length):
            self._correlate(samples[start : start + length])

    def _correlate(self, new: Float[np.ndarray, "samples components"]) -> None:
        n_before = len(self._tail)
        known = np.concatenate([self._tail, new])
        # The longest lag reaches back n_lags - 1: padding keeps it from coming round.
        n_padded = next_fast_len(len(known) + self.n_lags, real=True)
        late = known.copy()
        late[:n_before] = 0.0
        product = (
            rfft(late, n_padded, axis=0) * rfft(known, n_padded, axis=0).conj()
        ).sum(axis=1)
        self._sums += irfft(product, n_padded)[: self.n_lags]
        self._total += new.sum(axis=0)
        kept = self.n_lags - 1
        if len(self._head) < kept:
            self._head = np.concatenate([self._head, new[: kept - len(self._head)]])
        self._tail = known[max(len(known) - kept, 0) :].copy()


@dataclass(eq=False)
class StreamingDensity:
    """The spectral density of replicas whose samples are added block by block.

    Args:
        estimator: How to estimate.
        timestep_fs: Interval between samples.
        n_replicas: Each is a unit, if there are enough of them to show their spread.
        n_components: Of each sample.
        differentiate: Take the time derivative by central differences, and divide
            their response out of the spectrum.
        n_samples: That each replica will have, if known. Fewer than four replicas are
            then cut into blocks as after the run; without it, each is one unit.

    Raises:
        ValueError: The samples are too far apart, or known to be too few.

    Example:
        >>> import numpy as np
        >>> from molpool_calc.spectra.estimator import Estimator, spectral_density
        >>> series = np.random.default_rng(0).normal(size=(4, 9000, 3))
        >>> estimator = Estimator(resolution=20.0)
        >>> stream = StreamingDensity(
        ...     estimator, 0.5, n_replicas=4, n_components=3, differentiate=True
        ... )
        >>> for start in range(0, 9000, 500):
        ...     stream.add(series[:, start : start + 500])
        >>> whole = spectral_density(
        ...     series, timestep_fs=0.5, estimator=estimator, differentiate=True
        ... )
        >>> bool(abs(stream.density().units / whole.units - 1).max() < 1e-10)
        True
    """

    estimator: Estimator
    timestep_fs: float
    n_replicas: int
    n_components: int
    differentiate: bool
    n_samples: int | None = None

    def __post_init__(self) -> None:
        require_sampling(self.timestep_fs, self.estimator)
        self._layout: UnitLayout | None = None
        if self.n_samples is not None:
            n_used = self.n_samples - (2 if self.differentiate else 0)
            planned = unit_layout(
                self.n_replicas, n_used, self.timestep_fs, self.estimator
            )
            self._layout = planned if planned.n_blocks > 1 else None
        self._blocks: list[Float[np.ndarray, "replicas lags"]] = []
        self._streams = self._new_streams()
        self._ends = np.empty((self.n_replicas, 0, self.n_components))
        self._squares, self._n_squares = 0.0, 0

    def add(self, samples: Float[np.ndarray, "replicas samples components"]) -> None:
        """Add the samples of all replicas that follow those added before.

        Raises:
            ValueError: They are not finite.
        """
        values = np.asarray(samples, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError(
                "a block of samples holds values that are not finite; leave the "
                "replica out, or cut it before the run broke"
            )
        if self.differentiate:
            values = np.concatenate([self._ends, values], axis=1)
            self._ends = values[:, -2:].copy()
            values = central_difference(values, self.timestep_fs)
        self._squares += float((values**2).sum())
        self._n_squares += values.shape[0] * values.shape[1]
        while values.shape[1] > 0 and not self._is_full:
            values = self._fill(values)

    @property
    def mean_square(self) -> float:
        """The square of a sample (of its derivative, if taken), averaged over all."""
        return self._squares / max(self._n_squares, 1)

    def density(self) -> SpectralDensity:
        """Return what `spectral_density` does of all samples so far.

        Of a run that ended before its announced length, whole blocks count.

        Raises:
            ValueError: The samples are too few for the resolution.
        """
        blocks, layout = self._blocks, self._layout
        if layout is None:
            layout = unit_layout(
                self.n_replicas,
                self._streams[0].n_samples,
                self.timestep_fs,
                self.estimator,
                n_blocks=1,
            )
            blocks = [self._correlations(layout.n_lags)]
        elif not blocks:
            raise ValueError(
                f"the run ended after {self._streams[0].n_samples} samples, before the "
                f"first block of {layout.n_steps}; compute its spectrum from all "
                "samples at once"
            )
        # Replicas go before blocks, as where all samples are there at once.
        units = np.stack(blocks, axis=1).reshape(-1, layout.n_lags)
        return density_of_correlations(
            units,
            replace(layout, n_blocks=len(blocks)),
            self.estimator,
            differentiated=self.differentiate,
        )

    @property
    def _is_full(self) -> bool:
        return self._layout is not None and len(self._blocks) >= self._layout.n_blocks

    def _fill(
        self, values: Float[np.ndarray, "replicas samples components"]
    ) -> Float[np.ndarray, "replicas rest components"]:
        """Add samples up to the end of a block, and return those beyond it."""
        room = values.shape[1]
        if self._layout is not None:
            room = self._layout.n_steps - self._streams[0].n_samples
        for stream, rows in zip(self._streams, values, strict=True):
            stream.add(rows[:room])
        layout = self._layout
        if layout is not None and self._streams[0].n_samples == layout.n_steps:
            self._blocks.append(self._correlations(layout.n_lags))
            self._streams = self._new_streams()
        return values[:, room:]

    def _correlations(self, n_lags: int) -> Float[np.ndarray, "replicas lags"]:
        biased = self.estimator.biased
        return np.stack(
            [stream.autocorrelation(n_lags, biased=biased) for stream in self._streams]
        )

    def _new_streams(self) -> list[StreamingCorrelation]:
        """Return a stream for each replica, with as many lags as any length needs.

        The lag window is longest for the shortest run that has the resolution, since
        the taper of the biased autocorrelation is part of it.
        """
        if self._layout is not None:
            n_lags = self._layout.n_lags
        else:
            longest = shortest_length_fs(
                self.estimator.window,
                self.estimator.resolution,
                biased=self.estimator.biased,
            )
            n_lags = int(longest / self.timestep_fs) + 2
        return [
            StreamingCorrelation(n_lags, self.n_components)
            for _ in range(self.n_replicas)
        ]
