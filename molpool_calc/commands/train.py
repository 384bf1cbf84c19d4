"""``molpool train``: from a recipe to the folder of a potential."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molpool_calc.commands import output
from molpool_calc.commands.console import Console
from molpool_calc.commands.evaluate import error_table
from molpool_calc.commands.options import add_force
from molpool_calc.commands.tables import significant

if TYPE_CHECKING:
    from molpool_calc.training.processes import Processes
    from molpool_calc.training.train import Trained, Trainer

NAME = "train"
HELP = "train a potential as a recipe says, and write its folder"
CHECKPOINT = "checkpoint.pt"
RECIPE = "recipe.toml"
FILES = (
    *("potential.json", "weights.safetensors", "README.md", RECIPE, CHECKPOINT),
    *("learning_curve.csv", "learning_curve.svg", "reference.extxyz"),
)
"""What a training writes, and what ``--force`` removes."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add RECIPE and the options."""
    parser.epilog = "example: molpool train ethanol.toml --out my-ethanol"
    parser.add_argument(
        "recipe", type=Path, metavar="RECIPE", help="TOML file that says what to train"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the potential, with a checkpoint after every epoch",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue a training in DIR that was stopped, to the same result",
    )
    add_force(parser)


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Train, and write the folder."""
    from molpool_calc.training.processes import joined  # noqa: PLC0415 - light start

    with joined() as processes:
        result = _train(arguments, console, processes)
    if not processes.is_first:  # one result is enough
        sys.exit(0)
    return result


def _train(
    arguments: Namespace, console: Console, processes: "Processes"
) -> Mapping[str, Any]:
    from molpool_calc.commands.describe import describe  # noqa: PLC0415 - light start
    from molpool_calc.training.recipe import load_recipe  # noqa: PLC0415
    from molpool_calc.training.train import Trainer, TrainingDiverged  # noqa: PLC0415

    folder: Path = arguments.out
    recipe = load_recipe(arguments.recipe)
    if processes.is_first:
        output.check_folder(
            folder, force=arguments.force, resume=arguments.resume, mark=CHECKPOINT
        )
    trainer = Trainer(recipe, folder, processes)
    if arguments.resume:
        trainer.resume()
    elif processes.is_first:
        output.remove(folder, FILES)
    try:
        trained = _watched(trainer, console)
    except KeyboardInterrupt:
        return {
            "status": "interrupted",
            "reason": f"interrupted in epoch {trainer.progress.epoch + 1} of "
            f"{recipe.training.epochs}; continue with --resume --out {folder}",
        }
    except TrainingDiverged as error:
        return {"status": "stopped", "reason": str(error)}
    if not processes.is_first:
        return {"status": "finished"}
    write_folder(trained, arguments.recipe, folder)
    return {
        "status": "finished",
        "out": str(folder),
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "seconds": trained.seconds,
        "engine": trained.engine,
        "processes": processes.size,
        **describe(folder),
    }


def _watched(trainer: "Trainer", console: Console) -> "Trained":
    """Run the training with a progress bar."""
    done, epochs = trainer.progress.epoch, trainer.recipe.training.epochs
    with console.progress(epochs, "training", "epochs", done=done) as bar:

        def report(_epoch: int, row: Mapping[str, float]) -> None:
            bar.set_postfix_str(_progress(row), refresh=False)
            bar.update()

        return trainer.run(
            report,
            waiting=lambda: console.note(
                "compiling the training step for this machine, which takes minutes "
                'once; training.compile = "never" does without'
            ),
        )


def write_folder(trained: "Trained", recipe: Path, folder: Path) -> None:
    """Write everything that belongs to a trained potential.

    Args:
        trained: what the trainer gave.
        recipe: its recipe, copied as it is.
        folder: where checkpoint and learning curve lie already.
    """
    from molpool_calc.commands.describe import describe  # noqa: PLC0415 - light start
    from molpool_calc.storage import save_potential  # noqa: PLC0415
    from molpool_calc.training.card import card  # noqa: PLC0415
    from molpool_calc.training.curve import plot_curve  # noqa: PLC0415

    save_potential(trained.potential, folder)
    with output.replacing(folder / RECIPE) as path:
        path.write_bytes(recipe.read_bytes())
    if trained.history:
        with output.replacing(folder / "learning_curve.svg") as path:
            plot_curve(path, trained.history, trained.potential.spec.name)
    with output.replacing(folder / "reference.extxyz") as path:
        _write_examples(path, trained, folder)
    with output.replacing(folder / "README.md") as path:
        text = card(describe(folder), minutes=trained.seconds / 60.0)
        path.write_text(text, encoding="utf-8")


def _write_examples(path: Path, trained: "Trained", folder: Path) -> None:
    """Write frames with predictions in float64, which all machines agree on."""
    import ase.io  # noqa: PLC0415 - light start

    from molpool_calc.calculator import MolPoolCalculator  # noqa: PLC0415
    from molpool_calc.commands.frames import (  # noqa: PLC0415
        frames_of,
        predictions,
        reference_values,
        with_results,
    )

    frames = list(frames_of(trained.examples))
    scalars = trained.potential.scalars
    references = [reference_values(atoms, scalars) for atoms in frames]
    for atoms in frames:
        atoms.positions = atoms.positions.round(8)  # as the file holds them
    calculator = MolPoolCalculator(folder, device="cpu", dtype="float64")
    found = predictions(calculator, frames)
    predicted = map(with_results, frames, found, references)
    ase.io.write(path, list(predicted), format="extxyz")


def _progress(row: Mapping[str, float]) -> str:
    if not row:
        return ""
    shown = f"loss {significant(row['valid_loss'])}"
    if "forces_mae" in row:
        shown += f", forces {significant(1000.0 * row['forces_mae'])} meV/Å"
    return shown


def summary(result: Mapping[str, Any]) -> str:
    """Return what was reached, and what to do with it."""
    from molpool_calc.training.card import duration  # noqa: PLC0415 - light start

    lines = [
        f"{result['name']}: {result['epochs']} epochs in "
        f"{duration(result['seconds'] / 60.0)}, best epoch {result['best_epoch']}"
    ]
    if result["errors"]:
        n_test = result["training_data"]["test"]
        lines += ["", f"Errors on {n_test} test frames", error_table(result["errors"])]
    lines += ["", f"Written to {result['out']}; molpool info {result['out']} says more"]
    return "\n".join(lines)
