"""A strategy of your own, from the command line and without touching the package.

    PYTHONPATH=examples python -m assl_lightning name=balanced acquisition=random acquisition.name=balanced \\
        acquisition.strategy._target_=new_acquisition.BalancedEntropy

A strategy has three things: `requires` (what it looks at), `scores` (a number per candidate, or None) and `acquire`.
Running this file tries the strategy on numbers made by hand: python examples/new_acquisition.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from assl_lightning import scores
from assl_lightning.method.candidates import Candidates, Requirement
from assl_lightning.method.top_k import top_k


@dataclass(frozen=True)
class BalancedEntropy:
    """The most uncertain samples, the same number of each predicted class as far as there are any."""

    @property
    def requires(self) -> frozenset[Requirement]:
        return frozenset({"logits"})

    def scores(self, candidates: Candidates) -> Tensor:
        """(M,) entropy in [0, log C]; larger means label sooner."""
        candidates.require("logits")
        assert candidates.logits is not None
        return scores.entropy(candidates.logits)

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Tensor:
        """Rank the samples within their predicted class, then take all first ranks, all second ranks, and so on."""
        assert candidates.logits is not None
        entropy, predicted = self.scores(candidates), candidates.logits.argmax(-1)
        rank = torch.empty(len(candidates), dtype=torch.float64)
        for label in predicted.unique():
            members = (predicted == label).nonzero()[:, 0]
            order = members[entropy[members].argsort(descending=True, stable=True)]
            rank[order.cpu()] = torch.arange(len(order), dtype=torch.float64)
        largest = entropy.max().double().cpu() + 1
        return top_k(entropy.double().cpu() / largest - rank, candidates.index.cpu(), budget)


def main() -> Tensor:
    logits = torch.tensor([[3.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 4], [0, 0, 1], [2, 0, 0]])
    candidates = Candidates(index=torch.tensor([10, 11, 12, 13, 14, 15]), logits=logits)
    picked = BalancedEntropy().acquire(candidates, 4, torch.Generator())
    print(f"picked, best first: {picked.tolist()}")
    return picked


if __name__ == "__main__":
    main()
