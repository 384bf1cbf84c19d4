"""Internal coordinates are complete and right, and modes get their known names."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from valence_fields import radii_of, skeleton, vibrations

from molpool_calc.assignment import (
    internal_coordinates,
    label_of,
    motion_shares,
    motions_of_modes,
    skeleton_of,
)
from molpool_calc.assignment.motions import OTHER, b_matrix
from molpool_calc.assignment.primitives import Primitive, gradient

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the reference vibrations are not here"
)
CENTRE = np.array(
    [[0.1, -0.2, 0.0], [1.1, 0.3, 0.2], [1.6, 1.5, -0.3], [2.9, 1.4, 0.4]]
)


def value(kind: str, atoms: Atoms) -> float:
    """What a primitive is, by ASE or by its definition."""
    if kind == "bond":
        return atoms.get_distance(0, 1)
    if kind == "angle":
        return np.radians(atoms.get_angle(0, 1, 2))
    if kind == "torsion":
        return np.radians(atoms.get_dihedral(0, 1, 2, 3))
    r = atoms.positions
    if kind == "linear":
        ends = [(r[k] - r[1]) / np.linalg.norm(r[k] - r[1]) for k in (0, 2)]
        return (ends[0] + ends[1]) @ np.array([0.6, 0.0, 0.8])
    a, b, c = ((r[k] - r[0]) / np.linalg.norm(r[k] - r[0]) for k in (1, 2, 3))
    return a @ np.cross(b, c)


@pytest.mark.parametrize(
    ("kind", "n"),
    [("bond", 2), ("angle", 3), ("linear", 3), ("torsion", 4), ("puckering", 4)],
)
def test_gradients_are_those_of_finite_differences(kind: str, n: int) -> None:
    atoms, step = Atoms("CCOH", CENTRE), 1e-5
    axis = (0.6, 0.0, 0.8) if kind == "linear" else (0.0, 0.0, 0.0)
    primitive = Primitive(kind=kind, atoms=tuple(range(n)), axis=axis)
    expected = np.zeros((n, 3))
    for atom, component in np.ndindex(n, 3):
        for sign in (1.0, -1.0):
            atoms.positions = CENTRE
            atoms.positions[atom, component] += sign * step
            expected[atom, component] += sign * value(kind, atoms) / (2.0 * step)
    found = gradient(primitive, CENTRE)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    frames = gradient(primitive, np.stack([CENTRE, 2.0 * CENTRE])[None])
    np.testing.assert_allclose(frames[0, 0], found)


@pytest.mark.parametrize(
    "name",
    [
        *("H2O", "NH3", "CH4", "C2H2", "C2H4", "C2H6", "H2CO", "HCN", "CO2"),
        *("CH3OH", "CH3CH2OH", "CH3CHO", "CH3CN", "HCOOH", "H3CNH2", "CH3COCH3"),
        *("C3H8", "isobutane", "C6H6", "CH3SH", "H2CCO", "cyclobutane"),
    ],
)
def test_internal_coordinates_span_all_vibrations(name: str) -> None:
    atoms = molecule(name)
    b = b_matrix(internal_coordinates(skeleton(atoms)), atoms.positions)
    is_linear = name in {"C2H2", "HCN", "CO2"}
    free = 3 * len(atoms) - (5 if is_linear else 6)
    assert np.linalg.matrix_rank(b, tol=1e-6) == free
    # nothing in them changes when the molecule moves or turns as a whole
    turned = [np.cross(axis, atoms.positions).ravel() for axis in np.eye(3)]
    shifts = [np.tile(axis, len(atoms)) for axis in np.eye(3)]
    np.testing.assert_allclose(b @ np.array(shifts).T, 0.0, atol=1e-10)
    if not is_linear:  # whose bends are fixed to axes
        np.testing.assert_allclose(b @ np.array(turned).T, 0.0, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "motions"),
    [
        ("H2O", {"HOH bend", "H2O s-stretch", "H2O a-stretch"}),
        ("C2H2", {"CCH bend", "C≡C stretch", "C–H stretch"}),
        ("CH3CN", {"C≡N stretch", "C–C stretch", "CCN bend", "CH3 s-deform"}),
        ("CH3COCH3", {"CCC a-stretch", "C=O out-of-plane bend", "C–C torsion"}),
        ("CH3CH2OH", {"CH2 twist", "O–H stretch", "COH bend", "CH3 d-deform"}),
        ("C2H4", {"C=C stretch", "CH2 wag", "C=C torsion"}),
        ("CO", {"C≡O stretch"}),
        ("CO2", {"OCO bend", "OCO a-stretch"}),
    ],
)
def test_motions_have_the_names_of_chemistry(name: str, motions: set[str]) -> None:
    found = internal_coordinates(skeleton(molecule(name)))
    assert {coordinate.motion for coordinate in found} >= motions


def labels(coordinates, atoms, modes):
    shares = motion_shares(coordinates, atoms.positions, atoms.get_masses(), modes)
    return [label_of(motions) for motions in motions_of_modes(shares)], shares


def test_water_is_one_bend_and_two_stretches() -> None:
    """As assigned since Mecke 1933; in a valence force field the split is exact."""
    atoms = molecule("H2O")
    coordinates, spectrum = vibrations(atoms)
    found, shares = labels(coordinates, atoms, spectrum.modes)
    assert found == ["HOH bend", "H2O s-stretch", "H2O a-stretch"]
    assert shares["HOH bend"][0] > 0.99
    assert shares["H2O a-stretch"][2] == pytest.approx(1.0, abs=1e-9)


def test_shares_sum_to_one_and_depend_on_no_orientation() -> None:
    atoms = molecule("CH3CH2OH")
    coordinates, spectrum = vibrations(atoms)
    _, shares = labels(coordinates, atoms, spectrum.modes)
    total = np.sum(list(shares.values()), axis=0)
    np.testing.assert_allclose(total, 1.0, atol=1e-9)
    assert OTHER not in shares
    assert min(share.min() for share in shares.values()) >= 0.0
    turned = atoms.copy()
    turned.rotate(67.0, (1.0, 2.0, -0.5))
    turned.positions += 3.0
    coordinates, again = vibrations(turned)
    _, found = labels(coordinates, turned, again.modes)
    for motion, share in shares.items():
        np.testing.assert_allclose(found[motion], share, atol=1e-6)


def test_what_no_coordinate_describes_is_named_other() -> None:
    water = molecule("H2O")
    far = water.copy()
    far.positions += [0.0, 0.0, 3.0]
    dimer = water + far
    coordinates = internal_coordinates(skeleton(dimer))
    modes = np.linalg.qr(np.random.default_rng(0).normal(size=(18, 18)))[0]
    shares = motion_shares(
        coordinates, dimer.positions, dimer.get_masses(), modes.reshape(18, 6, 3)
    )
    # 18 directions, 6 of which are inside the molecules
    assert shares[OTHER].sum() == pytest.approx(12.0, abs=1e-6)
    alone = motion_shares([], np.zeros((1, 3)), np.ones(1), np.ones((3, 1, 3)))
    np.testing.assert_allclose(alone[OTHER], 1.0)


def reference_labels(name: str) -> list[str]:
    """Names of the modes of B3LYP/def2-SVPD, by ascending wavenumber."""
    content = json.loads((SHARED / "harmonic_reference.json").read_text())
    mode = content[f"{name}|b3lyp/def2-svpd"]
    symbols = tuple(mode["symbols"])
    atoms = Atoms(symbols, mode["positions_A"])
    found = internal_coordinates(
        skeleton_of(symbols, atoms.positions, radii_of(symbols))
    )
    modes = np.array(mode["modes_massweighted"]).reshape(-1, len(atoms), 3)
    return labels(found, atoms, modes)[0]


@needs_shared
def test_formaldehyde_has_the_assignment_of_the_tables() -> None:
    """Fundamentals of NIST CCCBDB in ascending order, without symmetry species."""
    tables = json.loads((SHARED / "experimental" / "fundamentals.json").read_text())
    known = tables["molecules"]["formaldehyde"]["labels"]
    assert [label.replace("CO stretch", "C=O stretch") for label in known] == [
        f"{species.split()[0]} {found}"
        for species, found in zip(known, reference_labels("formaldehyde"), strict=True)
    ]


@needs_shared
def test_methanol_has_the_assignment_of_the_tables() -> None:
    """Shimanouchi 1972; the CO stretch and the rock at 1033 and 1060 mix strongly."""
    found = reference_labels("methanol")
    assert found[0] == "C–O torsion"
    assert "C–O stretch" in found[1] + found[2]
    assert "CH3 rock" in found[1] + found[2]
    assert found[3:] == [
        "CH3 rock",
        "COH bend",
        "CH3 s-deform",
        *["CH3 d-deform"] * 2,
        "CH3 s-stretch",
        *["CH3 d-stretch"] * 2,
        "O–H stretch",
    ]


@needs_shared
@pytest.mark.parametrize("name", ["ethanol_trans", "ethanol_gauche"])
def test_ethanol_ends_with_its_hydroxyl_stretch(name: str) -> None:
    found = reference_labels(name)
    assert found[-1] == "O–H stretch"
    assert found[2] == "CCO bend"
    assert all("CH" in label and "stretch" in label for label in found[15:20])
    assert {"C–C torsion", "C–O torsion"} == set(found[:2])


@needs_shared
def test_ammonia_has_an_umbrella_and_carbon_dioxide_two_bends() -> None:
    assert reference_labels("ammonia")[0] == "NH3 umbrella"
    assert reference_labels("carbon_dioxide") == [
        *["OCO bend"] * 2,
        "OCO s-stretch",
        "OCO a-stretch",
    ]
