"""Absolute infrared spectra of molecules in the gas phase from dipoles along MD."""

import numpy as np
from jaxtyping import Float

from molpool_calc.spectra.estimator import Estimator, Fact, spectral_density
from molpool_calc.spectra.quantum import QuantumCorrection, relative_correction
from molpool_calc.spectra.spectrum import (
    INFRARED_UNIT,
    Spectrum,
    spectrum_from_units,
)
from molpool_calc.spectra.verlet import (
    integration_step,
    shift_facts,
    shift_slope,
    true_wavenumbers,
)
from molpool_calc.units import (
    AVOGADRO,
    BOLTZMANN_J_PER_K,
    ELEMENTARY_CHARGE,
    SPEED_OF_LIGHT,
    VACUUM_PERMITTIVITY,
)

# (e·Å/fs)²·fs in SI: the squared dipole (C·m)² per s.
_DIPOLE_FLUX_SI = (ELEMENTARY_CHARGE * 1e-10) ** 2 / 1e-15
# m/mol per m⁻¹ in km/mol per cm⁻¹: a factor 1e-3 for km, 1e2 for 1/cm.
_KM_PER_MOL_PER_CM1 = 0.1


def infrared_spectrum(
    dipoles: Float[np.ndarray, "replicas steps 3"],
    *,
    timestep_fs: float,
    temperature: float,
    estimator: Estimator | None = None,
    correction: QuantumCorrection = "harmonic",
    verlet_timestep_fs: float | None = None,
    correct_verlet_shift: bool = False,
) -> Spectrum:
    """Return the molar integrated-absorption density in km/mol per cm⁻¹.

    ``A(ν̃) = N_A/(6ε₀ck_BT) · ∫⟨µ̇(0)·µ̇(t)⟩ exp(-2πicν̃t) dt``, the golden rule with the
    harmonic quantum correction (Gaigeot & Sprik 2003, J. Phys. Chem. B 107, 10344,
    for one molecule in place of a volume). One harmonic mode integrates to its
    band strength ``N_A/(12ε₀c²)·|∂µ/∂Q|²``, so that values compare with harmonic
    analyses and with measured integrated absorption coefficients as they are.

    Args:
        dipoles: In e·Å, along one or more replicas of the same molecule.
        timestep_fs: Interval between two dipoles.
        temperature: Of the ensemble from which the replicas start, in K.
        estimator: Resolution, window and range; ``Estimator()`` if not given.
        correction: Quantum correction, recorded in the metadata.
        verlet_timestep_fs: Time step of the integration; ``timestep_fs`` if not given.
        correct_verlet_shift: Move the spectrum back by the frequency shift of
            velocity Verlet, see `true_wavenumbers`. Band integrals stay the same.

    Raises:
        ValueError: The dipoles are too few, too far apart or not finite, or a
            temperature or time step makes no sense.

    Example:
        >>> import numpy as np
        >>> time = 0.5 * np.arange(20_000)
        >>> dipoles = np.zeros((1, 20_000, 3))
        >>> dipoles[0, :, 2] = 0.01 * np.cos(2 * np.pi * 2.99792458e-5 * 1500 * time)
        >>> spectrum = infrared_spectrum(dipoles, timestep_fs=0.5, temperature=300.0)
        >>> float(spectrum.wavenumbers[spectrum.intensity.argmax()].round())
        1500.0
    """
    if dipoles.ndim != 3 or dipoles.shape[2] != 3:  # noqa: PLR2004 (x, y, z)
        raise ValueError(
            f"the dipoles have the shape {dipoles.shape}; give (replicas, steps, 3)"
        )
    estimator = estimator or Estimator()
    step_fs = integration_step(verlet_timestep_fs, timestep_fs)
    density = spectral_density(
        dipoles, timestep_fs=timestep_fs, estimator=estimator, differentiate=True
    )
    wavenumbers = density.wavenumbers
    factor = relative_correction(wavenumbers, temperature, correction)
    units = density.units * factor * _prefactor(temperature)
    if correct_verlet_shift:
        units = units / shift_slope(wavenumbers, step_fs)
        wavenumbers = true_wavenumbers(wavenumbers, step_fs)
    facts: dict[str, Fact] = {
        "kind": "infrared",
        **density.facts,
        "temperature": temperature,
        "quantum_correction": correction,
        **shift_facts(step_fs, is_corrected=correct_verlet_shift),
    }
    return spectrum_from_units(wavenumbers, units, unit=INFRARED_UNIT, facts=facts)


def _prefactor(temperature: float) -> float:
    """Return ``N_A/(6ε₀ck_BT)`` from (e·Å)²/fs to km/mol per cm⁻¹."""
    thermal = VACUUM_PERMITTIVITY * SPEED_OF_LIGHT * BOLTZMANN_J_PER_K * temperature
    return AVOGADRO / (6.0 * thermal) * _DIPOLE_FLUX_SI * _KM_PER_MOL_PER_CM1
