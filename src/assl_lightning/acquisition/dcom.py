"""DCoM: cover the pool first, and label uncertain samples once it is covered.

Mishal and Weinshall 2024: DCoM: Active Learning for All Learners
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, ClassVar, final

import torch
from torch import Tensor

from assl_lightning.acquisition.ball_cover import BallCover, Radius, ball_edge, draw_nodes, inside_any
from assl_lightning.acquisition.points import Points, gaps, join
from assl_lightning.acquisition.uncertainty import Margin
from assl_lightning.acquisition.unit_samples import pool_features, unit_samples
from assl_lightning.base.rules import UP_TO_ONE, above, at_least, check_fields
from assl_lightning.base.ties import comparable
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.top_k import check_budget, check_finite

_BLOCK = 2**20  # gaps at a time


@final
@dataclass(frozen=True)
class DCoM:
    """Pick the largest s · (1 − margin) + (1 − s) · gain: the more is covered, the more uncertainty counts.

    Each labelled sample covers a ball of its own radius around its features of length 1. The gain is the number of
    uncovered candidates in a ball of the mean radius around a candidate; a pick covers that ball. Margin and gain are
    scaled to [0, 1] over the candidates (0 if all are equal), the gain again before each pick. The competence is
    s = (1 + e^(−k(1−a))) / (1 + e^(−k(cov−a))) for the share `cov` of candidates and labelled samples that is covered
    before any pick. Without a label s is nearly 0, and the rule is that of ProbCover.

    A labelled sample's radius is that of the largest ball of which a share of at least .2 · cov₀ + .4 is predicted to
    have the sample's label, by bisection of [0, `max_delta`]; cov₀ is the coverage where all radii are `initial_delta`.
    The authors' code keeps radii from round to round, and computes only those of new labels; here all are computed in
    each round, so that the picks depend on this round alone. Their code also rounds s to three digits.

    O(n² · d) time for n ≤ `max_candidates` candidates, and O(n · L · d) for L labelled samples.

    Args:
        initial_delta: radius, in (0, 2], of all balls until their own are known, and if no sample is labelled.
        steepness: k > 0 of the competence.
        midpoint: a in [0, 1], the coverage around which the competence rises.
        resolution: bisection ends when the interval is not wider, > 0.
        max_delta: the largest radius, in (0, 2].
        max_candidates: of more candidates this many are drawn uniformly; the others are neither counted nor picked.
    """

    initial_delta: Radius = 0.75
    steepness: Annotated[float, above(0)] = 50.0
    midpoint: Annotated[float, UP_TO_ONE] = 0.8
    resolution: Annotated[float, above(0)] = 0.05
    max_delta: Radius = 1.1
    max_candidates: Annotated[int, at_least(1)] = 10_000
    requires: ClassVar[frozenset[Requirement]] = frozenset({"features", "labelled", "logits"})

    def __post_init__(self) -> None:
        check_fields(self)

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select in the order of the picks, without scores: what a candidate covers depends on earlier picks.

        Features or logits that are not finite are an error that names the sample. Random numbers are used only to draw
        candidates if there are more than `max_candidates`.
        """
        features, known = pool_features(candidates)
        samples = candidates.require("labelled")
        logits, known_logits = candidates.require("logits").detach(), samples.require("logits").detach()
        check_budget(budget, len(candidates))
        check_finite("largest logit", logits.abs().amax(1), candidates.index)
        check_finite("largest logit", known_logits.abs().amax(1), samples.index)
        pool, labelled = unit_samples(candidates.index, features), unit_samples(samples.index, known)
        nodes = draw_nodes(len(pool), max(self.max_candidates, budget), generator)
        points, rows = pool.points.at(nodes.to(features.device)), pool.order[nodes]
        predicted = torch.cat([logits.argmax(1).cpu()[rows], known_logits.argmax(1).cpu()[labelled.order]])

        def coverage(radii: Tensor) -> tuple[Tensor, float]:
            """Return the points in balls around labelled samples, (n,) bool, and the share of all samples in them."""
            covered = inside_any(points, labelled.points, radii)
            # Candidates that were not drawn are taken to be covered as often as the others.
            total = len(labelled) + float(covered.double().mean()) * len(pool)
            return covered, total / (len(labelled) + len(pool))

        _, share = coverage(torch.full((len(labelled),), self.initial_delta, dtype=torch.float64))
        radii = pure_radii(
            labelled.points,
            samples.labels.cpu()[labelled.order],
            join(points, labelled.points),
            predicted,
            share=0.2 * share + 0.4,
            resolution=self.resolution,
            largest=self.max_delta,
        )
        covered, share = coverage(radii)
        cover = BallCover(points, fmean(radii.tolist()) if len(labelled) else self.initial_delta)
        cover.cover(covered)
        margin = Margin().scores(candidates).cpu()[rows]
        picks = pick_by_competence(margin, cover, self._competence(share), budget)
        return Selection(pool.index[nodes[picks]])

    def _competence(self, coverage: float) -> float:
        """Return s in (0, 1] for a covered share of the pool."""
        of_this, of_whole = torch.tensor([coverage, 1.0], dtype=torch.float64).sub(self.midpoint).mul(self.steepness)
        return float(of_this.sigmoid() / of_whole.sigmoid())


def pure_radii(
    centres: Points,
    label: Tensor,
    points: Points,
    predicted: Tensor,
    *,
    share: float,
    resolution: float,
    largest: float,
) -> Tensor:
    """Return the radius, by bisection, up to which a `share` of a ball's points are predicted as its centre's label.

    Args:
        centres: L vectors of length 1, which are among the points.
        label: (L,) int64 of the centres.
        points: n vectors of length 1.
        predicted: (n,) int64 of the points.
        share: of the points inside a ball, in [0, 1].
        resolution: bisection ends when the interval is not wider.
        largest: upper end of the interval, which begins at 0.

    Returns:
        (L,) float64 on the CPU, the middle of the last interval.
    """
    device = points.term.device
    label, predicted, radii = label.to(device), predicted.to(device), torch.zeros_like(centres.term)
    size = max(1, _BLOCK // len(points))
    for part, wanted, low in zip(centres.split(size), label.split(size), radii.split(size), strict=True):
        gap, alike, width = gaps(part, points), wanted[:, None] == predicted, largest
        while width > resolution:
            width /= 2
            inside = gap < ball_edge(low + width)[:, None]
            pure = (inside & alike).sum(1).double() / inside.sum(1) >= share
            low.add_(pure.double(), alpha=width)
        low.add_(width / 2)
    return radii.cpu()


def pick_by_competence(margin: Tensor, cover: BallCover, competence: float, budget: int) -> list[int]:
    """Return `budget` positions of the largest competence · margin + (1 − competence) · gain, and add them to `cover`.

    `margin` (n,) is larger where a sample is less certain. Of equal scores the lower position is picked.
    """
    margin, left, picks = to_unit_range(margin), torch.ones(len(margin), dtype=torch.bool), []
    for _ in range(budget):
        score = comparable(competence * margin + (1 - competence) * to_unit_range(cover.gain))
        picks.append(int(score.masked_fill_(~left, -1.0).argmax()))
        left[picks[-1]] = False
        cover.cover_ball(picks[-1])
    return picks


def to_unit_range(values: Tensor) -> Tensor:
    """Scale values (n,) so that the least is 0 and the largest 1, float64; all are 0 where they are equal.

    >>> to_unit_range(torch.tensor([3, 1, 5])).tolist(), to_unit_range(torch.tensor([2.0, 2.0])).tolist()
    ([0.5, 0.0, 1.0], [0.0, 0.0])
    """
    values = values.double()
    least, largest = values.aminmax()
    return (values - least) / torch.where(largest > least, largest - least, 1.0)
