"""The accuracy that the next batch can be expected to bring: a curve through the rounds, and how little it is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

LEAST_ROUNDS = 4
"""Rounds with different numbers of labels from which on a curve is fitted: it has three parameters."""

_EXPONENTS = np.geomspace(0.05, 3, 120)


@dataclass(frozen=True)
class Expected:
    """An accuracy that is expected with more labels, with its 95 % interval; all in [0, 1]."""

    labels: int
    accuracy: float
    low: float
    high: float
    rounds: int  # that the curve was fitted to


def expected_accuracy(
    labels: Sequence[int], accuracies: Sequence[float], next_labels: int, test_images: int | None = None
) -> Expected | None:
    """Extrapolate the curve a(L) = a∞ − b·L^−c, fitted by least squares with a∞ in [0, 1] and b ≥ 0.

    The interval is that of one further round: Student's t with n − 3 degrees of freedom, times the root of
    s²(1 + gᵀ(JᵀJ)⁺g), with J and g the derivatives of the curve by its parameters at the rounds and at `next_labels`
    (the delta method). s² is the residual variance, but at least that of an accuracy which is measured on the test
    images, a(1 − a)/test images: three parameters may pass through four points by chance. With four rounds t is 12.7,
    so that the interval is wide; that is what four points say.

    Args:
        labels: (n,) of the rounds so far, each above 0.
        accuracies: (n,) in [0, 1].
        next_labels: of the round to come.
        test_images: which the accuracies are measured on; None: not known.

    Returns:
        None where fewer than `LEAST_ROUNDS` different numbers of labels have an accuracy.
    """
    known = [(count, value) for count, value in zip(labels, accuracies, strict=True) if not isnan(value) and count > 0]
    if len({count for count, _ in known}) < LEAST_ROUNDS:
        return None
    x, y = np.array([count for count, _ in known], float), np.array([value for _, value in known])
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
    value = float(np.clip(limit - drop * ahead[0] ** -exponent, 0, 1))
    return Expected(next_labels, value, max(0.0, value - half), min(1.0, value + half), len(x))


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
