"""Mean probabilities: what a sample was predicted to be, on average over the training."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from assl_lightning.base.ties import comparable, to_float64
from assl_lightning.method import scores
from assl_lightning.method.further_statistic import FurtherStatistic
from assl_lightning.method.view_scores import as_logits
from assl_lightning.method.visits import Visits

_BLOCK = 2**20  # numbers that are made float64 at a time


@final
class MeanProbabilities(FurtherStatistic):
    """Moving average of the predicted probabilities of the weak view, with the α of Lim et al. 2023, Eq. 3.

    An average that starts at 0 sums to 1 − (1 − α)ⁿ after n visits; `rows` divides by the sum. A class that is
    confidently predicted now and another confidently predicted before leave a mean that is not certain, which the
    latest prediction alone would be.

    4·C bytes a sample, from the first visit on.
    """

    name = "mean_probabilities"
    views = 1
    observes = "a number for each class"

    def observe(self, weak: Tensor, strong: Tensor) -> Tensor:
        """Return the probabilities, (B, C)."""
        return weak.float().softmax(-1)

    def update(self, visits: Visits, observed: Tensor, before: Tensor) -> None:
        """Bring the averages up to date."""
        if "average" not in self.columns:
            self.columns["average"] = observed.new_zeros(self.num_samples + 1, observed.shape[1])
        column = self.columns["average"]
        visits.write(column, visits.average(column[visits.row], observed, self.alpha))

    def rows(self, index: Tensor | slice) -> Tensor:
        """Return the averages, (M, C) float32 with the sum 1; 0 where training never visited."""
        if "average" not in self.columns:
            raise RuntimeError("there are no mean probabilities yet; they exist once a step has been observed")
        rows = self.columns["average"][:-1][index]
        return rows / rows.sum(-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)

    @staticmethod
    def score(rows: Tensor) -> Tensor:
        """Return the entropy of the means, (M,) float64 in [0, log C]."""
        blocks = rows.split(max(1, _BLOCK // rows.shape[1]))
        return comparable(torch.cat([scores.entropy(as_logits(to_float64(block))) for block in blocks]))
