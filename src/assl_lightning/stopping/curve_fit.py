"""A power law through the accuracies of the rounds, and what it says of a further one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

_EXPONENTS = np.geomspace(0.05, 3, 120)


def extrapolate(
    labels: Sequence[int], accuracies: Sequence[float], next_labels: int, test_images: int | None
) -> tuple[float, float]:
    """Return the accuracy in [0, 1] that is expected with `next_labels`, and half the width of its 95 % interval.

    `learning_curve.expected_accuracy` says how; at least four rounds of different numbers of labels are needed.
    """
    x, y = np.array(labels, float), np.array(accuracies)
    x, scale = x / x[0], x[0]
    limit, drop, exponent = min((_fit(x, y, exponent) for exponent in _EXPONENTS), key=lambda fit: _rss(x, y, *fit))
    freedom = len(x) - 3
    variance = _rss(x, y, limit, drop, exponent) / freedom
    if test_images:
        middle = float(np.clip(y.mean(), 0, 1))
        variance = max(variance, middle * (1 - middle) / test_images)
    ahead = np.array([next_labels / scale])
    at_rounds, at_next = _derivatives(x, drop, exponent), _derivatives(ahead, drop, exponent)[0]
    spread = at_next @ np.linalg.pinv(at_rounds.T @ at_rounds) @ at_next
    half = float(stdtrit(freedom, 0.975) * np.sqrt(variance * (1 + spread)))
    return float(np.clip(limit - drop * ahead[0] ** -exponent, 0, 1)), half


def _fit(x: NDArray[np.float64], y: NDArray[np.float64], exponent: float) -> tuple[float, float, float]:
    """Return a∞, b and c for a given c: a line in x^−c, within its bounds."""
    power = x**-exponent
    deviation = power - power.mean()
    drop = max(0.0, -float(deviation @ y) / float(deviation @ deviation))
    limit = float(y.mean()) + drop * float(power.mean())
    if limit > 1:  # the line through 1 at infinitely many labels
        limit, drop = 1.0, max(0.0, float(power @ (1 - y)) / float(power @ power))
    return limit, drop, float(exponent)


def _rss(x: NDArray[np.float64], y: NDArray[np.float64], limit: float, drop: float, exponent: float) -> float:
    return float(((limit - drop * x**-exponent - y) ** 2).sum())


def _derivatives(x: NDArray[np.float64], drop: float, exponent: float) -> NDArray[np.float64]:
    """(n, 3): those of a∞ − b·x^−c by a∞, b and c."""
    power = x**-exponent
    return np.stack([np.ones_like(x), -power, drop * power * np.log(x)], axis=1)
