"""Read image files into memory, or survey those that stay in their files; a cache keeps the result for later runs.

A cache is a directory. For each list of images and each format it has `NAME.json`, the survey: which images cannot be
decoded, how often each pixel value occurs, and the key, which tells from what files (names, sizes, times of change) it
was made. Where images are read into memory, `NAME-KEY.npy` has their pixels. Each file is written in one piece, the
survey last, so that a run that is killed leaves the old cache or the new one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.atomic import open_atomic, write_text
from assl_lightning.base.locking import alone
from assl_lightning.data.decoding import Faults, ImageFormat, Images, decode_all
from assl_lightning.data.file_reading import NOT_READ, ImageFile, why_unreadable
from assl_lightning.data.image_stream import StoredImages, StreamedImages, count_pixels
from assl_lightning.data.remote import RemoteFile

log = logging.getLogger(__name__)

Storage = Literal["memory", "stream"]

_VERSION = 3  # of the cache's files, and of the pixels that decoding gives

_EARLIER_SUFFIXES = (".images", ".survey")  # of versions 1 and 2


def read_images(
    sample_ids: Sequence[str], paths: Sequence[ImageFile], form: ImageFormat, storage: Storage, cache: Path | None
) -> tuple[StoredImages, Faults]:
    """Return N images, (N, channels, height, width) uint8, and the faults of those that cannot be decoded, by index.

    Such images are black. With `storage` "memory" the images are a tensor. With "stream" they stay in their files until
    they are looked at, and are decoded once now, to find the faults.

    With a `cache`, a directory that is made where it is missing, all images are decoded once for all runs, until a file
    changes. A tensor is then mapped from the cache: it is read from the disk when it is looked at, and what is written
    to it never reaches the file. Files of a cache may be removed at any time.

    Raises:
        OSError: a listed file is gone, its disk failed, or the cache cannot be written.
        ValueError: there is no such `storage`.
    """
    require_one_of("images", storage, Storage)
    if cache is not None and paths:
        return _Cache(cache, sample_ids, paths, form).read(storage)
    if storage == "stream":
        return _streamed(paths, form, _survey(paths, form))
    images = torch.empty(len(paths), *form.shape, dtype=torch.uint8)
    faults: Faults = {}
    for first, part, part_faults in decode_all(paths, form):
        images[first : first + len(part)] = torch.from_numpy(part)
        faults |= part_faults
    return images, faults


@dataclass(frozen=True)
class _Survey:
    """Faults and pixel counts, found by decoding all images once."""

    faults: Faults
    histogram: Tensor  # (channels, 256) int64, how often each value occurs in the images that can be decoded


def _survey(paths: Sequence[ImageFile], form: ImageFormat, keep: Callable[[Images], object] | None = None) -> _Survey:
    """Decode all images in parts, so that memory never holds them all; `keep`, if there is one, gets each part."""
    if keep is None:
        log.info("decoding %s images once, to find those that cannot be", f"{len(paths):,}")
    faults: Faults = {}
    histogram = torch.zeros(form.channels, 256, dtype=torch.int64)
    for _, part, part_faults in decode_all(paths, form):
        if keep is not None:
            keep(part)
        faults |= part_faults
        histogram += count_pixels(torch.from_numpy(part))
        histogram[:, 0] -= len(part_faults) * form.size[0] * form.size[1]  # they are black
    return _Survey(faults, histogram)


def _streamed(paths: Sequence[ImageFile], form: ImageFormat, survey: _Survey) -> tuple[StreamedImages, Faults]:
    unreadable = torch.tensor(sorted(survey.faults), dtype=torch.int64)
    return StreamedImages(paths, form, unreadable, survey.histogram), survey.faults


class _Cache:
    """The files of a cache for one list of images in one format."""

    def __init__(
        self, directory: Path, sample_ids: Sequence[str], paths: Sequence[ImageFile], form: ImageFormat
    ) -> None:
        self._paths = paths
        self._form = form
        self._key: dict[str, Any] = {
            "version": _VERSION,
            "shape": [len(paths), *form.shape],
            "resize": form.resize,
            "files": _digest_files(sample_ids, paths),
        }
        name = _digest([*sample_ids, str(form)])
        self._survey_file = directory / f"{name}.json"
        self._pixel_file = directory / f"{name}-{_digest([json.dumps(self._key)])}.npy"
        self._earlier_files = [directory / f"{name}{suffix}" for suffix in _EARLIER_SUFFIXES]

    def read(self, storage: Storage) -> tuple[StoredImages, Faults]:
        """Return images and faults from the cache; what is missing, damaged or out of date in it is made first.

        Of several processes, such as the ranks of a run, one makes it, and the others wait and read it.
        """
        self._survey_file.parent.mkdir(parents=True, exist_ok=True)
        if self._is_made(storage):
            return self._found(storage)
        with alone(self._survey_file.with_suffix(".lock"), f"it decodes the images into {self._survey_file.parent}"):
            return self._found(storage)

    def _is_made(self, storage: Storage) -> bool:
        """Return whether there are files to read; if they are whole, `_found` tells."""
        return self._survey_file.exists() and (storage == "stream" or self._pixel_file.exists())

    def _found(self, storage: Storage) -> tuple[StoredImages, Faults]:
        survey = self._read_survey()
        if storage == "stream":
            survey = survey or self._write_survey(_survey(self._paths, self._form))
            return _streamed(self._paths, self._form, survey)
        images = None if survey is None else self._map(self._pixel_file)
        if survey is None or images is None:
            images, survey = self._write_pixels()
        return images, survey.faults

    def _read_survey(self) -> _Survey | None:
        """Return the survey; None, with a message, where it must be made again."""
        if not self._survey_file.exists():
            for file in self._earlier_files:
                if file.exists():
                    log.warning("cache %s was made by an earlier version and is made again", file)
            return None
        try:
            content = json.loads(self._survey_file.read_text(encoding="utf-8"))
            faults = {int(index): str(fault) for index, fault in content.pop("faults").items()}
            histogram = torch.tensor(content.pop("histogram"), dtype=torch.int64).reshape(self._form.channels, 256)
        except (ValueError, AttributeError, KeyError, TypeError, RuntimeError):
            log.warning("cache %s is damaged and is made again", self._survey_file)
            return None
        if content != self._key:
            log.warning("cache %s is out of date, since files have changed, and is made again", self._survey_file)
            return None
        return _Survey(faults, histogram) if self._is_complete(faults) else None

    def _is_complete(self, faults: Faults) -> bool:
        """True unless a file that could not be read when the cache was made can be read now.

        A permission that is given since changes neither size nor time of change.
        """
        paths = self._paths
        not_read = [paths[index] for index, fault in faults.items() if fault.startswith(f"{paths[index]} ({NOT_READ}")]
        if all(isinstance(path, RemoteFile) or why_unreadable(path) for path in not_read):
            return True
        log.warning("cache %s lacks images that can be read by now, and is made again", self._survey_file)
        return False

    def _write_pixels(self) -> tuple[Tensor, _Survey]:
        """Write all pixels, then the survey, and map the pixels.

        The pixels are written, not mapped to be written: on a full disk, a write to mapped memory ends the process.
        """
        log.info("decoding %s images into %s", f"{len(self._paths):,}", self._pixel_file)
        with open_atomic(self._pixel_file) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": tuple(self._key["shape"])}
            npy.write_array_header_1_0(file, header)
            survey = _survey(self._paths, self._form, lambda part: file.write(part.data))
            file.flush()
            images = self._map(Path(file.name))  # before it has its name, under which another run could remove it
        assert images is not None
        return images, self._write_survey(survey)

    def _map(self, file: Path) -> Tensor | None:
        """Map a file of pixels into memory; None where it is missing or damaged.

        A page that is written to is copied first, so that the file stays as it is.
        """
        try:
            pixels = npy.open_memmap(file, mode="c")
        except FileNotFoundError:
            return None
        except ValueError:
            pixels = None
        if pixels is None or pixels.dtype != np.uint8 or list(pixels.shape) != self._key["shape"]:
            log.warning("cache %s is damaged and is made again", file)
            return None
        return torch.from_numpy(pixels)

    def _write_survey(self, survey: _Survey) -> _Survey:
        """Write the survey, which makes the cache the new one, and remove files of the old one."""
        found = {"faults": survey.faults, "histogram": survey.histogram.tolist()}
        write_text(self._survey_file, json.dumps({**self._key, **found}))
        others = self._survey_file.parent.glob(f"{self._survey_file.stem}-*.npy")
        for file in (*self._earlier_files, *others):
            if file != self._pixel_file:
                file.unlink(missing_ok=True)
        return survey


def _digest_files(sample_ids: Sequence[str], paths: Sequence[ImageFile]) -> str:
    """Return a digest of names, sizes and times of change, for which no image has to be read."""
    return _digest(
        [json.dumps([name, _place_of(path), *_state_of(path)]) for name, path in zip(sample_ids, paths, strict=True)]
    )


def _place_of(path: ImageFile) -> str:
    return path.path if isinstance(path, RemoteFile) else str(path.absolute())


def _state_of(path: ImageFile) -> tuple[int | str | None, ...]:
    """Return size and time of change; nothing for a link to nothing. Of a store, what its listing said."""
    if isinstance(path, RemoteFile):
        return path.size, path.state
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
