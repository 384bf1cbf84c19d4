"""The compiled code: built once for a machine, kept in the user's cache, loaded.

There is a library for each network and type of numbers, so that a build takes seconds.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

SOURCES = Path(__file__).parent / "cpp"
COMPILERS = ("g++", "c++", "clang++")
FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-pthread"),
    *("-fno-math-errno", "-fno-trapping-math"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What a library computes: ``network`` is a class of the code, in ``header``."""

    network: str
    header: str
    real: Literal["float", "double"]


INTERRUPTED = (
    "Killed signal",
    "Interrupt signal",
    "Terminated signal",
    "No space left",
)
"""What the compiler says of ends that are no reason not to try again."""


class CannotBuild(RuntimeError):
    """There is no compiler, or it failed; the message says why."""


def compiler() -> str | None:
    """Return the path of a C++ compiler, if there is one."""
    found = map(shutil.which, COMPILERS)
    return next((path for path in found if path is not None), None)


@cache
def processor() -> str:
    """Return what the instructions of the code depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return f"{platform.system()} {platform.machine()} {platform.processor()}"
    names = ("model name", "flags", "Features", "CPU part")
    facts = [line for line in lines if line.split("\t")[0].rstrip(": ") in names]
    return "\n".join([platform.machine(), *dict.fromkeys(facts)])


class Libraries:
    """The libraries in a folder.

    Args:
        folder: need not be there before something is built.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, variant: Variant) -> Path:
        """Return where the library of these sources and this processor is kept."""
        name = f"native-{variant.network}-{variant.real}-{_digest()}.so"
        return self.folder / name

    def build(self, variant: Variant) -> None:
        """Compile a library, which takes some seconds.

        Raises:
            CannotBuild: there is no compiler, or it failed.
            OSError: the folder cannot be written, or the compiler was stopped.
        """
        command = compiler()
        if command is None:
            raise CannotBuild(f"none of {', '.join(COMPILERS)} was found")
        target = self.path(variant)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch) / "native.so"
            words = [command, *FLAGS, "-include", str(SOURCES / variant.header)]
            words += [f"-DMOLPOOL_NETWORK={variant.network}"]
            words += [f"-DMOLPOOL_REAL={variant.real}"]
            words += [str(SOURCES / "entry.cpp"), "-o", str(made)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode < 0 or any(word in done.stderr for word in INTERRUPTED):
                raise OSError(f"{command} was interrupted")
            if done.returncode != 0:
                reason = (done.stderr.strip().splitlines() or ["unknown"])[0]
                raise CannotBuild(f"{command} failed: {reason}")
            os.replace(made, target)

    def load(self, variant: Variant) -> ctypes.CDLL:
        """Return the loaded library; calls of it release the lock of Python."""
        return _load(self.path(variant))


@cache
def _digest() -> str:
    """Return a hash of all that the code depends on, but the variant."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    facts = (*FLAGS, processor(), *platform.libc_ver())
    digest.update("\n".join(facts).encode())
    return digest.hexdigest()[:24]


@cache
def _load(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))
