"""Power sampling: draw the samples to label with probabilities that grow with the score, instead of the largest scores.

Kirsch et al. 2023, "Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning" (TMLR, arXiv 2106.12059).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch
from torch import Tensor

from assl_lightning.acquisition.draw_by_weight import draw_by_weight
from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.rules import SHARE, Rule, checked
from assl_lightning.method.bounds import Factors, check_bounds, confidence_bound
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.top_k import check_budget, check_finite, in_index_order

Form = Literal["power", "softmax", "softrank"]

_BETA = Rule("in [0, 1000]", lambda value: 0 <= value <= 1000)


@final
@dataclass(frozen=True)
class PowerSampling:
    """Draw without replacement, each pick with the probability (1 − ε) · w / Σ_left w + ε / number left.

    w grows with the score s of ASSL (Lim et al. 2023, Eq. 6), from the statistics of the training: no pass over the
    pool. The picks are less alike than the largest scores would be. Since the probability of each pick is known, the
    accuracy on the candidates can be estimated from the picks: `stopping.picked_accuracy`. The uniform share keeps each
    pick's weight in that estimate at 1 / ε at most.

    Args:
        beta: β in [0, 1000]. 0: all weigh the same; the larger, the closer to the largest scores.
        form: w = s^β ("power"), e^(β · s) ("softmax") or rank^(−β) ("softrank"), where the largest score has rank 1.
        uniform_share: ε in (0, 1], the probability that a pick is drawn uniformly.
        c_u: weight of the standard deviation of the uncertainty (Eq. 3).
        c_i: weight of the standard deviation of the inconsistency (Eq. 5).
        factors: "both" bounds multiplied, or "uncertainty" or "inconsistency" alone.
    """

    beta: float = 1.0
    form: Form = "power"
    uniform_share: float = 0.2
    c_u: float = 0.5
    c_i: float = 2.0
    factors: Factors = "both"
    requires: ClassVar[frozenset[Requirement]] = frozenset({"statistics"})

    def __post_init__(self) -> None:
        checked("beta", self.beta, Annotated[float, _BETA])
        require_one_of("form", self.form, Form)
        checked("uniform_share", self.uniform_share, Annotated[float, SHARE])
        check_bounds(self.c_u, self.c_i, self.factors)

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select in the order of the draws, with scores ≥ 0 and the probability of each pick.

        A score that is not finite is an error that names the sample. Where all weights left are 0, the draw is uniform.
        """
        statistics = candidates.require("statistics")
        check_budget(budget, len(candidates))
        scores = confidence_bound(statistics, self.c_u, self.c_i, self.factors)
        check_finite("score", scores, candidates.index)
        index, ascending = in_index_order(candidates.index.cpu(), scores.cpu())
        positions, probabilities = draw_by_weight(self._log_weight(ascending), self.uniform_share, budget, generator)
        return Selection(index[positions], scores, probabilities)

    def _log_weight(self, scores: Tensor) -> Tensor:
        """Return log w, (M,) float64, at most 0, of the `scores` (M,) ≥ 0 in the order of the pool."""
        if self.form == "softrank":
            rank = torch.empty(len(scores), dtype=torch.float64)
            rank[torch.sort(scores, descending=True, stable=True).indices] = torch.arange(1, len(scores) + 1).double()
            return -self.beta * rank.log()
        if self.beta == 0:
            return torch.zeros(len(scores), dtype=torch.float64)
        log_weight = self.beta * (scores.double() if self.form == "softmax" else scores.double().log())
        largest = log_weight.max()
        return log_weight - torch.where(largest.isfinite(), largest, 0.0)
