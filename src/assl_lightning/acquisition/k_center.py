"""Greedy k-centre: base of strategies that pick the candidate farthest from all samples labelled or picked so far.

Sener and Savarese 2018: Active Learning for Convolutional Neural Networks: A Core-Set Approach, Algorithm 1
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from assl_lightning.acquisition.points import Points, check_one_network
from assl_lightning.base.copies import first_copies
from assl_lightning.base.ties import comparable, float64_device
from assl_lightning.method.candidates import Candidates, LabelledSamples, Requirement, Selection
from assl_lightning.method.top_k import check_budget, in_index_order

ToNearest = Callable[[Tensor | None, Tensor], Tensor]

_CONTENDERS = 64  # points that are brought up to date at first; 32 to 128 take as long, all of them 13 times that


class KCenter(ABC):
    """Pick, again and again, the candidate that is farthest from all samples labelled or picked so far.

    Where no sample is labelled, the candidate with the lowest index is first. O((L + budget) · M · k) time for vectors
    of k numbers, though on a CPU the picks need hardly any of theirs, and 8 · k bytes of memory for each of the M
    candidates and L labelled samples.
    """

    field: ClassVar[Literal["features", "logits"]]
    requires: ClassVar[frozenset[Requirement]]

    @abstractmethod
    def points(self, values: Tensor, index: Tensor) -> Points:
        """Return `values` (M, …) of the samples `index` (M,) as points; a number that is not finite is an error."""

    @abstractmethod
    def distance(self, points: Points, centres: Points) -> Tensor:
        """Return the distance of each point to the nearest of the centres, (M,) ≥ 0."""

    @final
    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select in the order of the picks; nothing is drawn.

        The scores, float32 ≥ 0, are the distances to the nearest labelled sample before any pick; each pick after the
        first depends on those before it too. There are none where no sample is labelled. A candidate or labelled sample
        whose values are not finite is an error that names it.
        """
        check_budget(budget, len(candidates))
        values = self._values(candidates)
        position = torch.arange(len(values), device=values.device)
        index, position, values = in_index_order(candidates.index.to(values.device), position, values)
        points = self.points(values, index)
        labelled = self._labelled(candidates)

        def to_nearest(rows: Tensor | None, centres: Tensor) -> Tensor:
            return comparable(self.distance(points if rows is None else points.at(rows), points.at(centres)))

        first, scores, nearest = first_copies(values), None, torch.full_like(points.term, torch.inf)
        if len(labelled):
            to_labelled = self.distance(points, labelled)
            scores = torch.empty_like(to_labelled, dtype=torch.float32)
            scores[position] = to_labelled.float()[first]
            nearest = comparable(to_labelled)
        # A copy of an earlier candidate adds nothing: the earlier one comes first, however the two are rounded.
        nearest = torch.where(first == torch.arange(len(first), device=first.device), nearest, 0.0)
        return Selection(index.cpu()[greedy_k_center(nearest, to_nearest, budget)], scores)

    def _values(self, samples: Candidates | LabelledSamples) -> Tensor:
        values = samples.require(self.field).detach()
        return values.to(float64_device(values.device))

    def _labelled(self, candidates: Candidates) -> Points:
        samples = candidates.require("labelled")
        values = self._values(samples)
        check_one_network(self.field, values, self._values(candidates))
        return self.points(values, samples.index.to(values.device))


def greedy_k_center(nearest: Tensor, to_nearest: ToNearest, budget: int) -> Tensor:
    """Pick, again and again, the point that is farthest from its nearest centre, and that then is a centre itself.

    Sener and Savarese 2018, Algorithm 1. Ties go to the lower position, so where every distance is 0 the rest is picked
    in the order of the positions. On a CPU only the few points that may be farthest are brought up to date before each
    pick; anywhere else all of them are, and nothing in the loop waits for the device. The picks are the same, but among
    points whose distances differ by no more than their rounding.

    Args:
        nearest: (M,) floating-point, of each point to the nearest of the centres that there are before the first pick,
            larger means sooner; +inf everywhere where there are none, which starts at position 0. No NaN.
        to_nearest: positions (m,) int64 of points (None: all M) and (k,) int64 of centres → (m,) distances of the
            points to the nearest of those centres, in the units and on the device of `nearest`. A point's distance to
            itself is not read, since no point is picked twice.
        budget: how many to pick, 1 … M.

    Returns:
        (budget,) int64 distinct positions in 0 … M − 1 on the CPU, in the order of the picks.

    >>> points = torch.tensor([0.0, 1.0, 9.0, 5.0])
    >>> def to_nearest(rows, centres):
    ...     return (points[slice(None) if rows is None else rows, None] - points[centres]).abs().amin(1)
    >>> greedy_k_center(points, to_nearest, budget=3)  # one centre, at 0
    tensor([2, 3, 1])
    """
    check_budget(budget, len(nearest))
    pick = pick_lazily if nearest.device.type == "cpu" else pick_eagerly
    return pick(nearest.clone(), to_nearest, budget).cpu()


def pick_eagerly(nearest: Tensor, to_nearest: ToNearest, budget: int) -> Tensor:
    """Do `greedy_k_center` with all distances up to date before each pick; writes into `nearest`."""
    picks = [nearest.argmax()]
    while len(picks) < budget:
        torch.minimum(nearest, to_nearest(None, picks[-1].view(1)), out=nearest)
        nearest.index_fill_(0, picks[-1], -torch.inf)
        picks.append(nearest.argmax())
    return torch.stack(picks)


def pick_lazily(nearest: Tensor, to_nearest: ToNearest, budget: int) -> Tensor:
    """Do `greedy_k_center` with few distances up to date; writes into `nearest`, and looks at its numbers.

    Distances only shrink as centres are added, so an old distance is a bound: the point that is farthest by its
    bound is the farthest if its distance is up to date.
    """
    seen = torch.zeros(len(nearest), dtype=torch.int64)  # how many of the picks each distance takes into account
    picks = torch.empty(budget, dtype=torch.int64)
    for count in range(budget):
        pick, contenders = nearest.argmax(), _CONTENDERS
        while seen[pick] < count:
            rows = torch.cat([pick.view(1), nearest.topk(min(contenders, len(nearest))).indices]).unique()
            rows = rows[seen[rows] < count]
            contenders *= 2  # so that many that have come closer at once are soon all up to date
            closest = to_nearest(rows, picks[int(seen[rows].min()) : count])
            nearest[rows] = torch.minimum(nearest[rows], closest)
            seen[rows] = count
            pick = nearest.argmax()
        picks[count] = pick
        nearest[pick] = -torch.inf
    return picks
