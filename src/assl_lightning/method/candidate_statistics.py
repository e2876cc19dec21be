"""Rows of the running statistics, as strategies take them."""

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
