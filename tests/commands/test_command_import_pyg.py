"""``molpool import pyg``."""

from pathlib import Path

import torch
from command_line import CommandLine
from test_importers_pyg import dimenet_tensors


def test_import_of_a_dimenet_writes_a_potential_that_computes(
    molpool: CommandLine, tmp_path: Path
) -> None:
    file, out = tmp_path / "net.pt", tmp_path / "net"
    torch.save(dimenet_tensors(), file)
    words = ["import", "pyg", file, "--unit", "kcal/mol", "--out", out]
    assert "does not say its cutoff" in molpool.refused(*words)
    called = molpool(
        *words, "--cutoff", "3", "--mean", "-2.5", "--elements", "H,O", "--json"
    )
    assert called.code == 0
    assert called.json["elements"] == ["H", "O"]
    assert called.json["cutoff"] == 3.0
