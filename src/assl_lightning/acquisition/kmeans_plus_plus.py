"""Diversity alone: k-means++ seeding over feature vectors (Arthur and Vassilvitskii 2007, §2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.ties import float64_device
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.d2_sampling import FirstCentre, seed_outer_products
from assl_lightning.method.top_k import check_budget, check_finite, in_index_order


@final
@dataclass(frozen=True)
class KMeansPlusPlus:
    """Draw from the feature vectors by D² sampling: picks lie apart, and predictions do not matter.

    It needs no label, so that it can also choose the first samples (a cold start). O(M·d) memory, and as much time per
    pick.

    Args:
        first: the first pick is the longest vector ("norm") or any ("uniform").
        normalize_features: scale every feature vector to length 1 first, so that only its direction counts.
    """

    first: FirstCentre = "uniform"
    normalize_features: bool = False
    requires: ClassVar[frozenset[Requirement]] = frozenset({"features"})

    def __post_init__(self) -> None:
        require_one_of("first", self.first, FirstCentre)

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select in the order of the picks, without scores: what a candidate is worth depends on earlier picks.

        A feature vector that is not finite is an error that names the sample.
        """
        features = candidates.require("features").detach()
        check_budget(budget, len(candidates))
        device = float64_device(features.device)
        features = features.to(device, torch.promote_types(features.dtype, torch.float32))
        index, features = in_index_order(candidates.index.to(device), features)
        norm = torch.linalg.vector_norm(features, dim=1, dtype=torch.float64)
        check_finite("length of the feature vector", norm, index)
        scale = torch.ones_like(norm)
        if self.normalize_features:
            scale = torch.where(norm > 0, 1 / norm, 0.0)
        return Selection(index.cpu()[seed_outer_products(features, scale[:, None], budget, generator, self.first)])
