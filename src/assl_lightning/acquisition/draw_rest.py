"""Uniform draws, for the rest of a budget where a strategy ranks no more candidates."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_rest(picks: Tensor, index: Tensor, budget: int, generator: torch.Generator) -> Tensor:
    """Return `picks` (n,) and then others of `index` (M,), drawn uniformly without replacement: (budget,) int64.

    Nothing is drawn where there are as many picks already.

    >>> draw_rest(torch.tensor([7]), torch.tensor([3, 5, 7]), 3, torch.Generator()).sort().values
    tensor([3, 5, 7])
    """
    if len(picks) == budget:
        return picks
    rest = index[~torch.isin(index, picks)]
    order = torch.randperm(len(rest), generator=generator)
    return torch.cat([picks, rest[order[: budget - len(picks)]]])
