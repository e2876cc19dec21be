from __future__ import annotations

import subprocess
import sys
from itertools import combinations, product
from math import inf, isnan, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.integrate import trapezoid

from assl_lightning.report.analysis.comparison import (
    Interval,
    PairwiseMatrix,
    aubc,
    bootstrap,
    holm,
    mean_gain,
    non_inferiority,
    paired_t,
    pairwise_matrix,
    total_of,
    valid_matrix,
    wilcoxon,
)

Spread = tuple[float, float]  # mean and ±

# Lim et al. 2023, Table 2 left, in per cent
RAND_AND_CONTINUED_AND_TOTAL: dict[str, tuple[Spread, Spread, Spread]] = {
    "Random": ((37.36, 1.32), (42.49, 0.90), (39.93, 1.11)),
    "Entropy": ((30.74, 1.71), (38.44, 1.42), (34.59, 1.56)),
    "CoreSet": ((36.58, 1.76), (42.59, 1.28), (39.59, 1.52)),
    "BADGE": ((37.15, 1.43), (42.01, 1.59), (39.58, 1.51)),
    "CDAL": ((37.02, 1.39), (42.62, 1.07), (39.82, 1.23)),
    "ALFA-Mix": ((37.53, 1.43), (42.47, 0.90), (40.00, 1.17)),
    "Ours": ((37.07, 1.44), (42.80, 0.81), (39.93, 1.13)),
    "Ours-Div": ((37.68, 1.49), (42.62, 1.04), (40.15, 1.27)),
}
SUPERVISED = {"Random": 27.99, "Entropy": 27.33, "CoreSet": 27.35, "BADGE": 28.28, "CDAL": 28.45, "ALFA-Mix": 28.34}

DIFFERENCES = [
    [0.02, -0.01, 0.05],
    [0.3, 0.1, -0.2, 0.45, 0.05],
    [-0.01, -0.02, -0.03, -0.041, -0.05, -0.06, 0.004],
]

# accuracies as shares of a test set of 50 images, so that ties and zeros are common
ACCURACIES = st.integers(0, 50).map(lambda right: right / 50)


def settings_of(seeds: int, rounds: int, methods: int = 3) -> st.SearchStrategy[dict[str, NDArray[np.float64]]]:
    array = st.lists(ACCURACIES, min_size=seeds * rounds, max_size=seeds * rounds)
    arrays = st.lists(array, min_size=methods, max_size=methods)
    return arrays.map(lambda all_: {f"m{i}": np.reshape(values, (seeds, rounds)) for i, values in enumerate(all_)})


# --- area under the budget curve --------------------------------------------------------------------------------------


def test_the_area_is_scipys_trapezoid_over_the_range() -> None:
    labels = np.array([10.0, 20, 50, 60])
    accuracy = np.random.default_rng(0).random((2, 3, 4))
    np.testing.assert_allclose(aubc(labels, accuracy), trapezoid(accuracy, labels) / 50)


def test_the_area_of_a_small_curve_is_as_by_hand() -> None:
    assert aubc([100, 200, 400], [0.2, 0.4, 0.6]) == pytest.approx((100 * 0.3 + 200 * 0.5) / 300)


def test_a_constant_curve_has_its_value_as_area() -> None:
    np.testing.assert_allclose(aubc((1, 5, 6), np.full((2, 3), 0.7)), [0.7, 0.7])


def test_one_round_is_its_own_area() -> None:
    np.testing.assert_array_equal(aubc([10], [[0.5], [0.6]]), [0.5, 0.6])


@pytest.mark.parametrize(
    ("labels", "accuracy", "message"),
    [
        ([10, 20], [0.1, 0.2, 0.3], r"must have shape \(…, rounds\) and labels \(rounds,\), .* got \(3,\) and \(2,\)"),
        ([], [], r"at least one; got \(0,\) and \(0,\)"),
        ([10, 30, 20], [0.1, 0.2, 0.3], r"labels must grow from round to round, .* got \[10\.0, 30\.0, 20\.0\]"),
        ([10, 10], [0.1, 0.2], r"labels must grow"),
    ],
)
def test_labels_that_span_no_area_are_refused(labels: list[int], accuracy: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        aubc(labels, accuracy)


# --- differences by seed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("difference", DIFFERENCES)
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_the_paired_test_is_scipys(difference: list[float], confidence: float) -> None:
    found = paired_t(difference, confidence)
    scipys = stats.ttest_rel(np.array(difference) + 0.4, np.full(len(difference), 0.4))
    expected = scipys.confidence_interval(confidence)
    assert found.p_value == pytest.approx(scipys.pvalue)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))
    assert (found.interval.mean, found.interval.n) == pytest.approx((np.mean(difference), len(difference)))


def test_equal_differences_are_certain_and_zeros_are_nothing() -> None:
    nearly = [0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6]
    assert len(set(nearly)) == 2  # in floating point
    assert paired_t(nearly).p_value == 0
    assert paired_t([-0.1, -0.1]).p_value == 0
    assert paired_t([0.0, 0.0]).p_value == 1
    assert paired_t([0.0, 0.0]).interval == Interval(0, 0, 0, 2)


def test_one_seed_has_no_interval() -> None:
    for found in (paired_t([0.3]).interval, bootstrap([0.3])):
        assert (found.mean, found.n) == (0.3, 1)
        assert isnan(found.low)
        assert isnan(found.high)
    assert isnan(paired_t([0.3]).p_value)
    assert wilcoxon([0.3]) == 1


def test_fewer_than_five_seeds_cannot_tell() -> None:
    assert [paired_t([0.1, 0.2, 0.1, 0.3, 0.2][:n]).has_enough_seeds for n in range(1, 6)] == [False] * 4 + [True]
    assert wilcoxon([0.1, 0.2, 0.3, 0.4]) == 0.125  # the smallest that four can give


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_wilcoxon_without_ties_is_scipys(difference: list[float]) -> None:
    assert wilcoxon(difference) == pytest.approx(stats.wilcoxon(difference, method="exact").pvalue)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_wilcoxon_counts_all_signs_of_tied_ranks(steps: list[int]) -> None:
    difference = [(step + 4) * 0.1 - 0.4 for step in steps]  # tied but for rounding
    size = [abs(step) for step in steps if step]
    ranks = [sum(b < a for b in size) + (sum(b == a for b in size) + 1) / 2 for a in size]
    positive = sum(rank for rank, step in zip(ranks, filter(None, steps), strict=True) if step > 0)
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in product((0, 1), repeat=len(ranks))
    ]
    tail = min(np.mean([total <= positive for total in sums]), np.mean([total >= positive for total in sums]))
    assert wilcoxon(difference) == pytest.approx(min(1, 2 * tail))


def test_wilcoxon_is_exact_for_many_seeds_too() -> None:
    difference = np.random.default_rng(1).normal(0.1, 1, 200)
    expected = stats.wilcoxon(difference).pvalue  # the normal approximation, beyond 50 differences
    assert wilcoxon(difference) == pytest.approx(expected, rel=0.02)


def test_wilcoxon_of_zeros_is_one() -> None:
    assert wilcoxon([0.0, 0.3 - 0.2 - 0.1, 0.0]) == 1


def test_the_bootstrap_is_the_quantiles_of_all_resamples() -> None:
    difference = np.array([0.02, -0.01, 0.05, 0.1])
    every = [np.mean(chosen) for chosen in product(difference, repeat=4)]
    found = bootstrap(difference, resamples=200_000, confidence=0.9)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(every, [0.05, 0.95])), abs=1e-3)
    assert (found.mean, found.n) == pytest.approx((0.04, 4))


def test_the_bootstrap_is_near_scipys_and_repeats_itself() -> None:
    difference = np.random.default_rng(0).normal(0.1, 0.05, 30)
    scipys = stats.bootstrap((difference,), np.mean, method="percentile").confidence_interval
    found = bootstrap(difference)
    assert (found.low, found.high) == pytest.approx((scipys.low, scipys.high), abs=2e-3)
    assert bootstrap(difference) == found
    assert bootstrap(difference, seed=1) != found
    equal = bootstrap([0.25, 0.25, 0.25])
    assert equal == Interval(0.25, 0.25, 0.25, 3)


@pytest.mark.parametrize("test", [paired_t, wilcoxon, bootstrap])
def test_what_is_no_difference_for_each_seed_is_refused(test: object) -> None:
    assert callable(test)
    with pytest.raises(ValueError, match=r"one for each of at least one seed; got shape \(0,\)"):
        test([])
    with pytest.raises(ValueError, match=r"must be \(n,\), .* got shape \(2, 2\)"):
        test(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"the difference of seed number 1 is nan; leave runs without it out"):
        test([0.1, nan])


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_is_the_closure_of_bonferroni(p_values: list[float]) -> None:
    numbers = list(range(len(p_values)))
    subsets = [chosen for size in range(1, len(p_values) + 1) for chosen in combinations(numbers, size)]
    bonferroni = {chosen: min(1.0, len(chosen) * min(p_values[j] for j in chosen)) for chosen in subsets}
    expected = [max(p for chosen, p in bonferroni.items() if i in chosen) for i in numbers]
    np.testing.assert_allclose(holm(p_values), np.array(expected))


def test_holm_leaves_out_what_is_unknown() -> None:
    np.testing.assert_allclose(holm([0.04, nan, 0.01]), np.array([0.04, nan, 0.02]))
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\] or NaN; got \[1\.5\]"):
        holm([1.5])


# --- the pairwise matrix ----------------------------------------------------------------------------------------------


def matrix_by_loops(
    settings: list[dict[str, NDArray[np.float64]]], methods: tuple[str, ...], threshold: float | None, ddof: int
) -> NDArray[np.float64]:
    """e_ij of agg_results.py, for method i over method j, number by number; no threshold: Student's."""
    wins = np.zeros((len(methods), len(methods)))
    for setting in settings:
        for i, first in enumerate(methods):
            for j, second in enumerate(methods):
                if first not in setting or second not in setting:
                    continue
                n, rounds = setting[first].shape
                limit = stats.t.ppf(0.975, n - 1) if threshold is None else threshold
                for number in range(1, rounds):
                    values = [round(setting[first][s, number] - setting[second][s, number], 9) for s in range(n)]
                    mean = sum(values) / n
                    spread = sqrt(sum((value - mean) ** 2 for value in values) / (n - ddof))
                    if len(set(values)) == 1:
                        t = 0.0 if values[0] == 0 else inf if values[0] > 0 else -inf
                    else:
                        t = sqrt(n) * mean / spread
                    wins[i, j] += (t > limit) / (rounds - 1)
    return wins


@given(settings_of(seeds=3, rounds=4), settings_of(seeds=2, rounds=3, methods=2), st.sampled_from([0.5, 2.776]))
def test_the_matrix_is_that_of_loops(
    first: dict[str, NDArray[np.float64]], second: dict[str, NDArray[np.float64]], threshold: float
) -> None:
    found = pairwise_matrix([first, second], threshold=threshold)
    expected = matrix_by_loops([first, second], ("m0", "m1", "m2"), threshold, ddof=0)
    np.testing.assert_allclose(found.wins, expected)
    np.testing.assert_allclose(found.beaten, [sum(expected[:, column]) / 2 for column in range(3)])
    np.testing.assert_allclose(
        valid_matrix([first, second]).wins, matrix_by_loops([first, second], ("m0", "m1", "m2"), None, ddof=1)
    )


@given(settings_of(seeds=4, rounds=3), st.sampled_from([pairwise_matrix, valid_matrix]))
def test_who_wins_is_who_loses_with_the_signs_changed(setting: dict[str, NDArray[np.float64]], matrix: object) -> None:
    assert callable(matrix)
    found: PairwiseMatrix = matrix([setting])
    mirrored: PairwiseMatrix = matrix([{name: 1 - values for name, values in setting.items()}])
    np.testing.assert_array_equal(mirrored.wins, found.wins.T)
    assert (found.wins + found.wins.T <= 1).all()


def test_a_matrix_worked_by_hand() -> None:
    # differences of a − b by seed: round 1 (.1, .2, .3), t = √3 · .2 / √(.02 / 3) = 4.24, or 3.46 with n − 1;
    # round 2 (.1, .1, .1), t = ∞; round 3 (−.1, .1, 0), t = 0. Round 0, where b leads, does not count.
    low = np.full((3, 4), 0.5)
    differences = np.array([[-0.3, 0.1, 0.1, -0.1], [-0.3, 0.2, 0.1, 0.1], [-0.3, 0.3, 0.1, 0.0]])
    setting = {"a": low + differences, "b": low}
    found = pairwise_matrix([setting, setting])
    np.testing.assert_allclose(found.wins, [[0.0, 4 / 3], [0.0, 0.0]])
    np.testing.assert_allclose(found.beaten, [0.0, 4 / 3])
    assert (found.methods, found.settings, found.seeds, found.missing) == (("a", "b"), 2, (3, 3), {})
    np.testing.assert_allclose(valid_matrix([setting]).wins, [[0.0, 1 / 3], [0.0, 0.0]])  # 3.46 is below 4.30


def test_equal_methods_do_not_beat_one_another() -> None:
    same = np.random.default_rng(0).random((3, 5))
    for found in (pairwise_matrix([{"a": same, "b": same}]), valid_matrix([{"a": same, "b": same}])):
        np.testing.assert_array_equal(found.wins, np.zeros((2, 2)))
        np.testing.assert_array_equal(found.beaten, np.zeros(2))


def test_a_setting_without_a_method_is_skipped_and_counted() -> None:
    good, bad = np.full((3, 2), 0.9), np.full((3, 2), 0.1)
    found = pairwise_matrix([{"good": good, "bad": bad}, {"bad": bad, "new": good}])
    assert found.methods == ("good", "bad", "new")
    assert found.missing == {"good": 1, "new": 1}
    np.testing.assert_array_equal(found.wins, [[0, 1, 0], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(found.beaten, [0, 1, 0])  # two wins over two other methods


def test_one_method_is_not_beaten() -> None:
    np.testing.assert_array_equal(pairwise_matrix([{"a": np.ones((2, 2))}]).beaten, [0])


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (3,)])
def test_a_setting_needs_two_seeds_and_two_rounds(shape: tuple[int, ...]) -> None:
    fine = {"a": np.ones((2, 3)), "b": np.ones((2, 3))}
    with pytest.raises(
        ValueError, match=r"setting 1: every method's accuracies must have one shape, \(seeds, rounds\)"
    ):
        pairwise_matrix([fine, {"a": np.ones(shape), "b": np.ones(shape)}])
    with pytest.raises(ValueError, match=r"got \{'a': \(2, 3\), 'b': \(3, 3\)\}"):
        pairwise_matrix([{"a": np.ones((2, 3)), "b": np.ones((3, 3))}])


def test_what_is_said_of_the_papers_threshold_is_so() -> None:
    assert stats.t.ppf(0.975, 4) == pytest.approx(2.776, abs=5e-4)
    with_sample_deviation = 2.776 * sqrt(2 / 3)  # of three seeds, n − 1 for n
    assert 2 * stats.t.sf(with_sample_deviation, 2) == pytest.approx(0.15, abs=5e-3)


# --- Table 2 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rand", "continued", "total"), RAND_AND_CONTINUED_AND_TOTAL.values())
def test_the_total_is_that_of_the_papers_table(rand: Spread, continued: Spread, total: Spread) -> None:
    assert total_of(rand, continued) == pytest.approx(total, abs=0.01)


def test_the_papers_gain_is_of_semi_supervised_over_supervised_training() -> None:
    semi_supervised = {name: rand[0] for name, (rand, _, _) in RAND_AND_CONTINUED_AND_TOTAL.items()}
    assert mean_gain(semi_supervised, SUPERVISED) == pytest.approx(8.11, abs=0.005)
    with pytest.raises(ValueError, match="a gain needs a method that both have; got a and b"):
        mean_gain({"a": 1.0}, {"b": 2.0})


@pytest.mark.e2e
def test_analysis_needs_neither_torch_nor_lightning_nor_matplotlib() -> None:
    code = (
        "import sys, assl_lightning.report.analysis.comparison, assl_lightning.report.analysis.runs; "
        "sys.exit(', '.join({'torch', 'lightning', 'hydra', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert found.stderr == "\n"


def test_differences_of_one_image_are_ties_as_records_hold_them() -> None:
    images = 12_000
    stored = [round((a + 1) / images, 7) - round(a / images, 7) for a in (4, 5, 6, 7)]
    stored += [-(round((a + 1) / images, 7) - round(a / images, 7)) for a in (8, 10)]
    assert len({round(abs(value), 9) for value in stored}) > 1, "rounding tells them apart"
    assert wilcoxon(stored) == pytest.approx(0.6875)  # four of six signs up: 2 · (15 + 6 + 1) / 64


@pytest.mark.parametrize("difference", DIFFERENCES)
@pytest.mark.parametrize("margin", [0.01, 0.03, 0.2])
def test_non_inferiority_is_scipys_one_sided_test_against_the_margin(difference: list[float], margin: float) -> None:
    found = non_inferiority(difference, margin)
    expected = stats.ttest_1samp(difference, -margin, alternative="greater")

    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.bound == pytest.approx(expected.confidence_interval(0.95).low)
    assert found.is_shown(margin) == (expected.pvalue < 0.05)


def test_non_inferiority_of_equal_differences_is_certain_and_of_one_seed_unknown() -> None:
    equal, one = non_inferiority([-0.01, -0.01, -0.01], 0.02), non_inferiority([0.5], 0.02)

    assert equal.bound == pytest.approx(-0.01)
    assert equal.p_value == 0
    assert not non_inferiority([-0.03, -0.03], 0.02).is_shown(0.02)
    assert isnan(one.bound)
    assert isnan(one.p_value)
    assert not one.is_shown(0.02)


@pytest.mark.parametrize("margin", [0.0, -0.02, nan])
def test_non_inferiority_needs_a_margin(margin: float) -> None:
    with pytest.raises(ValueError, match="margin must be above 0"):
        non_inferiority([0.1, 0.2], margin)
