"""Tables of ``poolings.py`` from the trained folders, as Markdown and JSON.

Mean absolute errors on test frames come from ``potential.json``. For ethanol, the
drift comes from ``molpool audit``, band positions are the harmonic wavenumbers of both
conformers against the density functional reference, and a step is one evaluation of
energy, forces and dipole by the ASE calculator after a displacement, one thread.
"""

import json
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from molpool_calc import MolPoolCalculator, load_potential
from molpool_calc.audit import audit
from molpool_calc.statics import harmonic_spectrum, relax
from molpool_calc.storage import save_audit
from molpool_calc.units import COULOMB, DEBYE

HERE = Path(__file__).parent
CONFORMERS = ("ethanol_trans", "ethanol_gauche")
LEVEL = "b3lyp/def2-svpd"
QM7B_COLUMNS = {
    "homo": ("HOMO (GW), meV", 1000.0),
    "lumo": ("LUMO (GW), meV", 1000.0),
    "isotropic_polarizability": ("polarizability (PBE0), Å³", COULOMB),
    "atomization_energy": ("atomization energy, meV", 1000.0),
}
ETHANOL_COLUMNS = {
    "energy": ("energy, meV", 1000.0),
    "forces": ("forces, meV/Å", 1000.0),
    "dipole": ("dipole, mD", 1000.0 / DEBYE),
}
N_STEPS = 200


def write_report(cases: Sequence[Any], work: Path, data: Path) -> None:
    """Measure what is trained and write both files."""
    torch.set_num_threads(1)
    rows = [
        {"part": c.part, "network": c.network, "pooling": c.pooling, "split": c.split}
        | errors_of(work / c.folder)
        | (measured(work / c.folder, data) if c.part == "ethanol" else {})
        for c in cases
        if (work / c.folder / "potential.json").is_file()
    ]
    machine = f"{platform.processor() or platform.machine()}, torch {torch.__version__}"
    content = {"machine": machine, "rows": rows}
    text = json.dumps(content, indent=1) + "\n"
    (HERE / "poolings.json").write_text(text, encoding="utf-8")
    (HERE / "poolings.md").write_text(markdown(rows, machine), encoding="utf-8")


def errors_of(folder: Path) -> dict[str, Any]:
    """Return what training wrote of a potential."""
    content = json.loads((folder / "potential.json").read_text(encoding="utf-8"))
    return {
        "errors": {name: each["mae"] for name, each in content["errors"].items()},
        "n_parameters": content["n_parameters"],
        "epochs": content["training_data"]["epochs"],
    }


def measured(folder: Path, data: Path) -> dict[str, Any]:
    """Return audit and band positions, kept beside the weights, and the time of now."""
    path = folder / "measured.json"
    if not path.is_file():
        path.write_text(json.dumps(_measure(folder, data)), encoding="utf-8")
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {**kept, "ms_per_step": milliseconds(folder, data)}


def _measure(folder: Path, data: Path) -> dict[str, Any]:
    atoms, _ = reference(data, CONFORMERS[0])
    audited = audit(load_potential(folder), atoms)
    save_audit(folder, audited)  # lets attention alone drive the molecule
    return {
        "audit": audited,
        "bands_cm1": band_deviations(folder, data),
    }


def reference(data: Path, conformer: str) -> tuple[Atoms, list[float]]:
    """Return the optimised structure of a conformer and its wavenumbers."""
    text = (data / "harmonic_reference.json").read_text(encoding="utf-8")
    entry = json.loads(text)[f"{conformer}|{LEVEL}"]
    return Atoms(entry["symbols"], entry["positions_A"]), entry["freq_cm1"]


def band_deviations(folder: Path, data: Path) -> dict[str, dict[str, float]]:
    """Return mean and largest deviation of the wavenumbers, by conformer."""
    deviations = {}
    for conformer in CONFORMERS:
        atoms, expected = reference(data, conformer)
        relaxed = relax(atoms, folder, device="cpu").atoms
        found = harmonic_spectrum(relaxed, folder, device="cpu").wavenumbers_cm1
        off = np.abs(np.sort(found) - np.sort(expected))
        deviations[conformer] = {"mean": float(off.mean()), "max": float(off.max())}
    return deviations


def milliseconds(folder: Path, data: Path) -> float:
    """Return the median time of one evaluation of energy, forces and dipole."""
    atoms, _ = reference(data, CONFORMERS[0])
    atoms.calc = MolPoolCalculator(folder, device="cpu", dtype="float32")
    rng, times = np.random.default_rng(0), []
    start = atoms.positions.copy()
    for _ in range(N_STEPS):
        atoms.positions = start + rng.normal(0, 0.01, start.shape)
        begin = time.perf_counter()
        atoms.get_forces()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times[N_STEPS // 4 :])


def markdown(rows: Sequence[Mapping[str, Any]], machine: str) -> str:
    """Return both tables."""
    command = "python benchmarks/poolings.py report --data DATA --work WORK"
    return (
        "\n\n".join(
            [
                "# Poolings compared",
                f"Written by `{command}`; do not edit. {machine}. Errors are mean "
                "absolute errors on test frames; within one network only the pooling "
                "differs.",
                "## QM7b: four properties from one network",
                qm7b_table([row for row in rows if row["part"] == "qm7b"]),
                "## Ethanol: energy, forces and dipole",
                ethanol_table([row for row in rows if row["part"] == "ethanol"]),
            ]
        )
        + "\n"
    )


def qm7b_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return mean ± half the spread over the splits, and the change against sum."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["network"], row["pooling"]].append(row)
    header = ["network", "pooling", *(c for c, _ in QM7B_COLUMNS.values())]
    lines = []
    for (network, pooling), group in groups.items():
        cells = [network, pooling]
        for name, (_, factor) in QM7B_COLUMNS.items():
            values = [factor * row["errors"][name] for row in group]
            base = [
                factor * r["errors"][name] for r in groups.get((network, "sum"), [])
            ]
            change = 100.0 * (np.mean(values) / np.mean(base) - 1.0) if base else 0.0
            half = (max(values) - min(values)) / 2
            text = f"{np.mean(values):.3g} ± {half:.2g}"
            cells.append(text + (f" ({change:+.0f} %)" if pooling != "sum" else ""))
        cells += [
            f"{group[0]['n_parameters']}",
            f"{group[0]['epochs']}",
            str(len(group)),
        ]
        lines.append(cells)
    note = (
        "± is half the difference between the splits (published seeds); in brackets "
        "the change against sum."
    )
    return table([*header, "parameters", "epochs", "splits"], lines) + f"\n\n{note}"


def ethanol_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return errors, drift, band positions and speed."""
    header = ["network", "pooling", *(c for c, _ in ETHANOL_COLUMNS.values())]
    header += ["NVE drift, meV/atom/ps", "bands trans, cm⁻¹", "bands gauche, cm⁻¹"]
    lines = []
    for row in rows:
        errors = [
            f"{f * row['errors'][n]:.3g}" for n, (_, f) in ETHANOL_COLUMNS.items()
        ]
        bands = [
            f"{row['bands_cm1'][c]['mean']:.1f} (max {row['bands_cm1'][c]['max']:.0f})"
            for c in CONFORMERS
        ]
        drift = f"{row['audit']['nve_drift']['value']:.2g}"
        step = f"{row['ms_per_step']:.2f}"
        end = [step, f"{row['n_parameters']}", f"{row['epochs']}"]
        lines.append([row["network"], row["pooling"], *errors, drift, *bands, *end])
    return table([*header, "ms per step", "parameters", "epochs"], lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
