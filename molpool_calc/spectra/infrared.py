"""Absolute infrared spectra along MD.

Of molecules in the gas phase from dipoles, of periodic systems from dipole fluxes.
"""

import numpy as np
from jaxtyping import Float

from molpool_calc.spectra.estimator import (
    Estimator,
    Fact,
    SpectralDensity,
    spectral_density,
)
from molpool_calc.spectra.quantum import QuantumCorrection, relative_correction
from molpool_calc.spectra.spectrum import (
    BULK_UNIT,
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
# km/mol per cm⁻¹ over m³/mol is 1e3 m/mol · 1e-2 m / (m³/mol) = 10 m⁻¹ = 0.1 cm⁻¹.
_PER_CM = 0.1
BULK_QUANTITY = "absorption coefficient times refractive index"


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
    step_fs = integration_step(verlet_timestep_fs, timestep_fs)
    density = spectral_density(
        dipoles,
        timestep_fs=timestep_fs,
        estimator=estimator or Estimator(),
        differentiate=True,
    )
    return infrared_of_density(
        density,
        temperature=temperature,
        correction=correction,
        step_fs=step_fs,
        correct_verlet_shift=correct_verlet_shift,
    )


def infrared_of_density(
    density: SpectralDensity,
    *,
    temperature: float,
    correction: QuantumCorrection,
    step_fs: float,
    correct_verlet_shift: bool,
    volume: float | None = None,
    from_velocities: bool = False,
) -> Spectrum:
    """Return the infrared spectrum of a spectral density of the rate of the dipole.

    Args:
        density: Of the time derivative of the dipole, (e·Å)²/fs.
        temperature: In K.
        correction: Quantum correction.
        step_fs: Time step of the integration.
        correct_verlet_shift: Move the spectrum back by the shift of velocity Verlet.
        volume: In Å³ of the cell of a periodic system, for the absorption coefficient
            times the refractive index, ``α(ν̃)n(ν̃) = A(ν̃)/(N_A V)``, in cm⁻¹, instead
            of the molar ``A(ν̃)``.
        from_velocities: The rate holds the velocities of the integration, which are
            smaller by ``cos(ΩΔt/2)`` than the positions move; corrected with the shift.
    """
    wavenumbers = density.wavenumbers
    factor = relative_correction(wavenumbers, temperature, correction)
    units = density.units * factor * _prefactor(temperature)
    if correct_verlet_shift:
        slope = shift_slope(wavenumbers, step_fs)
        units = units / slope ** (3 if from_velocities else 1)
        wavenumbers = true_wavenumbers(wavenumbers, step_fs)
    facts: dict[str, Fact] = {
        "kind": "infrared",
        **density.facts,
        "temperature": temperature,
        "quantum_correction": correction,
        **shift_facts(step_fs, is_corrected=correct_verlet_shift),
    }
    unit = INFRARED_UNIT
    if volume is not None:
        units, unit = units * _per_volume(volume), BULK_UNIT
        facts |= {"quantity": BULK_QUANTITY, "volume_angstrom3": volume}
    return spectrum_from_units(wavenumbers, units, unit=unit, facts=facts)


def bulk_spectrum(
    fluxes: Float[np.ndarray, "replicas steps 3"],
    *,
    volume: float,
    timestep_fs: float,
    temperature: float,
    estimator: Estimator | None = None,
    correction: QuantumCorrection = "harmonic",
    verlet_timestep_fs: float | None = None,
    correct_verlet_shift: bool = False,
) -> Spectrum:
    """Return the absorption coefficient of a periodic system times refractive index.

    ``α(ν̃)n(ν̃) = 1/(6Vε₀ck_BT) · ∫⟨Ṁ(0)·Ṁ(t)⟩ exp(-2πicν̃t) dt`` in cm⁻¹, napierian, of
    the rate ``Ṁ`` at which the dipole of the cell changes (McQuarrie 2000, Statistical
    Mechanics, ch. 21). A rate has no images, so that it does not matter whether atoms
    were wrapped.

    Args:
        fluxes: ``Ṁ`` in e·Å/fs along one or more replicas.
        volume: Of the cell, Å³; its mean where it changes.
        timestep_fs: Interval between two of them.
        temperature: Of the ensemble from which the replicas start, in K.
        estimator: Resolution, window and range; ``Estimator()`` if not given.
        correction: Quantum correction, recorded in the metadata.
        verlet_timestep_fs: Time step of the integration; ``timestep_fs`` if not given.
        correct_verlet_shift: Move the spectrum back by the frequency shift of
            velocity Verlet, and undo the factor ``cos(ΩΔt/2)`` of its velocities.

    Raises:
        ValueError: The fluxes are too few, too far apart or not finite, or a
            temperature, volume or time step makes no sense.

    Example:
        >>> import numpy as np
        >>> time = 0.5 * np.arange(20_000)
        >>> fluxes = np.zeros((1, 20_000, 3))
        >>> fluxes[0, :, 0] = 0.1 * np.cos(2 * np.pi * 2.99792458e-5 * 700 * time)
        >>> spectrum = bulk_spectrum(
        ...     fluxes, volume=2000.0, timestep_fs=0.5, temperature=300.0
        ... )
        >>> float(spectrum.wavenumbers[spectrum.intensity.argmax()].round())
        700.0
    """
    if fluxes.ndim != 3 or fluxes.shape[2] != 3:  # noqa: PLR2004 (x, y, z)
        raise ValueError(
            f"the fluxes have the shape {fluxes.shape}; give (replicas, steps, 3)"
        )
    step_fs = integration_step(verlet_timestep_fs, timestep_fs)
    density = spectral_density(
        fluxes,
        timestep_fs=timestep_fs,
        estimator=estimator or Estimator(),
        differentiate=False,
    )
    return infrared_of_density(
        density,
        temperature=temperature,
        correction=correction,
        step_fs=step_fs,
        correct_verlet_shift=correct_verlet_shift,
        volume=volume,
        from_velocities=True,
    )


def _prefactor(temperature: float) -> float:
    """Return ``N_A/(6ε₀ck_BT)`` from (e·Å)²/fs to km/mol per cm⁻¹."""
    thermal = VACUUM_PERMITTIVITY * SPEED_OF_LIGHT * BOLTZMANN_J_PER_K * temperature
    return AVOGADRO / (6.0 * thermal) * _DIPOLE_FLUX_SI * _KM_PER_MOL_PER_CM1


def _per_volume(volume: float) -> float:
    """Return ``1/(N_A V)`` from km/mol per cm⁻¹ to cm⁻¹, for a volume in Å³."""
    if not 0.0 < volume < np.inf:
        raise ValueError(
            f"the cell has a volume of {volume:g} Å³; give three lattice vectors that "
            "span one"
        )
    return _PER_CM / (AVOGADRO * volume * 1e-30)
