"""The simplest strategies: one number for each candidate, and the candidates with the largest are labelled.

Begin a strategy of your own with this class: name what it `requires` and write `scores`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from torch import Tensor

from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.top_k import check_budget, top_k


class HighestScore(ABC):
    """Select the candidates with the largest scores, each judged by itself: two picks may well be alike.

    >>> class LeastSure(HighestScore):
    ...     requires = frozenset({"logits"})
    ...     def scores(self, candidates):
    ...         return -candidates.require("logits").softmax(1).amax(1)
    >>> logits = torch.tensor([[0.0, 5.0], [1.0, 1.2], [3.0, 0.0]])
    >>> LeastSure().acquire(Candidates(torch.tensor([3, 8, 9]), logits=logits), 2, torch.Generator()).index
    tensor([8, 9])
    """

    requires: ClassVar[frozenset[Requirement]]

    @abstractmethod
    def scores(self, candidates: Candidates) -> Tensor:
        """Return a number for each candidate, (M,), in their order; larger means label sooner. NaN is an error."""

    @final
    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select the `budget` largest scores, best first; nothing is drawn from the generator."""
        check_budget(budget, len(candidates))
        scores = self.scores(candidates)
        return Selection(top_k(scores, candidates.index, budget), scores)
