"""Number of labels that a method needs to be as accurate as a reference: functions of arrays (seeds, rounds).

The target is a share of the reference's accuracy after its last round. A curve is read as straight lines between
rounds, and reaches the target where it first is at or above it. An accuracy that equals the target up to rounding
(`comparison.ROUNDING`) is at it: in float64, 0.9 · 0.8 is above 0.72. Before the first round nothing is known: a curve
that begins at or above the target needs the labels of its first round, or fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assl_lightning.report.analysis.comparison import ROUNDING

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LabelsNeeded:
    """The labels that a method needs for the reference's accuracy, and their ratio to the reference's; infinite: never.

    Curves are means over n seeds; `low` and `high` are the ends of a 95 % interval of the ratio, NaN if n < 2.
    """

    target: float  # accuracy, in [0, 1]
    labels: float  # of the method's mean curve
    reference: float  # labels of the reference's mean curve
    ratio: float  # below 1: fewer labels than the reference
    low: float
    high: float
    by_seed: Floats  # (n,) ratio of each seed's own two curves, for a target of its own
    n: int

    @property
    def never(self) -> int:
        """The number of seeds whose curve does not reach its target."""
        return int(np.isinf(self.by_seed).sum())


def labels_to_reach(labels: ArrayLike, accuracy: ArrayLike, target: ArrayLike) -> Floats:
    """Return the labels at which curves first reach their target: (rounds,), (…, rounds) and (…,) → (…,).

    A curve that begins at or above its target has the labels of its first round; one that never reaches it has ∞.

    Raises:
        ValueError: the shapes do not fit, or labels do not grow from round to round.

    >>> labels_to_reach([10, 20], [[0.5, 0.7], [0.6, 0.65], [0.2, 0.3]], 0.6).tolist()
    [15.0, 10.0, inf]
    """
    counts, values = np.asarray(labels, float), np.asarray(accuracy, float)
    if counts.ndim != 1 or values.ndim < 1 or values.shape[-1] != len(counts) or not (np.diff(counts) > 0).all():
        raise ValueError(
            f"accuracy must have shape (…, rounds) and labels (rounds,), growing from round to round; got "
            f"{values.shape} and {counts.tolist()}"
        )
    goal = np.broadcast_to(np.asarray(target, float), values.shape[:-1])
    reached = values >= goal[..., None] - ROUNDING
    first = reached.argmax(-1)
    before = np.maximum(first - 1, 0)
    low, high = (np.take_along_axis(values, places[..., None], -1)[..., 0] for places in (before, first))
    rise = np.where(high > low, high - low, 1.0)
    share = np.where(first > 0, np.minimum((goal - low) / rise, 1.0), 0.0)
    found = counts[before] + share * (counts[first] - counts[before])
    return np.where(reached.any(-1), found, inf)


def labels_needed(
    labels: ArrayLike,
    accuracy: ArrayLike,
    reference: ArrayLike,
    *,
    share: float = 0.9,
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> LabelsNeeded:
    """Compare a method's accuracies (n, rounds) with the reference's (n, rounds), whose row of a seed is the same.

    The target is `share` of the reference's last accuracy: of its mean for the mean curves, of each seed's own for the
    ratios by seed. The interval is the percentile bootstrap's (Efron and Tibshirani 1993, §13.3): seeds are drawn with
    replacement, with both of their curves, and the target, both mean curves and their ratio are computed anew. It is
    too narrow for few seeds. An end of it is ∞ where more than its share of the draws never reach the target.

    Raises:
        ValueError: the arrays differ in shape, or `share` is not in (0, 1].
    """
    own, other = np.asarray(accuracy, float), np.asarray(reference, float)
    if own.shape != other.shape or own.ndim != 2 or not len(own):
        raise ValueError(
            f"accuracy and reference must have one shape, (seeds, rounds), with the same seeds in the same order; got "
            f"{own.shape} and {other.shape}"
        )
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], a part of the reference's last accuracy; got {share}")
    n = len(own)
    drawn = np.random.default_rng(seed).integers(n, size=(resamples, n))
    ratios = _ratio(labels, own[drawn].mean(1), other[drawn].mean(1), share) if n > 1 else np.array([nan])
    ends = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2], method="nearest")  # no mean of ∞ and 1
    mean, mean_of_reference = own.mean(0), other.mean(0)
    target = share * float(mean_of_reference[-1])
    return LabelsNeeded(
        target=target,
        labels=float(labels_to_reach(labels, mean, target)),
        reference=float(labels_to_reach(labels, mean_of_reference, target)),
        ratio=float(_ratio(labels, mean, mean_of_reference, share)),
        low=float(ends[0]),
        high=float(ends[1]),
        by_seed=_ratio(labels, own, other, share),
        n=n,
    )


def _ratio(labels: ArrayLike, accuracy: Floats, reference: Floats, share: float) -> Floats:
    """Return (…,) for curves (…, rounds); the reference reaches its target at the latest in its last round."""
    target = share * reference[..., -1]
    return np.asarray(labels_to_reach(labels, accuracy, target) / labels_to_reach(labels, reference, target))
