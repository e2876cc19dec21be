"""Random sampling: label samples drawn uniformly; the baseline that other strategies are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.top_k import check_budget, in_index_order


@final
@dataclass(frozen=True)
class RandomSampling:
    """Draw uniformly without replacement; depends on the generator and on the set of candidates alone."""

    requires: ClassVar[frozenset[Requirement]] = frozenset()

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select `budget` candidates without scores, each with the probability 1 / number left."""
        check_budget(budget, len(candidates))
        (index,) = in_index_order(candidates.index.cpu())
        picks = index[torch.randperm(len(index), generator=generator)[:budget]]
        left = len(index) - torch.arange(budget, dtype=torch.float64)
        return Selection(picks, pick_probabilities=1 / left)
