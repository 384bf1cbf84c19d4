"""What every test must leave as it found it."""

import os
import signal
import time

# before torch is loaded: tests share the cores, and their networks are small
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from molpool_calc.compilation import engine, native
from molpool_calc.native import library
from molpool_calc.training import compiled_step


@pytest.fixture(autouse=True)
def torch_globals_stay():
    """Fail a test in which something changed torch's global state."""
    before = global_state()
    yield
    assert global_state() == before


def global_state():
    return (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.is_anomaly_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        str(torch.get_default_device()),
    )


@pytest.fixture(autouse=True, scope="session")
def interrupts_arrive():
    """Let Ctrl-C interrupt, which a shell turns off for what it runs behind itself."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def no_compiled_code(tmp_path_factory):
    """Neither use nor build packages, unless a test asks for it itself."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("packages")
        patch.setattr(engine, "cache_folder", lambda: folder)
        patch.setattr(engine, "start_build", lambda *_arguments: None)
        patch.setattr(native, "compiler", lambda: None)
        patch.setattr(compiled_step, "cache_folder", lambda: folder)
        yield


class LibrariesBuiltOnDemand(library.Libraries):
    """Libraries of native code that are built when a test first loads them."""

    build = library.Libraries.build  # the real one, whatever a test puts in its place

    def load(self, variant):
        path = self.path(variant)
        lock = path.with_suffix(".lock")
        while not path.is_file():
            try:
                lock.mkdir(parents=True)
            except FileExistsError:  # another worker builds it
                time.sleep(0.1)
            else:
                try:
                    self.build(variant)
                finally:
                    lock.rmdir()
        return super().load(variant)


@pytest.fixture(scope="session")
def native_library(tmp_path_factory):
    """Native code for all tests, in a folder that the workers of a run share."""
    if library.compiler() is None:
        pytest.skip("there is no C++ compiler")
    return LibrariesBuiltOnDemand(tmp_path_factory.getbasetemp().parent)


@pytest.fixture
def native_builds(native_library, monkeypatch, tmp_path):
    """Let a test build native code, which takes the library of all; note the builds."""
    started = []

    def build(self, variant):
        started.append(variant)
        native_library.load(variant)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path(variant).symlink_to(native_library.path(variant))

    monkeypatch.setattr(engine, "cache_folder", lambda: tmp_path / "native")
    monkeypatch.setattr(native, "compiler", lambda: "g++")
    monkeypatch.setattr(native.Libraries, "build", build)
    return started
