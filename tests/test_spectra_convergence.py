"""The advice on how much more to simulate, held against doing so."""

import numpy as np
import pytest

from molpool_calc.spectra import Estimator, convergence, infrared_spectrum
from molpool_calc.spectra.spectrum import spectrum_from_units, total_integral

X = np.arange(2.0, 4001.0, 2.0)
BANDS = ((1100.0, 1.0), (1700.0, 4.0), (2950.0, 2.0), (3600.0, 0.2))
FACTS = {
    "resolution_cm1": 8.0,
    "n_blocks": 1,
    "block_length_fs": 20_000.0,
    "n_replicas": 8,
}


def thermal_units(n_units, seed, facts=FACTS):
    """Spectra of replicas in which each mode holds a thermal energy of its own."""
    energies = np.random.default_rng(seed).exponential(size=(n_units, len(BANDS)))
    lines = np.array([w * np.exp(-0.5 * ((X - x) / 6) ** 2) for x, w in BANDS])
    units = energies @ lines + 1e-9
    return spectrum_from_units(X, units, unit="km/mol per cm-1", facts=facts)


def test_simulating_as_advised_gives_the_precision_that_was_asked_for():
    target, reached = 0.05, []
    for seed in range(20):
        first = thermal_units(96, seed)
        total = convergence(first, target=target).bands[0]
        # exponential energies: the spread of the total is known
        weights = np.array([w for _, w in BANDS])
        exact = 1.96 * np.sqrt((weights**2).sum()) / weights.sum() / np.sqrt(96)
        assert total.relative_95 == pytest.approx(exact, rel=0.4)
        more = thermal_units(96 + total.units_more, 1000 + seed)
        band = total_integral(more)
        reached.append((band.upper - band.lower) / 2 / band.value)
    # The mean of many pieces of advice; a single one is uncertain itself.
    assert np.mean(reached) == pytest.approx(target, rel=0.08)


def test_advice_from_few_replicas_is_right_on_average():
    """One thermal mode: σ = μ, so that (1.96/0.05)² = 1537 replicas are needed."""
    x = np.arange(100.0, 140.0, 4.0)
    line = np.exp(-0.5 * ((x - 120.0) / 6.0) ** 2)
    rng, needed = np.random.default_rng(0), []
    for _ in range(700):
        units = rng.exponential(size=(8, 1)) * line
        spectrum = spectrum_from_units(x, units, unit="km/mol per cm-1", facts=FACTS)
        needed.append(8 + convergence(spectrum).bands[0].units_more)
    # the bare ratio of moments is 11 % too small
    assert np.mean(needed) == pytest.approx(1537, rel=0.06)


def test_the_half_width_is_that_of_student():
    units = np.array([0.9, 1.0, 1.0, 1.1])[:, None] * np.ones(20)
    spectrum = spectrum_from_units(
        np.arange(20.0), units, unit="km/mol per cm-1", facts=FACTS
    )
    # standard deviation 0.08165, Student's t(3) = 3.1824
    total = convergence(spectrum).bands[0]
    assert total.relative_95 == pytest.approx(3.1824 * 0.08165 / 2.0, rel=1e-3)


def test_the_bands_are_the_largest_ones_from_valley_to_valley():
    found = convergence(thermal_units(400, 0)).bands
    assert [band.name for band in found] == [
        "total",
        "band at 1700 cm-1",
        "band at 2950 cm-1",
        "band at 1100 cm-1",
    ]
    strongest = found[1]
    assert 1100 < strongest.low_cm1 < 1690
    assert 1710 < strongest.high_cm1 < 2950
    area = 4.0 * 6 * np.sqrt(2 * np.pi)
    assert strongest.value == pytest.approx(area, rel=0.15)
    assert strongest.picoseconds_more == pytest.approx(20.0 * strongest.units_more)


def test_a_spectrum_that_is_good_enough_needs_nothing_more():
    state = convergence(thermal_units(400, 1), target=0.5)
    assert all(band.units_more == 0 for band in state.bands)
    assert state.sentence.startswith("converged: the integrals are known to 50 % or")


def test_the_advice_counts_replicas_where_they_are_the_units():
    state = convergence(thermal_units(8, 2))
    more = state.bands[0].units_more
    assert f"simulate {more} replicas more of 20 ps" in state.sentence
    content = state.describe()
    assert content["unit"] == "replica"
    assert content["bands"][0]["units_more"] == more
    assert content["sentence"] == state.sentence


def test_the_advice_counts_picoseconds_where_blocks_are_the_units():
    facts = {**FACTS, "n_blocks": 8, "n_replicas": 2, "block_length_fs": 2500.0}
    state = convergence(thermal_units(16, 3, facts))
    total = state.bands[0]
    each = total.units_more * 2.5 / 2
    assert f"{each:.3g} ps more of each replica" in state.sentence
    assert state.describe()["unit"] == "block"


def test_too_few_units_give_no_advice_but_say_why():
    state = convergence(thermal_units(3, 0))
    assert state.bands == ()
    assert "3 independent units do not show how far" in state.sentence


def test_spectra_from_samples_can_say_it_too():
    rng = np.random.default_rng(0)
    dipoles = np.cumsum(rng.normal(size=(5, 4000, 3)), axis=1) * 1e-3
    spectrum = infrared_spectrum(
        dipoles,
        timestep_fs=0.5,
        temperature=300.0,
        estimator=Estimator(resolution=50.0),
    )
    state = convergence(spectrum)
    assert state.unit_picoseconds == pytest.approx(2.0, rel=0.01)
    assert state.n_units == 5


def test_a_target_that_is_no_fraction_is_refused():
    with pytest.raises(ValueError, match="the target is 0; give a positive fraction"):
        convergence(thermal_units(8, 0), target=0.0)
