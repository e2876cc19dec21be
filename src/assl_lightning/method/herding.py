"""Herding: label the samples that cover the uncertain part of the pool, by the statistics kept during training.

The k largest scores of the paper are often of similar samples. Herding weighs the coverage of the pool by that score
instead: a pick covers all samples near it, and lowers their gains.

Bae et al. 2024 ("MaxHerding", arXiv 2407.12212) cover the pool, and Bae et al. 2025 ("Uncertainty Herding", ICLR, arXiv
2412.20644) weigh it by the uncertainty of one pass; here features and uncertainty come from training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, final

import torch
from torch import Tensor

from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.rules import BELOW_ONE, UP_TO_ONE, above, at_least, checked
from assl_lightning.base.ties import head_in_float64
from assl_lightning.method.audit import audited_trust
from assl_lightning.method.bounds import check_bounds, confidence_bound
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.class_quota import equal_shares
from assl_lightning.method.coverage import density, half_covering_width
from assl_lightning.method.greedy import Refresh
from assl_lightning.method.scores import margin
from assl_lightning.method.sketch import Sketch, labelled_vectors, sketch
from assl_lightning.method.top_k import check_finite

Weighing = Literal["uncertainty", "inconsistency", "both", "margin", "none"]

_Audited = Literal["audited"]
_UpToOne = Annotated[float, UP_TO_ONE]
_Positive = Annotated[float, above(0)]


@final
@dataclass(frozen=True)
class Herding:
    """Pick, again and again, the sample s with the largest Σ_x w_x · max(0, k(x, s) − covered_x).

    x are the candidates, k(x, s) = exp(−‖x − s‖² / σ²) is the kernel of their unit features, and covered_x is the
    largest kernel value of x with a labelled sample or an earlier pick.

    Args:
        weight: the source of w_x: the upper confidence bound of the "uncertainty" (Eq. 3) or the "inconsistency"
            (Eq. 5) or their product, "both" (Eq. 6), by the statistics of the callback; the "margin" of the two most
            probable classes, by the head on the features; or "none": all samples have the same weight.
        trust: κ in [0, 1]: w = 1 − κ + κ · bound / mean bound. 0 is `weight="none"`. "audited": κ follows from the
            samples of earlier queries, by how well their bounds ranked those that the model predicted wrongly,
            `audit.audited_trust`; 0 in the first query. Not with the margin, which is not kept.
        width: σ > 0. None: the width at which as many samples as are labelled after this query, drawn at random, would
            cover half of the candidates, `coverage.half_covering_width`.
        copies: η in [0, 1]: a sample's weight is divided by the η-th power of the number of samples within
            `copy_radius` of it. With 1 a cluster of near copies has the weight of one sample.
        copy_radius: > 0, distance of unit features up to which samples are near copies.
        random_share: share of the picks in [0, 1), rounded down, that are drawn uniformly before the others, as an
            unbiased sample of the pool; the others are not picked near them.
        class_quota: λ ≥ 0, for pools in which classes are rare. To the share of Σ_x w_x that a pick covers,
            λ / budget · Σ_c min(p_c(s), labels that class c lacks) is added, `class_quota.equal_shares`.
        c_u: weight of the standard deviation of the uncertainty (Eq. 3).
        c_i: weight of the standard deviation of the inconsistency (Eq. 5).
        max_candidates: ≥ 1. Of more candidates this many are drawn, or 4 · `budget` to pick from if that is more. The
            kernel takes 4 · `max_candidates`² bytes.
    """

    weight: Weighing = "uncertainty"
    trust: float | _Audited = 1.0
    width: float | None = None
    copies: float = 0.0
    copy_radius: float = 0.1
    random_share: float = 0.0
    class_quota: float = 0.0
    c_u: float = 0.5
    c_i: float = 2.0
    max_candidates: int = 8192

    def __post_init__(self) -> None:
        require_one_of("weight", self.weight, Weighing)
        check_bounds(self.c_u, self.c_i, "both")
        if isinstance(self.trust, str):
            if self.trust != "audited":
                raise ValueError(f"trust must be a number in [0, 1], or audited; got {self.trust!r}")
            if self.weight in ("margin", "none"):
                raise ValueError(
                    f"trust=audited needs a weight whose statistics are kept, uncertainty, inconsistency or both; got "
                    f"weight={self.weight}"
                )
        else:
            checked("trust", self.trust, _UpToOne)
        checked("copies", self.copies, _UpToOne)
        checked("random_share", self.random_share, Annotated[float, BELOW_ONE])
        checked("class_quota", self.class_quota, Annotated[float, at_least(0)])
        checked("copy_radius", self.copy_radius, _Positive)
        checked("max_candidates", self.max_candidates, Annotated[int, at_least(1)])
        if self.width is not None:
            checked("width", self.width, _Positive)

    @property
    def requires(self) -> frozenset[Requirement]:
        """The features of candidates and labelled samples, and the fields for weight, trust and quota."""
        weights: dict[Weighing, frozenset[Requirement]] = {"none": frozenset(), "margin": frozenset({"head"})}
        audited: frozenset[Requirement] = frozenset({"answered"} if self.trust == "audited" else ())
        quota: frozenset[Requirement] = frozenset({"head"} if self.class_quota else ())
        return weights.get(self.weight, frozenset({"statistics"})) | audited | quota | {"features", "labelled"}

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select in the order of the picks, those drawn at random last; without scores, as gains depend on the picks.

        A candidate or labelled sample whose features are not finite is an error that names it, and so is a candidate
        whose weight is not finite. If everything is covered, the lowest indices are picked.
        """
        pool = sketch(candidates, budget, self.max_candidates, generator)
        centres = labelled_vectors(candidates)
        width = self.width or half_covering_width(pool.points, len(centres) + budget)
        weight = self._weights(candidates, pool)
        if self.copies:
            weight /= density(pool.targets, self.copy_radius).pow(self.copies)
        share = int(self.random_share * budget)
        at_random = torch.randperm(len(pool.points), generator=generator)[:share] if share else None
        beside = self._quota(candidates, pool, budget) if self.class_quota else None
        return Selection(pool.cover(centres, weight, width, budget, at_random, beside))

    def _weights(self, candidates: Candidates, pool: Sketch) -> Tensor:
        """Return 1 − κ + κ · bound / mean bound of the samples to cover, (R,) float64 ≥ 0."""
        device = pool.targets.device
        if self.weight == "none":
            return torch.ones(len(pool.targets), dtype=torch.float64, device=device)
        if self.weight == "margin":
            bound = 1 + margin(self._logits(candidates, pool.target_position, device))
        else:
            statistics = candidates.require("statistics")
            of_targets = statistics.take(pool.target_position.to(statistics.visits.device))
            bound = self._bound(of_targets).to(device).double()
        check_finite("weight", bound, pool.target_index)
        mean, trust = bound.mean(), self._trust(candidates)
        return 1 - trust + trust * torch.where(mean > 0, bound / mean, 1.0)

    def _trust(self, candidates: Candidates) -> float:
        if self.trust != "audited":
            return self.trust
        answered = candidates.require("answered")
        return audited_trust(self._bound(answered.statistics), answered.wrong, answered.rounds_ago)

    def _bound(self, statistics: CandidateStatistics) -> Tensor:
        """Return the upper confidence bound that the weight names, (m,) float32."""
        assert self.weight != "margin"
        assert self.weight != "none"
        return confidence_bound(statistics, self.c_u, self.c_i, self.weight)

    def _quota(self, candidates: Candidates, pool: Sketch, budget: int) -> Refresh:
        """Return λ / budget · the gains of `ClassQuota`, for the candidates that may be picked."""
        logits = self._logits(candidates, pool.position, pool.points.device)
        check_finite("largest logit", logits.abs().amax(1), pool.index)
        quota = equal_shares(logits, candidates.require("labelled").labels, budget)
        share = self.class_quota / budget
        return lambda rows, picks: share * quota.gains_after(rows, picks)

    @staticmethod
    def _logits(candidates: Candidates, position: Tensor, device: torch.device) -> Tensor:
        """Return the head's float64 logits (m, C) for the features of the candidates at `position`."""
        features = candidates.require("features").detach()
        rows = features.index_select(0, position.to(features.device)).to(device).double()
        return head_in_float64(candidates.require("head"), device)(rows).detach()
