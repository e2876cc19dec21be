"""ProbCover: label the samples whose neighbourhoods cover most of the pool.

Yehuda, Dekel, Hacohen and Weinshall 2022: Active Learning Through a Covering Lens
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from torch import Tensor

from assl_lightning.acquisition.ball_cover import BallCover, Radius, draw_nodes, inside_any, nearest_other
from assl_lightning.acquisition.draw_rest import draw_rest
from assl_lightning.acquisition.kmeans import fit_kmeans
from assl_lightning.acquisition.points import Points
from assl_lightning.acquisition.unit_samples import pool_features, unit_samples
from assl_lightning.base.rules import SHARE, at_least, check_fields
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.top_k import check_budget

_LARGEST = 2.0  # distance between two vectors of length 1


@final
@dataclass(frozen=True)
class ProbCover:
    """Pick, again and again, the candidate with the most uncovered candidates within a distance δ.

    Features have length 1. Candidates within δ of a labelled sample, or of a pick, are covered. Where all are, the rest
    is drawn uniformly from those that were not picked. No label is needed, so that it can also choose the first samples
    to label (a cold start). O(n² · d) time for n ≤ `max_candidates` candidates.

    Args:
        delta: δ in (0, 2]; picks depend strongly on it. None: the largest δ at which a share `purity` of the balls
            around candidates is pure, which is that all within δ share the centre's k-means cluster.
        num_clusters: of that k-means; the number of classes.
        purity: that share, in (0, 1].
        max_candidates: of more candidates, as many are drawn uniformly, and the rest is neither counted nor picked.
    """

    num_clusters: Annotated[int, at_least(1)]
    delta: Radius | None = None
    purity: Annotated[float, SHARE] = 0.95
    max_candidates: Annotated[int, at_least(1)] = 10_000
    requires: ClassVar[frozenset[Requirement]] = frozenset({"features", "labelled"})

    def __post_init__(self) -> None:
        check_fields(self)

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select in the order of the picks, without scores: what a candidate covers depends on earlier picks.

        A feature vector that is not finite is an error that names the sample. The generator is used by k-means, and
        where candidates or picks are drawn.
        """
        features, known = pool_features(candidates)
        check_budget(budget, len(candidates))
        pool = unit_samples(candidates.index, features)
        labelled = unit_samples(candidates.require("labelled").index, known)
        nodes = draw_nodes(len(pool), max(self.max_candidates, budget), generator)
        points = pool.points.at(nodes.to(features.device))
        radius = self._estimate(points, generator) if self.delta is None else self.delta
        cover = BallCover(points, radius)
        cover.cover(inside_any(points, labelled.points, torch.full((len(labelled),), radius)))
        picks: list[int] = []
        while len(picks) < budget and bool((cover.gain > 0).any()):
            picks.append(int(cover.gain.argmax()))
            cover.cover_ball(picks[-1])
        return Selection(draw_rest(pool.index[nodes[picks]], pool.index, budget, generator))

    def _estimate(self, points: Points, generator: torch.Generator) -> float:
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        cluster, _ = fit_kmeans(points.vectors, self.num_clusters, 1, seed)
        return pure_radius(nearest_other(points, cluster), self.purity)


def pure_radius(to_other: Tensor, purity: float) -> float:
    """Return the largest δ ≤ 2 for which a share `purity` of the balls is pure.

    `to_other` (n,): the distance from each centre to the nearest point of another kind, up to which its ball is pure.

    >>> pure_radius(torch.tensor([0.7, 0.3, 0.5, 0.9], dtype=torch.float64), purity=0.75)
    0.5
    """
    pure = max(1, math.ceil(purity * len(to_other) - 1e-9))  # 0.07 · 100 is more than 7
    return min(float(to_other.sort(descending=True).values[pure - 1]), _LARGEST)
