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
from scipy.stats import spearmanr


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's ρ in [−1, 1] of two (n,) lists of finite numbers, with mid-ranks for equal ones.

    NaN where it has no meaning: fewer than two samples, or one list without two different numbers.

    >>> round(spearman([0.1, 0.2, 0.3], [10, 30, 20]), 3)
    0.5
    """
    one, other = _finite(first), _finite(second)
    if one.shape != other.shape:
        raise ValueError(f"both rankings must be of the same samples; got shapes {one.shape} and {other.shape}")
    is_constant = (one == one[0]).all() or (other == other[0]).all()
    return nan if is_constant else float(spearmanr(one, other).statistic)


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


def _finite(values: ArrayLike) -> NDArray[Any]:
    """(n,) finite numbers."""
    numbers = np.asarray(values)
    if numbers.ndim != 1 or len(numbers) == 0:
        raise ValueError(f"ranks are those of a list of at least one number; got shape {numbers.shape}")
    broken = np.flatnonzero(~np.isfinite(numbers))
    if len(broken):
        raise ValueError(
            f"only finite numbers have ranks; the one at position {broken[0]} is {numbers[broken[0]]}: leave it out"
        )
    return numbers
