"""Images that are nearly the same, by perceptual hashes: pictures taken twice, saved again or made smaller."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from assl_lightning.base.extras import install_command

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

BITS = 64

_BLOCK = 256  # hashes that are compared with a bucket at once
_ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(1, dtype=np.uint8)
_FAR = np.iinfo(np.int64).max


def hash_function() -> Callable[[Tensor], Hashes]:
    """Return a function from images (n, channels, height, width) uint8 to n perceptual hashes.

    The hash is pHash of ImageHash: the signs of the 8 × 8 lowest frequencies of the grey image of 32 × 32 pixels,
    against their median. An image that is scaled, compressed or made lighter keeps most of its bits; one that is turned
    or cut does not.

    Raises:
        ImportError: ImageHash is not installed.
    """
    try:
        from imagehash import phash
    except ImportError as error:
        raise ImportError(
            f"near copies are found by the package imagehash, which is not installed; install it with "
            f"{install_command('audit')}"
        ) from error

    def hash_images(images: Tensor) -> Hashes:
        arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
        pictures = (Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0]) for array in arrays)
        bits = [phash(picture).hash.reshape(BITS) for picture in pictures]
        return np.packbits(np.array(bits, dtype=bool).reshape(-1, BITS), axis=1).view(np.uint64)[:, 0]

    return hash_images


def nearest_earlier(hashes: Hashes, most: int) -> tuple[Indices, Indices]:
    """Find for each of N hashes the nearest one before it, if at most `most` bits differ; of equally near, the first.

    Returns:
        its position (N,), −1 where there is none, and the number of bits that differ (N,), 0 where there is none.
    """
    distinct, first, of_distinct = _in_order(hashes)
    found, bits = _nearest(distinct, distinct, most, only_earlier=True)
    other = np.where(found >= 0, first[found], -1)[of_distinct]
    distance = bits[of_distinct]
    is_repeat = first[of_distinct] < np.arange(len(hashes))
    return np.where(is_repeat, first[of_distinct], other), np.where(is_repeat, 0, distance)


def nearest_among(hashes: Hashes, others: Hashes, most: int) -> tuple[Indices, Indices]:
    """Find for each of N hashes the nearest of the `others` (M,), as `nearest_earlier` does."""
    wanted, _, of_wanted = _in_order(hashes)
    distinct, first, _ = _in_order(others)
    found, bits = _nearest(wanted, distinct, most, only_earlier=False)
    return np.where(found >= 0, first[found] if len(first) else -1, -1)[of_wanted], bits[of_wanted]


def _in_order(hashes: Hashes) -> tuple[Hashes, Indices, Indices]:
    """Return the distinct hashes in the order of their first positions, these positions, and the row of each hash."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    row = np.empty_like(order)
    row[order] = np.arange(len(order))
    return hashes[first[order]], first[order].astype(np.int64), row[inverse.reshape(-1)].astype(np.int64)


def _nearest(wanted: Hashes, others: Hashes, most: int, *, only_earlier: bool) -> tuple[Indices, Indices]:
    """Find for each of the distinct `wanted` (Q,) its nearest of the distinct `others` (T,), without a Q × T table.

    The bits are split into `most` + 1 bands. Two hashes that differ in at most `most` bits agree in one band at least,
    so that only hashes with an equal band are compared, and none is missed (Norouzi et al. 2012, multi-index hashing).
    """
    best = np.full(len(wanted), _FAR)
    for band in range(most + 1):
        mask = np.uint64(sum(1 << bit for bit in range(band, BITS, most + 1)))
        for rows, columns in _buckets(wanted & mask, others & mask):
            for start in range(0, len(rows), _BLOCK):
                part = rows[start : start + _BLOCK]
                bits = _count_ones(wanted[part, None] ^ others[None, columns])
                fits = bits <= most
                if only_earlier:
                    fits &= columns < part[:, None]
                keys = np.where(fits, bits * len(others) + columns, _FAR)  # fewest bits first, then the first position
                best[part] = np.minimum(best[part], keys.min(axis=1))
    is_found = best < _FAR
    size = max(len(others), 1)
    return np.where(is_found, best % size, -1), np.where(is_found, best // size, 0)


def _buckets(wanted: Hashes, others: Hashes) -> Iterator[tuple[Indices, Indices]]:
    """Yield the positions of each value in both arrays, where both have it."""
    order, other_order = np.argsort(wanted, kind="stable"), np.argsort(others, kind="stable")
    values, starts, counts = np.unique(wanted[order], return_index=True, return_counts=True)
    low = np.searchsorted(others[other_order], values, "left")
    high = np.searchsorted(others[other_order], values, "right")
    for start, count, first, last in zip(starts, counts, low, high, strict=True):
        if last > first:
            yield order[start : start + count], other_order[first:last]


def _count_ones(words: Hashes) -> Indices:
    counts: Indices = _ONES[words[..., None].view(np.uint16)].sum(-1, dtype=np.int64)
    return counts
