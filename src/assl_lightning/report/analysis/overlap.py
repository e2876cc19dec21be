"""The agreement of two rankings of the same samples, and of two sets of picks.

It shows the effect of a setting before accuracies do: the variance "post" or "pre", statistics that are reset or kept,
raw or averaged weights, features of an inference pass or of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's ρ in [−1, 1] of two (n,) lists of finite numbers, with mid-ranks for ties.

    NaN if it is not defined: fewer than two samples, or a list without two different numbers.

    >>> round(spearman([0.1, 0.2, 0.3], [10, 30, 20]), 3)
    0.5
    """
    first, second = _finite(first), _finite(second)
    if first.shape != second.shape:
        raise ValueError(f"both rankings must be of the same samples; got shapes {first.shape} and {second.shape}")
    is_constant = (first == first[0]).all() or (second == second[0]).all()
    return nan if is_constant else float(spearmanr(first, second).statistic)


def picks_overlap(first: Sequence[int], second: Sequence[int]) -> float:
    """Return the share in [0, 1] of one set of picks that is in the other; both have as many distinct indices, ≥ 1.

    For the first query of two runs with the same seed: `picks_overlap(records_a[0].queried, records_b[0].queried)`.
    Later queries choose from different samples, after training on different labels.

    >>> picks_overlap([5, 9, 2, 7], [7, 1, 2, 0])
    0.5
    """
    picks, others = set(first), set(second)
    if not (len(picks) == len(others) == len(first) == len(second)) or not picks:
        raise ValueError(
            f"two lists of picks are compared that have as many distinct indices, and at least one; got {len(first)} "
            f"({len(picks)} distinct) and {len(second)} ({len(others)} distinct)"
        )
    return len(picks & others) / len(picks)


def _finite(values: ArrayLike) -> NDArray[Any]:
    """Return (n,) numbers, after checking that they are finite."""
    numbers = np.asarray(values)
    if numbers.ndim != 1 or len(numbers) == 0:
        raise ValueError(f"ranks are those of a list of at least one number; got shape {numbers.shape}")
    broken = np.flatnonzero(~np.isfinite(numbers))
    if len(broken):
        raise ValueError(
            f"only finite numbers have ranks; the one at position {broken[0]} is {numbers[broken[0]]}: leave it out"
        )
    return numbers
