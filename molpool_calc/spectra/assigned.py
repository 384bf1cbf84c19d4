"""Which vibrations and motions make the bands of a spectrum: the records."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ModeShare:
    """A normal mode (counted from 1, by wavenumber) and its share of a band."""

    number: int
    wavenumber_cm1: float
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionShare:
    """A kind of internal motion, such as ``C=O stretch``, and its share."""

    motion: str
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BandAssignment:
    """A band, its normal modes and its internal motions, the largest shares first.

    Positions in cm⁻¹, the area in km/mol. Shares sum to one over all modes and over
    all motions; small ones are left out of the lists. ``reliability`` is the share of
    the kinetic energy within the band that belongs to modes which vibrate there in
    the harmonic limit; a low value says that the structure has left its reference.
    """

    position_cm1: float
    low_cm1: float
    high_cm1: float
    area_km_mol: float
    label: str
    modes: tuple[ModeShare, ...]
    motions: tuple[MotionShare, ...]
    reliability: float
