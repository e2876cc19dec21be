from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assl_lightning.base import tensor_files

STATE = {"weights": torch.arange(40.0), "step": 7, "nested": {"names": ["a", "b"], "flags": torch.tensor([True])}}


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    tensor_files.save(STATE, tmp_path / "a.pt")
    loaded = tensor_files.load(tmp_path / "a.pt")
    assert loaded.keys() == STATE.keys()
    assert torch.equal(loaded["weights"], STATE["weights"])  # type: ignore[arg-type]
    assert loaded["nested"]["names"] == ["a", "b"]


def test_a_file_that_is_not_there_is_another_thing_than_a_torn_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tensor_files.load(tmp_path / "a.pt")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "a.pt"
    tensor_files.save(STATE, path)
    return path.read_bytes()


@given(cut=st.integers(min_value=1))
@settings(max_examples=60, deadline=None)
def test_a_file_that_ends_too_early_is_named(
    content: bytes, tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "torn.pt"
    path.write_bytes(content[: -(cut % len(content)) or None][:-1])
    with pytest.raises(ValueError, match=r"torn\.pt cannot be read: it is torn"):
        tensor_files.load(path)


@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
@settings(max_examples=400, deadline=None)
def test_a_wrong_bit_is_noticed_or_changes_nothing(
    content: bytes, tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    """The archive pads its records, and keeps some fields that nobody reads."""
    wrong = bytearray(content)
    wrong[place % len(content)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "wrong.pt"
    path.write_bytes(wrong)
    try:
        loaded = tensor_files.load(path)
    except ValueError as error:
        assert "wrong.pt cannot be read: " in str(error)  # noqa: PT017
        return
    assert torch.equal(loaded["weights"], STATE["weights"])  # type: ignore[arg-type]
    assert loaded["step"] == 7
    assert loaded["nested"]["names"] == ["a", "b"]


def test_a_record_that_says_it_is_a_directory_is_noticed(content: bytes, tmp_path: Path) -> None:
    """No checksum covers this bit, and with it torch reads a tensor of whatever was in memory."""
    wrong = bytearray(content)
    entry = wrong.index(b"archive/data/0", wrong.index(b"PK\x01\x02")) - 46  # its entry in the table of contents
    assert wrong[entry : entry + 4] == b"PK\x01\x02"
    wrong[entry + 38] ^= 0x10
    (tmp_path / "a.pt").write_bytes(wrong)
    with pytest.raises(ValueError, match=r"a\.pt cannot be read: its checksum is wrong \(in archive/data/0\)"):
        tensor_files.load(tmp_path / "a.pt")


class Runs:
    """Says so if its pickle is run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was_run",)


def test_no_code_of_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Runs()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt cannot be read: "):
        tensor_files.load(tmp_path / "a.pt")
    assert not (tmp_path / "was_run").exists()


def test_what_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(ValueError, match="it holds a list, not a dictionary"):
        tensor_files.load(tmp_path / "a.pt")


def test_a_full_disk_is_told_with_the_file_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit on a file's size stands in for a disk: the write fails in the middle, inside torch's own writer."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    path = tmp_path / "a.pt"
    tensor_files.save({"weights": torch.zeros(3)}, path)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            tensor_files.save({"weights": torch.zeros(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(path)
    assert torch.equal(tensor_files.load(path)["weights"], torch.zeros(3))
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]
