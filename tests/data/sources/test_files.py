"""Every message names the files and the place."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.error import URLError

import pytest

from assl_lightning.data.sources.files import DataFile, obtain_files


def make_file(path: Path, content: bytes) -> DataFile:
    return DataFile(path, hashlib.md5(content).hexdigest())


def test_nothing_is_fetched_where_everything_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"whole")
    calls: list[int] = []
    obtain_files("Toys", tmp_path, [make_file(tmp_path / "a", b"whole")], lambda: calls.append(1))
    assert calls == []


def test_missing_files_are_fetched_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def fetch() -> None:
        calls.append(1)
        (tmp_path / "a").write_bytes(b"whole")

    obtain_files("Toys", tmp_path, [make_file(tmp_path / "a", b"whole")], fetch)
    assert calls == [1]


def test_a_missing_file_without_a_download_is_named_with_what_to_do(tmp_path: Path) -> None:
    files = [make_file(tmp_path / "a", b""), make_file(tmp_path / "b", b"")]
    message = rf"Toys must lie under {tmp_path}, whole: missing: {tmp_path}/a, {tmp_path}/b; set download: true"
    with pytest.raises(FileNotFoundError, match=message):
        obtain_files("Toys", tmp_path, files, None)


def test_a_damaged_file_without_a_download_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"whole")
    (tmp_path / "b").write_bytes(b"halved")
    files = [make_file(tmp_path / "a", b"whole"), make_file(tmp_path / "b", b"whole")]
    message = rf"whole: damaged \(their MD5 sum is not the published one\): {tmp_path}/b; set download"
    with pytest.raises(RuntimeError, match=message):
        obtain_files("Toys", tmp_path, files, None)


@pytest.mark.parametrize("problem", [URLError("no network"), RuntimeError("no network"), TimeoutError("no network")])
def test_a_failed_download_says_where_to_and_why(tmp_path: Path, problem: Exception) -> None:
    def fetch() -> None:
        raise problem

    message = rf"Toys could not be downloaded to {tmp_path} \(.*no network.*\): missing: {tmp_path}/a; copy the files"
    with pytest.raises(RuntimeError, match=message) as caught:
        obtain_files("Toys", tmp_path, [make_file(tmp_path / "a", b"")], fetch)
    assert caught.value.__cause__ is problem


def test_a_download_that_leaves_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    def fetch() -> None:
        (tmp_path / "a").write_bytes(b"halved")

    message = rf"Toys was downloaded to {tmp_path}, and is not whole: damaged .*: {tmp_path}/a; delete"
    with pytest.raises(RuntimeError, match=message):
        obtain_files("Toys", tmp_path, [make_file(tmp_path / "a", b"whole")], fetch)
