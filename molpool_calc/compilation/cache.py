"""Where packages are kept, and under which key: all that the code depends on."""

import hashlib
import json
import platform
from functools import cache
from pathlib import Path

import torch
from platformdirs import user_cache_path

from molpool_calc.compilation.request import Request
from molpool_calc.potential import NeuralPotential
from molpool_calc.storage import weights_sha256

SUFFIX = ".pt2"
SOURCES = (
    *("networks", "poolings", "heads", "pair_terms", "compilation", "potential.py"),
    *("derivatives.py", "edges.py", "pair_sums.py", "segments.py"),
)


def cache_folder() -> Path:
    """Return the user's folder of packages."""
    return user_cache_path("molpool") / "packages"


def key_of(potential: NeuralPotential, request: Request) -> str:
    """Return the key of a package: potential, request, dtype, program, processor."""
    spec = potential.spec
    facts = [
        weights_sha256(potential),
        json.dumps([spec.network, spec.heads, spec.terms], sort_keys=True, default=str),
        *request.words,
        str(potential.dtype),
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        platform.machine(),
        sources_sha256(),
    ]
    if potential.device.type != "cpu":
        facts.append(torch.cuda.get_device_name(potential.device))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


@cache
def sources_sha256(more: tuple[str, ...] = ()) -> str:
    """Return a hash of the code that compiled code is made of, and of ``more``."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in (*SOURCES, *more):
        place = root / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.read_bytes())
    return digest.hexdigest()
