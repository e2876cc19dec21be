"""Pools most of whose images are near copies of a few: what cameras, scanners and copied files bring together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from assl_lightning.base.arguments import is_integer, is_number
from assl_lightning.base.seeding import derive_key
from assl_lightning.data.sources.base import PoolSource

LIKE = " like "
"""Stands in the sample id of a near copy, before the sample id of its original."""


def with_near_copies(
    of: PoolSource, share: float = 0.8, num_originals: int = 20, shift: int = 1, noise: float = 8.0, seed: int = 0
) -> PoolSource:
    """Return the source with `share` of its pool replaced by near copies of `num_originals` of its images.

    The originals are drawn from the whole pool and stay in it; the images to replace are drawn from the others. A near
    copy is its original moved by up to `shift` pixels in both directions, with the pixels of the edge repeated, plus
    normal noise of the standard deviation `noise` in grey levels. It has the label of its original, the index of the
    image that it replaces, and a sample id with both: "digits/00042 like digits/00007". Originals have equal numbers of
    copies, up to one. The test set stays. The draws depend on `seed` and the size of the pool, not on the run's seed,
    so that all runs share one pool.

    Raises:
        ValueError: an argument is out of its range, or the pool is too small for the originals beside the copies.
    """
    size = len(of.pool_images)
    if not (is_number(share) and 0 <= share <= 1 and is_integer(num_originals, 1)):
        raise ValueError(f"share must lie in [0, 1] and num_originals be at least 1; got {share} and {num_originals}")
    if not (is_integer(shift, 0) and is_number(noise) and noise >= 0):
        raise ValueError(f"shift must be a number of pixels ≥ 0 and noise a number ≥ 0; got {shift} and {noise}")
    count = int(share * size + 1e-9)  # where the product is rounded down, it is a whole number still
    if count + num_originals > size:
        raise ValueError(
            f"a pool of {size} images has no room for {num_originals} originals beside {count} near copies; lower "
            f"share or num_originals"
        )
    generator = np.random.default_rng(derive_key(seed, "near copies"))
    order = torch.from_numpy(generator.permutation(size))
    originals, replaced = order[:num_originals], order[num_originals : num_originals + count]
    copied = originals[torch.arange(count) % num_originals]
    images, labels, names = of.pool_images[torch.arange(size)], of.hidden_labels.clone(), list(of.sample_ids)
    images[replaced] = _disturb(images[copied], shift, noise, generator)
    labels[replaced] = labels[copied]
    for place, original in zip(replaced.tolist(), copied.tolist(), strict=True):
        names[place] = f"{of.sample_ids[place]}{LIKE}{of.sample_ids[original]}"
    return replace(of, pool_images=images, hidden_labels=labels, sample_ids=tuple(names), paths=())


def _disturb(images: Tensor, shift: int, noise: float, generator: np.random.Generator) -> Tensor:
    """Return images (K, channels, height, width) uint8, each moved and with noise of its own."""
    height, width = images.shape[2:]
    padded = F.pad(images, (shift,) * 4, mode="replicate")
    moved = torch.empty_like(images)
    for number, (down, right) in enumerate(generator.integers(0, 2 * shift + 1, size=(len(images), 2)).tolist()):
        moved[number] = padded[number, :, down : down + height, right : right + width]
    grey_levels = torch.from_numpy(generator.normal(0, noise, size=tuple(images.shape)))
    return (moved + grey_levels).round().clamp(0, 255).to(torch.uint8)
