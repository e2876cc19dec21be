"""The constants of the paper's Eq. 3, 5 and 6, with their ranges, and names; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from assl_lightning.base.rules import SHARE, at_least, check_fields

Alpha = Annotated[float, SHARE]
"""Weight of a new observation in the running mean and variance (Eq. 3)."""

ConfidenceValue = Annotated[float, at_least(0)]
"""Standard deviations that an upper confidence bound adds to the mean (Eq. 3 and 5)."""

Variance = Literal["post", "pre"]
"""The mean that a visit's deviation is taken from: the one just updated, as the paper prints it, or the one before."""


FurtherName = Literal["forgetting", "view_variance", "mean_probabilities"]
FURTHER: tuple[FurtherName, ...] = get_args(FurtherName)
"""Names of the statistics that can be kept beside uncertainty and inconsistency; see `further_statistic`."""


@dataclass(frozen=True)
class ScoreSettings:
    """Constants that turn running statistics into a score (Eq. 3, 5 and 6); see `ASSLScoreCallback`.

    Attributes:
        alpha: weight of the new observation.
        c_u: standard deviations added to the uncertainty.
        c_i: standard deviations added to the inconsistency.
        variance: the mean that a deviation is taken from.
        reset: the statistics start afresh in each round.
    """

    alpha: Alpha = 0.8
    c_u: ConfidenceValue = 0.5
    c_i: ConfidenceValue = 2.0
    variance: Variance = "post"
    reset: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
