"""Worked by hand, and against a slow loop over rounds."""

from __future__ import annotations

from math import inf, isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from assl_lightning.report.analysis.labels_needed import labels_needed, labels_to_reach

LABELS = [10, 20, 30, 50]


def reach_slowly(labels: list[int], curve: list[float], target: float) -> float:
    """The definition, round by round."""
    if curve[0] >= target:
        return labels[0]
    for number in range(1, len(curve)):
        if curve[number] >= target:
            share = (target - curve[number - 1]) / (curve[number] - curve[number - 1])
            return labels[number - 1] + share * (labels[number] - labels[number - 1])
    return inf


@pytest.mark.parametrize(
    ("curve", "target", "expected"),
    [
        ([0.4, 0.6, 0.7, 0.8], 0.5, 15),  # half way between 10 and 20
        ([0.4, 0.6, 0.7, 0.8], 0.75, 40),  # half way between 30 and 50
        ([0.4, 0.6, 0.7, 0.8], 0.6, 20),  # at a round
        ([0.4, 0.6, 0.7, 0.8], 0.3, 10),  # above it from the start
        ([0.4, 0.6, 0.7, 0.8], 0.8, 50),  # in the last round
        ([0.4, 0.6, 0.7, 0.8], 0.81, inf),  # never
        ([0.4, 0.6, 0.5, 0.9], 0.55, 17.5),  # the first time, though it falls below it again
        ([0.5, 0.5, 0.5, 0.5], 0.5, 10),
    ],
)
def test_a_curve_reaches_its_target_where_lines_between_the_rounds_do(
    curve: list[float], target: float, expected: float
) -> None:
    assert_allclose(labels_to_reach(LABELS, curve, target), expected)


@pytest.mark.parametrize(("last", "of_reference"), [(0.72, 0.8), (0.3, 0.3333333), (0.837, 0.93)])
def test_an_accuracy_that_is_the_target_up_to_rounding_reaches_it(last: float, of_reference: float) -> None:
    found = labels_needed([10, 20], [[0.1, last]] * 2, [[0.1, of_reference]] * 2, share=0.9)
    assert found.labels == pytest.approx(20)
    assert found.never == 0
    assert np.isfinite([found.low, found.high]).all()
    assert labels_to_reach([10, 20], [0.1, last - 1e-6], 0.9 * of_reference) == inf


SHARES = st.integers(0, 20).map(lambda twentieths: twentieths / 20)


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(SHARES, min_size=4, max_size=4), SHARES), min_size=1, max_size=5))
def test_many_curves_at_once_are_the_slow_loop_over_each(cases: list[tuple[list[float], float]]) -> None:
    curves, targets = [curve for curve, _ in cases], [target for _, target in cases]

    assert_allclose(
        labels_to_reach(LABELS, curves, targets),
        [reach_slowly(LABELS, curve, target) for curve, target in cases],
    )


@pytest.mark.parametrize("labels", [[10, 20], [10, 20, 20, 30], [10, 30, 20, 40]])
def test_labels_that_do_not_grow_or_are_too_few_are_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"growing from round to round; got \(4,\) and"):
        labels_to_reach(labels, [0.1, 0.2, 0.3, 0.4], 0.2)


def test_the_ratio_of_the_mean_curves_and_of_each_seed_are_those_worked_by_hand() -> None:
    reference = [[0.4, 0.6, 0.7, 0.8], [0.2, 0.5, 0.9, 1.0]]  # mean 0.3, 0.55, 0.8, 0.9
    accuracy = [[0.6, 0.8, 0.8, 0.8], [0.7, 0.9, 0.9, 1.0]]  # mean 0.65, 0.85, 0.85, 0.9

    found = labels_needed(LABELS, accuracy, reference, share=0.9)

    # target 0.81: the method reaches it at 10 + 10 · 0.16 / 0.2 = 18, the reference at 30 + 20 · 0.01 / 0.1 = 32
    assert_allclose([found.target, found.labels, found.reference, found.ratio], [0.81, 18, 32, 18 / 32])
    # targets 0.72 and 0.9: 10 + 10 · 0.12 / 0.2 = 16 of 30 + 20 · 0.02 / 0.1 = 34; 20 of 30
    assert_allclose(found.by_seed, [16 / 34, 20 / 30])
    assert (found.n, found.never) == (2, 0)


def test_the_reference_against_itself_has_the_ratio_one_in_every_draw() -> None:
    curves = np.random.default_rng(0).uniform(0.2, 0.9, (6, 4)).cumsum(1)

    found = labels_needed(LABELS, curves, curves)

    assert (found.ratio, found.low, found.high) == (1, 1, 1)
    assert_allclose(found.by_seed, np.ones(6))


def test_a_method_that_never_reaches_the_target_needs_infinitely_many() -> None:
    reference = [[0.4, 0.6, 0.7, 0.8]] * 4
    accuracy = [[0.3, 0.4, 0.5, 0.6]] * 3 + [[0.5, 0.7, 0.8, 0.9]]

    found = labels_needed(LABELS, accuracy, reference)

    assert found.never == 3
    assert found.labels == found.ratio == found.high == inf
    assert found.low < 1, "in a draw of the fourth seed alone it is reached"


def test_the_interval_is_that_of_whole_seeds_drawn_with_replacement() -> None:
    generator = np.random.default_rng(1)
    reference = np.sort(generator.uniform(0.3, 0.9, (5, 4)), axis=1)
    accuracy = np.sort(generator.uniform(0.3, 0.95, (5, 4)), axis=1)
    drawn = np.random.default_rng(7).integers(5, size=(200, 5))
    ratios = []
    for rows in drawn:
        mean, base = accuracy[rows].mean(0).tolist(), reference[rows].mean(0).tolist()
        target = 0.8 * base[-1]
        ratios.append(reach_slowly(LABELS, mean, target) / reach_slowly(LABELS, base, target))

    found = labels_needed(LABELS, accuracy, reference, share=0.8, seed=7, resamples=200)

    ordered = np.sort(ratios)
    assert_allclose([found.low, found.high], np.quantile(ordered, [0.025, 0.975], method="nearest"))
    assert found.low < found.ratio < found.high


def test_one_seed_has_no_interval() -> None:
    found = labels_needed(LABELS, [[0.4, 0.6, 0.7, 0.8]], [[0.2, 0.5, 0.6, 0.8]])

    assert isnan(found.low)
    assert isnan(found.high)
    assert found.ratio == found.by_seed[0]


def test_other_seeds_and_shares_out_of_range_are_refused() -> None:
    curves = np.full((3, 4), 0.5)
    with pytest.raises(ValueError, match=r"the same seeds in the same order; got \(3, 4\) and \(2, 4\)"):
        labels_needed(LABELS, curves, curves[:2])
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
        labels_needed(LABELS, curves, curves, share=1.1)
