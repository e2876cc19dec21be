"""Greedy k-centre: what strategies share that pick the candidate farthest from everything labelled or picked so far.

Sener and Savarese 2018: Active Learning for Convolutional Neural Networks: A Core-Set Approach, Algorithm 1
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from assl_lightning.base.copies import first_copies
from assl_lightning.base.ties import comparable, float64_device
from assl_lightning.method.candidates import Candidates, LabelledSamples, Requirement
from assl_lightning.method.selection import check_budget, greedy_k_center, in_index_order

# A gap of at most this share of the point's own term is 0: the products of equal vectors leave up to 51 roundings of it
# (2,048 features, CPU), and up to 87 for predictions (1,000 classes). Features nearer than 2.4·10⁻⁷ of their length,
# four roundings of a float32, so count as the same.
_ROUNDING = 256 * torch.finfo(torch.float64).eps
_BLOCK = 1024  # 1,024² products at once are 8 MiB, which stays in a CPU's cache


@dataclass(frozen=True)
class Points:
    """M vectors whose products give distances: `least_gap`."""

    vectors: Tensor  # (M, k) float64
    term: Tensor  # (M,) float64, what each adds to all of its gaps

    def __len__(self) -> int:
        return len(self.term)

    def at(self, positions: Tensor) -> Points:
        """The points at `positions` (m,) int64."""
        return Points(self.vectors.index_select(0, positions), self.term.index_select(0, positions))


def least_gap(points: Points, centres: Points) -> Tensor:
    """(M,) float64 ≥ 0: the least gap from each point a to any centre b, term_a + term_b − vector_a · vector_b.

    Not more than 1,024² products exist at a time. float64, since no switch for cheaper products touches it (TF32,
    `torch.set_float32_matmul_precision`, autocast), and since what is left of two long vectors' difference is precise.
    """
    columns = min(_BLOCK, len(centres))
    rows = _BLOCK**2 // columns
    gap = torch.full_like(points.term, torch.inf)
    for part, least in zip(points.vectors.split(rows), gap.split(rows), strict=True):
        for vectors, term in zip(centres.vectors.split(columns), centres.term.split(columns), strict=True):
            torch.minimum(least, torch.addmm(term, part, vectors.T, alpha=-1).amin(1), out=least)
    gap += points.term
    return torch.where(gap > _ROUNDING * points.term.abs(), gap, 0.0)


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
        """The `field`'s `values` (M, …) of the samples `index` (M,) as points; what is not finite is an error."""

    @abstractmethod
    def distance(self, points: Points, centres: Points) -> Tensor:
        """(M,) ≥ 0, of each point to the nearest of the centres."""

    @final
    def scores(self, candidates: Candidates) -> Tensor | None:
        """(M,) float32 ≥ 0, in the candidates' order: the distance to the nearest labelled sample, before any pick.

        Larger means label sooner, though each pick after the first depends on those before it. None where no sample
        is labelled.
        """
        index, values = candidates.index, self._values(candidates)
        points = self.points(values, index.to(values.device))
        labelled = self._labelled(candidates, points)
        return self.distance(points, labelled).float()[first_copies(values)] if len(labelled) else None

    @final
    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Tensor:
        """(budget,) int64 distinct pool indices on the CPU, in the order of the picks; nothing is drawn.

        A candidate or labelled sample whose values are not finite is an error that names it.
        """
        check_budget(budget, len(candidates))
        values = self._values(candidates)
        index, values = in_index_order(candidates.index.to(values.device), values)
        points = self.points(values, index)
        labelled = self._labelled(candidates, points)

        def distance(rows: Tensor | None, centres: Points) -> Tensor:
            return comparable(self.distance(points if rows is None else points.at(rows), centres))

        def to_nearest(rows: Tensor | None, centres: Tensor) -> Tensor:
            return distance(rows, points.at(centres))

        nearest = distance(None, labelled) if len(labelled) else torch.full_like(points.term, torch.inf)
        # A copy of an earlier candidate adds nothing: that one comes first, whatever rounding makes of the two.
        first = first_copies(values)
        nearest = torch.where(first == torch.arange(len(first), device=first.device), nearest, 0.0)
        return index.cpu()[greedy_k_center(nearest, to_nearest, budget)]

    def _values(self, samples: Candidates | LabelledSamples) -> Tensor:
        if isinstance(samples, Candidates):
            samples.require(self.field)
        values: Tensor = getattr(samples, self.field).detach()
        return values.to(float64_device(values.device))

    def _labelled(self, candidates: Candidates, points: Points) -> Points:
        candidates.require("labelled")
        assert candidates.labelled is not None
        values = self._values(candidates.labelled)
        labelled = self.points(values, candidates.labelled.index.to(values.device))
        if labelled.vectors.shape[1] != points.vectors.shape[1]:
            raise ValueError(
                f"the {self.field} of labelled samples and candidates must come from one network; got shapes "
                f"{tuple(values.shape)} and {tuple(self._values(candidates).shape)}"
            )
        return labelled
