"""Upper confidence bounds of uncertainty and inconsistency, and their product, the score: Eq. 3, 5 and 6.

Lim, Na and Kwak 2023, "Active Semi-Supervised Learning by Exploring Per-Sample Uncertainty and Consistency".
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.rules import checked
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.settings import ConfidenceValue

Factors = Literal["both", "uncertainty", "inconsistency"]


def upper_confidence_bound(mean: Tensor, variance: Tensor, c: float) -> Tensor:
    """Return mean + c·√variance of Eq. 3 and 5, elementwise; c ≥ 0 weighs the standard deviation."""
    return mean + c * variance.sqrt()


def confidence_bound(statistics: CandidateStatistics, c_u: float, c_i: float, factors: Factors) -> Tensor:
    """Return Eq. 6, the product of both bounds, or one of its factors, (M,) ≥ 0; larger means label sooner."""
    uncertainty = upper_confidence_bound(statistics.uncertainty_mean, statistics.uncertainty_variance, c_u)
    inconsistency = upper_confidence_bound(statistics.inconsistency_mean, statistics.inconsistency_variance, c_i)
    if factors == "uncertainty":
        return uncertainty
    if factors == "inconsistency":
        return inconsistency
    return uncertainty * inconsistency


def check_bounds(c_u: float, c_i: float, factors: str) -> None:
    """Raise unless both weights are finite and ≥ 0, and `factors` is a known choice."""
    checked("c_u", c_u, ConfidenceValue)
    checked("c_i", c_i, ConfidenceValue)
    require_one_of("factors", factors, Factors)
