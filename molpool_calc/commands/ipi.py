"""``molpool ipi``: MolPool as a potential in inputs of i-PI."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molpool_calc.commands.console import Console

NAME = "ipi"
HELP = "print the file that makes potentials available to i-PI, and how to use it"

_USE = """{driver}

In the input of i-PI, within its process:
  <ffdirect name="molpool" pbc="False">
    <pes>custom</pes>
    <pes_path>{driver}</pes_path>
    <batch_size>16</batch_size>
    <parameters>{{potential: painn-ethanol, structure: start.xyz}}</parameters>
  </ffdirect>
or beside it, with <ffsocket> in the input:
  i-pi-py_driver -u -a ADDRESS -m custom -P {driver} \\
    -o potential=painn-ethanol,structure=start.xyz

The batch size must divide the number of beads. Further parameters: dtype, device,
compile, polarizability, allow_unsuitable_pooling. Dipoles (e*Angstrom) are extras:
  <trajectory filename="dipole" extra_type="dipole" flush="500"> extras </trajectory>"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add nothing: the file is always the same."""
    parser.epilog = "example: i-pi-py_driver -m custom -P $(molpool ipi --path)"
    parser.add_argument("--path", action="store_true", help="print the path only")


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:  # noqa: ARG001
    """Return the path of the driver."""
    driver = Path(__file__).parents[1] / "path_integrals" / "driver.py"
    return {"driver": str(driver), "path_only": arguments.path}


def summary(result: Mapping[str, Any]) -> str:
    """Return the path, and what to write into an input of i-PI."""
    if result["path_only"]:
        return str(result["driver"])
    return _USE.format(driver=result["driver"])
