"""Comparisons of the accuracies of methods: pure functions of arrays (seeds, rounds).

Differences are taken seed by seed: methods with the same seed share the initial labels and the initial weights.

[A] agg_results.py of ALFA-Mix (Parvaneh et al., CVPR 2022), which draws the paper's Fig. 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import inf, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from scipy.stats import t as student

Floats = NDArray[np.float64]

ENOUGH_SEEDS = 5
"""With fewer seeds a paired test has little power: the interval is more than 3 standard errors wide on each side, and
Wilcoxon's p cannot be below 0.125."""

ROUNDING = 5e-7
"""Accuracies and their differences that are closer are equal: records hold seven digits of an accuracy, so that two
differences of one image in 12,000 are 8.33e-5 and 8.34e-5. One image in a million makes more."""

PAPER_THRESHOLD = 2.776
"""The t above which the paper counts a win (Fig. 6): Student's t(0.975) at 4 degrees of freedom, hence for 5 seeds."""


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval, in the unit of the values; `low` and `high` are NaN if n < 2."""

    mean: float
    low: float
    high: float
    n: int  # number of values

    @property
    def has_enough_seeds(self) -> bool:
        """True if there are at least `ENOUGH_SEEDS` seeds."""
        return self.n >= ENOUGH_SEEDS


@dataclass(frozen=True)
class PairedTest:
    """Student's paired t test: the interval of the mean difference, and the two-sided p of 0 (NaN if n < 2)."""

    interval: Interval
    p_value: float

    @property
    def has_enough_seeds(self) -> bool:
        """True if the interval has enough seeds."""
        return self.interval.has_enough_seeds


@dataclass(frozen=True)
class NonInferiority:
    """A one-sided test of a mean difference against −margin, with Student's t; both are NaN if n < 2."""

    bound: float  # the one-sided 95 % confidence limit below the mean difference
    p_value: float  # of a mean difference of −margin or less
    n: int  # number of values

    def is_shown(self, margin: float) -> bool:
        """True if the whole interval from `bound` up lies above −`margin`."""
        return self.bound > -margin


@dataclass(frozen=True)
class PairwiseMatrix:
    """Counts of how often each of m methods beats each other one, over rounds and settings (Fig. 6 of the paper)."""

    methods: tuple[str, ...]
    wins: Floats  # (m, m) how often the row's method beats the column's; at most `settings`
    beaten: Floats  # (m,) mean of each column over the other methods; smaller is better
    settings: int
    seeds: tuple[int, ...]  # of each setting
    missing: Mapping[str, int]  # method → settings without it, if any; it neither wins nor is beaten there


def has_area(labels: Sequence[int]) -> bool:
    """True if there is an area over these numbers of labels: they must not fall, as when people take labels back.

    >>> has_area([10, 20]), has_area([10]), has_area([10, 8]), has_area([10, 10])
    (True, True, False, False)
    """
    added = np.diff(labels)
    return len(labels) == 1 or bool(added.min() >= 0 and added.sum() > 0)


def aubc(labels: ArrayLike, accuracy: ArrayLike) -> Floats:
    """Return the area under the budget curve: accuracy (…, rounds) over labels (rounds,) → (…,).

    The trapezoids are divided by the range of the labels, so this is the mean accuracy over the budget, in the unit of
    `accuracy`. Larger is better. The area of a single round is its accuracy.
    """
    counts, values = np.asarray(labels, float), np.asarray(accuracy, float)
    if counts.ndim != 1 or values.ndim < 1 or values.shape[-1] != len(counts) or not len(counts):
        raise ValueError(
            f"accuracy must have shape (…, rounds) and labels (rounds,), at least one; got {values.shape} and "
            f"{counts.shape}"
        )
    if len(counts) == 1:
        return np.asarray(values[..., 0])
    added = np.diff(counts)
    if not has_area(counts.tolist()):
        raise ValueError(f"labels must grow from round to round, or there is no area; got {counts.tolist()}")
    return np.asarray(((values[..., 1:] + values[..., :-1]) / 2 * added).sum(-1) / added.sum())


def paired_t(difference: ArrayLike, confidence: float = 0.95) -> PairedTest:
    """Apply Student's paired t test to differences (n,), one per seed. If all are equal, the interval is that value."""
    values = _differences(difference)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return PairedTest(Interval(mean, nan, nan, n), nan)
    half = float(student.ppf((1 + confidence) / 2, n - 1) * values.std(ddof=1) / sqrt(n))
    p_value = 2 * student.sf(abs(_t_statistic(values, ddof=1)), n - 1)
    return PairedTest(Interval(mean, mean - half, mean + half, n), float(p_value))


def non_inferiority(difference: ArrayLike, margin: float) -> NonInferiority:
    """Test if differences (n,), one per seed, are larger in the mean than −`margin`, which is above 0.

    It is shown where the one-sided 95 % confidence limit below the mean is above −margin, which is where p < 0.05.
    Without a margin stated in advance, "not significantly worse" is what any noisy experiment shows.

    >>> found = non_inferiority([0.01, 0.00, -0.01, 0.02], margin=0.02)
    >>> round(found.bound, 4), found.is_shown(0.02)
    (-0.0102, True)
    """
    if not margin > 0:
        raise ValueError(f"margin must be above 0, a loss that does not matter; got {margin}")
    values = _differences(difference)
    n = len(values)
    if n < 2:
        return NonInferiority(nan, nan, n)
    half = float(student.ppf(0.95, n - 1) * values.std(ddof=1) / sqrt(n))
    p_value = student.sf(float(_t_statistic(values + margin, ddof=1)), n - 1)
    return NonInferiority(float(values.mean()) - half, float(p_value), n)


def wilcoxon(difference: ArrayLike) -> float:
    """Return the exact two-sided p of Wilcoxon's signed-rank test of differences (n,), in (0, 1].

    Zeros are left out and ties share their mean rank; both are frequent with accuracies on one test set. If all
    differences are zero, p is 1.
    """
    values = _differences(difference)
    values = values[np.abs(values) > ROUNDING]
    doubled = np.rint(2 * rankdata(_tied(np.abs(values)))).astype(int)  # mean ranks are halves
    shares = np.ones(1)  # index: sum of the positive ranks; value: share of all sign patterns with this sum
    for rank in doubled:
        shares = (np.pad(shares, (0, rank)) + np.pad(shares, (rank, 0))) / 2
    positive = doubled[values > 0].sum()
    return float(min(1.0, 2 * min(shares[: positive + 1].sum(), shares[positive:].sum())))


def _tied(values: Floats) -> Floats:
    """Return (n,) ≥ 0, with equal numbers for values that differ only by rounding."""
    order = np.argsort(values)
    group = np.concatenate([[0], np.cumsum(np.diff(values[order]) > ROUNDING)])
    tied = np.empty(len(values), int)
    tied[order] = group[: len(values)]
    return tied.astype(float)


def bootstrap(difference: ArrayLike, *, seed: int = 0, resamples: int = 10_000, confidence: float = 0.95) -> Interval:
    """Return the percentile bootstrap interval of the mean of differences (n,) (Efron and Tibshirani 1993, §13.3).

    It assumes no distribution, but is too narrow for few seeds: by about √(1 − 1/n) compared with `paired_t`, and more
    because it lacks the wider quantiles of Student's t. The same `seed` gives the same interval.
    """
    values = _differences(difference)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Interval(mean, nan, nan, n)
    drawn = np.random.default_rng(seed).integers(n, size=(resamples, n))
    low, high = np.quantile(values[drawn].mean(1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(low), float(high), n)


def holm(p_values: ArrayLike) -> Floats:
    """Return the adjusted p (m,) of m comparisons with one reference, in the given order (Holm 1979).

    The probability that any p below α is a false positive is at most α. NaN stays NaN and is not counted.
    """
    values = np.asarray(p_values, float)
    if values.ndim != 1 or ((values < 0) | (values > 1)).any():
        raise ValueError(f"p_values must be (m,) probabilities in [0, 1] or NaN; got {values.tolist()}")
    adjusted = np.full(len(values), nan)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN comes last
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def pairwise_matrix(settings: Sequence[Mapping[str, Floats]], *, threshold: float = PAPER_THRESHOLD) -> PairwiseMatrix:
    """Return the paper's matrix (Fig. 6), counted as in [A]: method → accuracies (seeds, rounds), for each setting.

    In each setting, the row's method beats the column's in a share of the rounds: those in which t = √n · mean / s.d.
    of their difference over n seeds is above the `threshold`. The first round is left out, since nothing was acquired
    yet. Settings are summed. If the s.d. is 0, t is ±∞, or 0 if the mean is 0 too.

    The s.d. divides by n, so that with the paper's 3 seeds and its threshold the two-sided level is p = 0.15, for each
    of many rounds and pairs; `valid_matrix` tests at 0.05.

    Raises:
        ValueError: the arrays of a setting differ in shape, or have fewer than two seeds or rounds.
    """
    return _matrix(settings, lambda _: threshold, ddof=0)


def valid_matrix(settings: Sequence[Mapping[str, Floats]]) -> PairwiseMatrix:
    """Return a `pairwise_matrix` with the sample s.d. and Student's t(0.975, n − 1) for the n seeds of each setting.

    Each round is tested at a two-sided level of 0.05, not corrected for the number of rounds, pairs and settings.
    """
    return _matrix(settings, lambda n: float(student.ppf(0.975, n - 1)), ddof=1)


def total_of(rand: tuple[float, float], continued: tuple[float, float]) -> tuple[float, float]:
    """Return the "Total" of Table 2 from a method's (mean, ±) under `init` rand and continue: the means of both.

    The ± is then an average of standard deviations, neither a pooled one nor the error of the mean.
    """
    return (rand[0] + continued[0]) / 2, (rand[1] + continued[1]) / 2


def mean_gain(of: Mapping[str, float], over: Mapping[str, float]) -> float:
    """Return the mean of `of` − `over` over common methods: the paper's 8.11 points of SSL over supervised training."""
    shared = of.keys() & over.keys()
    if not shared:
        raise ValueError(f"a gain needs a method that both have; got {', '.join(of)} and {', '.join(over)}")
    return sum(of[name] - over[name] for name in shared) / len(shared)


def _differences(difference: ArrayLike) -> Floats:
    values = np.asarray(difference, float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"differences must be (n,), one for each of at least one seed; got shape {values.shape}")
    if not np.isfinite(values).all():
        position = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"the difference of seed number {position} is {values[position]}; leave runs without it out")
    return values


def _t_statistic(values: Floats, ddof: int) -> Floats:
    """Return √n · mean / s.d. of (n, …) as (…): ±∞ if the s.d. is 0, and 0 if the mean is 0 too."""
    mean, deviation = np.asarray(values.mean(0)), np.asarray(values.std(0, ddof=ddof))
    deviation[np.ptp(values, axis=0) < ROUNDING] = 0
    t: Floats = np.where(np.abs(mean) < ROUNDING, 0.0, np.copysign(inf, mean))
    np.divide(sqrt(len(values)) * mean, deviation, out=t, where=deviation > 0)
    return t


def _matrix(
    settings: Sequence[Mapping[str, Floats]], threshold_of: Callable[[int], float], ddof: int
) -> PairwiseMatrix:
    methods = tuple(dict.fromkeys(name for setting in settings for name in setting))
    wins = np.zeros((len(methods), len(methods)))
    seeds = tuple(_check_setting(number, setting) for number, setting in enumerate(settings))
    for setting, n in zip(settings, seeds, strict=True):
        for winner, loser in permutations(setting, 2):
            t = _t_statistic(setting[winner][:, 1:] - setting[loser][:, 1:], ddof)
            wins[methods.index(winner), methods.index(loser)] += (t > threshold_of(n)).mean()
    absent = {name: sum(name not in setting for setting in settings) for name in methods}
    return PairwiseMatrix(
        methods,
        wins,
        wins.sum(0) / max(len(methods) - 1, 1),
        len(settings),
        seeds,
        {name: count for name, count in absent.items() if count},
    )


def _check_setting(number: int, setting: Mapping[str, Floats]) -> int:
    """Check the shapes of a setting, and return its number of seeds."""
    shapes = {name: np.shape(values) for name, values in setting.items()}
    first = next(iter(shapes.values()), ())
    if len(set(shapes.values())) != 1 or len(first) != 2 or min(first) < 2:
        raise ValueError(
            f"setting {number}: every method's accuracies must have one shape, (seeds, rounds) with at least two of "
            f"each for a spread over seeds and a round after the first; got {shapes}"
        )
    return int(first[0])
