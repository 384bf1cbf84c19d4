import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import md_models
import numpy as np
import pytest
from md_models import CPU, INTEGRATORS, NPT, Faulty, field_of, raise_interrupt, run

from molpool_calc.md.checkpoint import load_checkpoint
from molpool_calc.md.manifest import read_manifest
from molpool_calc.md.trajectory import assemble, read_run, restore_streams

ALL = sorted(INTEGRATORS | NPT)
QUICK = "npt langevin flexible"  # the one with most in its state; a process takes 3 s
STREAMS = ("steps.bin", "frames.bin")


def snapshot(folder: Path, at: int) -> tuple[Callable[[int], None], dict[str, bytes]]:
    """A progress callback that keeps the bytes of the streams at a step."""
    kept: dict[str, bytes] = {}

    def keep(step: int) -> None:
        if step == at:
            kept.update({name: (folder / name).read_bytes() for name in STREAMS})

    return keep, kept


def final_state(folder: Path) -> list[bytes]:
    state = load_checkpoint(folder / "checkpoint.npz", CPU)
    response = state.response
    tensors = (
        state.positions,
        state.momenta,
        state.heat,
        state.generator_state,
        state.cell,
        state.chain,
        response.energy,
        response.forces,
        response.dipole,
        response.stress,
    )
    return [tensor.numpy().tobytes() for tensor in tensors if tensor is not None]


def whole_run(folder: Path, name: str, n_steps: int) -> tuple[dict[str, bytes], list]:
    """The bytes of an uninterrupted run: streams and final state."""
    keep, streams = snapshot(folder, n_steps)
    assert run(folder, name, n_steps, progress=keep).status == "finished"
    return streams, final_state(folder)


@pytest.mark.parametrize("name", ALL)
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    expected = whole_run(tmp_path / "whole", name, 80)
    folder = tmp_path / "parts"
    keep, streams = snapshot(folder, 80)
    for n_calls in (40, 25):
        field = Faulty(n_calls, raise_interrupt, field_of(name))
        resume = folder.exists()
        outcome = run(folder, name, 80, force_field=field, resume=resume)
        assert outcome.status == "interrupted"
    assert run(folder, name, 80, resume=True, progress=keep).status == "finished"
    assert (streams, final_state(folder)) == expected


@pytest.mark.parametrize("name", ALL)
def test_a_finished_run_may_be_made_longer_bit_for_bit(
    tmp_path: Path, name: str
) -> None:
    expected = whole_run(tmp_path / "whole", name, 80)
    folder = tmp_path / "parts"
    keep, streams = snapshot(folder, 80)
    run(folder, name, 33)
    assert not any((folder / stream).exists() for stream in STREAMS)
    run(folder, name, 80, resume=True, progress=keep)
    assert (streams, final_state(folder)) == expected


def killed(folder: Path, name: str, n_steps: int, fatal_step: int) -> None:
    """Run in another process, which SIGKILL ends."""
    command = [sys.executable, md_models.__file__, str(folder), name]
    done = subprocess.run(
        [*command, str(n_steps), str(fatal_step)], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize(
    "name",
    [
        name if name == QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in ALL
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    expected = whole_run(tmp_path / "whole", name, 80)
    folder = tmp_path / "parts"
    killed(folder, name, 80, fatal_step=63)
    data = read_run(folder)
    assert data.status == "running"
    assert len(data.times_fs) == 63
    whole = read_run(tmp_path / "whole")
    np.testing.assert_array_equal(data.energies, whole.energies[:, :63])
    assert assemble(folder).exists()
    keep, streams = snapshot(folder, 80)
    run(folder, name, 80, resume=True, progress=keep)
    assert (streams, final_state(folder)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(
    tmp_path: Path, name: str
) -> None:
    n_steps, rng = 800, np.random.default_rng(0)
    expected = whole_run(tmp_path / "whole", name, n_steps)
    folder = tmp_path / "parts"
    command = [sys.executable, "-u", md_models.__file__, str(folder), name]
    for at_step in rng.integers(80, 240, size=3).cumsum().tolist():
        with subprocess.Popen(
            [*command, str(n_steps), "-1"], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= at_step:
                    break
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert len(read_run(folder).times_fs) > at_step
    keep, streams = snapshot(folder, n_steps)
    run(folder, name, n_steps, resume=True, progress=keep)
    assert (streams, final_state(folder)) == expected


def test_a_run_killed_before_its_first_checkpoint_starts_anew(tmp_path: Path) -> None:
    expected = whole_run(tmp_path / "whole", "langevin", 30)
    folder = tmp_path / "parts"
    run(folder, "langevin", 10)
    for name in ("checkpoint.npz", "trajectory.h5"):
        (folder / name).unlink()
    (folder / "steps.bin").write_bytes(b"torn")
    keep, streams = snapshot(folder, 30)
    run(folder, "langevin", 30, resume=True, progress=keep)
    assert (streams, final_state(folder)) == expected


def test_nothing_half_restored_stays_after_a_finished_run(tmp_path: Path) -> None:
    """A run killed twice at its end: between two removals, then while restoring."""
    run(tmp_path, "langevin", 10)
    left = sorted(path.name for path in tmp_path.iterdir())
    restore_streams(tmp_path, read_manifest(tmp_path))
    (tmp_path / "steps.bin.tmp").write_bytes(b"half")
    run(tmp_path, "langevin", 10, resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_a_torn_tail_does_not_disturb_a_resumed_run(tmp_path: Path) -> None:
    expected = whole_run(tmp_path / "whole", "bussi", 80)
    folder = tmp_path / "parts"
    run(folder, "bussi", 80, force_field=Faulty(40, raise_interrupt))
    for name in STREAMS:
        with (folder / name).open("ab") as stream:
            stream.write(b"\x00garbage" * 70)
    keep, streams = snapshot(folder, 80)
    run(folder, "bussi", 80, resume=True, progress=keep)
    assert (streams, final_state(folder)) == expected


def test_streams_damaged_before_the_checkpoint_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    run(folder, "nve", 80, force_field=Faulty(40, raise_interrupt))
    content = (folder / "steps.bin").read_bytes()
    (folder / "steps.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"hold 19 steps and 3 frames.* 39 and 6"):
        run(folder, "nve", 80, resume=True)
    assert len((folder / "steps.bin").read_bytes()) == len(content) // 2


def test_other_inputs_are_refused_when_resuming(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    run(folder, "langevin", 20)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="another seed: it was 0 and is now 4"):
        run(folder, "langevin", 40, seed=4, resume=True)
    with pytest.raises(ValueError, match="another every: it was 7 and is now 5"):
        run(folder, "langevin", 40, every=5, resume=True)
    with pytest.raises(ValueError, match=r"another .*: it was .* and is now"):
        run(folder, "nve", 40, resume=True)
    with pytest.raises(ValueError, match="has done 20 steps already, but 10 were"):
        run(folder, "langevin", 10, resume=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
