"""Atomic writing: at any moment a file has either its old or its new content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

TEMPORARY = ".tmp"
"""The suffix of files that are being written, or whose writing was killed."""


@contextmanager
def open_atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that replaces `path` when the block ends, and is removed when the block raises.

    The file is written under a temporary name in the same directory (a rename across file systems is not atomic),
    flushed to the disk, then renamed. The directory is flushed too, so that the new name survives a power cut. An
    `OSError` names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with open_atomic(path) as file:
        file.write(text.encode())
