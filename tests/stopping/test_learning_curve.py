from __future__ import annotations

from math import isclose, nan

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import t

from assl_lightning.stopping.learning_curve import LEAST_ROUNDS, expected_accuracy

LABELS = [10, 20, 30, 40, 60, 80, 120]
CURVE = [0.9 - 1.4 * count**-0.6 for count in LABELS]
NOISE = np.random.default_rng(3).normal(0, 0.01, len(LABELS))


def test_a_curve_of_its_own_form_is_continued() -> None:
    expected = expected_accuracy(LABELS, CURVE, 240)
    assert expected is not None
    assert isclose(expected.accuracy, 0.9 - 1.4 * 240**-0.6, abs_tol=1e-3)
    assert expected.high - expected.low < 0.01
    assert (expected.labels, expected.rounds) == (240, len(LABELS))


def test_the_fit_and_its_interval_are_those_of_scipy_and_students_t() -> None:
    y = np.array(CURVE) + NOISE
    (limit, drop, exponent), covariance = curve_fit(
        lambda x, a, b, c: a - b * x**-c, np.array(LABELS, float), y, p0=(0.9, 1.0, 0.6)
    )
    mean = limit - drop * 240**-exponent
    g = np.array([1, -(240**-exponent), drop * 240**-exponent * np.log(240)])
    residual = ((limit - drop * np.array(LABELS, float) ** -exponent - y) ** 2).sum() / (len(LABELS) - 3)
    half = t.ppf(0.975, len(LABELS) - 3) * np.sqrt(residual + g @ covariance @ g)
    found = expected_accuracy(LABELS, list(y), 240)
    assert found is not None
    assert found.accuracy == pytest.approx(mean, abs=2e-3)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_four_rounds_give_a_wide_interval_and_three_none() -> None:
    assert LEAST_ROUNDS == 4
    assert expected_accuracy(LABELS[:3], CURVE[:3], 40) is None
    assert expected_accuracy([10, 20, 20, 20], CURVE[:4], 40) is None
    assert expected_accuracy(LABELS[:4], [*CURVE[:3], nan], 60) is None
    few = expected_accuracy(LABELS[:4], CURVE[:4], 60, test_images=500)
    assert few is not None
    assert few.high - few.low > 0.3


def test_the_noise_of_few_test_images_is_in_the_interval() -> None:
    many, few = (expected_accuracy(LABELS, CURVE, 240, test_images=n) for n in (100_000, 50))
    assert many is not None
    assert few is not None
    assert many.accuracy == few.accuracy
    assert few.high - few.low > 10 * (many.high - many.low)


@pytest.mark.parametrize(
    "accuracies", [[0.5] * 5, [0.9, 0.7, 0.6, 0.5, 0.4], [0.2, 0.5, 0.8, 0.95, 1.0], [1.0] * 5, [0.0] * 5]
)
def test_any_course_gives_an_accuracy_within_its_interval(accuracies: list[float]) -> None:
    found = expected_accuracy([10, 20, 30, 40, 50], accuracies, 60, test_images=100)
    assert found is not None
    assert 0 <= found.low <= found.accuracy <= found.high <= 1
