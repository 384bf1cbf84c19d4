"""Properties from one network, each head with its own pooling: orbitals of molecules.

An attention-based pooling also says how much it looked at each atom.
"""

# %%
from ase.build import molecule

from molpool_calc import MolPoolCalculator

# %% [markdown]
# HOMO and LUMO (GW) and atomization energy (PBE0), trained on QM7b.


# %%
def main() -> dict[str, float]:
    """Print the gap of three molecules and the atoms that matter for a HOMO."""
    calc = MolPoolCalculator("schnet-qm7b-attention", device="cpu")
    gaps = {}
    for name in ("CH3CH2OH", "C6H6", "CH3COCH3"):
        atoms = molecule(name)
        homo = calc.get_property("homo", atoms)
        gaps[name] = calc.get_property("lumo", atoms) - homo
        print(f"{name:10} HOMO {homo:7.2f} eV   gap {gaps[name]:6.2f} eV")
    acetone = molecule("CH3COCH3")
    weights = calc.get_property("homo_weights", acetone)
    for symbol, weight in zip(acetone.symbols, weights, strict=True):
        print(f"  {symbol:2} {weight:.3f}")
    return gaps


# %%
if __name__ == "__main__":
    main()
