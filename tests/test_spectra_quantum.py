import numpy as np
import pytest

from molpool_calc.spectra.quantum import (
    quantum_factor,
    reduced_energy,
    relative_correction,
)

X = np.array([0.01, 0.3, 1.0, 4.0, 15.0])


def test_the_reduced_energy_of_the_thermal_wavenumber_is_one():
    # k_B·300 K/(hc) = 208.51 cm⁻¹ (CODATA).
    assert reduced_energy(np.array([208.5100]), 300.0)[0] == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("correction", ["harmonic", "standard", "schofield"])
def test_corrections_obey_detailed_balance(correction):
    forward = quantum_factor(X, correction)
    np.testing.assert_allclose(
        quantum_factor(-X, correction), np.exp(-X) * forward, rtol=1e-12
    )


def test_the_classical_factor_does_not_obey_detailed_balance():
    np.testing.assert_array_equal(quantum_factor(-X, "classical"), np.ones(5))


@pytest.mark.parametrize(
    "correction", ["harmonic", "standard", "schofield", "classical"]
)
def test_corrections_vanish_in_the_classical_limit(correction):
    assert quantum_factor(np.array([0.0]), correction)[0] == 1.0
    assert quantum_factor(np.array([1e-9]), correction)[0] == pytest.approx(1, abs=1e-8)


def test_factors_relative_to_the_harmonic_one_follow_the_published_forms():
    x = reduced_energy(np.array([1600.0]), 300.0)[0]
    harmonic = x / (1 - np.exp(-x))
    for correction, factor in [
        ("harmonic", harmonic),
        ("standard", 2 / (1 + np.exp(-x))),
        ("schofield", np.exp(x / 2)),
        ("classical", 1.0),
    ]:
        relative = relative_correction(np.array([1600.0]), 300.0, correction)[0]
        assert relative == pytest.approx(factor / harmonic, rel=1e-12)


def test_the_bose_factor_at_1600_and_300_kelvin_is_nearly_one():
    # 1/(1 - exp(-x)) = 1.0005; q_harmonic is x times it.
    x = reduced_energy(np.array([1600.0]), 300.0)
    assert (quantum_factor(x, "harmonic") / x)[0] == pytest.approx(1.0005, abs=5e-5)


def test_a_schofield_factor_beyond_all_numbers_is_refused():
    with pytest.raises(ValueError, match="schofield correction is exp"):
        relative_correction(np.array([4000.0]), 1.0, "schofield")


@pytest.mark.parametrize("temperature", [0.0, -10.0, np.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="give a positive number of K"):
        reduced_energy(np.array([1.0]), float(temperature))


def test_an_unknown_correction_is_refused():
    with pytest.raises((ValueError, TypeError), match="correction"):
        quantum_factor(X, "kubo")
