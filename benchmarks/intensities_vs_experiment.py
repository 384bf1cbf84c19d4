"""Absolute band areas against quantitative gas-phase infrared spectra.

    python benchmarks/intensities_vs_experiment.py run OUT --so3lr SO3LR
    python benchmarks/intensities_vs_experiment.py report OUT

``run`` computes, for every molecule with a quantitative measurement and every
potential that covers it, the harmonic spectrum and that of dynamics at 300 K;
interrupted, it goes on where it was. ``report`` writes
``intensities_vs_experiment.md`` beside this file.

Measured areas are facts read off the quantitative spectra of NIST (QUANT-IR, 0.5 cm⁻¹,
CAS numbers below), decadic areas times ln 10, in km/mol. Nothing is scaled or fitted:
windows are so wide that a band which theory puts 5 % too high stays inside.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from molpool_calc.infrared import run_infrared
from molpool_calc.infrared_job import InfraredJob
from molpool_calc.run_spectrum import spectrum_of_run
from molpool_calc.spectra import band_integral

HERE = Path(__file__).parent


class Measured(NamedTuple):
    """CAS number of a molecule, and areas (km/mol) of windows."""

    cas: str
    areas: Mapping[tuple[float, float], float]


MEASURED = {
    "acetone": Measured(
        "67-64-1",
        {
            (600, 1150): 13.54,
            (1150, 1330): 70.67,
            (1330, 1550): 104.28,
            (1550, 1950): 149.29,
            (2700, 3200): 48.52,
            (600, 3900): 396.54,
        },
    ),
    "acetonitrile": Measured(
        "75-05-8",
        {
            (600, 1330): 5.96,
            (1330, 1700): 23.17,
            (1950, 2700): 4.08,
            (2700, 3200): 6.66,
            (600, 3900): 42.22,
        },
    ),
    "isopropyl alcohol": Measured(
        "67-63-0",
        {
            (800, 1000): 44.71,
            (1000, 1150): 61.62,
            (1150, 1550): 130.06,
            (2700, 3200): 176.59,
            (3400, 3900): 17.55,
            (600, 3900): 448.0,
        },
    ),
}


def structure(name: str) -> Atoms:
    """Return a structure to relax; isopropyl alcohol in its gauche form."""
    if name == "isopropyl alcohol":
        return gauche_isopropanol()
    atoms: Atoms = molecule({"acetone": "CH3COCH3", "acetonitrile": "CH3CN"}[name])
    return atoms


def gauche_isopropanol() -> Atoms:
    """Return (CH3)2CHOH, H-O-C-H at 60°, from tetrahedral angles and usual lengths."""
    corner = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    symbols, positions = ["C"], [np.zeros(3)]
    for element, length, direction in zip(
        ("O", "C", "C", "H"), (1.43, 1.52, 1.52, 1.09), corner, strict=True
    ):
        symbols.append(element)
        positions.append(length * direction)
    for methyl in (2, 3):
        for hydrogen in _three_around(positions[methyl], positions[1]):
            symbols.append("H")
            positions.append(hydrogen)
    oxygen = positions[1]
    places = _three_around(oxygen, positions[2])
    # staggered: one is anti to the hydrogen of the carbon, two are beside it
    beside = max(places, key=lambda place: float(np.dot(place, corner[3])))
    symbols.append("H")
    positions.append(oxygen + 0.97 / 1.09 * (beside - oxygen))
    return Atoms(symbols, positions)


def _three_around(center: np.ndarray, reference: np.ndarray) -> list[np.ndarray]:
    """Return places 1.09 Å from an atom bonded to the origin, staggered."""
    axis = center / np.linalg.norm(center)
    across = reference - axis * (reference @ axis)
    across = -across / np.linalg.norm(across)  # anti to the reference
    third = np.cross(axis, across)
    return [
        center
        + 1.09
        * (axis / 3 + np.sqrt(8) / 3 * (np.cos(turn) * across + np.sin(turn) * third))
        for turn in (0.0, 2 * np.pi / 3, 4 * np.pi / 3)
    ]


def run(
    out: Path,
    potentials: Mapping[str, list[str]],
    picoseconds: float,
    replicas: int,
) -> None:
    """Compute what is missing, one folder for each molecule and potential."""
    for name, choices in potentials.items():
        for potential in choices:
            folder = out / f"{name.replace(' ', '-')}-{Path(potential).name}"
            if (folder / "areas.json").is_file():
                continue
            areas = computed_areas(name, potential, folder, picoseconds, replicas)
            text = json.dumps(areas, indent=1) + "\n"
            (folder / "areas.json").write_text(text, encoding="utf-8")
            print(folder, areas["total_seconds"], flush=True)


def computed_areas(
    name: str, potential: str, folder: Path, picoseconds: float, replicas: int
) -> dict[str, Any]:
    """Return harmonic and dynamic areas of the measured windows, in km/mol."""
    job = InfraredJob(picoseconds=picoseconds, replicas=replicas, temperature=300.0)
    result = run_infrared(
        structure(name),
        potential,
        folder,
        job,
        title=f"{name}, {potential}",
        resume=(folder / "run.json").is_file(),
    )
    spectrum, harmonic = spectrum_of_run(folder), result.harmonic
    rows = []
    for (low, high), measured in MEASURED[name].areas.items():
        inside = (harmonic.wavenumbers_cm1 > low) & (harmonic.wavenumbers_cm1 < high)
        area = band_integral(spectrum, low, high)
        rows.append(
            {
                "window_cm1": [low, high],
                "measured": measured,
                "harmonic": float(harmonic.ir_km_mol[inside].sum()),
                "dynamics": [area.value, area.lower, area.upper],
            }
        )
    return {
        "molecule": name,
        "potential": Path(potential).name,
        "threads": torch.get_num_threads(),
        "picoseconds": picoseconds,
        "replicas": job.replicas,
        "drift": result.describe()["drift_mev_per_atom_per_ps"],
        "total_seconds": result.seconds,
        "areas": rows,
    }


def report(out: Path) -> str:
    """Return all tables as Markdown."""
    lines = [
        "# Band areas against quantitative infrared spectra",
        "",
        "km/mol, measured: NIST QUANT-IR; harmonic and dynamics at 300 K with the 95 %",
        "interval over replicas. No frequency or intensity is scaled. Made by",
        "`python benchmarks/intensities_vs_experiment.py`.",
        "",
        "B3LYP/def2-SVPD, which `painn-acetone` was trained on, has the C=O stretch",
        "of acetone at 205 km/mol, a third above the measurement. The dipoles of",
        "SO3LR come from charges of atoms alone: C=O and the nitrile, whose intensity",
        "rests on a cancellation, come out too strong. A replica is one draw of mode",
        "energies, hence the wide intervals. Harmonic values are of one conformer.",
    ]
    found = [json.loads(path.read_text()) for path in sorted(out.glob("*/areas.json"))]
    for each in sorted(found, key=lambda content: content["molecule"]):
        lines += [
            "",
            f"## {each['molecule']}, {each['potential']}",
            "",
            f"{each['replicas']} replicas of {each['picoseconds']:g} ps, drift "
            f"{each['drift']:+.4f} meV/atom/ps.",
            "",
            "| window, cm⁻¹ | measured | harmonic | dynamics | 95 % |",
            "|---|---:|---:|---:|---|",
        ]
        for row in each["areas"]:
            low, high = row["window_cm1"]
            value, lower, upper = row["dynamics"]
            lines.append(
                f"| {low:g}-{high:g} | {row['measured']:.1f} | {row['harmonic']:.1f} "
                f"| {value:.1f} | {lower:.1f} to {upper:.1f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--so3lr", help="folder of the imported SO3LR potential")
    parser.add_argument("--only", choices=tuple(MEASURED), help="one molecule")
    parser.add_argument("--picoseconds", type=float, default=10.0)
    parser.add_argument("--replicas", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.what == "report":
        path = HERE / "intensities_vs_experiment.md"
        path.write_text(report(arguments.out), encoding="utf-8")
        return
    names = [arguments.only] if arguments.only else list(MEASURED)
    potentials = {
        name: [
            *(["painn-acetone"] if name == "acetone" else []),
            *([arguments.so3lr] if arguments.so3lr else []),
        ]
        for name in names
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    run(arguments.out, potentials, arguments.picoseconds, arguments.replicas)


if __name__ == "__main__":
    main()
