"""Greedy choice of a batch whose picks can only lower the gains of the other candidates.

Minoux 1978: Accelerated Greedy Algorithms for Maximizing Submodular Set Functions, for the lazy version.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from assl_lightning.method.top_k import check_budget

Refresh = Callable[[Tensor | None, Tensor], Tensor]
_CONTENDERS = 64  # candidates that are updated at first; 32 to 128 take as long, all of them 13 times that


def pick_greedily(gain: Tensor, refresh: Refresh, budget: int) -> Tensor:
    """Pick, again and again, the candidate with the largest gain, and update the gains of the others.

    Ties go to the lower position. On a CPU only the candidates that may have the largest gain are updated before each
    pick; on other devices all are, and nothing in the loop waits for the device. The picks are the same, except among
    candidates whose gains are equal up to rounding.

    Args:
        gain: (M,) floating-point, of each candidate before the first pick; +inf is allowed, NaN is not.
        refresh: positions (m,) int64 of candidates (None: all M) and (k,) int64 of picks, among them the latest →
            (m,) the gains of the candidates after these picks, on the device of `gain`. A gain cannot grow: the lower
            number counts. Picks of earlier calls may be repeated. The gain of a pick is not read.
        budget: the number of picks, 1 … M.

    Returns:
        (budget,) int64 distinct positions in 0 … M − 1 on the CPU, in the order of the picks.

    >>> points = torch.tensor([0.0, 1.0, 9.0, 5.0])
    >>> def distance(rows, picks):
    ...     return (points[slice(None) if rows is None else rows, None] - points[picks]).abs().amin(1)
    >>> pick_greedily(points, distance, budget=3)  # the farthest from 0, and from what was picked
    tensor([2, 3, 1])
    """
    check_budget(budget, len(gain))
    pick = pick_lazily if gain.device.type == "cpu" else pick_eagerly
    return pick(gain.clone(), refresh, budget).cpu()


def pick_eagerly(gain: Tensor, refresh: Refresh, budget: int) -> Tensor:
    """Do `pick_greedily`, updating all gains before each pick, in place."""
    picks = [gain.argmax()]
    while len(picks) < budget:
        torch.minimum(gain, refresh(None, picks[-1].view(1)), out=gain)
        gain.index_fill_(0, picks[-1], -torch.inf)
        picks.append(gain.argmax())
    return torch.stack(picks)


def pick_lazily(gain: Tensor, refresh: Refresh, budget: int) -> Tensor:
    """Do `pick_greedily`, updating few gains before each pick, in place; reads the numbers on the CPU.

    An old gain is an upper bound, so that the candidate with the largest bound has the largest gain if its own is
    updated.
    """
    seen = torch.zeros(len(gain), dtype=torch.int64)  # the number of picks that each gain takes into account
    picks = torch.empty(budget, dtype=torch.int64)
    for count in range(budget):
        pick, contenders = gain.argmax(), _CONTENDERS
        while seen[pick] < count:
            rows = torch.cat([pick.view(1), gain.topk(min(contenders, len(gain))).indices]).unique()
            rows = rows[seen[rows] < count]
            contenders *= 2  # so that many gains that fall at once are soon all updated
            fresh = refresh(rows, picks[int(seen[rows].min()) : count])
            gain[rows] = torch.minimum(gain[rows], fresh)
            seen[rows] = count
            pick = gain.argmax()
        picks[count] = pick
        gain[pick] = -torch.inf
    return picks
