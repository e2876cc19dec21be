"""Forgetting: label the samples whose predicted class changed most often while training ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.forgetting import ForgettingEvents
from assl_lightning.method.top_k import check_budget, top_k_with_drawn_ties


@final
@dataclass(frozen=True)
class Forgetting:
    """Select the largest numbers of changes of the pseudo-label (Lim et al. 2023, Eq. 2; after Toneva et al. 2019).

    What counts as a change, and how it differs from Toneva et al.'s forgetting events: `method.forgetting`. No pass
    over the pool. Many samples have the same count, and the samples of a class may lie side by side in the pool, so
    that ties are drawn.
    """

    requires: ClassVar[frozenset[Requirement]] = frozenset({"forgetting"})

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select the largest counts, best first, with the counts as scores."""
        check_budget(budget, len(candidates))
        scores = ForgettingEvents.score(candidates.require("forgetting"))
        return Selection(top_k_with_drawn_ties(scores, candidates.index, budget, generator), scores)
