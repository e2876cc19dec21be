"""The measures of temporal instability, on T snapshots of the same n samples.

Lim, Na and Kwak 2023: Active Semi-Supervised Learning by Exploring Per-Sample Uncertainty and Consistency, §3.3, 3.5
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import nan, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assl_lightning.base.arguments import require_one_of
from assl_lightning.report.analysis.overlap import spearman

Reading = Literal["A", "B"]

THRESHOLD = 0.95
"""Confidence above which a sample counts as pseudo-labelled in Table 1 (strictly; FixMatch's mask takes ≥)."""

UNCONFIDENT = 0.07
"""Uncertainty above which (almost) no prediction is confident; see `confident_uncertainty`."""

FEWEST_SAMPLES = 10
"""The fewest samples for a reliable mean."""


def total_instability(predictions: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Count how often a sample's predicted class changes from one snapshot to the next (Eq. 2).

    Args:
        predictions: (T, n) predicted classes in order of time, T ≥ 2, without those of the initial weights, which would
            add nearly one change to each sample.

    Returns:
        (n,) in 0 … T − 1.

    >>> total_instability(np.array([[0, 3], [0, 5], [0, 3]])).tolist()
    [0, 2]
    """
    _check_snapshots(predictions)
    changes: NDArray[np.int64] = (predictions[1:] != predictions[:-1]).sum(axis=0, dtype=np.int64)
    return changes


def rank_correlations(uncertainty: NDArray[np.floating[Any]], above: float | None = None) -> NDArray[np.float64]:
    """Return Spearman's ρ between the uncertainties of one snapshot and the next (Fig. 3b).

    Args:
        uncertainty: (T, n) in order of time, T ≥ 2.
        above: use only samples whose uncertainty is above this in both snapshots; NaN if there are fewer than
            `FEWEST_SAMPLES` of them. None: all samples.

    Returns:
        (T − 1,) in [−1, 1].
    """
    _check_snapshots(uncertainty)
    return np.array([_rank_correlation(*pair, above) for pair in pairwise(uncertainty)])


def _rank_correlation(
    before: NDArray[np.floating[Any]], after: NDArray[np.floating[Any]], above: float | None
) -> float:
    if above is None:
        return spearman(before, after)
    chosen = (before > above) & (after > above)
    return spearman(before[chosen], after[chosen]) if np.count_nonzero(chosen) >= FEWEST_SAMPLES else nan


@dataclass(frozen=True)
class UncertaintyByInstability:
    """The uncertainty of the samples with each value of instability, from 0 on (Fig. 4)."""

    instability: NDArray[np.int64]  # (k,)
    count: NDArray[np.int64]  # (k,) samples
    mean: NDArray[np.float64]  # (k,) NaN if there is no sample
    deviation: NDArray[np.float64]  # (k,) standard deviation of the samples, with n in the denominator

    @property
    def is_reliable(self) -> NDArray[np.bool_]:
        """(k,) True if there are at least `FEWEST_SAMPLES` samples."""
        reliable: NDArray[np.bool_] = self.count >= FEWEST_SAMPLES
        return reliable


def uncertainty_by_instability(
    instability: NDArray[np.int64], uncertainty: NDArray[np.floating[Any]]
) -> UncertaintyByInstability:
    """Return count, mean and standard deviation of the uncertainty for each value of instability.

    Args:
        instability: (n,) from `total_instability`.
        uncertainty: (n,) of the last snapshot, or a mean over snapshots; the paper does not state which.
    """
    if instability.shape != uncertainty.shape:
        raise ValueError(
            f"instability and uncertainty must be of the same samples; got shapes {instability.shape} and "
            f"{uncertainty.shape}"
        )
    value = uncertainty.astype(np.float64)
    count = np.bincount(instability)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of a row without samples
        mean = np.bincount(instability, value) / count
        deviation = np.sqrt(np.bincount(instability, (value - mean[instability]) ** 2) / count)
    return UncertaintyByInstability(np.arange(len(count)), count, mean, deviation)


def pseudo_labelled_share(
    score: NDArray[np.floating[Any]],
    confident: NDArray[np.bool_],
    top: Sequence[float] = (0.01, 0.05, 0.10),
    reading: Reading = "B",
) -> NDArray[np.float64]:
    """Return the mean share of pseudo-labelled samples among those with the highest scores (Table 1).

    Table 1 can be read in two ways. A: rank anew in each snapshot, take the share that is confident in it, and average
    over snapshots. B: rank once, by the last snapshot's scores, and average how often each of the highest was
    confident. For snapshot uncertainties reading A is nearly trivial: an uncertain prediction is not confident (see
    `confident_uncertainty`).

    Args:
        score: (T, n) in order of time; NaN is unknown and not ranked.
        confident: (T, n) True if p_max > `THRESHOLD`.
        top: shares of the samples with a known score, in (0, 1]; rounded to whole samples, at least one.

    Returns:
        (len(top),) in [0, 1]; NaN if no score is known.
    """
    _check_snapshots(score)
    if confident.shape != score.shape:
        raise ValueError(
            f"score and confident must be of the same snapshots and samples; got shapes {score.shape} and "
            f"{confident.shape}"
        )
    require_one_of("reading", reading, Reading)
    for share in top:
        if not 0 < share <= 1:
            raise ValueError(f"top holds shares of the samples, in (0, 1]; got {share}")
    rankings = score if reading == "A" else score[-1:]
    counted = confident if reading == "A" else confident.mean(axis=0, keepdims=True)
    shares = [_share_in_top(*pair, top) for pair in zip(rankings, counted, strict=True) if not np.isnan(pair[0]).all()]
    return np.mean(shares, axis=0) if shares else np.full(len(top), nan)


def _share_in_top(
    score: NDArray[np.floating[Any]], confident: NDArray[Any], top: Sequence[float]
) -> NDArray[np.float64]:
    known = int(np.count_nonzero(~np.isnan(score)))
    order = np.argsort(-score, kind="stable")  # NaN comes last
    return np.array([confident[order[: max(1, round(share * known))]].mean() for share in top])


def confident_uncertainty(num_classes: int) -> tuple[float, float]:
    """Return the uncertainty below which p_max > `THRESHOLD` always, and that from which on it never is.

    With d = 1 − p_max, u² = d² + Σ p_c² over the other classes, which share d: the sum lies between d² / (C − 1) and
    d². So d · √(C / (C − 1)) ≤ u ≤ d · √2.

    For snapshot uncertainties, Table 1 of the paper therefore hardly fits reading A. If a single sample among the top
    1 % of a snapshot is confident, all samples with lower uncertainty have u < √2 · 0.05 = 0.0707, and except for a
    narrow band (0.0527 … 0.0707 with ten classes) they are confident. At least 80 % of the top 5 % would then be
    confident, but the paper has 15.67 % in the top 1 % and 24.87 % in the top 5 %. Only means over very different
    snapshots could give these numbers.

    >>> [round(bound, 4) for bound in confident_uncertainty(10)]
    [0.0527, 0.0707]
    """
    rest = 1 - THRESHOLD
    return rest * sqrt(num_classes / (num_classes - 1)), rest * sqrt(2)


def _check_snapshots(values: NDArray[Any]) -> None:
    if values.ndim != 2 or len(values) < 2 or values.shape[1] == 0:
        raise ValueError(
            f"expected (T, n) numbers of at least two snapshots and one sample; got shape {values.shape}: take more "
            f"snapshots"
        )
