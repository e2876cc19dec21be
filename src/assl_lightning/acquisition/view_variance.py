"""Variance over views: label the samples whose views were predicted most differently while training ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from assl_lightning.acquisition.highest_score import HighestScore
from assl_lightning.method.candidates import Candidates, Requirement
from assl_lightning.method.view_variance import VarianceOverViews


@final
@dataclass(frozen=True)
class ViewVariance(HighestScore):
    """Select the largest variance of the probabilities over a sample's views (after Gao et al. 2020).

    A mean over the visits of training, of two views each, instead of many views by the finished network:
    `method.view_variance`. No pass over the pool.
    """

    requires: ClassVar[frozenset[Requirement]] = frozenset({"view_variance"})

    def scores(self, candidates: Candidates) -> Tensor:
        """Return the mean variance of each candidate, (M,) in [0, ½]."""
        return VarianceOverViews.score(candidates.require("view_variance"))
