"""GFN2-xTB by tblite's ASE calculator: what a chemist would otherwise use."""

import importlib.metadata
import os
from collections.abc import Callable
from typing import Any


def prepare(job: dict[str, Any]) -> tuple[Callable[[int], None], dict[str, Any]]:
    """Return steps of ASE's Langevin dynamics."""
    os.environ["OMP_NUM_THREADS"] = str(job["threads"])
    import ase  # noqa: PLC0415 - after the number of threads
    import numpy as np  # noqa: PLC0415
    from ase.md.langevin import Langevin  # noqa: PLC0415
    from tblite.ase import TBLite  # noqa: PLC0415

    atoms = ase.Atoms(job["numbers"], job["positions"])
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    fs = ase.units.fs
    dynamics = Langevin(
        atoms,
        job["timestep_fs"] * fs,
        temperature_K=job["temperature"],
        friction=job["friction_per_fs"] / fs,
        fixcm=False,
        rng=np.random.default_rng(0),
    )
    energy = float(atoms.get_potential_energy())
    versions = {name: importlib.metadata.version(name) for name in ("tblite", "ase")}
    return dynamics.run, {"versions": versions, "energy": energy}
