"""Mean and standard deviation of a pool's pixels, by which images are normalised."""

from __future__ import annotations

import torch
from torch import Tensor

from assl_lightning.data.image_stream import StoredImages, StreamedImages, count_pixels, images_in_parts

_AT_ONCE = 256  # images; a pool in files is never in memory as a whole


def pixel_statistics(images: StoredImages, index: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel over the images at `index` (K,) int64, for pixels in [0, 1].

    `images` are (N, channels, height, width) uint8. The sums are whole numbers, so the result depends neither on the
    order of the images nor on the machine; it is rounded to four decimals, as it is written into a configuration.

    Raises:
        ValueError: all pixels of a channel are equal, so that they cannot be divided by their deviation.

    >>> pixel_statistics(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1), torch.arange(2))
    ((0.5,), (0.5,))
    """
    values = torch.arange(256)
    means, deviations = [], []
    for channel, of_channel in enumerate(_histogram(images, index)):
        total, first, second = (int((of_channel * values**power).sum()) for power in range(3))
        deviation = (second * total - first**2) ** 0.5 / total / 255
        if round(deviation, 4) == 0:
            raise ValueError(
                f"the pixels of the pool must differ to be normalised by their deviation, but channel {channel} has "
                f"{first / total:g} throughout; set data.mean and data.std"
            )
        means.append(round(first / total / 255, 4))
        deviations.append(round(deviation, 4))
    return tuple(means), tuple(deviations)


def _histogram(images: StoredImages, index: Tensor) -> Tensor:
    """Return (channels, 256) int64, how often each value occurs in the images at `index`."""
    if isinstance(images, StreamedImages) and images.histogram is not None and torch.equal(index, images.readable):
        return images.histogram
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for _, part in images_in_parts(images, index, _AT_ONCE):
        counts += count_pixels(part)
    return counts
