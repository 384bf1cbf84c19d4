"""Spectra from trajectories and from derivatives, in absolute units.

Computing: `infrared_spectrum` from dipoles along MD, `bulk_spectrum` from dipole fluxes
of periodic systems, `raman_spectrum` from polarizabilities, `vibrational_dos` from
velocities, `harmonic_analysis` from one relaxed structure; `StreamingDensity` in
constant memory. Reading results: `peaks`, `band_integral`, `total_integral`,
`convergence`, `molar_absorption`. Keeping and showing them: `write_spectrum`,
`read_spectrum`, `plot_infrared`, `plot_spectrum`. Beside experiment: `read_jcamp_dx`,
`compare`, `write_comparison`, `write_measured`; `write_assignment` keeps what moves in
the bands.
"""

from molpool_calc.spectra.assigned import BandAssignment, ModeShare, MotionShare
from molpool_calc.spectra.band_files import (
    write_assignment,
    write_comparison,
    write_measured,
)
from molpool_calc.spectra.bands import Band, band_width, find_bands
from molpool_calc.spectra.comparison import (
    BandComparison,
    ExperimentComparison,
    compare,
)
from molpool_calc.spectra.convergence import Convergence, convergence
from molpool_calc.spectra.correlation import Window
from molpool_calc.spectra.estimator import Estimator
from molpool_calc.spectra.files import read_spectrum, write_spectrum
from molpool_calc.spectra.harmonic import HarmonicSpectrum, harmonic_analysis
from molpool_calc.spectra.infrared import bulk_spectrum, infrared_spectrum
from molpool_calc.spectra.jcamp_dx import read_jcamp_dx
from molpool_calc.spectra.measured import MeasuredSpectrum
from molpool_calc.spectra.plot import plot_infrared, plot_spectrum
from molpool_calc.spectra.plot_measured import Measured, MeasuredPeaks
from molpool_calc.spectra.quantum import QuantumCorrection
from molpool_calc.spectra.raman import Scattering, raman_spectrum
from molpool_calc.spectra.spectrum import (
    BandIntegral,
    Spectrum,
    band_integral,
    molar_absorption,
    peaks,
    total_integral,
)
from molpool_calc.spectra.streaming import StreamingDensity
from molpool_calc.spectra.verlet import true_wavenumbers
from molpool_calc.spectra.vibrational_dos import internal_velocities, vibrational_dos

__all__ = [
    "Band",
    "BandAssignment",
    "BandComparison",
    "BandIntegral",
    "Convergence",
    "Estimator",
    "ExperimentComparison",
    "HarmonicSpectrum",
    "Measured",
    "MeasuredPeaks",
    "MeasuredSpectrum",
    "ModeShare",
    "MotionShare",
    "QuantumCorrection",
    "Scattering",
    "Spectrum",
    "StreamingDensity",
    "Window",
    "band_integral",
    "band_width",
    "bulk_spectrum",
    "compare",
    "convergence",
    "find_bands",
    "harmonic_analysis",
    "infrared_spectrum",
    "internal_velocities",
    "molar_absorption",
    "peaks",
    "plot_infrared",
    "plot_spectrum",
    "raman_spectrum",
    "read_jcamp_dx",
    "read_spectrum",
    "total_integral",
    "true_wavenumbers",
    "vibrational_dos",
    "write_assignment",
    "write_comparison",
    "write_measured",
    "write_spectrum",
]
