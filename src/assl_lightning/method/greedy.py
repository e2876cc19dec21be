"""Greedy choice of a batch, where each pick can only lower what the other candidates are worth.

Minoux 1978: Accelerated Greedy Algorithms for Maximizing Submodular Set Functions, for the lazy version.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from assl_lightning.method.top_k import check_budget

Refresh = Callable[[Tensor | None, Tensor], Tensor]
_CONTENDERS = 64  # candidates that are brought up to date at first; 32 to 128 take as long, all of them 13 times that


def pick_greedily(worth: Tensor, refresh: Refresh, budget: int) -> Tensor:
    """Pick, again and again, the candidate that is worth most, and bring up to date what the others are worth.

    Ties go to the lower position. On a CPU only the few candidates that may be worth most are brought up to date before
    each pick; anywhere else all of them are, and nothing in the loop waits for the device. The picks are the same, but
    among candidates that are worth the same up to rounding.

    Args:
        worth: (M,) floating-point, of each candidate before the first pick; +inf is allowed, NaN is not.
        refresh: positions (m,) int64 of candidates (None: all M) and (k,) int64 of picks, among them the latest →
            (m,) what the candidates are worth after these picks, in the units and on the device of `worth`; where it is
            more than before, the lower number counts. The picks of earlier calls may come again. What a picked
            candidate is worth is not read.
        budget: how many to pick, 1 … M.

    Returns:
        (budget,) int64 distinct positions in 0 … M − 1 on the CPU, in the order of the picks.

    >>> points = torch.tensor([0.0, 1.0, 9.0, 5.0])
    >>> def distance(rows, picks):
    ...     return (points[slice(None) if rows is None else rows, None] - points[picks]).abs().amin(1)
    >>> pick_greedily(points, distance, budget=3)  # the farthest from 0, and from what was picked
    tensor([2, 3, 1])
    """
    check_budget(budget, len(worth))
    pick = pick_lazily if worth.device.type == "cpu" else pick_eagerly
    return pick(worth.clone(), refresh, budget).cpu()


def pick_eagerly(worth: Tensor, refresh: Refresh, budget: int) -> Tensor:
    """Do `pick_greedily` with everything up to date before each pick; writes into `worth`."""
    picks = [worth.argmax()]
    while len(picks) < budget:
        torch.minimum(worth, refresh(None, picks[-1].view(1)), out=worth)
        worth.index_fill_(0, picks[-1], -torch.inf)
        picks.append(worth.argmax())
    return torch.stack(picks)


def pick_lazily(worth: Tensor, refresh: Refresh, budget: int) -> Tensor:
    """Do `pick_greedily` with few candidates up to date; writes into `worth`, and looks at its numbers.

    What an old number says is a bound: the candidate that is worth most by its bound is worth most if its number is up
    to date.
    """
    seen = torch.zeros(len(worth), dtype=torch.int64)  # how many of the picks each number takes into account
    picks = torch.empty(budget, dtype=torch.int64)
    for count in range(budget):
        pick, contenders = worth.argmax(), _CONTENDERS
        while seen[pick] < count:
            rows = torch.cat([pick.view(1), worth.topk(min(contenders, len(worth))).indices]).unique()
            rows = rows[seen[rows] < count]
            contenders *= 2  # so that many that have lost at once are soon all up to date
            fresh = refresh(rows, picks[int(seen[rows].min()) : count])
            worth[rows] = torch.minimum(worth[rows], fresh)
            seen[rows] = count
            pick = worth.argmax()
        picks[count] = pick
        worth[pick] = -torch.inf
    return picks
