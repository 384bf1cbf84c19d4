"""The card says what is known, and nothing else."""

from typing import Any

import pytest

from molpool_calc.training.card import card, duration
from molpool_calc.units import DEBYE


def description(**changes: Any) -> dict[str, Any]:
    return {
        "name": "painn-x",
        "network": "painn",
        "network_arguments": {"n_features": 8},
        "pooling": "sum",
        "elements": ["H", "O"],
        "level_of_theory": "CCSD(T)",
        "properties": ["dipole", "energy", "forces", "free_energy"],
        "errors": {"dipole": {"mae": 0.002, "rmse": 0.003, "max": 0.01}},
        "n_parameters": 123,
        "cutoff": 5.0,
        "sha256": "c0ffee",
        "dtype": "float32",
        "total_charges": [0],
        "training_data": {
            "file": "water.npz",
            "sha256": "f00d",
            "train": 30,
            "valid": 5,
            "test": 6,
            "n_formulas": 1,
            "formulas": ["H2O"],
            "periodic": False,
            "energies_above_lowest_ev": {"percentile_95": 0.5, "largest": 1.25},
            "epochs": 9,
            "best_epoch": 7,
        },
        "description": "Water.",
        "license": "MIT",
        "source": "",
        **changes,
    }


def words(text: str) -> str:
    return " ".join(text.split())


def test_it_holds_what_it_is_told() -> None:
    text = words(card(description(), minutes=12.4))
    for fact in (
        *("# painn-x", "Water.", "elements: H, O", "level of theory: CCSD(T)"),
        *("painn (n_features 8)", "parameters: 123 (float32)", "licence: MIT"),
        *("`c0ffee`", "`f00d`", "30 frames to train", "6 test frames", "9 epochs"),
        *("in 12 minutes", "of epoch 7", "the formula H2O", "gas phase"),
        *("reach 1.25 eV above", "molpool eval painn-x", "dipole, energy, forces -"),
    ):
        assert fact in text, fact
    assert "free_energy" not in text


def test_dipole_errors_stand_in_both_units() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in card(description()).splitlines()
        if line.startswith("| dipole")
    ]
    assert rows[0] == ["dipole", "e·Å", "0.002", "0.003", "0.01"]
    assert rows[1][1] == "D"
    assert float(rows[1][2]) == pytest.approx(0.002 / DEBYE, rel=1e-3)


def test_the_potential_energy_of_dynamics_is_that_of_equipartition() -> None:
    # water: 3 vibrations, kT/2 each; k = 8.617333e-5 eV/K
    assert "0.04 eV at 300 K, 0.13 eV at 1000 K" in words(card(description()))


def test_nothing_is_claimed_that_was_not_measured() -> None:
    imported = description(errors={}, training_data={}, source="SchNetPack, a file")
    text = words(card(imported))
    assert "No errors were measured" in text
    assert "Imported weights: SchNetPack, a file." in text
    assert "not recorded" in text
    assert "gas phase" not in text


def test_charges_have_signs() -> None:
    text = words(card(description(total_charges=[-1, 0, 1])))
    assert "Total charge -1 or 0 or +1, closed shells" in text


def test_lines_fit_on_a_terminal() -> None:
    long = description(description="A long sentence of many words. " * 20)
    assert max(map(len, card(long).splitlines())) <= 88


@pytest.mark.parametrize(
    ("minutes", "text"),
    [(0.2, "12 seconds"), (59.6, "60 minutes"), (150.0, "2.5 hours")],
)
def test_times_are_told_in_fitting_units(minutes: float, text: str) -> None:
    assert duration(minutes) == text
