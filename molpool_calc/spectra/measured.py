"""Measured infrared spectra of gases: the record, and what their ordinates mean."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import numpy as np
from jaxtyping import Bool, Float

from molpool_calc.spectra.spectrum import INFRARED_UNIT
from molpool_calc.units import AVOGADRO, BOLTZMANN_J_PER_K

ABSORBANCE_UNIT = "decadic absorbance"

SATURATED_TRANSMITTANCE = 0.03
"""Below it, stray light and the zero of the instrument decide what is measured."""

# More than any baseline: a transmittance in per cent.
_PER_CENT = 2.0
_CELSIUS = 273.15
# 1 km/mol per cm⁻¹ is 10 m²/mol, napierian.
_KM_PER_MOL_PER_CM1 = 0.1
_PASCAL = {
    "pa": 1.0,
    "hpa": 100.0,
    "mbar": 100.0,
    "kpa": 1e3,
    "bar": 1e5,
    "atm": 101325.0,
    "torr": 101325.0 / 760.0,
    "mmhg": 133.322387415,
}
_NUMBER = r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"
_PER_PPM_METRE = re.compile(
    r"\((?:micromol|umol|µmol|μmol)/mol\)\^?-1m\^?-1\(base(10|e)\)"
)

Values = Float[np.ndarray, " bins"]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class MeasuredSpectrum:
    """A measured infrared spectrum at ascending wavenumbers (cm⁻¹).

    ``intensity`` is in ``unit``: `INFRARED_UNIT` where the file is quantitative, else
    `ABSORBANCE_UNIT`, of which only ratios mean anything. ``saturated`` marks where
    so little light passed that the intensity is a lower bound. ``source`` says who
    measured it, ``remarks`` what a reader should know, each a sentence.
    """

    wavenumbers: Float[np.ndarray, " bins"]
    intensity: Float[np.ndarray, " bins"]
    saturated: Bool[np.ndarray, " bins"]
    unit: str
    title: str
    source: str
    remarks: tuple[str, ...] = ()

    @property
    def is_absolute(self) -> bool:
        """Whether areas are in km/mol."""
        return self.unit == INFRARED_UNIT


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Ordinate:
    """Intensities, where they are saturated, their unit, and remarks on them."""

    intensity: Float[np.ndarray, " bins"]
    saturated: Bool[np.ndarray, " bins"]
    unit: str
    remarks: tuple[str, ...] = ()


def ordinate(values: Values, unit: str, facts: Mapping[str, str]) -> Ordinate:
    """Return measured ordinates as absorption, absolute where the file allows it.

    The Beer-Lambert law (IUPAC Gold Book): ``A₁₀ = -lg T = ε·c·l``, and napierian
    quantities are decadic ones times ln 10. An absorbance per mole fraction and metre
    ``a`` belongs to the molar coefficient ``a·V_m`` with the molar volume
    ``V_m = RT/p`` of the measurement.

    Args:
        values: As in the file, in its unit.
        unit: The unit as the file states it.
        facts: Further labels of the file; ``temperature`` and ``pressure`` are used.

    Raises:
        ValueError: The unit is not known.
    """
    name = "".join(unit.lower().split())
    if name in {"transmittance", "transmission", "%transmittance", "%t", "t"}:
        return _from_transmittance(values, in_per_cent="%" in name)
    if name in {"absorbance", "abs", "a"}:
        highest = -np.log10(SATURATED_TRANSMITTANCE)
        return Ordinate(
            intensity=values, saturated=values > highest, unit=ABSORBANCE_UNIT
        )
    per_ppm_metre = _PER_PPM_METRE.fullmatch(name)
    if per_ppm_metre:
        base = log(10.0) if per_ppm_metre[1] == "10" else 1.0
        return _from_mole_fraction(values * base, facts)
    if name in _MOLAR:
        return Ordinate(
            intensity=values * _MOLAR[name],
            saturated=np.zeros(len(values), np.bool_),
            unit=INFRARED_UNIT,
        )
    raise ValueError(
        f"its ordinate is {unit!r}; give a spectrum in TRANSMITTANCE, ABSORBANCE, "
        "(micromol/mol)-1m-1 (base 10), L/mol/cm or cm2/molecule"
    )


# To km/mol per cm⁻¹: decadic molar coefficients, napierian cross sections.
_MOLAR = {
    "l/mol/cm": log(10.0) / 100.0,
    "lmol-1cm-1": log(10.0) / 100.0,
    "molarabsorptivity": log(10.0) / 100.0,
    "m2/mol": log(10.0) * _KM_PER_MOL_PER_CM1,
    "cm2/molecule": AVOGADRO * 1e-4 * _KM_PER_MOL_PER_CM1,
    "cm2molecule-1": AVOGADRO * 1e-4 * _KM_PER_MOL_PER_CM1,
}


def _from_transmittance(values: Values, *, in_per_cent: bool) -> Ordinate:
    remarks: tuple[str, ...] = ()
    if not in_per_cent and np.percentile(values, 99.0) > _PER_CENT:
        in_per_cent = True
        remarks = ("its transmittance exceeds 2 and is taken to be in per cent",)
    fraction = values / 100.0 if in_per_cent else values
    saturated = fraction < SATURATED_TRANSMITTANCE
    # A line without any light left has no logarithm; it is marked as a lower bound.
    least = SATURATED_TRANSMITTANCE / 2.0
    return Ordinate(
        intensity=-np.log10(np.maximum(fraction, least)),
        saturated=saturated,
        unit=ABSORBANCE_UNIT,
        remarks=remarks,
    )


def _from_mole_fraction(napierian: Values, facts: Mapping[str, str]) -> Ordinate:
    temperature, pressure = (
        _kelvin(facts.get("temperature", "")),
        _pascal(facts.get("pressure", "")),
    )
    nowhere = np.zeros(len(napierian), np.bool_)
    if temperature is None or pressure is None:
        remark = (
            "it states no temperature and pressure (as in 23 C and 101.3 kPa), without "
            "which an absorbance per mole fraction has no molar value, so that its "
            "heights are relative"
        )
        return Ordinate(
            intensity=napierian,
            saturated=nowhere,
            unit=ABSORBANCE_UNIT,
            remarks=(remark,),
        )
    molar_volume = AVOGADRO * BOLTZMANN_J_PER_K * temperature / pressure
    return Ordinate(
        intensity=napierian * 1e6 * molar_volume * _KM_PER_MOL_PER_CM1,
        saturated=nowhere,
        unit=INFRARED_UNIT,
    )


def _kelvin(text: str) -> float | None:
    found = re.search(_NUMBER + r"\s*(?:deg|°)?\s*([CK])?\b", text, re.IGNORECASE)
    if not found:
        return None
    # JCAMP-DX states temperatures in °C where no unit is given.
    shift = 0.0 if (found[2] or "C").upper() == "K" else _CELSIUS
    kelvin = float(found[1]) + shift
    return kelvin if kelvin > 0.0 else None


def _pascal(text: str) -> float | None:
    found = re.search(_NUMBER + r"\s*([A-Za-z ]+)", text)
    if not found:
        return None
    unit = _PASCAL.get("".join(found[2].lower().split()))
    pressure = 0.0 if unit is None else float(found[1]) * unit
    return pressure if pressure > 0.0 else None
