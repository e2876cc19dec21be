"""How far two rankings of the same samples agree, and two sets of picks.

What a switch changes is seen here before it is seen in accuracies: the statistics' variance "post" or "pre", statistics
that start afresh or go on, raw or averaged weights, features of an inference pass or of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mid_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """(n,) ranks 1 … n of finite numbers, ascending; equal ones share the mean of their ranks.

    >>> mid_ranks([0.3, 0.1, 0.3]).tolist()
    [2.5, 1.0, 2.5]
    """
    numbers = np.asarray(values)
    _check_ranks(numbers)
    _, place, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (counts.cumsum() - (counts - 1) / 2)[place]
    return ranks


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's ρ in [−1, 1] of two (n,) lists of finite numbers, with mid-ranks for equal ones.

    NaN where it has no meaning: fewer than two samples, or one list without two different numbers.

    >>> round(spearman([0.1, 0.2, 0.3], [10, 30, 20]), 3)
    0.5
    """
    one, other = mid_ranks(first), mid_ranks(second)
    _check_same_length(one, other)
    one, other = one - one.mean(), other - other.mean()
    spread = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / spread) if spread > 0 else nan


def top_k_overlap(first: ArrayLike, second: ArrayLike, k: int) -> float:
    """Share in [0, 1] of the k samples that `first` ranks highest which are among the k that `second` ranks highest.

    Args:
        first: (n,) scores, larger first, ties to the lower index; NaN is unknown and never among the highest.
        second: (n,) scores of the same samples.
        k: from 1 to the number of samples that both know.

    Two rankings that have nothing to do with one another share k / n.

    >>> top_k_overlap([3, 2, 1, 0], [0, 2, 3, 1], k=2)
    0.5
    """
    one, other = np.asarray(first), np.asarray(second)
    _check_same_length(one, other)
    return picks_overlap(highest(one, k).tolist(), highest(other, k).tolist())


def highest(score: NDArray[Any], k: int) -> NDArray[np.int64]:
    """(k,) positions of the highest scores, highest first, ties to the lower position; NaN is left out."""
    order = np.argsort(-score, kind="stable")  # NaN comes last
    known = int(np.count_nonzero(~np.isnan(score)))
    if not 1 <= k <= known:
        raise ValueError(f"k must lie between 1 and {known}, the samples with a known score; got {k}")
    return order[:k]


def picks_overlap(first: Sequence[int], second: Sequence[int]) -> float:
    """Share in [0, 1] of one set of picks that is in the other; both hold as many distinct pool indices, at least one.

    For one round of two runs under one seed: `picks_overlap(records_a[0].queried, records_b[0].queried)`. From the
    second acquisition on, two runs train on different labels and choose from different samples.

    >>> picks_overlap([5, 9, 2, 7], [7, 1, 2, 0])
    0.5
    """
    one, other = set(first), set(second)
    if not (len(one) == len(other) == len(first) == len(second)) or not one:
        raise ValueError(
            f"two lists of picks are compared that have as many distinct indices, and at least one; got {len(first)} "
            f"({len(one)} distinct) and {len(second)} ({len(other)} distinct)"
        )
    return len(one & other) / len(one)


def _check_ranks(values: NDArray[Any]) -> None:
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"ranks are those of a list of at least one number; got shape {values.shape}")
    broken = np.flatnonzero(~np.isfinite(values))
    if len(broken):
        raise ValueError(
            f"only finite numbers have ranks; the one at position {broken[0]} is {values[broken[0]]}: leave it out"
        )


def _check_same_length(first: NDArray[Any], second: NDArray[Any]) -> None:
    if first.shape != second.shape:
        raise ValueError(f"both rankings must be of the same samples; got shapes {first.shape} and {second.shape}")
