from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from assl_lightning.base import atomic
from assl_lightning.learning.checkpointing import AtomicCheckpointIO


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": torch.arange(3)}, path)
    assert torch.load(path, weights_only=True)["x"].tolist() == [0, 1, 2]
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]


def test_a_write_that_fails_leaves_the_old_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": 1}, path)

    def fail(_: Any, file: Any) -> None:
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        AtomicCheckpointIO().save_checkpoint({"x": 2}, path)
    assert torch.load(path, weights_only=True) == {"x": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]


def test_the_file_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(handle: int) -> None:
        order.append("sync")
        real_sync(handle)

    def replace(one: Path, other: Path) -> Path:
        order.append("rename")
        return real_replace(one, other)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    atomic.write_text(tmp_path / "a.txt", "α")
    assert order == ["sync", "rename", "sync"]
    assert (tmp_path / "a.txt").read_bytes() == "α".encode()
