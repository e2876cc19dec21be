from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from assl_lightning.base.locking import held, is_held
from assl_lightning.base.run_files import LOCK

fcntl = pytest.importorskip("fcntl")

HOLD = """
import sys
from pathlib import Path
from assl_lightning.base.locking import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
HOLD_AS_BEFORE = """
import fcntl, sys
from pathlib import Path
with (Path(sys.argv[1]) / ".lock").open("a+") as file:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(run_dir: Path, code: str = HOLD) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.e2e
@pytest.mark.parametrize("code", [HOLD, HOLD_AS_BEFORE])
def test_a_second_process_is_refused_in_one_line(tmp_path: Path, code: str) -> None:
    with other_process(tmp_path, code):
        assert is_held(tmp_path)
        with pytest.raises(ValueError, match="in use by another process") as raised, held(tmp_path):
            pass
    assert str(raised.value) == (
        f"run_dir {tmp_path} is in use by another process; wait for it, or choose another run_dir"
    )


def test_the_version_before_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()  # as it leaves one
    with held(tmp_path), (tmp_path / LOCK).open("a+") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with held(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


@pytest.mark.e2e
def test_a_process_that_is_killed_frees_the_lock(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not is_held(tmp_path)
        with held(tmp_path):
            pass


def test_asking_leaves_nothing_behind(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING, "assl_lightning"), held(tmp_path):
        assert "cannot be locked" in caplog.text
        assert not is_held(tmp_path)


def test_a_lock_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()  # root, too, may not write it
    with pytest.raises(OSError, match=LOCK), held(tmp_path):
        pass
    assert not is_held(tmp_path)
