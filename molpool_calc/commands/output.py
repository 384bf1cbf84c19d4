"""Output that is never half written and never overwrites by surprise."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def check_file(path: Path, *, force: bool) -> None:
    """Raise ValueError where a file cannot or must not be written.

    Args:
        path: the file.
        force: it may be replaced.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of a file to --out")
    if path.exists() and not force:
        raise ValueError(
            f"{path} exists already; give another name, or --force to replace it"
        )
    if not path.parent.is_dir():
        raise ValueError(
            f"{path} cannot be written, since there is no folder {path.parent}; make "
            "it first"
        )
    _demand_writable(path.parent, path)


def check_folder(
    folder: Path, *, force: bool, resume: bool = False, mark: str | None = None
) -> None:
    """Make an output folder, or raise ValueError where it must not be used.

    Args:
        folder: made where it is missing.
        force: files in it may be replaced.
        resume: the command continues what is there.
        mark: the file without which there is nothing to resume; ``None`` for commands
            that cannot be resumed.
    """
    if force and resume:
        raise ValueError(
            "--resume continues what --force would replace; give one of the two"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the name of a folder to --out")
    if resume and mark is not None and not (folder / mark).is_file():
        raise ValueError(
            f"{folder} holds no {mark} to resume; leave out --resume, or give the "
            "folder of the run that was stopped"
        )
    if not (force or resume) and folder.is_dir() and any(folder.iterdir()):
        resumable = mark is not None and (folder / mark).is_file()
        choice = "--resume to continue, or " if resumable else ""
        raise ValueError(
            f"{folder} is not empty; give another folder, {choice}--force to replace "
            "what is there"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be made ({error.strerror}); give another folder to --out"
        ) from error
    _demand_writable(folder, folder)


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove the named files of a folder, those that are there."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write to; it becomes ``path`` if all goes well, else nothing."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _demand_writable(folder: Path, target: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{target} cannot be written ({error.strerror}); give another place to "
            "--out"
        ) from error
