"""Join the frames that painn-formaldehyde was trained on into one file.

    python benchmarks/formaldehyde_frames.py formaldehyde_ccsdt_avtz.npz OUT.npz

The first file holds the 3 500 CCSD(T)-F12/aug-cc-pVTZ frames of the KerNN repository
(MIT licence) with their split; the frames far from the molecule lie beside the recipe.
Prints the SHA-256 that the card states.
"""

import argparse
import hashlib
from pathlib import Path

import ase.io
import numpy as np

FAR = Path(__file__).parents[1] / "potentials" / "painn-formaldehyde" / "far.extxyz"


def main() -> None:
    """Write the joined file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("near", type=Path, help="npz of the KerNN repository")
    parser.add_argument("out", type=Path, help="npz to write")
    arguments = parser.parse_args()
    near, far = np.load(arguments.near), ase.io.read(FAR, ":")
    added = {
        "numbers": [frame.numbers for frame in far],
        "positions": [frame.positions for frame in far],
        "energy": [frame.get_potential_energy() for frame in far],
        "forces": [frame.get_forces() for frame in far],
        "dipole": [frame.get_dipole_moment() for frame in far],
        "split": [frame.info["split"] for frame in far],
    }
    np.savez(
        arguments.out,
        **{name: np.concatenate([near[name], added[name]]) for name in added},
    )
    print(hashlib.sha256(arguments.out.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
