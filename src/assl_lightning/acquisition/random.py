"""Random sampling: the strategy that every other has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from assl_lightning.method.candidates import Candidates, Requirement
from assl_lightning.method.top_k import check_budget, in_index_order


@final
@dataclass(frozen=True)
class RandomSampling:
    """Uniform without replacement; depends on the generator and on the set of candidates alone."""

    requires: ClassVar[frozenset[Requirement]] = frozenset()

    def scores(self, candidates: Candidates) -> None:
        """None: every candidate is as good as any other."""

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Tensor:
        """(budget,) int64 distinct pool indices on the CPU."""
        check_budget(budget, len(candidates))
        (index,) = in_index_order(candidates.index.cpu())
        return index[torch.randperm(len(index), generator=generator)[:budget]]
