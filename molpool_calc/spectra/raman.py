"""Absolute Raman spectra of molecules in the gas phase from polarizabilities along MD.

Written with the mean polarizability ``a`` and the anisotropy ``γ`` (Long 2002, The
Raman Effect, ch. 5). Correlations take the place of squared derivatives:
``45⟨ȧ(0)ȧ(t)⟩ + 7⟨γ̇γ̇⟩``, where ``⟨γ̇γ̇⟩`` is 3/2 of the correlation of the traceless
parts, summed over all nine elements.
"""

from dataclasses import dataclass
from math import pi
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from molpool_calc.spectra.correlation import CM_PER_FS
from molpool_calc.spectra.estimator import Estimator, Fact, spectral_density
from molpool_calc.spectra.quantum import (
    QuantumCorrection,
    reduced_energy,
    relative_correction,
)
from molpool_calc.spectra.spectrum import Spectrum, spectrum_from_units
from molpool_calc.spectra.verlet import (
    integration_step,
    shift_facts,
    shift_slope,
    true_wavenumbers,
)
from molpool_calc.units import (
    ATOMIC_MASS,
    BOLTZMANN,
    COULOMB,
    FEMTOSECOND,
    PLANCK,
    SPEED_OF_LIGHT,
)

ACTIVITY_UNIT = "A^4/amu per cm-1"
CROSS_SECTION_UNIT = "1e-30 cm2/sr per cm-1"

Polarization = Literal[
    "unpolarized", "parallel", "perpendicular", "isotropic", "anisotropic"
]
Quantity = Literal["cross-section", "activity"]

# What a geometry counts of a'² and of γ'²; the 45 of a'² are Placzek's.
_WEIGHTS: dict[str, tuple[float, float]] = {
    "unpolarized": (45.0, 7.0),
    "parallel": (45.0, 4.0),
    "perpendicular": (0.0, 3.0),
    "isotropic": (45.0, 0.0),
    "anisotropic": (0.0, 7.0),
}
# 1e-30 cm² in m².
_CROSS_SECTION = 1e-34


@dataclass(frozen=True, kw_only=True, slots=True)
class Scattering:
    """Laser, geometry and quantity of a Raman spectrum.

    The laser is polarized perpendicular to the plane of its beam and of the detected
    light, which are at right angles (or in any direction perpendicular to both, if
    the light is detected backwards).

    Args:
        laser_nm: Wavelength of the laser; only cross sections depend on it.
        polarization: ``parallel`` to that of the laser (45a'² + 4γ'²),
            ``perpendicular`` to it (3γ'²), or ``unpolarized``: their sum, without an
            analyser. ``isotropic`` (45a'²) and ``anisotropic`` (7γ'²) are the two
            parts of that sum.
        quantity: ``cross-section``, differential, of Stokes scattering by a molecule in
            thermal equilibrium, or ``activity``, Placzek's, which harmonic analyses
            give.

    Raises:
        ValueError: There is no such polarization or quantity, or the wavelength is
            not positive.
    """

    laser_nm: float = 532.0
    polarization: Polarization = "unpolarized"
    quantity: Quantity = "cross-section"

    def __post_init__(self) -> None:
        if not 0.0 < self.laser_nm < np.inf:
            raise ValueError(
                f"the laser has a wavelength of {self.laser_nm:g} nm; give a positive "
                "number of nm, such as 532"
            )
        for name, choices in (("polarization", Polarization), ("quantity", Quantity)):
            given = getattr(self, name)
            if given not in get_args(choices):
                raise ValueError(
                    f"there is no {name} {given}; "
                    f"take one of {', '.join(get_args(choices))}"
                )


def raman_spectrum(
    polarizabilities: Float[np.ndarray, "replicas steps 3 3"],
    *,
    timestep_fs: float,
    temperature: float,
    scattering: Scattering | None = None,
    estimator: Estimator | None = None,
    correction: QuantumCorrection = "harmonic",
    verlet_timestep_fs: float | None = None,
    correct_verlet_shift: bool = False,
) -> Spectrum:
    """Return the Raman cross section or activity per cm⁻¹.

    The activity is ``S(ν̃) = (2c/k_BT) · ∫(45⟨ȧ(0)ȧ(t)⟩ + 7⟨γ̇γ̇⟩) exp(-2πicν̃t) dt`` in
    Å⁴/amu per cm⁻¹: one harmonic mode integrates to its Placzek activity 45a'² + 7γ'².
    The cross section is that times `cross_section_factor`, in 1e-30 cm²/sr per cm⁻¹.
    Values begin at the resolution, since nearer to the laser there is only its line.

    Args:
        polarizabilities: In e²Å²/eV, along one or more replicas of the same molecule.
        timestep_fs: Interval between two polarizabilities.
        temperature: Of the ensemble from which the replicas start, in K.
        scattering: Laser, geometry and quantity; ``Scattering()`` if not given.
        estimator: Resolution, window and range; ``Estimator()`` if not given.
        correction: Quantum correction, recorded in the metadata. The classical one
            leaves the scattering of a classical antenna.
        verlet_timestep_fs: Time step of the integration; ``timestep_fs`` if not given.
        correct_verlet_shift: Move the spectrum back by the frequency shift of
            velocity Verlet. Band integrals of the activity stay the same.

    Returns:
        The spectrum of the polarization asked for. Its components are the spectra of
        all polarizations, the depolarization ratio perpendicular/parallel, and with a
        cross section the unpolarized activity.

    Raises:
        ValueError: The polarizabilities are too few, too far apart or not finite, or
            a temperature, time step or wavelength makes no sense.

    Example:
        >>> import numpy as np
        >>> time = 0.5 * np.arange(20_000)
        >>> breathing = 0.01 * np.cos(2 * np.pi * 2.99792458e-5 * 900 * time)
        >>> tensors = breathing[None, :, None, None] * np.eye(3)
        >>> spectrum = raman_spectrum(tensors, timestep_fs=0.5, temperature=300.0)
        >>> float(spectrum.wavenumbers[spectrum.intensity.argmax()].round())
        900.0
    """
    scattering = scattering or Scattering()
    estimator = estimator or Estimator()
    step_fs = integration_step(verlet_timestep_fs, timestep_fs)
    parts = _invariants(polarizabilities, timestep_fs, estimator)
    observed, units = parts.wavenumbers, np.stack([parts.isotropic, parts.anisotropic])
    wavenumbers = observed
    if correct_verlet_shift:
        wavenumbers = true_wavenumbers(observed, step_fs)
        units = units / shift_slope(observed, step_fs)
    thermal = BOLTZMANN * temperature * FEMTOSECOND**2  # amu·Å²/fs²
    units = units * relative_correction(wavenumbers, temperature, correction)
    activity = units * (2.0 * CM_PER_FS / thermal)
    by_quantity = activity
    if scattering.quantity == "cross-section":
        by_quantity = activity * cross_section_factor(
            wavenumbers, temperature=temperature, laser_nm=scattering.laser_nm
        )
    facts: dict[str, Fact] = {
        "kind": "raman",
        **parts.facts,
        "temperature": temperature,
        "quantum_correction": correction,
        "quantity": scattering.quantity,
        "polarization": scattering.polarization,
        **shift_facts(step_fs, is_corrected=correct_verlet_shift),
    }
    components = _components(by_quantity.mean(axis=1))
    unit = ACTIVITY_UNIT
    if scattering.quantity == "cross-section":
        facts["laser_nm"], unit = scattering.laser_nm, CROSS_SECTION_UNIT
        components["activity_A^4/amu"] = _seen(activity.mean(axis=1), "unpolarized")
    return spectrum_from_units(
        wavenumbers,
        _seen(by_quantity, scattering.polarization),
        unit=unit,
        facts=facts,
        components=components,
    )


def cross_section_factor(
    wavenumbers: Float[np.ndarray, " bins"], *, temperature: float, laser_nm: float
) -> Float[np.ndarray, " bins"]:
    """Return what an activity in Å⁴/amu is worth in cross section, 1e-30 cm²/sr.

    ``dσ/dΩ = 2π²·h/c · (ν̃_L - ν̃)⁴/(ν̃·(1 - exp(-x))) · S/45`` with ``x = hcν̃/k_BT``
    and ``S`` in m⁴/kg: Stokes scattering in the Placzek approximation (Long 2002,
    ch. 5, with polarizability volumes), summed over the levels of a thermal oscillator.

    Args:
        wavenumbers: Raman shifts in cm⁻¹.
        temperature: In K.
        laser_nm: Wavelength of the laser.

    Raises:
        ValueError: A shift takes more energy than a photon of the laser has, or the
            temperature is not positive.
    """
    laser = 1e7 / laser_nm
    if wavenumbers[-1] >= laser:
        raise ValueError(
            f"a laser of {laser_nm:g} nm has photons of {laser:.0f} cm-1, which cannot "
            f"lose {wavenumbers[-1]:.0f} cm-1; give a shorter wavelength, or a lower "
            "maximum"
        )
    bose = -np.expm1(-reduced_energy(wavenumbers, temperature))
    line = (100.0 * (laser - wavenumbers)) ** 4 / (100.0 * wavenumbers * bose)
    per_activity = 1e-40 / ATOMIC_MASS / 45.0  # m⁴/kg
    constant = 2.0 * pi**2 * PLANCK / SPEED_OF_LIGHT * per_activity
    return np.asarray(constant / _CROSS_SECTION * line)


class _Invariants(NamedTuple):
    """Densities of 45a'² and of 7γ'² in Å⁶/fs, per unit, and how they were made."""

    wavenumbers: Float[np.ndarray, " bins"]
    isotropic: Float[np.ndarray, "units bins"]
    anisotropic: Float[np.ndarray, "units bins"]
    facts: dict[str, Fact]


def _invariants(
    polarizabilities: Float[np.ndarray, "replicas steps 3 3"],
    timestep_fs: float,
    estimator: Estimator,
) -> _Invariants:
    if polarizabilities.ndim != 4 or polarizabilities.shape[2:] != (3, 3):  # noqa: PLR2004
        raise ValueError(
            f"the polarizabilities have the shape {polarizabilities.shape}; give "
            "(replicas, steps, 3, 3)"
        )
    tensors = COULOMB / 2.0 * (polarizabilities + polarizabilities.swapaxes(2, 3))
    mean = np.trace(tensors, axis1=2, axis2=3) / 3.0
    traceless = tensors - mean[..., None, None] * np.eye(3)
    isotropic, anisotropic = (
        spectral_density(
            series, timestep_fs=timestep_fs, estimator=estimator, differentiate=True
        )
        for series in (mean[..., None], traceless.reshape(*mean.shape, 9))
    )
    shown = isotropic.wavenumbers >= estimator.resolution
    return _Invariants(
        wavenumbers=isotropic.wavenumbers[shown],
        isotropic=45.0 * isotropic.units[:, shown],
        anisotropic=7.0 * 1.5 * anisotropic.units[:, shown],
        facts=dict(isotropic.facts),
    )


def _seen(
    parts: Float[np.ndarray, "2 ... bins"], polarization: str
) -> Float[np.ndarray, "... bins"]:
    """Return what a geometry shows of the densities of 45a'² and of 7γ'²."""
    of_mean, of_anisotropy = _WEIGHTS[polarization]
    return np.asarray(of_mean / 45.0 * parts[0] + of_anisotropy / 7.0 * parts[1])


def _components(
    parts: Float[np.ndarray, "2 bins"],
) -> dict[str, Float[np.ndarray, " bins"]]:
    components = {name: _seen(parts, name) for name in _WEIGHTS}
    parallel, perpendicular = components["parallel"], components["perpendicular"]
    ratio = np.full_like(parallel, np.nan)
    np.divide(perpendicular, parallel, out=ratio, where=parallel > 0.0)
    return {**components, "depolarization_ratio": ratio}
