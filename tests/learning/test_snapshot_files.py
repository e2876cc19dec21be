from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assl_lightning.learning.snapshot_files import (
    Snapshot,
    read_snapshot,
    read_snapshots,
    snapshot_path,
    snapshot_steps,
    write_snapshot,
)


def make_snapshot(step: int, index: tuple[int, ...] = (3, 7, 8)) -> Snapshot:
    generator = np.random.default_rng(step)
    n = len(index)
    return Snapshot(
        step=np.array(step),
        index=np.array(index),
        prediction=generator.integers(0, 10, n, dtype=np.int16),
        max_probability=generator.random(n, dtype=np.float32),
        uncertainty=generator.random(n, dtype=np.float32) * np.float32(1e-30),
        uncertainty_mean=generator.random(n, dtype=np.float32),
        uncertainty_variance=generator.random(n, dtype=np.float32),
        inconsistency_mean=generator.random(n, dtype=np.float32),
        inconsistency_variance=generator.random(n, dtype=np.float32),
        visits=generator.integers(0, 5, n, dtype=np.int32),
        c_u=np.array(0.5),
        c_i=np.array(2.0),
    )


def test_a_snapshot_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = make_snapshot(40)
    write_snapshot(tmp_path, written)
    read = read_snapshot(tmp_path / "step_00000040.npz")
    for name, values in vars(written).items():
        assert getattr(read, name).dtype == values.dtype, name
        np.testing.assert_array_equal(getattr(read, name), values, err_msg=name)


def test_snapshots_come_in_order_of_their_steps_whatever_else_lies_there(tmp_path: Path) -> None:
    for step in (9_000_000, 5, 123_456_789, 40):
        write_snapshot(tmp_path, make_snapshot(step))
    for name in (".step_00000050.npz.1.tmp", "step_50.txt", "step_last.npz"):
        (tmp_path / name).write_bytes(b"half")
    assert list(snapshot_steps(tmp_path)) == [5, 40, 9_000_000, 123_456_789]
    assert [int(snapshot.step) for snapshot in read_snapshots(tmp_path)] == [5, 40, 9_000_000, 123_456_789]


def test_a_directory_without_snapshots_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"holds no snapshot \(no step_\*.npz\); train with the callback PoolSnapshots"
    ):
        read_snapshots(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_snapshot_is_named(tmp_path: Path, content: bytes) -> None:
    snapshot_path(tmp_path, 5).write_bytes(content)
    with pytest.raises(ValueError, match=r"step_00000005.npz is not the file of a snapshot \(.*remove it, or run it"):
        read_snapshots(tmp_path)


def test_a_file_that_lacks_a_column_or_is_a_lone_array_is_named(tmp_path: Path) -> None:
    with snapshot_path(tmp_path, 5).open("wb") as file:
        np.savez(file, step=np.array(5))
    with pytest.raises(ValueError, match=r"step_00000005.npz is not the file of a snapshot \(.*index"):
        read_snapshots(tmp_path)
    with snapshot_path(tmp_path, 5).open("wb") as file:
        np.save(file, np.array(5))
    with pytest.raises(ValueError, match="is not the file of a snapshot"):
        read_snapshots(tmp_path)


def test_a_file_with_pickled_objects_is_not_opened(tmp_path: Path) -> None:
    content = {**vars(make_snapshot(5)), "prediction": np.array([{}, {}, {}])}
    with snapshot_path(tmp_path, 5).open("wb") as file:
        np.savez(file, **content)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_snapshots(tmp_path)


def test_snapshots_of_other_samples_are_not_mixed(tmp_path: Path) -> None:
    write_snapshot(tmp_path, make_snapshot(5))
    write_snapshot(tmp_path, make_snapshot(10, index=(3, 7, 9)))
    with pytest.raises(ValueError, match=r"step_00000010.npz is a snapshot of other samples than step_00000005.npz"):
        read_snapshots(tmp_path)
