"""Forgetting events: how often the predicted class of a sample changed while training ran."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from assl_lightning.method.further_statistic import FurtherStatistic
from assl_lightning.method.visits import Visits


@final
class ForgettingEvents(FurtherStatistic):
    """Number of visits at which the predicted class was another than at the visit before: Lim et al. 2023, Eq. 2.

    Toneva et al. 2019 ("An Empirical Study of Example Forgetting during Deep Neural Network Learning") count, of
    labelled samples, the changes from the right class to a wrong one. Here no label is known, so that every change of
    the pseudo-label counts: also from a wrong class to the right one, and between wrong ones. The paper compares
    snapshots that are 5,000 steps apart; here it is each visit, of the weak view in training mode.

    8 bytes a sample: the count, and the class of the latest visit.
    """

    name = "forgetting"
    is_count = True
    views = 1
    observes = "a number"

    def __init__(self, num_samples: int, alpha: float) -> None:
        super().__init__(num_samples, alpha)
        self.columns["changes"] = torch.zeros(num_samples + 1, dtype=torch.int32)
        self.columns["latest"] = torch.zeros(num_samples + 1, dtype=torch.int32)

    def observe(self, weak: Tensor, strong: Tensor) -> Tensor:
        """Return the predicted class, (B, 1), the first of several; exact for up to 2²⁴ classes. NaN gives NaN."""
        predicted = weak.argmax(-1, keepdim=True).float()
        return torch.where(weak.isnan().any(-1, keepdim=True), torch.nan, predicted)

    def update(self, visits: Visits, observed: Tensor, before: Tensor) -> None:
        """Count the visits whose class is another than that of the visit before."""
        predicted = observed[:, 0].to(torch.int32)
        earlier = torch.where(visits.first, self.columns["latest"][visits.row], predicted.roll(1, 0))
        has_earlier = ~visits.first | (before > 0)
        changed = (has_earlier & (predicted != earlier)).to(torch.int32)
        self.columns["changes"].index_add_(0, visits.row, changed)
        visits.write(self.columns["latest"], predicted)

    def rows(self, index: Tensor | slice) -> Tensor:
        """Return the counts, (M,) int32 ≥ 0."""
        return self.columns["changes"][:-1][index]

    @staticmethod
    def score(rows: Tensor) -> Tensor:
        """Return the counts, (M,) float32; many samples have the same one."""
        return rows.float()
