"""The accuracy that the next batch can be expected to bring: a curve through the rounds, and how little it is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

LEAST_ROUNDS = 4
"""Rounds with different numbers of labels from which on a curve is fitted: it has three parameters."""


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
    from assl_lightning.stopping.curve_fit import (
        extrapolate,
    )  # NumPy and SciPy, for which status need not wait otherwise

    value, half = extrapolate([count for count, _ in known], [one for _, one in known], next_labels, test_images)
    return Expected(next_labels, value, max(0.0, value - half), min(1.0, value + half), len(known))
