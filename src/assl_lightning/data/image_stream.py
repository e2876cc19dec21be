"""Images that are decoded when they are looked at: a pool of any size in the memory of a few of its batches.

Before that all of them are decoded once, to find those that cannot be, and to count their pixels. With a cache what was
found is kept, as JSON, as long as the files are the same.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from assl_lightning.base.atomic import write_text
from assl_lightning.data.decoding import Faults, ImageFormat, decode, decode_all
from assl_lightning.data.image_cache import describe_files, name_of, still_holds

log = logging.getLogger(__name__)


class StreamedImages:
    """N images in files, read as a uint8 tensor (N, channels, height, width) is: `images[index]` decodes some of them.

    Attributes:
        unreadable: (K,) int64 places of those that cannot be decoded, ascending; they are black.
        histogram: (channels, 256) int64, how often each value is there in all the others; None: nobody has counted.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(
        self,
        paths: Sequence[Path],
        form: ImageFormat,
        unreadable: Tensor | None = None,
        histogram: Tensor | None = None,
    ) -> None:
        self.paths = tuple(paths)
        self.form = form
        self.unreadable = torch.empty(0, dtype=torch.int64) if unreadable is None else unreadable
        self.histogram = histogram
        self._black = frozenset(self.unreadable.tolist())

    @property
    def shape(self) -> torch.Size:
        """N, channels, height, width."""
        return torch.Size((len(self.paths), *self.form.shape))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Tensor) -> Tensor:
        """(K, channels, height, width) uint8 on the CPU, of the images at `index` (K,) int64, each decoded once.

        All cores decode, but for a loader's worker, which is one of several.

        Raises:
            ValueError: an image cannot be read or decoded any more.
        """
        places = index.tolist()
        rows: dict[int, int] = {}  # place → where its image goes first
        for row, place in enumerate(places):
            rows.setdefault(place, row)
        pixels = torch.empty(len(places), *self.form.shape, dtype=torch.uint8)
        targets = [pixels[row].numpy() for row in rows.values()]
        if get_worker_info() is None and len(rows) > 1:
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                list(threads.map(self._decode_into, targets, rows))
        else:
            for target, place in zip(targets, rows, strict=True):
                self._decode_into(target, place)
        if len(rows) == len(places):
            return pixels
        return pixels[torch.tensor([rows[place] for place in places])]

    @property
    def readable(self) -> Tensor:
        """(N − K,) int64 places of those that can be decoded, ascending."""
        return torch.tensor([place for place in range(len(self)) if place not in self._black], dtype=torch.int64)

    def take(self, index: Tensor) -> StreamedImages:
        """Some of the images, in the order of `index` (K,) int64; nothing is decoded."""
        places = index.tolist()
        unreadable = torch.isin(index, self.unreadable).nonzero()[:, 0]
        return StreamedImages([self.paths[place] for place in places], self.form, unreadable)

    def _decode_into(self, pixels: npt.NDArray[np.uint8], place: int) -> None:
        if place in self._black:
            pixels[:] = 0
            return
        try:
            image = decode(self.paths[place], self.form)
        except OSError as error:
            image = f"{self.paths[place]} ({error.strerror or error})"
        if not isinstance(image, str):
            pixels[:] = image
            return
        raise ValueError(
            f"{image}: an image that could be decoded when the run began cannot be any more; put it back as it was, "
            f"and the same command goes on"
        )


StoredImages = Tensor | StreamedImages
"""(N, channels, height, width) uint8, in memory or in files; both have shape, dtype, ndim, len and `images[index]`."""


def take_images(images: StoredImages, index: Tensor) -> StoredImages:
    """Some of the images, in the order of `index` (K,) int64, stored as they are."""
    return images.take(index) if isinstance(images, StreamedImages) else images[index]


def in_memory(images: StoredImages) -> Tensor:
    """All of them, decoded where they are in files."""
    return images[torch.arange(len(images))] if isinstance(images, StreamedImages) else images


def open_images(
    sample_ids: Sequence[str], paths: Sequence[Path], form: ImageFormat, cache: Path | None
) -> tuple[StreamedImages, Faults]:
    """The images, to be decoded when they are looked at, and, by place, what is wrong with those that cannot be.

    All are decoded once to know this; with a `cache`, a directory that is made where it is missing, once for all runs,
    until a file changes.

    Raises:
        OSError: an image cannot be read at all, or the cache cannot be written.
    """
    if not paths:
        return StreamedImages((), form), {}
    survey = None
    wanted: Mapping[str, Any] = {}
    file = None if cache is None else cache / f"{name_of(sample_ids, form)}.survey"
    if file is not None:
        wanted = describe_files(sample_ids, paths, form)
        survey = _read(file, wanted, form.channels, paths)
    faults, histogram = survey or _survey(paths, form)
    if file is not None and survey is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({**wanted, "faults": faults, "histogram": histogram.tolist()}))
    unreadable = torch.tensor(sorted(faults), dtype=torch.int64)
    return StreamedImages(paths, form, unreadable, histogram), faults


def count_pixels(images: Tensor) -> Tensor:
    """(channels, 256) int64: how often each value is there in the images (n, channels, height, width) uint8."""
    return torch.stack([images[:, channel].flatten().bincount(minlength=256) for channel in range(images.shape[1])])


def _survey(paths: Sequence[Path], form: ImageFormat) -> tuple[Faults, Tensor]:
    """What is wrong with images, and the histogram of the others."""
    log.info("decoding %s images once, to find those that cannot be", f"{len(paths):,}")
    faults: Faults = {}
    histogram = torch.zeros(form.channels, 256, dtype=torch.int64)
    first = 0
    for part, part_faults in decode_all(paths, form):
        whole = [place for place in range(len(part)) if place not in part_faults]
        histogram += count_pixels(torch.from_numpy(part[whole]))
        faults |= {first + place: fault for place, fault in part_faults.items()}
        first += len(part)
    return faults, histogram


def _read(file: Path, wanted: Mapping[str, Any], channels: int, paths: Sequence[Path]) -> tuple[Faults, Tensor] | None:
    """What an earlier survey found; None where there is none, or it is stale or torn, and is to be made."""
    if not file.exists():
        return None
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        faults = {int(place): str(fault) for place, fault in said.pop("faults").items()}
        histogram = torch.tensor(said.pop("histogram"), dtype=torch.int64).reshape(channels, 256)
    except (ValueError, AttributeError, KeyError, TypeError, RuntimeError):
        log.warning("cache %s is torn, and is made anew", file)
        return None
    if said != wanted:
        log.warning("cache %s is of files that have changed since, and is made anew", file)
        return None
    return (faults, histogram) if still_holds(file, faults, paths) else None
