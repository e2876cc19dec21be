"""Pools in which some classes are rare: the same images, fewer of the later classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from assl_lightning.base.seeding import Draws, derive_key
from assl_lightning.data.sources.base import PoolSource


def long_tailed(source: PoolSource, imbalance_factor: float, seed: int) -> PoolSource:
    """The source with a pool whose classes have exponentially fewer images, class 0 the most; the test set as it is.

    Class c of C keeps n_c = ⌊n_max / factor^(c / (C − 1))⌋ images, but at least one, and at most what it has; n_max is
    the largest class's number. So the first class has `imbalance_factor` times as many as the last, where the source
    is balanced; 1 leaves everything. Cui et al. 2019, §5.1.

    Which images stay is uniform within the class and depends on `seed` and on each image's pool index alone: a larger
    factor keeps some of what a smaller one keeps. Those that stay keep their order and their sample ids; their pool
    indices close up. An image that cannot be decoded counts as the others do, so that a damaged file moves no other.

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
            f"imbalance_factor must be 1 where nobody knows the label of {unknown:,} of the pool's images, whose "
            f"classes cannot be counted; got {imbalance_factor}"
        )
    kept = _kept(source.hidden_labels, len(source.class_names), imbalance_factor, seed)
    if len(kept) == len(source.pool_images):
        return source
    return source.take(kept)


def _kept(labels: Tensor, num_classes: int, imbalance_factor: float, seed: int) -> Tensor:
    """(K,) int64 indices of what stays, ascending."""
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
