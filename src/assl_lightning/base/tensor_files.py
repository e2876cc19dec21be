"""Files of tensors and plain values: written in one piece, read only when whole, and never run.

The format is `torch.save`'s, a zip archive with a CRC-32 for each record. `torch.load` does not look at these; we do.
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
    """Write tensors and plain values so that `path` is the old file or the new one, whatever happens meanwhile.

    Raises:
        OSError: the disk is full, or the like; the old file is still there.
    """
    with open_atomic(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch stumbles over what the failed write left undone
                raise error.__context__ from None
            raise


def load(path: Path) -> dict[str, Any]:
    """What `save`, or a trainer's checkpoint, wrote; on the CPU, running no code from the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is torn, its bytes are not those that were written, or it holds more than tensors and plain
            values.
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
"""What torch's unpickler, too, says to a stream that `torch.save` did not write."""


def damage(path: Path) -> str | None:
    """What is wrong with the bytes of a file that `save` wrote; None where they are as they were written."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip() or next((one.filename for one in archive.infolist() if _is_directory(one)), None)
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, NotImplementedError) as error:
        return f"it is torn or not one of these files ({first_line(error)})"
    return None if broken is None else f"its checksum is wrong (in {broken})"


def _is_directory(entry: zipfile.ZipInfo) -> bool:
    """Whether torch's reader, which goes by an attribute that no checksum covers, would find nothing in it."""
    return entry.is_dir() or bool(entry.external_attr & _DIRECTORY)


_DIRECTORY = 0x10
