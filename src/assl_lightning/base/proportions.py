"""Shares that are estimated from a sample of cases, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.975)  # of 95 %


@dataclass(frozen=True)
class Proportion:
    """A number of successes among `count` cases."""

    successes: int
    count: int

    @property
    def share(self) -> float:
        """The share of successes, in [0, 1]; needs `count` ≥ 1."""
        return self.successes / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share, in [0, 1], by `wilson_interval`."""
        return wilson_interval(self.successes, self.count)


def wilson_interval(successes: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a share, in [0, 1], from `successes` among `count` cases.

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
    low = middle - half if successes else 0.0  # exact, without rounding
    high = middle + half if successes < count else 1.0
    return low, high
