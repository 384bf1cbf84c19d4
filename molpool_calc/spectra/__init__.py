"""Spectra from trajectories and from derivatives, in absolute units.

Computing: `infrared_spectrum` from dipoles along MD, `harmonic_analysis` from one
relaxed structure. Reading results: `peaks`, `band_integral`, `total_integral`,
`molar_absorption`. Keeping and showing them: `write_spectrum`, `read_spectrum`,
`plot_infrared`.
"""

from molpool_calc.spectra.correlation import Window
from molpool_calc.spectra.estimator import Estimator
from molpool_calc.spectra.files import read_spectrum, write_spectrum
from molpool_calc.spectra.harmonic import HarmonicSpectrum, harmonic_analysis
from molpool_calc.spectra.infrared import infrared_spectrum, true_wavenumbers
from molpool_calc.spectra.plot import MeasuredPeaks, plot_infrared
from molpool_calc.spectra.quantum import QuantumCorrection
from molpool_calc.spectra.spectrum import (
    BandIntegral,
    Spectrum,
    band_integral,
    molar_absorption,
    peaks,
    total_integral,
)

__all__ = [
    "BandIntegral",
    "Estimator",
    "HarmonicSpectrum",
    "MeasuredPeaks",
    "QuantumCorrection",
    "Spectrum",
    "Window",
    "band_integral",
    "harmonic_analysis",
    "infrared_spectrum",
    "molar_absorption",
    "peaks",
    "plot_infrared",
    "read_spectrum",
    "total_integral",
    "true_wavenumbers",
    "write_spectrum",
]
