"""Names of tensors: those of MolPool's state dict → those of SchNetPack's."""

import re

from molpool_calc.importers.schnetpack_model import SchNetPackModel

EMBEDDING = "representation.embedding.weight"
CUTOFF = "representation.cutoff_fn.cutoff"
FILTERS = "representation.filter_net."
RULES = (
    (r"^network\.", "representation."),
    (r"\.first\b", ".0"),
    (r"\.second\b", ".1"),
    (r"\.radial\.basis\.centers$", ".radial_basis.offsets"),
    (r"\.radial\.basis\.widths$", ".radial_basis.widths"),
    (r"\.radial\.basis\.frequencies$", ".radial_basis.freqs"),
    (r"\.filters\.\d+\.", ".filter_net."),
    (r"\.messages\.(\d+)\.context\.", r".interactions.\1.interatomic_context_net."),
    (r"\.updates\.(\d+)\.context\.", r".mixing.\1.intraatomic_context_net."),
    (r"\.updates\.(\d+)\.mix\.", r".mixing.\1.mu_channel_mix."),
    (r"\.filter\.", ".filter_network."),
    (r"\.project\.", ".in2f."),
    (r"\.output\.", ".f2out."),
    (r"\.mix\.", ".mix_vectors."),
    (r"\.context\.", ".scalar_net."),
)
"""Patterns and replacements, in this order: names of MolPool → names of SchNetPack."""


def published_name(target: str, model: SchNetPackModel) -> str:
    """Return SchNetPack's name of a tensor of MolPool."""
    for output in model.outputs:
        inner = "before" if output.kind == "energy" else "readout"
        target = target.replace(
            f"heads.{output.kind}.{inner}.", f"{output.prefix}.outnet."
        )
    for pattern, replacement in RULES:
        target = re.sub(pattern, replacement, target)
    return target


def names_beside_weights(model: SchNetPackModel) -> set[str]:
    """Return the names of tensors that are no weights: cutoff and offsets."""
    offsets = [f"{offset.prefix}." for offset in model.offsets]
    return {
        CUTOFF,
        "representation.cutoff_fn.eps",
        *(prefix + name for prefix in offsets for name in ("mean", "atomref")),
    }
