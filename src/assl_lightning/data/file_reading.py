"""Read the bytes of an image file, or find the reason why it cannot be read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from assl_lightning.data.remote import THREADS, RemoteFile

ImageFile = Path | RemoteFile
"""Where the bytes of an image are."""


class Row(Protocol):
    """An image that is in no file of its own, but in a table."""

    def read(self) -> bytes | str:
        """Return the content of the image's file, or the reason why it cannot be read."""


NOT_READ = "not read: "
"""Beginning of the reason where the file could not be read at all, so that its image may be whole."""

LINK_TO_NOTHING = f"{NOT_READ}a link to nothing"

_NO_FILES = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_file(path: ImageFile | Row) -> bytes | str:
    """Return the content of a file, or the reason why it cannot be read, which begins with `NOT_READ`.

    Reasons are a link to nothing or to itself, a directory, a pipe (which is not waited for), and a file that this user
    may not read. For an object of a store there are none: where one cannot be read, nor can the others.

    Raises:
        OSError: there is nothing of that name, not even a link; or the disk or the store failed, and the image may well
            be whole.
    """
    if not isinstance(path, Path):
        return path.read()
    try:
        reason = _reason_by_kind(path)
        return reason or path.read_bytes()
    except OSError as error:
        return _reason_of(path, error)


def threads_to_read(files: Sequence[ImageFile | Row]) -> int:
    """Return how many of the files are best read at once: as many as there are cores, or more where they are remote."""
    is_remote = any(isinstance(file, RemoteFile) for file in files[:1])
    return THREADS if is_remote else os.cpu_count() or 1


def why_unreadable(path: Path) -> str:
    """Return the reason that `read_file` would give, without reading; empty where the file can probably be read."""
    try:
        reason = _reason_by_kind(path)
        if reason or os.access(path, os.R_OK):
            return reason
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    except FileNotFoundError as error:
        return _reason_of(path, error) if path.is_symlink() else f"{NOT_READ}there is no such file"
    except OSError as error:
        return _reason_of(path, error)


def _reason_by_kind(path: Path) -> str:
    mode = path.stat().st_mode
    return next((f"{NOT_READ}it is {kind}, no file" for is_kind, kind in _NO_FILES if is_kind(mode)), "")


def _reason_of(path: Path, error: OSError) -> str:
    """Return the reason in words; raise `error`, with the file's name, where the cause may pass."""
    if error.errno == errno.ELOOP:
        return f"{NOT_READ}a link that leads to itself"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        if not path.is_symlink():
            raise error
        return f"{LINK_TO_NOTHING}, {os.path.realpath(path)}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{NOT_READ}this user may not read it"
    raise error if error.filename else OSError(error.errno, error.strerror or str(error), str(path))
