"""What ``ir`` and ``spectrum`` have in common: a measured spectrum to compare with."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molpool_calc.commands.console import Console
from molpool_calc.commands.options import positive_float
from molpool_calc.commands.tables import table

if TYPE_CHECKING:
    from molpool_calc.spectra import ExperimentComparison, MeasuredSpectrum, Spectrum


def add_experiment(parser: ArgumentParser) -> None:
    """Add ``--experiment`` and ``--scale-wavenumbers``."""
    parser.add_argument(
        "--experiment",
        metavar="FILE",
        help="measured infrared spectrum of the gas (JCAMP-DX): drawn below, its bands "
        "tabulated in experiment.csv",
    )
    parser.add_argument(
        "--scale-wavenumbers",
        type=positive_float,
        metavar="FACTOR",
        help="with --experiment: multiply computed wavenumbers in comparison and "
        "picture, as in 0.9655 for B3LYP/def2-SVPD; spectrum files stay as computed",
    )


def measured_of(arguments: Namespace, console: Console) -> "MeasuredSpectrum | None":
    """Return the measured spectrum that was asked for, with its remarks said.

    Raises:
        ValueError: a factor is given without a file, or the file cannot be used.
    """
    if arguments.experiment is None:
        if arguments.scale_wavenumbers is not None:
            raise ValueError(
                "--scale-wavenumbers scales the comparison with an experiment, and "
                "there is none; add --experiment FILE or leave it out"
            )
        return None
    from molpool_calc.spectra import read_jcamp_dx  # noqa: PLC0415 - light start
    from molpool_calc.spectra.comparison import demand_scale  # noqa: PLC0415

    demand_scale(arguments.scale_wavenumbers or 1.0)
    measured = read_jcamp_dx(arguments.experiment)
    for remark in measured.remarks:
        console.note(f"{Path(arguments.experiment).name}: {remark}")
    return measured


def demand_run(arguments: Namespace, are_files: bool) -> None:
    """Raise ValueError where bands of other programs' trajectories are asked for."""
    given = [name for name in ("assign", "experiment") if getattr(arguments, name)]
    if are_files and given:
        raise ValueError(
            f"--{given[0]} needs a run of molpool md or ir, and a trajectory of "
            "another program was given; give the folder of a run, or leave it out"
        )


def interpret(
    arguments: Namespace, spectrum: "Spectrum", measured: "MeasuredSpectrum | None"
) -> tuple[dict[str, Any], "Spectrum", list[tuple[float, str]]]:
    """Return results on bands, the spectrum to show, and labels of its bands."""
    results: dict[str, Any] = {}
    folder = arguments.sources[0]
    assignment, scale, shown = None, arguments.scale_wavenumbers or 1.0, spectrum
    labels = []
    if arguments.assign:
        from molpool_calc.run_bands import assign_run  # noqa: PLC0415 - light start

        assignment = assign_run(folder, spectrum)
        results["assignment"] = assignment.describe()
        labels = [(scale * band.position_cm1, band.label) for band in assignment.bands]
    if measured is not None:
        from molpool_calc.run_bands import compare_run  # noqa: PLC0415

        comparison = compare_run(
            folder, spectrum, measured, scale=scale, assignment=assignment
        )
        shown = comparison.computed
        results["experiment"] = describe_comparison(comparison)
    return results, shown, labels


def describe_comparison(comparison: "ExperimentComparison") -> dict[str, Any]:
    """Return a comparison for JSON."""
    from molpool_calc.spectra.band_files import comparison_facts  # noqa: PLC0415

    return {
        **comparison_facts(comparison),
        "bands": [asdict(band) for band in comparison.bands],
    }


def comparison_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a table of computed and measured bands for people to read."""
    absolute = result["measured_km_mol"] is not None
    unit = "km/mol" if absolute else "share"
    computed, measured = (
        (f"{side}_km_mol" if absolute else f"{side}_share")
        for side in ("computed", "measured")
    )
    scale = result["wavenumber_scale"]
    note = "" if scale == 1.0 else f"\n× {scale:g}"
    header = [
        f"computed{note}\ncm⁻¹",
        "measured\ncm⁻¹",
        "shift\ncm⁻¹",
        f"computed\n{unit}",
        f"measured\n{unit}",
        "motion\n",
    ]
    rows = [
        [
            _number(band["computed_cm1"], ".0f"),
            _number(band["measured_cm1"], ".0f"),
            _number(band["shift_cm1"], "+.0f"),
            _number(band[computed], ".3g"),
            _number(band[measured], ".3g") + (" or more" * band["saturated"]),
            band["label"],
        ]
        for band in result["bands"]
    ]
    labelled = any(band["label"] for band in result["bands"])
    n_columns = len(header) - (not labelled)
    rows = [row[:n_columns] for row in rows]
    title = f"experiment: {result['title']}, {result['source']}"
    lines = [title, table(header[:n_columns], rows, n_left=0)]
    if absolute:
        low, high = result["range_cm1"]
        lines.append(
            f"from {low:.0f} to {high:.0f} cm⁻¹: computed "
            f"{result['computed_km_mol']:.1f}, measured "
            f"{result['measured_km_mol']:.1f} km/mol"
        )
    return lines


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)
