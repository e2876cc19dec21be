"""Decoded images in memory, or in a file that is mapped into memory and outlives the process.

The file is the pixels as uint8 and, behind them, JSON that says of which files, by name, size and time of change, it
was made; where these have changed it is stale, and made anew. It is written in one piece.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assl_lightning.base.atomic import open_atomic
from assl_lightning.data.decoding import Faults, ImageFormat, decode_all
from assl_lightning.data.file_reading import NOT_READ, why_unreadable

log = logging.getLogger(__name__)

_VERSION = 2  # of the file, and of what decoding makes of an image


def load_images(
    sample_ids: Sequence[str], paths: Sequence[Path], form: ImageFormat, cache: Path | None
) -> tuple[Tensor, Faults]:
    """(N, channels, height, width) uint8 and, by place, what is wrong with those that cannot be decoded, black ones.

    Without a `cache` they are decoded into memory. With one, a directory that is made where it is missing, they are
    decoded there the first time; the tensor is then the file's memory, read when it is looked at, and what is written
    to the tensor stays out of the file. Each list of ids and format has a file of its own; files that nobody needs any
    more may be removed at any time. A file that is stale or torn is told and made anew.

    Raises:
        OSError: a file is gone that was listed, or the cache cannot be written.
    """
    if cache is None or not paths:
        images = torch.empty(len(paths), *form.shape, dtype=torch.uint8)
        faults: Faults = {}
        first = 0
        for part, part_faults in decode_all(paths, form):
            images[first : first + len(part)] = torch.from_numpy(part)
            faults |= {first + place: fault for place, fault in part_faults.items()}
            first += len(part)
        return images, faults
    wanted = describe_files(sample_ids, paths, form)
    file = cache / f"{name_of(sample_ids, form)}.images"
    faults_there = _faults_of(file, wanted, paths)
    if faults_there is None:
        cache.mkdir(parents=True, exist_ok=True)
        log.info("decoding %s images into %s", f"{len(paths):,}", file)
        faults_there = _write(file, wanted, paths, form)
    return _map(file, wanted["shape"]), faults_there


def describe_files(sample_ids: Sequence[str], paths: Sequence[Path], form: ImageFormat) -> dict[str, Any]:
    """What is kept of images is kept beside this, as JSON, and is stale where it is another by now."""
    return {
        "version": _VERSION,
        "shape": [len(paths), *form.shape],
        "resize": form.resize,
        "files": _digest_files(sample_ids, paths),
    }


def name_of(sample_ids: Sequence[str], form: ImageFormat) -> str:
    """What a file is called, but for its suffix, that keeps something of these images."""
    return _digest([*sample_ids, str(form)])


def _digest_files(sample_ids: Sequence[str], paths: Sequence[Path]) -> str:
    """Of names, sizes and times of change: what is looked at without reading the images."""
    return _digest(
        [
            json.dumps([name, str(path.absolute()), *_state_of(path)])
            for name, path in zip(sample_ids, paths, strict=True)
        ]
    )


def _state_of(path: Path) -> tuple[int, ...]:
    """Size and time of change; empty for a link that leads nowhere."""
    try:
        state = path.stat()
    except OSError:
        return ()
    return state.st_size, state.st_mtime_ns


def _digest(texts: Sequence[str]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def still_holds(file: Path, faults: Faults, paths: Sequence[Path]) -> bool:
    """False, and told, where an image that could not be read when `file` was made may be read by now.

    Permission that is given since changes neither size nor time.
    """
    not_read = [paths[place] for place, fault in faults.items() if fault.startswith(f"{paths[place]} ({NOT_READ}")]
    if all(why_unreadable(path) for path in not_read):
        return True
    log.warning("cache %s lacks images that could not be read and can be by now, and is made anew", file)
    return False


def _faults_of(file: Path, wanted: Mapping[str, Any], paths: Sequence[Path]) -> Faults | None:
    """What the file says is wrong with images; None where it is not there, stale or torn, and is to be made."""
    if not file.exists():
        return None
    try:
        with file.open("rb") as stream:
            stream.seek(math.prod(wanted["shape"]))
            said = json.loads(stream.read())
        faults = {int(place): str(fault) for place, fault in said.pop("faults").items()}
    except (ValueError, AttributeError, KeyError):
        log.warning("cache %s is torn, and is made anew", file)
        return None
    if said != wanted:
        log.warning("cache %s is of files that have changed since, and is made anew", file)
        return None
    return faults if still_holds(file, faults, paths) else None


def _write(file: Path, wanted: Mapping[str, Any], paths: Sequence[Path], form: ImageFormat) -> Faults:
    """Decode into `file`, part by part, so that memory never holds them all."""
    faults: Faults = {}
    first = 0
    with open_atomic(file) as stream:
        for part, part_faults in decode_all(paths, form):
            stream.write(part.tobytes())
            faults |= {first + place: fault for place, fault in part_faults.items()}
            first += len(part)
        stream.write(json.dumps({**wanted, "faults": faults}).encode())
    return faults


def _map(file: Path, shape: Sequence[int]) -> Tensor:
    """The pixels as the file's memory; copied page by page where somebody writes to them."""
    return torch.from_numpy(np.memmap(file, dtype=np.uint8, mode="c", shape=tuple(shape)))
