"""Images in an object store or on a web server, through fsspec: listed once, then each read by a request of its own.

A folder is a URL of fsspec, such as s3://bucket/photos, https://host/photos/ or simplecache::s3://bucket/photos, which
keeps a copy of each object on the local disk. Credentials and options are fsspec's own: variables such as
FSSPEC_S3_ENDPOINT_URL, or files in ~/.config/fsspec; nothing of them is in a run's configuration.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from assl_lightning.base.extras import install_command
from assl_lightning.base.words import counted, with_kind

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

THREADS = 32
"""Requests at once in each process: the time of one is waiting."""

_WAITS = (0.5, 1.0, 2.0)
"""Seconds between two tries of a request, which is tried once more than there are waits."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_ONE_SLASH = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]", re.IGNORECASE)
_LOCAL = re.compile(r"(file|local)://", re.IGNORECASE)
_QUOTES_NAMES = re.compile(r"(.*::)?https?://", re.IGNORECASE)
_STATES = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime", "created")
"""What a listing may call that which changes with an object."""

_FINAL = (FileNotFoundError, IsADirectoryError, PermissionError, NotImplementedError, ImportError)
"""Errors of fsspec that another try does not change."""


def _forget_thread() -> None:
    """Let fsspec start a thread of its own in a forked process, such as a loader's worker.

    Threads do not come along, and fsspec of 2025.3 waits for that of the parent for ever.
    """
    asynchronous = sys.modules.get("fsspec.asyn")
    if asynchronous is not None:
        asynchronous.reset_lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_forget_thread)


class StoreError(OSError):
    """A store did not answer, or not with the object; the message is a whole sentence."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of a store, by its URL without a slash at the end."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> RemoteFolder:
        return RemoteFolder(f"{self.url}/{name}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """An object of a store, as its folder's listing had it."""

    folder: RemoteFolder
    name: str  # from the folder, with slashes
    path: str  # as fsspec's file system calls it
    size: int | None  # bytes; None where the listing does not say
    state: str  # changes when the object does; "" where the listing does not say

    def __str__(self) -> str:
        return f"{self.folder.url}/{self.name}"

    def read(self) -> bytes:
        """Return the content.

        Raises:
            FileNotFoundError: there is no such object any more.
            StoreError: it did not come in four tries, or not whole.
        """

        def ask() -> bytes:
            content: bytes = _file_system(self.folder.url)[0].cat_file(self.path)
            if self.size is not None and len(content) != self.size:
                raise OSError(f"{len(content):,} bytes came of the {self.size:,} that were listed")
            return content

        try:
            return _answer_of(ask)
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "there is no such object any more", str(self)) from error
        except Exception as error:
            cached = "; or remove the local cache, whose copy may be incomplete" if "::" in self.folder.url else ""
            raise StoreError(
                f"{self} cannot be read ({_tried(error)}); see that the store answers, and that the object is as "
                f"it was listed{cached}; then the same command goes on"
            ) from error


def folder_of_url(text: str) -> RemoteFolder | None:
    """Return the folder that a URL names; None for a path of this machine.

    >>> folder_of_url("s3://bucket/photos/"), folder_of_url("C:/photos"), folder_of_url("photos")
    (RemoteFolder(url='s3://bucket/photos'), None, None)
    """
    if not _URL.match(text):
        if _ONE_SLASH.match(text) and not Path(text).exists():
            raise ValueError(f"{text}: the address of a store has two slashes, {text.replace(':/', '://', 1)}")
        return None
    if _LOCAL.match(text):
        raise ValueError(f"{text}: write a directory of this machine as a path, without file://")
    return RemoteFolder(text.rstrip("/"))


def list_files(folder: RemoteFolder) -> list[RemoteFile]:
    """Return all objects below a folder, at any depth, in the order of their names; hidden ones are left out.

    An object is hidden if its name, or that of a directory below the folder, begins with a dot. A store that has keys
    and no directories lists about a thousand of them a request.

    Raises:
        ValueError: there is no such folder, or fsspec does not know the URL's protocol.
        ImportError: fsspec needs a package for it that is not installed.
        StoreError: the store did not answer in four tries, or refused.
    """
    try:
        system, root = _file_system(folder.url)
        log.info("listing %s", folder)
        system.invalidate_cache()  # of an earlier listing in this process
        found: Mapping[str, Mapping[str, Any]] = _answer_of(lambda: system.find(root, detail=True))
        system.invalidate_cache()  # as large as the listing
    except ImportError as error:
        raise ImportError(f"{folder}: {error}; {install_command('remote')} has what s3:// and https:// need") from error
    except FileNotFoundError as error:
        raise ValueError(f"{folder} must be a folder of images in a store; there is none of that name") from error
    except ValueError as error:  # of a protocol
        raise ValueError(f"{folder} must be a URL that fsspec knows; {error}") from error
    except Exception as error:
        raise StoreError(f"{folder} cannot be listed ({_tried(error)}); see that the store answers") from error
    prefix, quotes = f"{root.rstrip('/')}/", _QUOTES_NAMES.match(folder.url)
    files = []
    for path, about in found.items():
        name = path.removeprefix(prefix)
        if about.get("type") != "file" or name == path or any(part.startswith(".") for part in name.split("/")):
            continue
        state = next((str(about[key]) for key in _STATES if about.get(key) is not None), "")
        files.append(RemoteFile(folder, unquote(name) if quotes else name, path, about.get("size"), state))
    log.info("%s: %s", folder, counted(len(files), "object"))
    return sorted(files, key=lambda file: file.name)


def _file_system(url: str) -> tuple[Any, str]:
    """Return the file system and the path of a URL; fsspec keeps one for each process and its options."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    return system, path


def _answer_of(ask: Callable[[], Answer]) -> Answer:
    """Ask up to four times, with growing waits between; the last error is raised."""
    for wait in _WAITS:
        try:
            return ask()
        except _FINAL:
            raise
        except Exception as error:
            log.debug("%s; another try in %g s", with_kind(error), wait)
            time.sleep(wait)
    return ask()


def _tried(error: Exception) -> str:
    tries = "" if isinstance(error, _FINAL) else f", in {len(_WAITS) + 1} tries"
    return f"{with_kind(error)}{tries}"
