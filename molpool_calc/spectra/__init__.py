"""Spectra from trajectories and from derivatives, in absolute units.

Computing: `infrared_spectrum` from dipoles along MD, `raman_spectrum` from
polarizabilities, `vibrational_dos` from velocities, `harmonic_analysis` from one
relaxed structure. Reading results: `peaks`, `band_integral`, `total_integral`,
`molar_absorption`. Keeping and showing them: `write_spectrum`, `read_spectrum`,
`plot_infrared`, `plot_spectrum`.
"""

from molpool_calc.spectra.correlation import Window
from molpool_calc.spectra.estimator import Estimator
from molpool_calc.spectra.files import read_spectrum, write_spectrum
from molpool_calc.spectra.harmonic import HarmonicSpectrum, harmonic_analysis
from molpool_calc.spectra.infrared import infrared_spectrum
from molpool_calc.spectra.plot import MeasuredPeaks, plot_infrared, plot_spectrum
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
from molpool_calc.spectra.verlet import true_wavenumbers
from molpool_calc.spectra.vibrational_dos import internal_velocities, vibrational_dos

__all__ = [
    "BandIntegral",
    "Estimator",
    "HarmonicSpectrum",
    "MeasuredPeaks",
    "QuantumCorrection",
    "Scattering",
    "Spectrum",
    "Window",
    "band_integral",
    "harmonic_analysis",
    "infrared_spectrum",
    "internal_velocities",
    "molar_absorption",
    "peaks",
    "plot_infrared",
    "plot_spectrum",
    "raman_spectrum",
    "read_spectrum",
    "total_integral",
    "true_wavenumbers",
    "vibrational_dos",
    "write_spectrum",
]
