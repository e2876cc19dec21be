"""Images that are decoded when they are looked at: a pool of any size in the memory of a few of its batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from assl_lightning.base.ahead import ahead
from assl_lightning.data.decoding import ImageFormat, decode
from assl_lightning.data.file_reading import ImageFile, Row, threads_to_read
from assl_lightning.data.remote import RemoteFile, StoreError


class StreamedImages:
    """N images in files, used like a uint8 tensor (N, channels, height, width): `images[index]` decodes some of them.

    A row of a table may stand for a file (`Row`).

    Attributes:
        unreadable: (K,) int64 indices of images that cannot be decoded, ascending; they are black.
        histogram: (channels, 256) int64, how often each value occurs in all other images; None: not counted.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(
        self,
        paths: Sequence[ImageFile | Row],
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
        """N, channels, height and width."""
        return torch.Size((len(self.paths), *self.form.shape))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the images at `index` (K,) int64 as (K, channels, height, width) uint8 on the CPU, each decoded once.

        Decoding takes all cores, except in a worker of a loader, which is one of several. Of a store, 32 images are
        asked for at once.

        Raises:
            ValueError: an image cannot be read or decoded any more.
        """
        indices = index.tolist()
        rows: dict[int, int] = {}  # index of an image → first row of the result that it fills
        for row, image_index in enumerate(indices):
            rows.setdefault(image_index, row)
        pixels = torch.empty(len(indices), *self.form.shape, dtype=torch.uint8)
        targets = [pixels[row].numpy() for row in rows.values()]
        if len(rows) > 1 and (get_worker_info() is None or isinstance(self.paths[0], RemoteFile)):
            with ThreadPoolExecutor(threads_to_read(self.paths)) as threads:
                list(threads.map(self._decode_into, targets, rows))
        else:
            for target, image_index in zip(targets, rows, strict=True):
                self._decode_into(target, image_index)
        if len(rows) == len(indices):
            return pixels
        return pixels[torch.tensor([rows[image_index] for image_index in indices])]

    @property
    def readable(self) -> Tensor:
        """The (N − K,) int64 indices of images that can be decoded, ascending."""
        return torch.tensor([index for index in range(len(self)) if index not in self._black], dtype=torch.int64)

    def take(self, index: Tensor) -> StreamedImages:
        """Return the images at `index` (K,) int64, in that order, without decoding any."""
        unreadable = torch.isin(index, self.unreadable).nonzero()[:, 0]
        return StreamedImages([self.paths[position] for position in index.tolist()], self.form, unreadable)

    def _decode_into(self, pixels: npt.NDArray[np.uint8], index: int) -> None:
        if index in self._black:
            pixels[:] = 0
            return
        try:
            image = decode(self.paths[index], self.form)
        except StoreError as error:
            raise ValueError(str(error)) from error
        except OSError as error:
            image = f"{self.paths[index]} ({error.strerror or error})"
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
    """Return the images at `index` (K,) int64, in that order, stored as they are."""
    return images.take(index) if isinstance(images, StreamedImages) else images[index]


def images_in_parts(images: StoredImages, index: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield `size` of the indices (K,) at a time and their images, uint8.

    A thread decodes images in files ahead, while the caller works with those before.
    """
    parts = index.split(size) if len(index) else ()
    found = ahead(images.__getitem__, parts) if isinstance(images, StreamedImages) else map(images.__getitem__, parts)
    return zip(parts, found, strict=True)


def count_pixels(images: Tensor) -> Tensor:
    """Return (channels, 256) int64, how often each value occurs in the images (n, channels, height, width) uint8."""
    return torch.stack([images[:, channel].flatten().bincount(minlength=256) for channel in range(images.shape[1])])
