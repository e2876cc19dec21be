"""The part of a pool that a covering query looks at, as unit vectors, and the greedy choice of its picks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from assl_lightning.base.ties import comparable, float64_device
from assl_lightning.method.candidates import Candidates
from assl_lightning.method.coverage import Coverage, covered_by, kernel, squared_distances, unit_vectors
from assl_lightning.method.greedy import Refresh, pick_greedily
from assl_lightning.method.top_k import check_budget


@dataclass(frozen=True)
class Sketch:
    """The candidates that may be picked, and those that are to be covered, as samples of all; both in index order."""

    index: Tensor  # (M,) int64, pool indices of the candidates that may be picked, on the CPU
    position: Tensor  # (M,) int64, their rows among all candidates
    points: Tensor  # (M, d) float64 unit vectors
    targets: Tensor  # (R, d) float64 unit vectors of the candidates to cover
    target_index: Tensor  # (R,) int64, their pool indices
    target_position: Tensor  # (R,) int64, their rows among all candidates

    def cover(
        self,
        centres: Tensor,
        weight: Tensor,
        width: float,
        budget: int,
        at_random: Tensor | None = None,
        beside: Refresh | None = None,
    ) -> Tensor:
        """Pick greedily the candidates that add most to the coverage, `Coverage.gains_after`.

        Args:
            centres: (L, d) float64 unit vectors of samples that are in the covering set already.
            weight: (R,) float64 ≥ 0, of each target.
            width: σ > 0.
            budget: the number of picks, 1 … M.
            at_random: (r,) int64 positions in 0 … M − 1 of other picks, r < `budget`; they cover too, and are last.
            beside: another gain ≥ 0 that is added to the share of the weight that a pick covers, `greedy.Refresh`.

        Returns:
            (budget,) int64 pool indices on the CPU, in the order of the picks.
        """
        values = kernel(squared_distances(self.points, self.targets), width)
        coverage = Coverage(values, weight, covered_by(self.targets, centres, width))
        chance = torch.empty(0, dtype=torch.int64) if at_random is None else at_random
        total = weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)

        def gains_after(rows: Tensor | None, picks: Tensor) -> Tensor:
            gain = coverage.gains_after(rows, picks)
            return gain if beside is None else comparable(gain / total + beside(rows, picks))

        worth = gains_after(None, chance)
        worth[chance] = -torch.inf
        picks = pick_greedily(worth, gains_after, budget - len(chance))
        return self.index[torch.cat([picks, chance])]


def sketch(candidates: Candidates, budget: int, most: int, generator: torch.Generator) -> Sketch:
    """Make unit vectors of the candidates' features; of more than `most` candidates, of `most` that are drawn.

    If 4 · `budget` is more than `most`, that many are drawn as candidates to pick. A feature vector that is not finite
    is an error that names the sample.
    """
    features = candidates.require("features").detach()
    check_budget(budget, len(candidates))
    device = float64_device(features.device)
    index, position = torch.sort(candidates.index.to(device))
    possible = targets = torch.arange(len(index))
    if len(index) > most:
        drawn = torch.randperm(len(index), generator=generator)
        possible, targets = drawn[: max(most, 4 * budget)].sort().values, drawn[:most].sort().values

    def vectors(rows: Tensor) -> Tensor:
        found = features.index_select(0, position[rows].to(features.device))
        return unit_vectors(found.to(device), index[rows])

    points = vectors(possible.to(device))
    others = points if len(targets) == len(possible) else vectors(targets.to(device))
    targets = targets.to(device)
    return Sketch(
        index.cpu()[possible], position[possible.to(device)], points, others, index[targets], position[targets]
    )


def labelled_vectors(candidates: Candidates) -> Tensor:
    """Return the labelled samples' features as unit vectors (L, d) float64; one that is not finite is an error."""
    labelled = candidates.require("labelled")
    device = float64_device(labelled.features.device)
    return unit_vectors(labelled.features.detach().to(device), labelled.index.to(device))
