"""Rows of the running statistics, as strategies take them, and the bound that is made of them (Eq. 3 and 5)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class CandidateStatistics:
    """Rows of `SampleStatistics`, one for each sample; float32 but for `visits`. Candidates have all been visited."""

    uncertainty_mean: Tensor  # (M,)
    uncertainty_variance: Tensor  # (M,)
    inconsistency_mean: Tensor  # (M,)
    inconsistency_variance: Tensor  # (M,)
    visits: Tensor  # (M,) int32

    def take(self, positions: Tensor | slice) -> CandidateStatistics:
        """Return the rows at `positions`, (m,) int64; a slice gives views, not copies."""
        return CandidateStatistics(
            uncertainty_mean=self.uncertainty_mean[positions],
            uncertainty_variance=self.uncertainty_variance[positions],
            inconsistency_mean=self.inconsistency_mean[positions],
            inconsistency_variance=self.inconsistency_variance[positions],
            visits=self.visits[positions],
        )


def upper_confidence_bound(mean: Tensor, variance: Tensor, c: float) -> Tensor:
    """Return mean + c·√variance of Eq. 3 and 5, elementwise; c ≥ 0 weighs the standard deviation."""
    return mean + c * variance.sqrt()
