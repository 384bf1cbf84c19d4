"""Every back end and every history gives the one exact neighbor list.

The reference enumerates images by brute force in integer arithmetic: all lengths are
multiples of 1/8 Å, exact in floating point, so pairs exactly at the cutoff and atoms
at the same place are common, and any difference is an error.
"""

import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from molpool_calc.atoms import atoms_from_batch, batch_from_atoms
from molpool_calc.neighbors import (
    VerletList,
    VerletLists,
    complete_pairs,
    dense_pairs,
    neighbor_list,
)
from molpool_calc.neighbors.backends import candidate_pairs

CPU = torch.device("cpu")
UNIT = 8  # lengths are integers divided by it
needs_torch_cluster = pytest.mark.skipif(
    find_spec("torch_cluster") is None, reason="torch-cluster is not installed"
)
BACKENDS = [
    "vesin",
    "matscipy",
    "ase",
    "dense",
    "cells",
    pytest.param("torch-cluster", marks=needs_torch_cluster),
]


@dataclass(frozen=True)
class Box:
    """A system in units of 1/8 Å."""

    points: tuple
    cell: tuple = ((0, 0, 0),) * 3
    pbc: tuple = (False, False, False)
    origin: int = 0

    def atoms(self):
        points = np.array(self.points).reshape(-1, 3) + self.origin
        return Atoms(
            f"H{len(points)}",
            points / UNIT,
            cell=np.array(self.cell) / UNIT,
            pbc=self.pbc,
        )


def batch_of(*structures, dtype=torch.float64):
    return batch_from_atoms(structures, dtype=dtype, device=CPU)


def columns(pairs):
    shift = pairs.shift
    return (
        pairs.center.tolist(),
        pairs.neighbor.tolist(),
        None if shift is None else shift.tolist(),
    )


def assert_same(pairs, expected):
    assert torch.equal(pairs.center, expected.center)
    assert torch.equal(pairs.neighbor, expected.neighbor)
    assert (pairs.shift is None) == (expected.shift is None)
    if pairs.shift is not None:
        assert pairs.shift.dtype == expected.shift.dtype
        assert torch.equal(pairs.shift, expected.shift)


def image_range(box, cutoff):
    """How many cells an image can be away, from the distances of lattice planes."""
    points = np.array(box.points).reshape(-1, 3)
    diameter = np.linalg.norm(np.ptp(points, axis=0))
    periodic = np.array(box.cell)[list(box.pbc)]
    planes = np.zeros(3)
    if len(periodic):
        planes[list(box.pbc)] = np.linalg.norm(np.linalg.pinv(periodic), axis=0)
    return np.ceil((cutoff + diameter) * planes).astype(int) + 1 * np.array(box.pbc)


def brute_force(boxes, cutoff):
    """All (center, neighbor, shift) closer than the cutoff, in canonical order."""
    rows, first = [], 0
    for box in boxes:
        points = np.array(box.points).reshape(-1, 3)
        reach = image_range(box, cutoff)
        images = np.array(list(product(*(range(-n, n + 1) for n in reach))))
        for i, j in product(range(len(points)), repeat=2):
            vectors = points[j] - points[i] + images @ np.array(box.cell)
            near = (vectors**2).sum(1) < cutoff**2
            if i == j:
                near &= images.any(1)
            rows += [(first + i, first + j, *shift) for shift in images[near].tolist()]
        first += len(points)
    return sorted(rows)


def lattices(draw, kind):
    """Lattice vectors and periodicity of one of the kinds that broke other codes."""
    edge = st.integers(12, 60)
    tilt = st.integers(-20, 20)
    if kind == "no cell":
        return ((0, 0, 0),) * 3, (False,) * 3
    if kind == "dummy cell":
        return ((8, 0, 0), (0, 8, 0), (0, 0, 8)), (False,) * 3
    if kind == "zero third vector":
        return (draw_row(draw, 0, edge), draw_row(draw, 1, edge), (0, 0, 0)), (
            True,
            True,
            False,
        )
    if kind == "tiny cell":
        return ((10, 0, 0), (3, 11, 0), (0, -2, 12)), (True,) * 3
    skewed = (
        (draw(edge), 0, 0),
        (draw(tilt), draw(edge), 0),
        (draw(tilt), draw(tilt), draw(edge)),
    )
    order = draw(st.permutations(range(3)))
    cell = tuple(skewed[k] for k in order)
    if kind == "triclinic":
        return cell, (True,) * 3
    return cell, draw(st.sampled_from([p for p in product((0, 1), repeat=3) if any(p)]))


def draw_row(draw, axis, edge):
    row = [0, 0, 0]
    row[axis] = draw(edge)
    return tuple(row)


KINDS = (
    "no cell",
    "dummy cell",
    "mixed pbc",
    "zero third vector",
    "tiny cell",
    "triclinic",
)


PERIODIC = KINDS[2:]


@st.composite
def boxes(draw, kind):
    cell, pbc = lattices(draw, kind)
    coordinate = st.integers(-24, 24)
    points = draw(
        st.lists(st.tuples(coordinate, coordinate, coordinate), min_size=1, max_size=6)
    )
    origin = draw(st.sampled_from([0, 10_000 * UNIT, -10_000 * UNIT]))
    return Box(tuple(points), cell, tuple(map(bool, pbc)), origin)


def assert_brute_force(backend, systems, cutoff):
    batch = batch_of(*(box.atoms() for box in systems))
    center, neighbor, shift = columns(
        neighbor_list(batch, cutoff / UNIT, backend=backend)
    )
    assert (shift is not None) == any(any(box.pbc) for box in systems)
    if shift is None:
        shift = [[0, 0, 0]] * len(center)
    found = [(i, j, *s) for i, j, s in zip(center, neighbor, shift, strict=True)]
    assert found == brute_force(systems, cutoff)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=20, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_the_list_is_that_of_brute_force(backend, kind, data):
    if backend == "torch-cluster" and kind in PERIODIC:
        return  # refused, see below
    others = KINDS[:2] if backend == "torch-cluster" else KINDS
    kinds = [kind, *data.draw(st.lists(st.sampled_from(others), max_size=2))]
    systems = [data.draw(boxes(kind)) for kind in data.draw(st.permutations(kinds))]
    assert_brute_force(backend, systems, data.draw(st.integers(6, 40)))


AT_THE_CUTOFF = Box(((0, 0, 0), (24, 32, 0), (0, 0, 40), (0, 0, 39)))
SAME_PLACE = Box(((3, 4, 5), (3, 4, 5), (8, 8, 8)))
PLANAR = Box(((0, 0, 1), (8, 0, 1), (0, 8, 1), (8, 8, 1)))
FAR_APART = Box(((0, 0, 0), (8, 0, 0), (80000, 80000, 80000), (80000, 80008, 80000)))
SELF_IMAGES = Box(((50, 0, -70),), ((16, 0, 0), (0, 24, 0), (0, 0, 32)), (True,) * 3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("systems", "cutoff"),
    [
        ([AT_THE_CUTOFF], 40),
        ([SAME_PLACE], 8),
        ([PLANAR, AT_THE_CUTOFF], 9),
        ([Box(((0, 0, 0),))], 40),
        ([Box(((0, 0, 0), (99, 0, 0)))], 40),
        ([Box(((0, 0, 0), (99, 0, 0))), Box(((0, 0, 0),)), SAME_PLACE], 40),
        ([FAR_APART], 9),
    ],
)
def test_the_list_of_hard_molecules_is_that_of_brute_force(backend, systems, cutoff):
    assert_brute_force(backend, systems, cutoff)


@pytest.mark.parametrize("backend", BACKENDS[:5])
def test_an_atom_sees_its_images_below_the_cutoff_and_not_at_it(backend):
    assert_brute_force(backend, [SELF_IMAGES, SAME_PLACE], 32)
    assert_brute_force(backend, [SELF_IMAGES, SAME_PLACE], 33)


@needs_torch_cluster
def test_torch_cluster_refuses_periodic_systems():
    with pytest.raises(ValueError, match="finds no periodic images; use"):
        neighbor_list(
            batch_of(molecule("H2O"), water_box(1)), 5.0, backend="torch-cluster"
        )


def water_box(n_molecules, seed=0):
    """Molecules at random angles on a grid, at the density of water."""
    rng = np.random.default_rng(seed)
    edge = (n_molecules * 29.9) ** (1 / 3)
    side = int(np.ceil(n_molecules ** (1 / 3)))
    water, box = molecule("H2O"), Atoms(cell=[edge] * 3, pbc=True)
    for place in list(product(range(side), repeat=3))[:n_molecules]:
        one = water.copy()
        one.rotate(rng.uniform(0, 360), rng.normal(size=3))
        one.translate(np.array(place) * edge / side + rng.normal(0, 0.2, 3))
        box += one
    return box


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["matscipy", "ase", "dense", "cells"])
def test_back_ends_agree_bit_for_bit_on_water(backend, dtype):
    box = water_box(20)
    box.positions += 8 * box.cell[0]  # far outside the cell
    strained = box.copy()
    strained.set_cell(box.cell.array + 0.3 * np.eye(3)[[1, 2, 0]], scale_atoms=True)
    batch = batch_of(box, strained, dtype=dtype)
    found = neighbor_list(batch, 5.0, backend=backend)
    assert len(found.center) > 5000
    assert found.shift.dtype == dtype
    assert_same(found, neighbor_list(batch, 5.0))


@pytest.mark.parametrize("backend", BACKENDS[:5])
def test_a_rounding_error_decides_at_the_cutoff_in_every_back_end(backend):
    rng = np.random.default_rng(0)
    box = water_box(4)
    box.positions += 3000 * rng.integers(-1, 2, (12, 3)) @ box.cell.array
    batch = batch_of(box)
    pairs = [*zip(*columns(neighbor_list(batch, 3.0)), strict=True)]
    for i, j, shift in pairs[::5]:
        offset = sum(s * row for s, row in zip(shift, box.cell.array, strict=True))
        distance = np.linalg.norm(box.positions[j] - box.positions[i] + offset)
        for factor in (1 - 1e-15, 1 + 1e-15):
            found = neighbor_list(batch, distance * factor, backend=backend)
            rows = [*zip(*columns(found), strict=True)]
            assert ((i, j, shift) in rows) == (factor > 1)
            assert ((j, i, [-s for s in shift]) in rows) == (factor > 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_back_end_truncates_a_cluster_of_200_atoms(backend):
    points = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    atoms = Atoms("H200", points)
    batch = batch_of(atoms, atoms[:7], atoms)
    pairs = neighbor_list(batch, 4.0, backend=backend)
    assert len(pairs.center) == 2 * 200 * 199 + 7 * 6
    assert_same(pairs, complete_pairs(batch))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_chain_much_longer_than_the_cutoff_is_searched_to_its_ends(backend):
    chain = np.zeros((160, 3))
    chain[:, 0] = np.arange(160) * 1.5
    pairs = neighbor_list(batch_of(Atoms("C160", chain)), 2.0, backend=backend)
    assert len(pairs.center) == 2 * 159


def test_a_dense_search_in_many_chunks_misses_nothing(monkeypatch):
    batch = batch_of(water_box(4), molecule("C6H6"), water_box(3))
    monkeypatch.setattr("molpool_calc.neighbors.backends.CHUNK", 1000)
    assert_same(neighbor_list(batch, 4.0, backend="dense"), neighbor_list(batch, 4.0))


def test_pairs_are_sorted_even_when_shifts_do_not_fit_into_one_integer():
    cell = np.eye(3) * 2.0
    near = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0.25], [0, 1, 1]])
    cells = np.array([[0, 0, 0], [4_000_000] * 3, [-3_000_000, 0, 7], [0, 5, 0]])
    close = neighbor_list(batch_of(Atoms("H4", near, cell=cell, pbc=True)), 3.0)
    far = neighbor_list(
        batch_of(Atoms("H4", near + cells @ cell, cell=cell, pbc=True)), 3.0
    )
    moved = close.shift + torch.from_numpy(cells[close.center] - cells[close.neighbor])
    rows = zip(*columns(replace(close, shift=moved)), strict=True)
    assert list(zip(*columns(far), strict=True)) == sorted(rows)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_position_that_is_not_finite_is_named_by_its_atom(backend, value):
    broken = molecule("CH4")
    broken.positions[3, 2] = value
    with pytest.raises(ValueError, match=r"^atom 3 is at \[.*finite"):
        neighbor_list(batch_of(broken), 5.0, backend=backend)
    with pytest.raises(ValueError, match=r"^atom 3 of system 1 is at \[.*finite"):
        neighbor_list(batch_of(molecule("H2O"), broken), 5.0, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_batch_is_left_as_it_was(backend):
    atoms = molecule("C6H6")
    batch = batch_of(atoms, atoms)
    batch.positions.requires_grad_()
    before = batch.positions.detach().clone()
    pairs = neighbor_list(batch, 3.0, backend=backend)
    assert torch.equal(batch.positions, before)
    assert not pairs.center.requires_grad


@pytest.mark.parametrize("cutoff", [0.0, -1.0, float("nan")])
def test_a_cutoff_that_is_no_length_is_refused(cutoff):
    with pytest.raises(ValueError, match="must be a positive number of Å"):
        neighbor_list(batch_of(molecule("H2O")), cutoff)


def test_an_infinite_cutoff_gives_all_pairs_of_molecules_and_no_crystal():
    batch = batch_of(molecule("CH4"), molecule("H2O"))
    pairs = neighbor_list(batch, float("inf"))
    assert torch.equal(pairs.center, complete_pairs(batch).center)
    kept = VerletList(float("inf"), 1.0, n_complete=2)
    assert torch.equal(kept.update(batch).neighbor, pairs.neighbor)
    moved = replace(batch, positions=batch.positions * 100.0)
    assert torch.equal(kept.update(moved).neighbor, pairs.neighbor)
    assert kept.n_builds == 1
    with pytest.raises(ValueError, match="periodic"):
        neighbor_list(batch_of(bulk("Cu")), float("inf"))


@pytest.mark.parametrize(
    "cell",
    [
        np.zeros((3, 3)),
        [[5, 0, 0], [0, 5, 0], [0, 0, 0]],
        [[1, 2, 0]] * 2 + [[0, 0, 1]],
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_periodic_direction_without_a_lattice_vector_is_refused(backend, cell):
    batch = batch_of(molecule("H2O"), Atoms("H", cell=cell, pbc=True))
    with pytest.raises(ValueError, match=r"system 1 has pbc \[True.*switch pbc off"):
        neighbor_list(batch, 5.0, backend=backend)


def test_a_cell_that_is_not_finite_is_refused():
    box = Atoms("H", cell=[np.nan, 5, 5], pbc=True)
    with pytest.raises(ValueError, match="lattice vectors must be finite"):
        neighbor_list(batch_of(box), 5.0)


def test_a_long_thin_cell_is_no_degenerate_cell():
    batch = batch_of(Atoms("H", cell=[1, 1, 1e5], pbc=True))
    assert len(neighbor_list(batch, 1.1).center) == 4


def test_an_unknown_back_end_is_refused():
    with pytest.raises(ValueError, match="choose one of vesin, matscipy, ase"):
        candidate_pairs(batch_of(molecule("H2O")), 5.0, "verlet")


def test_a_missing_torch_cluster_is_answered_with_the_line_that_installs_it(
    monkeypatch,
):
    monkeypatch.setitem(sys.modules, "torch_cluster", None)
    line = "pip install torch-cluster==1.6.3 --no-build-isolation"
    with pytest.raises(ImportError, match=line):
        neighbor_list(batch_of(molecule("H2O")), 5.0, backend="torch-cluster")


def test_complete_pairs_are_all_ordered_pairs_of_each_molecule():
    batch = batch_of(*(molecule(name) for name in ("H2O", "H", "CH4", "H2")))
    sizes = [3, 1, 5, 2]
    starts = np.cumsum([0, *sizes[:-1]])
    expected = [
        (start + i, start + j)
        for start, size in zip(starts, sizes, strict=True)
        for i, j in product(range(size), repeat=2)
        if i != j
    ]
    center, neighbor, shift = columns(complete_pairs(batch))
    assert list(zip(center, neighbor, strict=True)) == expected
    assert shift is None


def test_complete_pairs_of_a_periodic_system_are_refused():
    with pytest.raises(ValueError, match="use neighbor_list with a cutoff"):
        complete_pairs(batch_of(molecule("H2O"), water_box(1)))


def test_dense_pairs_are_complete_pairs_and_each_atom_with_itself():
    batch = batch_of(molecule("CH4"), molecule("CH3Cl"), molecule("CH4"))
    dense = dense_pairs(batch)
    assert dense.n_dense == 5
    center, neighbor = dense.center.tolist(), dense.neighbor.tolist()
    pairs = list(zip(center, neighbor, strict=True))
    itself = [(atom, atom) for atom in range(15)]
    center, neighbor, _ = columns(complete_pairs(batch))
    assert pairs == sorted([*zip(center, neighbor, strict=True), *itself])


def test_molecules_of_different_sizes_have_no_dense_pairs():
    assert dense_pairs(batch_of(molecule("CH4"), molecule("H2O"))) is None


def test_dense_pairs_of_a_periodic_system_are_refused():
    with pytest.raises(ValueError, match="use neighbor_list with a cutoff"):
        dense_pairs(batch_of(water_box(1)))


def run(verlet, frames, cutoff):
    """Follow a trajectory and compare each list with a fresh one, bit for bit."""
    for frame in frames:
        assert_same(verlet.update(frame), neighbor_list(frame, cutoff))


def random_walk(start, n_frames, step, seed=0):
    rng = np.random.default_rng(seed)
    atoms = start.copy()
    for _ in range(n_frames):
        atoms.positions += rng.normal(0, step, atoms.positions.shape)
        yield batch_of(atoms)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_walking_molecule_has_fresh_lists_from_few_searches(backend):
    dimer = molecule("C6H6") + molecule("C6H6")
    dimer.positions[12:, 2] += 4
    verlet = VerletList(4.0, 1.0, backend)
    run(verlet, random_walk(dimer, 60, 0.03), 4.0)
    assert verlet.n_updates == 60
    assert 2 <= verlet.n_builds <= 15


def npt_frames(n_frames, scale_atoms=True):
    rng = np.random.default_rng(1)
    atoms = water_box(12)
    for _ in range(n_frames):
        strain = np.eye(3) + rng.normal(0, 0.006, (3, 3)) - 0.004 * np.eye(3)
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=scale_atoms)
        atoms.positions += rng.normal(0, 0.01, atoms.positions.shape)
        yield batch_of(atoms)


@pytest.mark.parametrize("scale_atoms", [True, False])
def test_a_strained_cell_has_fresh_lists_from_few_searches(scale_atoms):
    verlet = VerletList(4.0, 1.0)
    run(verlet, npt_frames(50, scale_atoms), 4.0)
    assert 2 <= verlet.n_builds <= 20


def test_a_batch_of_slabs_and_molecules_has_fresh_lists():
    rng = np.random.default_rng(2)
    slab = water_box(6)
    slab.pbc = (True, False, True)
    slab.cell[1] = 0
    systems = [slab, molecule("C6H6"), water_box(5)]
    verlet = VerletList(3.5, 0.8)

    def frames():
        for _ in range(40):
            for atoms in systems:
                atoms.positions += rng.normal(0, 0.03, atoms.positions.shape)
            strain = np.eye(3) + rng.normal(0, 0.008, (3, 3))
            slab.set_cell(slab.cell.array @ strain, scale_atoms=False)
            yield batch_of(*systems)

    run(verlet, frames(), 3.5)
    assert 2 <= verlet.n_builds <= 20


def test_big_jumps_have_fresh_lists():
    rng = np.random.default_rng(3)
    box = water_box(8)

    def frames():
        for _ in range(15):
            box.positions += rng.choice([0, 0.01, 3, 100]) * rng.normal(size=(24, 3))
            box.positions[rng.integers(24)] += box.cell[rng.integers(3)]  # rewrapped
            yield batch_of(box)

    run(VerletList(3.0, 1.0), frames(), 3.0)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(
    strain=st.lists(st.floats(-0.12, 0.12), min_size=9, max_size=9),
    amplitude=st.floats(0, 0.6),
    seed=st.integers(0, 1000),
    affine=st.booleans(),
)
def test_any_motion_and_any_strain_have_fresh_lists(strain, amplitude, seed, affine):
    rng = np.random.default_rng(seed)
    start = Atoms(
        "H8", rng.uniform(0, 4, (8, 3)), cell=rng.uniform(3, 5, 3), pbc=(1, 1, seed % 2)
    )
    end = start.copy()
    deformation = np.eye(3) + np.reshape(strain, (3, 3)) * rng.choice([0, 0.1, 1])
    end.set_cell(start.cell.array @ deformation, scale_atoms=affine)
    directions = rng.normal(size=(8, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    end.positions += amplitude * directions
    verlet = VerletList(3.0, 1.0)
    run(verlet, [batch_of(start), batch_of(end)], 3.0)


@pytest.mark.parametrize(("each_moves", "n_builds"), [(0.499, 1), (0.501, 2)])
def test_two_atoms_may_each_come_nearer_by_half_the_skin(each_moves, n_builds):
    atoms = Atoms("H2", [[0, 0, 0], [4.001, 0, 0]])
    verlet = VerletList(3.0, 1.0, n_complete=0)
    verlet.update(batch_of(atoms))
    atoms.positions[:, 0] += [each_moves, -each_moves]
    found = verlet.update(batch_of(atoms))
    assert len(found.center) == (0 if n_builds == 1 else 2)
    assert verlet.n_builds == n_builds


@pytest.mark.parametrize(("factor", "n_builds"), [(0.751, 1), (0.749, 2)])
def test_a_cell_may_shrink_until_the_skin_is_used_up(factor, n_builds):
    atoms = Atoms("H2", [[9, 9, 9], [13.001, 9, 9]], cell=[20] * 3, pbc=True)
    verlet = VerletList(3.0, 1.0)
    verlet.update(batch_of(atoms))
    atoms.set_cell(atoms.cell.array * factor, scale_atoms=True)
    found = verlet.update(batch_of(atoms))
    assert len(found.center) == (0 if n_builds == 1 else 2)
    assert verlet.n_builds == n_builds


def test_an_affine_expansion_about_the_center_needs_no_search():
    box = water_box(12)
    verlet = VerletList(4.0, 1.0)
    verlet.update(batch_of(box))
    center = box.positions.mean(0) + 50.0
    box.set_cell(box.cell.array * 1.05)
    box.positions = center + 1.05 * (box.positions - center)
    run(verlet, [batch_of(box)], 4.0)
    assert verlet.n_builds == 1


def test_a_turned_system_needs_no_search():
    box = water_box(6)
    verlet = VerletList(4.0, 1.0)
    verlet.update(batch_of(box))
    box.rotate(70, (1, 2, 3), rotate_cell=True)
    verlet.update(batch_of(box))
    assert verlet.n_builds == 1


def test_another_dummy_cell_of_a_molecule_needs_no_search():
    benzene = molecule("C6H6")
    verlet = VerletList(2.0, 1.0, n_complete=0)
    verlet.update(batch_of(benzene))
    benzene.set_cell([1, 1, 1])
    verlet.update(batch_of(benzene))
    assert verlet.n_builds == 1


@pytest.mark.parametrize("change", ["species", "count", "pbc", "sizes", "in place"])
@pytest.mark.parametrize("n_complete", [0, 12])
def test_another_system_is_searched_anew(change, n_complete):
    atoms = Atoms("H4", np.arange(12.0).reshape(4, 3) / 5, cell=[4] * 3)
    batch = batch_of(atoms, atoms[:3], atoms[:3])
    verlet = VerletList(2.5, 1.0, n_complete=n_complete)
    verlet.update(batch)
    if change == "species":
        atoms.numbers[2] = 6
    elif change == "pbc":
        atoms.pbc = (False, True, False)
    other = batch_of(atoms, atoms[:3], atoms[:3])
    if change == "sizes":
        other = batch_of(atoms[:3], atoms, atoms[:3])
    elif change == "count":
        other = batch_of(atoms, atoms[:3])
    elif change == "in place":
        other = batch
        other.atomic_numbers[0] = 9
    found = verlet.update(other)
    assert verlet.n_builds == 2
    if n_complete == 0 or change == "pbc":
        assert_same(found, neighbor_list(other, 2.5))
    else:
        assert_same(found, dense_pairs(other) or complete_pairs(other))


def test_positions_changed_in_place_are_noticed():
    batch = batch_of(molecule("C6H6"))
    verlet = VerletList(2.0, 0.5, n_complete=0)
    verlet.update(batch)
    batch.positions.mul_(0.3)
    found = verlet.update(batch)
    assert len(found.center) == 12 * 11
    assert_same(found, neighbor_list(batch, 2.0))


def test_small_molecules_keep_their_complete_pairs():
    frames = list(random_walk(molecule("CH3CH2OH"), 20, 1.0))
    verlet = VerletList(2.0, 0.5)
    first = verlet.update(frames[0])
    assert_same(first, dense_pairs(frames[0]))
    assert all(verlet.update(frame) is first for frame in frames)
    assert (verlet.n_updates, verlet.n_builds) == (21, 1)


def test_without_a_skin_every_update_searches():
    verlet = VerletList(2.0, 0.0)
    run(verlet, random_walk(water_box(3), 5, 0.01), 2.0)
    assert verlet.n_builds == 5


def test_float32_positions_have_the_list_of_these_positions():
    verlet = VerletList(4.0, 1.0)
    rng = np.random.default_rng(0)
    box = water_box(6)
    for _ in range(20):
        box.positions += rng.normal(0, 0.03, box.positions.shape)
        frame = batch_of(box, dtype=torch.float32)
        double = replace(frame, positions=frame.positions.double())
        double = replace(double, cell=frame.cell.double())
        found, expected = verlet.update(frame), neighbor_list(double, 4.0)
        assert found.shift.dtype == torch.float32
        assert columns(found) == columns(expected)
    assert verlet.n_builds < 10


@pytest.mark.parametrize("lists", [VerletList, VerletLists])
def test_a_position_that_breaks_along_the_way_is_reported(lists):
    verlet = lists(2.0, 1.0)
    frames = list(random_walk(water_box(5), 2, 0.01))
    verlet.update(frames[0])
    frames[1].positions[7] = torch.nan
    with pytest.raises(ValueError, match=r"^atom 7 is at \[nan"):
        verlet.update(frames[1])
    assert_same(verlet.update(frames[0]), neighbor_list(frames[0], 2.0))


def test_a_negative_skin_is_refused():
    with pytest.raises(ValueError, match="must be 0 or more Å"):
        VerletList(2.0, -0.5)


def test_images_of_a_path_that_take_turns_are_searched_once_each():
    rng = np.random.default_rng(0)
    images = [water_box(5, seed) for seed in range(6)]
    verlet = VerletLists(3.0, 1.0)
    for _ in range(10):
        for atoms in images:
            atoms.positions += rng.normal(0, 0.01, atoms.positions.shape)
            frame = batch_of(atoms)
            assert_same(verlet.update(frame), neighbor_list(frame, 3.0))
    assert (verlet.n_updates, verlet.n_builds) == (60, 6)


@pytest.mark.parametrize("limits", [{"n_lists": 2}, {"n_pairs": 1000}])
def test_the_list_unused_for_longest_makes_room(limits):
    a, b, c = (batch_of(water_box(5, seed)) for seed in range(3))
    kept = VerletList(3.0, 1.0)
    kept.update(a)
    assert 334 < kept.n_pairs_kept < 500  # so that two lists fit, and three do not
    verlet = VerletLists(3.0, 1.0, **limits)
    for frame, n_builds in ((a, 1), (b, 2), (a, 2), (c, 3), (a, 3), (b, 4), (c, 5)):
        verlet.update(frame)
        assert verlet.n_builds == n_builds


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS[:5])
def test_lists_on_a_gpu_are_those_on_the_cpu(backend):
    verlet = VerletList(4.0, 1.0, backend)
    for frame in npt_frames(5):
        moved = batch_from_atoms(
            atoms_from_batch(frame), dtype=torch.float64, device=torch.device("cuda")
        )
        found = verlet.update(moved)
        assert found.center.device.type == "cuda"
        assert columns(found) == columns(neighbor_list(frame, 4.0))


@pytest.mark.gpu
@needs_torch_cluster
def test_torch_cluster_truncates_nothing_on_a_gpu():
    points = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    batch = batch_from_atoms(
        [Atoms("H200", points)], dtype=torch.float64, device=torch.device("cuda")
    )
    pairs = neighbor_list(batch, 4.0, backend="torch-cluster")
    assert_same(pairs, complete_pairs(batch))
