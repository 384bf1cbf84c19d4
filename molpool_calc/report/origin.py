"""What a run was made with, and how to make it again."""

import json
from typing import Any

from molpool_calc.report.citations import citations
from molpool_calc.report.content import RunContent
from molpool_calc.report.html import Fragment, details, element, joined, pairs, table

_LONG = 3
"""Lists of more numbers than this are folded away."""


def origin_section(content: RunContent) -> Fragment:
    """Return command, potential, versions, inputs, files and citations."""
    return joined(
        [
            *_command(content),
            pairs(_facts(content)),
            _inputs(content.manifest["inputs"]),
            _files(content),
            element("h3", "To cite"),
            element("ul", *(element("li", text) for text in citations(content))),
        ]
    )


def _command(content: RunContent) -> list[Fragment]:
    command = content.manifest.get("command")
    if not command:
        note = "The run was started from Python: the inputs below decide it."
        return [element("p", note)]
    return [
        element("h3", "To make it again"),
        element("pre", element("code", str(command))),
    ]


def _facts(content: RunContent) -> list[tuple[str, str]]:
    manifest = content.manifest
    versions = manifest.get("versions", {})
    machine = manifest.get("machine", {})
    inputs = manifest["inputs"]
    facts = {
        "potential": _listed(inputs.get("potential")),
        "SHA-256 of its weights": _listed(inputs.get("sha256")),
        "level of theory": (content.potential or {}).get("level_of_theory"),
        "network": ((content.potential or {}).get("network") or {}).get("kind"),
        "seed": inputs.get("seed"),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "machine": ", ".join(f"{name} {value}" for name, value in machine.items()),
        "seconds": _rounded(manifest.get("seconds")),
    }
    return [(name, str(fact)) for name, fact in facts.items() if fact not in (None, "")]


def _listed(value: Any) -> Any:
    """Return names or hashes of the members of a committee in one line."""
    return ", ".join(value) if isinstance(value, list) else value


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _inputs(inputs: dict[str, Any]) -> Fragment:
    short = {k: v for k, v in inputs.items() if not _is_long(v)}
    long = {k: v for k, v in inputs.items() if _is_long(v)}
    rows = [
        [name, json.dumps(value, ensure_ascii=False)] for name, value in short.items()
    ]
    whole = json.dumps(long, ensure_ascii=False)
    return details(
        "All inputs",
        table("Inputs", ["name", "value"], rows),
        *([element("pre", whole, cls="wrap")] if long else []),
    )


def _is_long(value: Any) -> bool:
    return isinstance(value, list) and len(value) > _LONG


def _files(content: RunContent) -> Fragment:
    rows = [[f.name, f"{f.size}", f.sha256] for f in content.files]
    return details(
        "Data files and their SHA-256",
        table("Files", ["file", "bytes", "SHA-256"], rows),
    )
