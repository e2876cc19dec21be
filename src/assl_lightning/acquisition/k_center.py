"""Greedy k-centre: base of strategies that pick the candidate farthest from all samples labelled or picked so far.

Sener and Savarese 2018: Active Learning for Convolutional Neural Networks: A Core-Set Approach, Algorithm 1
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from assl_lightning.acquisition.points import Points, check_one_network
from assl_lightning.base.copies import first_copies
from assl_lightning.base.ties import comparable, float64_device
from assl_lightning.method.candidates import Candidates, LabelledSamples, Requirement, Selection
from assl_lightning.method.greedy import pick_greedily
from assl_lightning.method.top_k import check_budget, in_index_order


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
        return Selection(index.cpu()[pick_greedily(nearest, to_nearest, budget)], scores)

    def _values(self, samples: Candidates | LabelledSamples) -> Tensor:
        values = samples.require(self.field).detach()
        return values.to(float64_device(values.device))

    def _labelled(self, candidates: Candidates) -> Points:
        samples = candidates.require("labelled")
        values = self._values(samples)
        check_one_network(self.field, values, self._values(candidates))
        return self.points(values, samples.index.to(values.device))
