"""Pools with rare classes: the same images, but fewer of the later classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from assl_lightning.base.seeding import Draws, derive_key
from assl_lightning.data.sources.base import PoolSource


def long_tailed(source: PoolSource, imbalance_factor: float, seed: int) -> PoolSource:
    """Return the source with exponentially fewer pool images from class to class, class 0 the most; the same test set.

    Class c of C keeps n_c = ⌊n_max / factor^(c / (C − 1))⌋ images, but at least one, and at most what it has; n_max is
    the largest class's number. So the first class has `imbalance_factor` times as many as the last, where the source
    is balanced; 1 leaves everything. Cui et al. 2019, §5.1.

    The images that stay are drawn uniformly within the class, by `seed` and pool index alone: a larger factor keeps a
    subset of what a smaller one keeps. They keep their order and sample ids, and are numbered again from 0. An image
    that cannot be decoded counts like any other, so that a damaged file changes nothing for the others.

    Raises:
        ValueError: `imbalance_factor` is below 1 or not finite, or above 1 where some labels are not known.
    """
    if not (math.isfinite(imbalance_factor) and imbalance_factor >= 1):
        raise ValueError(
            f"imbalance_factor must be at least 1, the images of the most frequent class for each of the least; "
            f"got {imbalance_factor}"
        )
    if imbalance_factor == 1:
        return source
    unknown = int((source.hidden_labels < 0).sum())
    if unknown:
        raise ValueError(
            f"imbalance_factor must be 1 where labels are unknown, as those of {unknown:,} of the pool's images are, "
            f"whose classes cannot be counted; got {imbalance_factor}"
        )
    kept = _kept(source.hidden_labels, len(source.class_names), imbalance_factor, seed)
    if len(kept) == len(source.pool_images):
        return source
    return source.take(kept)


def _kept(labels: Tensor, num_classes: int, imbalance_factor: float, seed: int) -> Tensor:
    """Return the (K,) int64 indices of the images that stay, ascending."""
    order = Draws(derive_key(seed, "long tail"), torch.arange(len(labels))).bits(0)
    most = int(labels.bincount().max())
    kept = []
    for number in range(num_classes):
        members = (labels == number).nonzero()[:, 0]
        share = imbalance_factor ** (number / max(num_classes - 1, 1))
        count = max(
            math.floor(most / share + 1e-9), 1
        )  # where the power rounds up, the quotient is a whole number still
        kept.append(members[order[members].argsort(stable=True)[:count]])
    return torch.cat(kept).sort().values
