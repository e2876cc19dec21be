"""Variance over views: how far the probabilities of a sample's views lie apart, as a mean over the training."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from assl_lightning.method import scores
from assl_lightning.method.further_statistic import FurtherStatistic
from assl_lightning.method.visits import Visits


@final
class VarianceOverViews(FurtherStatistic):
    """Variance of the predicted probabilities over the views of a step, summed over classes; its mean over the visits.

    Gao et al. 2020 ("Consistency-based Semi-supervised Active Learning") take the variance over many views of each
    image by the finished network. Here each visit has two views, a weak and a strong one, and the network of its step
    in training mode; instead of many views at once there is the mean over many visits.

    4 bytes a sample.
    """

    name = "view_variance"
    views = 2
    observes = "a number"

    def __init__(self, num_samples: int, alpha: float) -> None:
        super().__init__(num_samples, alpha)
        self.columns["mean"] = torch.zeros(num_samples + 1, 1)

    def observe(self, weak: Tensor, strong: Tensor) -> Tensor:
        """Return the variance over both views, (B, 1) in [0, ½]."""
        return scores.view_variance(weak, strong).float()[:, None]

    def update(self, visits: Visits, observed: Tensor, before: Tensor) -> None:
        """Bring the mean over all visits up to date, in which each visit weighs the same."""
        weight = 1 / visits.count(before).float()[:, None]
        column = self.columns["mean"]
        visits.write(column, visits.average(column[visits.row], observed, weight))

    def rows(self, index: Tensor | slice) -> Tensor:
        """Return the means, (M,) float32 in [0, ½]."""
        return self.columns["mean"][:-1, 0][index]

    @staticmethod
    def score(rows: Tensor) -> Tensor:
        """Return the means."""
        return rows
