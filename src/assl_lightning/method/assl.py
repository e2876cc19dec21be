"""ASSL: label the samples that were uncertain and inconsistent while training ran; one top-k, no pass over the pool.

Lim, Na and Kwak 2023, "Active Semi-Supervised Learning by Exploring Per-Sample Uncertainty and Consistency".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from assl_lightning.method.bounds import Factors, check_bounds, confidence_bound
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.top_k import RunningTopK, check_budget, check_shape, chunks


@final
@dataclass(frozen=True)
class ASSL:
    """Select the largest products of two upper confidence bounds (Lim et al. 2023, Eq. 6).

    Args:
        c_u: weight of the standard deviation of the uncertainty (Eq. 3); 0 leaves its moving average alone.
        c_i: weight of the standard deviation of the inconsistency (Eq. 5); 0 leaves its moving average alone.
        factors: "both" bounds multiplied, or "uncertainty" or "inconsistency" alone.
    """

    c_u: float = 0.5
    c_i: float = 2.0
    factors: Factors = "both"
    requires: ClassVar[frozenset[Requirement]] = frozenset({"statistics"})

    def __post_init__(self) -> None:
        check_bounds(self.c_u, self.c_i, self.factors)

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select the largest bounds, best first, with scores ≥ 0; nothing is drawn from the generator.

        Beside the scores, a chunk of the candidates is looked at at a time.
        """
        statistics = candidates.require("statistics")
        check_shape("number of visits", statistics.visits, candidates.index)
        check_budget(budget, len(candidates))
        scores = torch.empty(len(candidates), dtype=torch.float32, device=statistics.visits.device)
        best = self.rank(statistics, budget, index=candidates.index, scores=scores)
        return Selection(best.picks(), scores)

    def rank(
        self,
        statistics: CandidateStatistics,
        budget: int,
        *,
        index: Tensor | None = None,
        mask: Tensor | None = None,
        scores: Tensor | None = None,
    ) -> RunningTopK:
        """Rank the samples that training visited, a chunk at a time: nothing that is as long as the pool is made.

        Args:
            statistics: M rows.
            budget: how many the ranking holds, ≥ 1.
            index: (M,) int64 pool indices; None: the rows are the pool's, 0 … M − 1.
            mask: (M,) bool, the rows to rank; None: all of them.
            scores: (M,) float32, filled with the score of every row; None: the scores are not kept.
        """
        best = RunningTopK(budget)
        for rows in chunks(len(statistics.visits)):
            of_chunk = statistics.take(rows)
            score = confidence_bound(of_chunk, self.c_u, self.c_i, self.factors)
            members = torch.arange(rows.start, rows.stop, device=score.device) if index is None else index[rows]
            eligible = of_chunk.visits > 0
            if mask is not None:
                eligible &= mask[rows]
            best.update(score[eligible], members[eligible.to(members.device)])
            if scores is not None:
                scores[rows] = score
        return best
