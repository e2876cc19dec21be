"""Images that are decoded when they are looked at: a pool of any size in the memory of a few of its batches.

Before that all of them are decoded once, to find those that cannot be, and to count their pixels. With a cache what was
found is kept, as JSON, as long as the files are the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from assl_lightning.data.decoding import ImageFormat, decode


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


def count_pixels(images: Tensor) -> Tensor:
    """(channels, 256) int64: how often each value is there in the images (n, channels, height, width) uint8."""
    return torch.stack([images[:, channel].flatten().bincount(minlength=256) for channel in range(images.shape[1])])
