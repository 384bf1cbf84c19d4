import zlib
from pathlib import Path

import numpy as np
import pytest

from molpool_calc.md.records import (
    RecordWriter,
    frame_layout,
    read_records,
    step_layout,
    write_atomically,
    write_records,
)

LAYOUT = step_layout(2, ["energy", "dipole"])


def values(step: int) -> np.ndarray:
    """Two energies and two dipoles that differ from step to step."""
    return np.arange(8.0) + 100.0 * step


def write(path: Path, steps: range, n_kept: int = 0) -> None:
    writer = RecordWriter(path, LAYOUT, n_kept)
    for step in steps:
        writer.append(step, values(step)[:2].tobytes(), values(step)[2:].tobytes())
    writer.close()


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    write(tmp_path / "s", range(5))
    records = read_records(tmp_path / "s", LAYOUT)
    assert records["step"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(records["energy"][3], values(3)[:2])
    np.testing.assert_array_equal(records["dipole"][4], values(4)[2:].reshape(2, 3))


def test_a_record_is_its_columns_and_their_crc_and_nothing_else(
    tmp_path: Path,
) -> None:
    write(tmp_path / "s", range(1))
    content = (tmp_path / "s").read_bytes()
    assert len(content) == LAYOUT.itemsize == 8 + 8 * 8 + 4
    assert content[:8] == (0).to_bytes(8, "little")
    assert content[8:-4] == values(0).astype("<f8").tobytes()
    assert int.from_bytes(content[-4:], "little") == zlib.crc32(content[:-4])
    assert frame_layout(2, 9).itemsize == 8 + 2 * 9 * 3 * (8 + 4) + 4


@pytest.mark.parametrize("n_torn", range(1, LAYOUT.itemsize, 9))
def test_a_torn_tail_costs_only_the_torn_record(tmp_path: Path, n_torn: int) -> None:
    path = tmp_path / "s"
    write(path, range(4))
    path.write_bytes(path.read_bytes()[:-n_torn])
    assert read_records(path, LAYOUT)["step"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("byte", [0, 9, 40, 74, 75])
def test_a_changed_byte_ends_the_stream_before_its_record(
    tmp_path: Path, byte: int
) -> None:
    path = tmp_path / "s"
    write(path, range(4))
    content = bytearray(path.read_bytes())
    content[2 * LAYOUT.itemsize + byte] ^= 1
    path.write_bytes(bytes(content))
    assert read_records(path, LAYOUT)["step"].tolist() == [0, 1]


def test_a_tail_of_zeros_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "s"
    write(path, range(2))
    path.write_bytes(path.read_bytes() + bytes(3 * LAYOUT.itemsize))
    assert read_records(path, LAYOUT)["step"].tolist() == [0, 1]


def test_an_empty_stream_has_no_records(tmp_path: Path) -> None:
    write(tmp_path / "s", range(0))
    assert len(read_records(tmp_path / "s", LAYOUT)) == 0


def test_a_stream_goes_on_after_the_records_that_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "s", range(6))
    write(tmp_path / "s", range(3, 5), n_kept=3)
    write(tmp_path / "once", range(5))
    assert (tmp_path / "s").read_bytes() == (tmp_path / "once").read_bytes()


def test_a_record_can_be_read_while_the_stream_is_open(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "s", LAYOUT, 0)
    writer.append(0, values(0).tobytes())
    assert read_records(tmp_path / "s", LAYOUT)["step"].tolist() == [0]
    writer.close()


def test_syncing_cuts_records_that_are_not_counted(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "s", LAYOUT, 0)
    for step in range(3):
        writer.append(step, values(step).tobytes())
    writer.sync(2)
    writer.append(9, values(9).tobytes())
    writer.close()
    assert read_records(tmp_path / "s", LAYOUT)["step"].tolist() == [0, 1, 9]


def test_records_written_at_once_are_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "s", range(5))
    records = read_records(tmp_path / "s", LAYOUT).copy()
    records["crc32"] = 0
    write_records(tmp_path / "again", records)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "s").read_bytes()


def test_an_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
