"""The interval of a share of which a sample of cases is known."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.975)  # of 95 %


def wilson_interval(successes: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a share, in [0, 1], of which `successes` of `count` cases are known.

    Wilson 1927, without a correction for continuity: the shares p for which |successes / count − p| is at most z times
    the deviation √(p (1 − p) / count), z = 1.96. Numbers of cases that weigh differently may be fractions.

    Raises:
        ValueError: there is no case, or `successes` is not in [0, count].

    >>> low, high = wilson_interval(8, 10)
    >>> f"{low:.3f} to {high:.3f}"
    '0.490 to 0.943'
    """
    if not 0 <= successes <= count or not count:
        raise ValueError(f"an interval needs 0 ≤ successes ≤ count and count ≥ 1; got {successes} of {count}")
    square = _Z * _Z
    middle = (successes + square / 2) / (count + square)
    half = _Z / (count + square) * sqrt(successes * (count - successes) / count + square / 4)
    low = middle - half if successes else 0.0  # rounding would make another number of them
    high = middle + half if successes < count else 1.0
    return low, high
