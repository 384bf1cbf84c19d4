"""What to cite for a result, from what made it."""

from collections.abc import Mapping
from typing import Any

from molpool_calc.report.content import RunContent

_NETWORKS = {
    "schnet": "SchNet: K. T. Schütt et al., J. Chem. Phys. 148, 241722 (2018).",
    "painn": "PaiNN: K. T. Schütt, O. Unke, M. Gastegger, ICML (2021).",
    "so3krates": (
        "So3krates: J. T. Frank, O. T. Unke, K.-R. Müller, NeurIPS (2022); J. T. Frank "
        "et al., Nat. Commun. 15, 6539 (2024)."
    ),
    "dimenet": "DimeNet++: J. Gasteiger et al., arXiv:2011.14115.",
}
_THERMOSTATS = {
    "langevin": (
        "Langevin dynamics (BAOAB): B. Leimkuhler, C. Matthews, J. Chem. Phys. 138, "
        "174102 (2013)."
    ),
    "bussi": (
        "Velocity rescaling: G. Bussi, D. Donadio, M. Parrinello, J. Chem. Phys. 126, "
        "014101 (2007)."
    ),
}
_SPECTRA = {
    "ir": (
        "Infrared spectra from dipoles: M.-P. Gaigeot, M. Sprik, J. Phys. Chem. B 107, "
        "10344 (2003)."
    ),
    "raman": (
        "Raman spectra from polarizabilities: M. Thomas et al., Phys. Chem. Chem. "
        "Phys. 15, 6608 (2013)."
    ),
}
_ATTENTION = "Attention-based pooling: D. Buterez et al., Commun. Chem. (2023)."
_ASE = "ASE: A. H. Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017)."
_VIEWER = "Viewer of this page: N. Rego, D. Koes, Bioinformatics 31, 1322 (2015)."


def citations(content: RunContent) -> list[str]:
    """Return the references that belong to a run, the potential's first."""
    found = []
    if content.potential is not None:
        found += _of_potential(content.potential)
    inputs = content.manifest["inputs"]
    is_thermal = inputs.get("equilibration_ps", 0.0) > 0.0
    thermostats = {"langevin"} if is_thermal else set()
    if inputs.get("ensemble") == "nvt":
        thermostats.add(str(inputs.get("thermostat")))
    found += [_THERMOSTATS[name] for name in sorted(thermostats & set(_THERMOSTATS))]
    found += [_SPECTRA[kind] for kind in content.spectra if kind in _SPECTRA]
    return [*found, _ASE, _VIEWER]


def _of_potential(potential: Mapping[str, Any]) -> list[str]:
    kind = str(potential["network"]["kind"])
    found = [text for name, text in _NETWORKS.items() if kind.startswith(name)]
    if "'attention'" in str(potential["heads"]):
        found.append(_ATTENTION)
    if potential.get("source"):
        found.append(str(potential["source"]))
    return found
