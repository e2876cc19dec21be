"""TypiClust: label the most typical sample of each cluster, beginning with the clusters that have no label.

Hacohen, Dekel and Weinshall 2022: Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from torch import Tensor

from assl_lightning.acquisition.kmeans import fit_kmeans
from assl_lightning.acquisition.points import ROUNDING, Points, gaps
from assl_lightning.acquisition.unit_samples import pool_features, unit_samples
from assl_lightning.base.copies import first_copies
from assl_lightning.base.rules import at_least, check_fields
from assl_lightning.base.ties import comparable
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.top_k import check_budget

_MINI_BATCH_ABOVE = 50  # clusters, as in the authors' code
_BLOCK = 2**20  # gaps at a time: 8 MiB


@final
@dataclass(frozen=True)
class TypiClust:
    """Pick the most typical candidate of each cluster in turn: first of those with the fewest labels, then the largest.

    Candidates and labelled samples, with features of length 1, make min(`max_clusters`, labelled + `budget`) clusters
    (k-means; in mini-batches if more than 50). A sample is the more typical the smaller the mean distance to its
    nearest `neighbours` in its cluster is, of which at most half of the cluster count. A turn goes through all
    clusters, and one without a candidate left is passed over. Clusters of at most `min_cluster_size` members have no
    turn until all others are used up. No label is needed, so that it can ask for the first ones (a cold start).

    The authors' code measures typicality anew for each pick, by squared distances to the candidates that are left;
    this is the definition of the paper, over all members.

    Args:
        max_clusters: of larger budgets, several picks come from one cluster.
        min_cluster_size: the largest number of members of a cluster that waits.
        neighbours: at most so many count.
        kmeans_starts: k-means runs, of which the best counts.
    """

    max_clusters: Annotated[int, at_least(1)] = 500
    min_cluster_size: Annotated[int, at_least(0)] = 5
    neighbours: Annotated[int, at_least(1)] = 20
    kmeans_starts: Annotated[int, at_least(1)] = 1
    requires: ClassVar[frozenset[Requirement]] = frozenset({"features", "labelled"})

    def __post_init__(self) -> None:
        check_fields(self)

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select in the order of the turns, without scores: typicality does not compare samples of two clusters.

        A feature vector that is not finite is an error that names the sample.
        """
        features, known = pool_features(candidates)
        check_budget(budget, len(candidates))
        index = torch.cat([candidates.index.cpu(), candidates.require("labelled").index.cpu()])
        samples = unit_samples(index, torch.cat([features, known]))
        seed = int(torch.randint(2**63 - 1, (), generator=generator))  # all that is taken from the generator
        clusters = min(len(known) + budget, self.max_clusters)
        cluster, _ = fit_kmeans(
            samples.points.vectors, clusters, self.kmeans_starts, seed, mini_batch=clusters > _MINI_BATCH_ABOVE
        )
        picks = self._pick(samples.points, cluster, samples.order < len(candidates), budget)
        return Selection(samples.index[picks])

    def _pick(self, points: Points, cluster: Tensor, unlabelled: Tensor, budget: int) -> list[int]:
        """Return `budget` positions of points that are `unlabelled` (n,) bool, given the `cluster` (n,) of each."""
        members = cluster.argsort(stable=True).split(cluster.bincount().tolist())
        members = [group for group in members if bool(unlabelled[group].any())]
        members.sort(key=lambda group: (int((~unlabelled[group]).sum()), -len(group), int(group[0])))
        large = [group for group in members if len(group) > self.min_cluster_size]
        small = [group for group in members if len(group) <= self.min_cluster_size]
        picks: list[int] = []
        for groups in (large, small):
            turns: list[tuple[int, int, int]] = []
            for place, group in enumerate(groups[: budget - len(picks)]):  # the others' first turn would come too late
                typical = typicality(points.at(group.to(points.term.device)), self.neighbours).cpu()
                order = group[typical.argsort(descending=True, stable=True)]
                left = order[unlabelled[order]].tolist()
                turns += [(turn, place, sample) for turn, sample in enumerate(left)]
            picks += [sample for _, _, sample in sorted(turns)[: budget - len(picks)]]
        return picks


def typicality(points: Points, neighbours: int) -> Tensor:
    """Return 1 / (d + 10⁻⁵) for the mean distance d of each point to the nearest others: (m,) float64.

    These are min(`neighbours`, ⌊m / 2⌋); a single point has none, and d = 0. A copy has the typicality of the first.
    """
    count, size = min(neighbours, len(points) // 2), max(1, _BLOCK // len(points))
    typical = torch.zeros_like(points.term)
    for number, (part, found) in enumerate(zip(points.split(size), typical.split(size), strict=True)):
        gap = gaps(part, points)
        gap.diagonal(number * size).fill_(torch.inf)  # a point is not its own neighbour
        nearest = gap.topk(count, largest=False).values
        nearest = torch.where(nearest > ROUNDING, nearest, 0.0)
        found.copy_(1 / ((2 * nearest).sqrt().sum(1) / max(1, count) + 1e-5))
    return comparable(typical)[first_copies(points.vectors)]
