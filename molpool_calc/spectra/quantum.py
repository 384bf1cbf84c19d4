"""Quantum corrections of classical line shapes, relative to the harmonic one."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from molpool_calc.units import BOLTZMANN, INVERSE_CM

QuantumCorrection = Literal["harmonic", "standard", "schofield", "classical"]

# exp(x/2) overflows beyond; the mode is then frozen by a factor of exp(-700).
_LARGEST_SCHOFIELD = 1400.0


def reduced_energy(
    wavenumbers: Float[np.ndarray, " bins"], temperature: float
) -> Float[np.ndarray, " bins"]:
    """Return ``x = hcν̃/k_BT`` for wavenumbers in cm⁻¹.

    Raises:
        ValueError: The temperature is not positive.
    """
    if not 0.0 < temperature < np.inf:
        raise ValueError(
            f"the temperature is {temperature:g} K; give a positive number of K"
        )
    return wavenumbers * (INVERSE_CM / (BOLTZMANN * temperature))


def quantum_factor(
    x: Float[np.ndarray, " bins"], correction: QuantumCorrection
) -> Float[np.ndarray, " bins"]:
    """Return ``q(x)`` that turns a classical into a quantum line shape.

    Ramírez et al. 2004, J. Chem. Phys. 121, 3973: harmonic ``x/(1-exp(-x))``, standard
    ``2/(1+exp(-x))``, Schofield ``exp(x/2)``. All three obey detailed balance,
    ``q(-x) = exp(-x)·q(x)``. Classical, ``q = 1``, does not.

    Args:
        x: ``hcν̃/k_BT``, positive or negative.
        correction: Name of the correction.

    Raises:
        ValueError: There is no such correction, or the Schofield factor is too large
            for a number.
    """
    if correction == "harmonic":
        safe = np.where(x == 0.0, 1.0, x)
        return np.where(x == 0.0, 1.0, safe / -np.expm1(-safe))
    if correction == "standard":
        return np.asarray(2.0 * expit(x))
    if correction == "schofield":
        if np.max(x, initial=0.0) > _LARGEST_SCHOFIELD:
            raise ValueError(
                f"the schofield correction is exp({np.max(x) / 2:.0f}) at this "
                "temperature; take the harmonic one, or a higher temperature"
            )
        return np.exp(x / 2.0)
    if correction == "classical":
        return np.ones_like(x)
    raise ValueError(
        f"there is no quantum correction {correction}; "
        f"take one of {', '.join(get_args(QuantumCorrection))}"
    )


def relative_correction(
    wavenumbers: Float[np.ndarray, " bins"],
    temperature: float,
    correction: QuantumCorrection,
) -> Float[np.ndarray, " bins"]:
    """Return ``q(x)/q_harmonic(x)``, by which a harmonic spectrum is multiplied.

    The formulas of infrared and Raman spectra hold the harmonic correction already,
    because its ``k_BT`` cancels that of the classical fluctuations. For ring-polymer
    (Kubo-transformed) series the harmonic correction is exact.

    Example:
        >>> import numpy as np
        >>> print(relative_correction(np.array([3000.0]), 300.0, "classical").round(4))
        [0.0695]
    """
    x = reduced_energy(wavenumbers, temperature)
    factor, harmonic = quantum_factor(x, correction), quantum_factor(x, "harmonic")
    return np.asarray(factor / harmonic)
