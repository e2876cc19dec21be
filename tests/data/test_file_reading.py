"""Everything that may stand where an image file is expected."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from assl_lightning.data.file_reading import read_file, why_unreadable


def test_a_file_gives_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"content")
    (tmp_path / "link.png").symlink_to("a.png")
    for name in ("a.png", "link.png"):
        assert read_file(tmp_path / name) == b"content"
        assert why_unreadable(tmp_path / name) == ""


def test_a_link_to_nothing_says_what_it_leads_to_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("/not/mounted/b.png")
    for name in ("a.png", "b.png"):
        assert read_file(tmp_path / name) == "not read: a link to nothing, /not/mounted/b.png"
        assert why_unreadable(tmp_path / name) == read_file(tmp_path / name)


def test_links_that_lead_to_one_another_and_directories_are_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "c.png").mkdir()
    assert read_file(tmp_path / "a.png") == "not read: a link that leads to itself"
    assert read_file(tmp_path / "c.png") == "not read: it is a directory, no file"


def test_what_would_be_waited_for_for_ever_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert read_file(tmp_path / "pipe.png") == "not read: it is a pipe, no file"
    assert read_file(Path("/dev/zero")) == "not read: it is a device, no file"
    monkeypatch.chdir(tmp_path)  # since a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
        assert read_file(Path("socket.png")) == "not read: it is a socket, no file"


@pytest.mark.skipif(os.geteuid() == 0, reason="this user may read everything")
def test_a_file_without_permission_is_named_as_such_until_it_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch(mode=0)
    assert read_file(path) == why_unreadable(path) == "not read: this user may not read it"
    path.chmod(0o600)
    assert read_file(path) == b""
    assert why_unreadable(path) == ""


def test_a_file_that_went_after_it_was_listed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        read_file(tmp_path / "gone.png")
    assert why_unreadable(tmp_path / "gone.png") == "not read: there is no such file"


def test_a_disk_that_fails_is_an_error_with_the_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(5, "Input/output error")  # as reading raises it, without a name

    (tmp_path / "a.png").touch()
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match=r"Input/output error: '.*a\.png'"):
        read_file(tmp_path / "a.png")
