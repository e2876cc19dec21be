"""Temporal mean: label the samples whose predictions, averaged over the training, are least certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from assl_lightning.acquisition.highest_score import HighestScore
from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.copies import first_copies
from assl_lightning.base.ties import comparable, to_float64
from assl_lightning.method.candidates import Candidates, Requirement
from assl_lightning.method.mean_probabilities import MeanProbabilities
from assl_lightning.method.scores import margin
from assl_lightning.method.view_scores import as_logits

Measure = Literal["entropy", "margin"]


@final
@dataclass(frozen=True)
class TemporalMean(HighestScore):
    """Select the largest entropy, or the smallest margin, of the mean probabilities (Settles 2009, §3.1, of the mean).

    The mean is a moving average over the visits of training, with the α of the other statistics (`score.alpha`; a
    small one looks further back): `method.mean_probabilities`. No pass over the pool; 4·C bytes a sample.

    Args:
        measure: "entropy", or "margin" between the two most probable classes.
    """

    measure: Measure = "entropy"
    requires: ClassVar[frozenset[Requirement]] = frozenset({"mean_probabilities"})

    def __post_init__(self) -> None:
        require_one_of("measure", self.measure, Measure)

    def scores(self, candidates: Candidates) -> Tensor:
        """Return the entropy, (M,) in [0, log C], or the margin with its sign turned, in [−1, 0]; equal means alike."""
        mean = candidates.require("mean_probabilities")
        if self.measure == "entropy":
            score = MeanProbabilities.score(mean)
        else:
            score = comparable(margin(as_logits(to_float64(mean))))
        return score[first_copies(to_float64(mean))]
