"""The accuracy on all samples that a strategy could pick, from its picks alone: no hold-out is needed.

A strategy picks what is hard, so that the share of right predictions among its picks says little about all others.
Where the probability of each pick is known, a weight for each makes up for it: "levelled unbiased risk estimator", LURE
(Farquhar, Gal and Rainforth, ICLR 2021, arXiv 2101.11665, Eq. 8; Kossen et al., ICML 2021, arXiv 2103.05331, Eq. 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assl_lightning.base.proportions import wilson_interval
from assl_lightning.base.words import counted, per_cent

_EXACT = 1e-9


def lure_weights(probabilities: Sequence[float], candidates: int) -> tuple[float, ...]:
    """Return the weight v_m ≥ 0 of each of M picks, with which (1 / M) Σ v_m · loss_m is an unbiased mean loss.

        v_m = 1 + (N − M) / (N − m) · (1 / ((N − m + 1) · q_m) − 1),   m = 1 … M

    Args:
        probabilities: q_m, (M,) in (0, 1], of each pick among the N − m + 1 candidates left, in the order of the picks.
            Each candidate left must have had a probability above 0.
        candidates: N ≥ M, before the first pick.

    Raises:
        ValueError: there are fewer candidates than picks.

    >>> lure_weights([1 / 4, 1 / 3], candidates=4)  # drawn uniformly
    (1.0, 1.0)
    """
    picks = len(probabilities)
    if candidates < picks:
        raise ValueError(f"the candidates must be at least as many as the {picks} picks; got {candidates}")
    if candidates == picks:
        return (1.0,) * picks  # all that there are
    return tuple(
        1 + (candidates - picks) / (candidates - m) * (1 / ((candidates - m + 1) * probability) - 1)
        for m, probability in enumerate(probabilities, start=1)
    )


@dataclass(frozen=True)
class PickedAccuracy:
    """The predictions of M picks by a network that had not been trained on their labels.

    Attributes:
        weights: (M,) ≥ 0, `lure_weights`, or 1 for each pick that was drawn uniformly.
        wrong: (M,) True where the label is another one than the prediction; None where there is no label to compare.
    """

    weights: tuple[float, ...]
    wrong: tuple[bool | None, ...]

    def __add__(self, other: PickedAccuracy) -> PickedAccuracy:
        """Return the picks of both, such as those of several seeds."""
        return PickedAccuracy(self.weights + other.weights, self.wrong + other.wrong)

    @property
    def n(self) -> int:
        """Number of picks that count: those with a label to compare."""
        return len(self._known)

    @property
    def is_uniform(self) -> bool:
        """True if all picks weigh the same, as when they were drawn uniformly."""
        return all(abs(weight - 1) < _EXACT for weight in self.weights)

    @property
    def accuracy(self) -> float:
        """The estimate, in [0, 1]; needs n ≥ 1.

        1 − (1 / M) Σ v_m · [pick m is wrong], where each pick has a label; cut off below at 0. Without the cut it is
        unbiased for the accuracy on all candidates. Where labels are missing, the sum is divided by the Σ v_m of the
        labelled picks instead of by M: a ratio of two estimates, for the candidates that would have got a label; it is
        not quite unbiased.
        """
        return 1 - self._error_and_count[0]

    @property
    def interval(self) -> tuple[float, float]:
        """About the 95 % interval, in [0, 1]; needs n ≥ 1.

        Wilson's, as if there were only so many uniform draws as have the same variance: by the weights alone
        ((Σ v)² / Σ v², Kish 1965) or by the spread of v · [wrong], whichever are fewer. For uniform draws it is
        Wilson's own. docs/when_to_stop.md says how often it holds the accuracy.
        """
        error, count = self._error_and_count
        low, high = wilson_interval(error * count, count)
        return max(0.0, 1 - high), min(1.0, 1 - low)

    @property
    def _known(self) -> list[tuple[float, bool]]:
        """The weight of each pick with a label, and whether it is wrong."""
        pairs = zip(self.weights, self.wrong, strict=True)
        return [(weight, is_wrong) for weight, is_wrong in pairs if is_wrong is not None]

    @property
    def _error_and_count(self) -> tuple[float, float]:
        """The estimated error, in [0, 1], and the number of uniform draws that would tell as much."""
        known = self._known
        total = sum(weight for weight, _ in known)
        is_whole = len(known) == len(self.wrong)
        divisor = len(known) if is_whole else total
        error = min(1.0, sum(weight for weight, is_wrong in known if is_wrong) / divisor)
        count = total**2 / sum(weight**2 for weight, _ in known)
        centre = [error if is_whole else error * weight for weight, _ in known]
        deviations = [weight * is_wrong - at for (weight, is_wrong), at in zip(known, centre, strict=True)]
        variance, of_one = sum(deviation**2 for deviation in deviations) / divisor**2, error * (1 - error)
        return error, min(count, of_one / variance) if of_one and variance else count

    def __str__(self) -> str:
        """Write the accuracy with its interval and how it was found."""
        low, high = self.interval
        how = "drawn at random" if self.is_uniform else "weighed by how likely each was (LURE)"
        missing = len(self.wrong) - self.n
        without = f"; {missing:,} more without a label" if missing else ""
        accuracy = f"{per_cent(self.accuracy)} % [{per_cent(low)}, {per_cent(high)}] accuracy without a hold-out"
        return f"{accuracy}, by {counted(self.n, 'pick')} {how}{without}"
