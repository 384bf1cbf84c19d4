"""Poolings compared: same network, same data, same budget, only the pooling differs.

    python benchmarks/poolings.py train --data DATA --work WORK [--part qm7b|ethanol]
    python benchmarks/poolings.py report --data DATA --work WORK

``train`` trains what is not yet trained (it may be killed and started again) and
``report`` writes ``benchmarks/poolings.md`` and ``poolings.json`` from the trained
folders. DATA holds ``qm7b_7211.npz`` (QM7b with the split seeds of Buterez et al.,
Commun. Chem. 2023) and ``ethanol_b3lyp_def2svpd.npz``.

Part qm7b: every pooling pools the embeddings of the atoms (their protocol), one network
per pooling with one head for each of four properties, targets standardised, mean
absolute error as the loss. Part ethanol: energy, forces and dipole.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from poolings_report import write_report

SEEDS = (23887, 386333, 514094, 572909, 598587)
TARGETS = {
    "homo": (4, "Hartree"),
    "lumo": (9, "Hartree"),
    "isotropic_polarizability": (13, "Angstrom^3"),
    "atomization_energy": (3, "Hartree"),
}
"""Property → column of QM7b's targets and its unit: GW, GW, PBE0, PBE0."""

ATTENTION = (
    '{ kind = "attention", n_hidden = 128, n_heads = 8, n_seeds = 8, '
    "n_encoder_blocks = 2 }"
)
POOLINGS = {
    "sum": '"sum"',
    "mean": '"mean"',
    "softmax": '"softmax"',
    "attention": ATTENTION,
}
QM7B_NETWORKS = {
    "schnet": 'kind = "schnet"\nn_features = 64\nn_interactions = 3\ncutoff = 5.0\n'
    "n_rbf = 25",
    "dimenet++": 'kind = "dimenet++"\nn_features = 64\nn_hidden = 64\n'
    "n_int_embedding = 32\nn_out_embedding = 64\nn_interactions = 2\n"
    "n_output_layers = 1\ncutoff = 4.0",
}
QM7B_EPOCHS = {"schnet": 40, "dimenet++": 8}
ETHANOL_NETWORKS = {
    "schnet": 'kind = "schnet"\nn_features = 64\nn_interactions = 3\ncutoff = 5.0\n'
    'n_rbf = 25\ncutoff_function = "polynomial"',
    "painn": 'kind = "painn"\nn_features = 32\nn_interactions = 3\ncutoff = 5.0\n'
    'n_rbf = 20\nradial_basis = "bessel"\ncutoff_function = "polynomial"',
    "so3krates": 'kind = "so3krates-euclidean"\nn_features = 64\nn_interactions = 2\n'
    "cutoff = 5.0\ndegrees = [1, 2]\nn_heads = 4\n"
    "n_neighbors = 8.0\ncharge_embedding = false\nspin_embedding = false",
}
ETHANOL_ENERGIES = {
    "sum": 'pooling = "sum"',
    "sum + attention": f'pooling = "sum"\ncorrection = {{ pooling = {ATTENTION} }}',
    "attention": f"pooling = {ATTENTION}",
}
ETHANOL_EPOCHS = 60


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training: where it stands in the tables, and its recipe."""

    part: str
    network: str
    pooling: str
    split: str
    recipe: str

    @property
    def folder(self) -> str:
        """Name of its folder."""
        words = (self.part, self.network, self.pooling, self.split)
        return "-".join(words).replace(" ", "").replace("+", "p")


def prepare_qm7b(data: Path, work: Path, seed: int) -> Path:
    """Write QM7b with named properties and one of its splits; return the file."""
    path = work / f"qm7b_{seed}.npz"
    if path.is_file():
        return path
    with np.load(data / "qm7b_7211.npz", allow_pickle=False) as archive:
        split = np.full(len(archive["numbers"]), "unused", dtype="U8")
        parts = {"train": "train", "valid": "validate", "test": "test"}
        for word, part in parts.items():
            split[archive[f"split_{seed}_{part}"]] = word
        targets = {n: archive["targets"][:, c] for n, (c, _) in TARGETS.items()}
        np.savez(
            path,
            numbers=archive["numbers"].astype(int),
            positions=archive["positions_bohr"],
            split=split,
            **targets,
        )
    return path


def qm7b_cases(data: Path, work: Path, n_splits: int) -> Iterator[Case]:
    """Yield the trainings of part qm7b, split by split."""
    units = ", ".join(f'{name} = "{unit}"' for name, (_, unit) in TARGETS.items())
    for seed in SEEDS[:n_splits]:
        path = prepare_qm7b(data, work, seed)
        for network, section in QM7B_NETWORKS.items():
            for pooling, table in POOLINGS.items():
                heads = "".join(
                    f'[heads.{name}]\npooling = {table}\ndesign = "embedding"\n'
                    for name in TARGETS
                )
                recipe = f"""
[potential]
name = "{network.replace("+", "p")}-qm7b-{pooling}"
level_of_theory = "GW and PBE0 (QM7b)"
license = "MIT"
[data]
file = "{path.name}"
units = {{ length = "Bohr", scalars = {{ {units} }} }}
split = "file"
check_units = false
[network]
{section}
max_atomic_number = 17
{heads}[loss]
scalar_error = "absolute"
[training]
batch_size = 32
learning_rate = 1e-3
epochs = {QM7B_EPOCHS[network]}
validate_every = 5
threads = 1
"""
                yield Case(
                    part="qm7b",
                    network=network,
                    pooling=pooling,
                    split=str(seed),
                    recipe=recipe,
                )


def ethanol_cases(data: Path) -> Iterator[Case]:
    """Yield the trainings of part ethanol."""
    path = data.resolve() / "ethanol_b3lyp_def2svpd.npz"
    for network, section in ETHANOL_NETWORKS.items():
        dipole = "" if network == "painn" else "use_vectors = false"
        for pooling, energy in ETHANOL_ENERGIES.items():
            recipe = f"""
[potential]
name = "{network}-ethanol-{pooling.replace(" ", "")}"
level_of_theory = "B3LYP/def2-SVPD"
license = "MIT"
[data]
file = "{path}"
units = {{ energy = "eV", length = "Angstrom", dipole = "e*Angstrom" }}
keys = {{ numbers = "Z", positions = "R", energy = "E", forces = "F", dipole = "D" }}
split = "file"
[network]
{section}
max_atomic_number = 10
[heads.energy]
{energy}
[heads.dipole]
{dipole}
[loss]
energy = 5.0
forces = 10.0
dipole = 200.0
[training]
batch_size = 8
learning_rate = 1e-3
epochs = {ETHANOL_EPOCHS}
validate_every = 5
threads = 1
"""
            yield Case(
                part="ethanol",
                network=network,
                pooling=pooling,
                split="file",
                recipe=recipe,
            )


def train(case: Case, work: Path) -> None:
    """Train one case unless it is trained; go on where it was interrupted."""
    folder = work / case.folder
    if (folder / "potential.json").is_file():
        return
    recipe = work / f"{case.folder}.toml"
    recipe.write_text(case.recipe, encoding="utf-8")
    options = ["--resume"] if (folder / "checkpoint.pt").is_file() else []
    command = [sys.executable, "-m", "molpool_calc", "train", str(recipe)]
    print(case.folder, flush=True)
    subprocess.run([*command, "--out", str(folder), *options], check=True)


def main() -> None:
    """Train, or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "report"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--part", choices=("qm7b", "ethanol"), action="append")
    parser.add_argument("--network", action="append", help="only these")
    parser.add_argument("--splits", type=int, default=2, help="of QM7b")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    cases = [
        *qm7b_cases(arguments.data, arguments.work, arguments.splits),
        *ethanol_cases(arguments.data),
    ]
    if arguments.what == "report":
        write_report(cases, arguments.work, arguments.data)
        return
    for case in cases:
        if case.part in (arguments.part or [case.part]) and case.network in (
            arguments.network or [case.network]
        ):
            train(case, arguments.work)


if __name__ == "__main__":
    main()
