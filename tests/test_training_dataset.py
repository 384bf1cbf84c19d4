"""Data sets: selection of frames and reference energies of elements."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molpool_calc.training.data import (
    Dataset,
    Units,
    fit_reference_energies,
    read_dataset,
    sum_reference_energies,
)

ETHANOL = Path(__file__).parent / "data" / "ethanol_120.npz"
EV = Units(energy="eV", length="Angstrom", dipole="e*Angstrom")


@pytest.fixture(scope="module")
def ethanol() -> Dataset:
    return read_dataset(ETHANOL, units=EV)


@given(st.lists(st.integers(0, 119), max_size=8))
@settings(max_examples=25, deadline=None)
def test_selection_takes_the_frames_asked_for(ethanol, indices):
    dataset = ethanol
    chosen = dataset.select(np.array(indices, dtype=int))
    assert len(chosen) == len(indices)
    for place, index in enumerate(indices):
        here, there = chosen.atoms_of(place), dataset.atoms_of(index)
        assert np.array_equal(chosen.positions[here], dataset.positions[there])
        assert np.array_equal(chosen.forces[here], dataset.forces[there])
        assert chosen.energy[place] == dataset.energy[index]
        assert chosen.split[place] == dataset.split[index]


def test_selection_outside_the_data_is_refused(ethanol):
    for index in (-1, 120):
        with pytest.raises(IndexError, match="0 … 119"):
            ethanol.select(np.array([index]))


def mixture(energies: Mapping[int, float]) -> Dataset:
    """Return frames of random composition with exactly additive energies."""
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 8, 30)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    numbers = rng.choice(list(energies), offsets[-1])
    atomic = np.array([energies[int(z)] for z in numbers])
    return Dataset(
        offsets=offsets,
        numbers=numbers,
        positions=rng.normal(size=(offsets[-1], 3)),
        cells=np.zeros((30, 3, 3)),
        pbc=np.zeros((30, 3), dtype=bool),
        charges=np.zeros(30),
        energy=np.add.reduceat(atomic, offsets[:-1]),
        forces=None,
        dipole=None,
        polarizability=None,
        scalars={},
        weights={},
        split=None,
        sha256="",
    )


def test_reference_energies_of_a_mixture_are_recovered():
    energies = {1: -13.6, 6: -1030.0, 8: -2041.0}
    dataset = mixture(energies)
    assert fit_reference_energies(dataset) == pytest.approx(energies, rel=1e-9)
    assert np.allclose(sum_reference_energies(dataset, energies), dataset.energy)


def test_reference_energies_of_one_molecule_are_the_smallest(ethanol):
    fitted = fit_reference_energies(ethanol)
    counts = {1: 6, 6: 2, 8: 1}
    share = ethanol.energy.mean() / sum(n * n for n in counts.values())
    assert fitted == pytest.approx({z: n * share for z, n in counts.items()}, rel=1e-9)


def test_reference_energies_name_the_missing_element(ethanol):
    with pytest.raises(ValueError, match="no reference energy is given for C, O"):
        sum_reference_energies(ethanol, {1: -13.6})
    with pytest.raises(ValueError, match="need energies"):
        fit_reference_energies(replace(ethanol, energy=None))
