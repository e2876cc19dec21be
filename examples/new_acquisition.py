"""A strategy of your own, from the command line and without touching the package.

    PYTHONPATH=examples python -m assl_lightning name=balanced acquisition=random acquisition.name=balanced \\
        acquisition.strategy._target_=new_acquisition.BalancedEntropy

A strategy has two things: `requires` names what it looks at, and `acquire` selects the samples to label. One that is
nothing but a number for each candidate, of which the largest are labelled, is shorter still: a subclass of
`HighestScore` that writes `scores`.

Running this file tries both on numbers made by hand: python examples/new_acquisition.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from assl_lightning.acquisition import Candidates, HighestScore, Selection
from assl_lightning.method import scores
from assl_lightning.method.top_k import top_k


class LeastSure(HighestScore):
    """The samples whose most probable class has the lowest probability."""

    requires = frozenset({"logits"})

    def scores(self, candidates: Candidates) -> Tensor:
        """(M,) larger means label sooner."""
        return -candidates.require("logits").softmax(1).amax(1)


@dataclass(frozen=True)
class BalancedEntropy:
    """The most uncertain samples, the same number of each predicted class as far as there are any."""

    requires = frozenset({"logits"})

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Rank the samples within their predicted class, then take all first ranks, all second ranks, and so on."""
        logits = candidates.require("logits")
        entropy, predicted = scores.entropy(logits), logits.argmax(1)
        rank = torch.empty_like(entropy)
        for label in predicted.unique():
            members = (predicted == label).nonzero()[:, 0]
            order = members[entropy[members].argsort(descending=True, stable=True)]
            rank[order] = torch.arange(len(order), dtype=rank.dtype, device=rank.device)
        picks = top_k(entropy / (entropy.max() + 1) - rank, candidates.index, budget)
        return Selection(picks, scores=entropy)


def main() -> Tensor:
    logits = torch.tensor([[3.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 4], [0, 0, 1], [2, 0, 0]])
    candidates = Candidates(index=torch.tensor([10, 11, 12, 13, 14, 15]), logits=logits)
    for strategy in (LeastSure(), BalancedEntropy()):
        selection = strategy.acquire(candidates, 4, torch.Generator())
        print(f"{type(strategy).__name__} picked, best first: {selection.index.tolist()}")
    return selection.index


if __name__ == "__main__":
    main()
