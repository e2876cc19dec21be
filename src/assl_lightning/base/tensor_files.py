"""Files of tensors and plain values: written atomically, checked when read, and never executed.

The format is that of `torch.save`, a zip archive with a CRC-32 for each record. `torch.load` does not check them; this
module does.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from assl_lightning.base.atomic import open_atomic
from assl_lightning.base.words import first_line


def save(state: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values atomically.

    Raises:
        OSError: the file cannot be written, as on a full disk; the old file is still there.
    """
    with open_atomic(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a RuntimeError of torch hides the failed write
                raise error.__context__ from None
            raise


def load(path: Path) -> dict[str, Any]:
    """Read a file that `save` or a Trainer has written, onto the CPU, without executing code from it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is incomplete or changed, or holds more than tensors and plain values.
    """
    problem = damage(path)
    if problem is not None:
        raise ValueError(f"{path} cannot be read: {problem}")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, OSError, RuntimeError, UnpicklingError, *_ODD_CONTENT) as error:
        raise ValueError(f"{path} cannot be read: {first_line(error)}") from error
    if isinstance(state, dict):
        return state
    raise ValueError(f"{path} cannot be read: it holds a {type(state).__name__}, not a dictionary")


_ODD_CONTENT = (AttributeError, AssertionError, IndexError, KeyError, TypeError, ValueError)
"""Errors that torch's unpickler may raise for a stream that `torch.save` has not written."""


def damage(path: Path) -> str | None:
    """Return how the bytes of a file differ from what `save` wrote, or None."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip() or next(
                (entry.filename for entry in archive.infolist() if _is_directory(entry)), None
            )
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, NotImplementedError) as error:
        return f"it is torn or not one of these files ({first_line(error)})"
    return None if broken is None else f"its checksum is wrong (in {broken})"


def _is_directory(entry: zipfile.ZipInfo) -> bool:
    """True if `torch.load` would take the entry for a directory and read nothing; the CRC does not cover that flag."""
    return entry.is_dir() or bool(entry.external_attr & _DIRECTORY)


_DIRECTORY = 0x10
