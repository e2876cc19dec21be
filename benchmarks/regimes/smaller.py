"""A large data set with fewer images and fewer pixels, so that a run takes seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from assl_lightning.base.seeding import derive_key
from assl_lightning.data.sources.base import PoolSource


def smaller(of: PoolSource, num_pool: int, num_test: int, image_size: int, seed: int = 0) -> PoolSource:
    """Return `num_pool` images of the source's pool and `num_test` of its test set, in their order, as squares.

    They are drawn uniformly, by `seed` and the sizes of the source alone. A pixel of the square, of `image_size` pixels
    in height and width, is the mean of the pixels that it covers. A sample id stays what it was.

    Raises:
        ValueError: a number is below 1, or larger than the source's.
    """
    for name, value, largest in (
        ("num_pool", num_pool, len(of.pool_images)),
        ("num_test", num_test, len(of.test_images)),
        ("image_size", image_size, min(of.pool_images.shape[2:])),
    ):
        if not 1 <= value <= largest:
            raise ValueError(f"{name} must be in 1 … {largest}, as large as the source's; got {value}")
    part = of.take(_draw(num_pool, len(of.pool_images), derive_key(seed, "smaller pool")))
    test = _draw(num_test, len(of.test_images), derive_key(seed, "smaller test set"))
    return replace(
        part,
        pool_images=_shrink(part.pool_images[torch.arange(num_pool)], image_size),
        test_images=_shrink(of.test_images[test], image_size),
        test_labels=of.test_labels[test],
        test_ids=tuple(of.test_ids[place] for place in test.tolist()) if of.test_ids else (),
    )


def _draw(count: int, size: int, key: int) -> Tensor:
    """Return (count,) int64 positions in 0 … size − 1, ascending."""
    return torch.from_numpy(np.sort(np.random.default_rng(key).choice(size, count, replace=False)))


def _shrink(images: Tensor, image_size: int) -> Tensor:
    """Return images (N, channels, height, width) uint8 as (N, channels, image_size, image_size) uint8, rounded once."""
    return F.interpolate(images.float(), size=(image_size, image_size), mode="area").round().to(torch.uint8)
