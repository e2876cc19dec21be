"""ASSL with diversity: k-means++ seeding over feature vectors that are as long as their score is large.

Lim, Na and Kwak 2023 ("Ours-Div"); Arthur and Vassilvitskii 2007 for the seeding; Ash et al. 2020 (BADGE) for its
first pick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.ties import float64_device
from assl_lightning.method.bounds import Factors, check_bounds, confidence_bound
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.d2_sampling import FirstCentre, seed_outer_products
from assl_lightning.method.top_k import check_budget, check_finite, in_index_order


@final
@dataclass(frozen=True)
class ASSLDiv:
    """Draw from the points e_m = score_m · features_m by D² sampling: picks score high and lie apart.

    Samples of score 0 all lie at the origin. The points are never stored: O(M) memory beside the features (and a copy
    of those where the candidates are not in index order), O(M·d) time per pick.

    Args:
        c_u: weight of the standard deviation of the uncertainty (Eq. 3).
        c_i: weight of the standard deviation of the inconsistency (Eq. 5).
        first: the first pick is the point farthest from the origin ("norm", as BADGE) or any ("uniform").
        normalize_features: scale every feature vector to length 1 first, so that the score alone gives the length.
        factors: "both" bounds multiplied, or "uncertainty" or "inconsistency" alone.
    """

    c_u: float = 0.5
    c_i: float = 2.0
    first: FirstCentre = "norm"
    normalize_features: bool = False
    factors: Factors = "both"
    requires: ClassVar[frozenset[Requirement]] = frozenset({"statistics", "features"})

    def __post_init__(self) -> None:
        check_bounds(self.c_u, self.c_i, self.factors)
        require_one_of("first", self.first, FirstCentre)

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select in the order of the picks, which depend on the features too; the scores, ≥ 0, are those of `ASSL`.

        A score or a feature vector that is not finite is an error that names the sample.
        """
        features, statistics = candidates.require("features").detach(), candidates.require("statistics")
        check_budget(budget, len(candidates))
        scores = confidence_bound(statistics, self.c_u, self.c_i, self.factors)
        device = float64_device(features.device)
        features = features.to(device, torch.promote_types(features.dtype, torch.float32))
        index, score, features = in_index_order(candidates.index.to(device), scores.to(device).double(), features)
        norm = torch.linalg.vector_norm(features, dim=1, dtype=torch.float64)
        check_finite("score", score, index)
        check_finite("length of the feature vector", norm, index)

        scale = score  # (M,), e = scale · features
        if self.normalize_features:
            scale = torch.where(norm > 0, score / norm, 0.0)
        return Selection(
            index.cpu()[seed_outer_products(features, scale[:, None], budget, generator, self.first)], scores
        )
