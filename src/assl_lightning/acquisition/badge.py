"""BADGE: k-means++ seeding over the gradients that each sample's own prediction would give the last layer.

Ash, Zhang, Krishnamurthy, Langford and Agarwal 2020, "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower
Bounds", Algorithm 1; Arthur and Vassilvitskii 2007 for the seeding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.ties import comparable, float64_device
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.d2_sampling import FirstCentre, seed_outer_products
from assl_lightning.method.top_k import check_budget, check_finite, in_index_order


@final
@dataclass(frozen=True)
class BADGE:
    """Draw from the gradient embeddings g = h ⊗ a, a = onehot(argmax p) − p, by D² sampling.

    The picks are uncertain and lie apart. h are the features. ‖a‖ is the pseudo-EL2N of the prediction (Lim et al.
    2023, Eq. 1), so an embedding is as long as pseudo-EL2N · ‖h‖. The embeddings (M, C·d) are never formed, since
    ⟨g, g'⟩ = (h·h')(a·a'): O(M·(d + C)) memory, and as much time per pick.

    Args:
        first: the first pick is the longest embedding ("norm", as in the authors' code) or any ("uniform").
    """

    first: FirstCentre = "norm"
    requires: ClassVar[frozenset[Requirement]] = frozenset({"logits", "features"})

    def __post_init__(self) -> None:
        require_one_of("first", self.first, FirstCentre)

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select in the order of the picks, which depend on how far they lie apart too; the scores are ‖g‖ ≥ 0.

        Features or logits that are not finite are an error that names the sample.
        """
        check_budget(budget, len(candidates))
        features, difference = _factors(candidates)
        length_h, length_a = _length(features), _length(difference)
        check_finite("length of the feature vector", length_h, candidates.index)
        check_finite("pseudo-EL2N", length_a, candidates.index)
        index, features, difference = in_index_order(candidates.index.to(features.device), features, difference)
        picks = seed_outer_products(features, difference, budget, generator, self.first)
        return Selection(index.cpu()[picks], comparable(length_h * length_a))


def _length(vectors: Tensor) -> Tensor:
    """Return the Euclidean lengths, (M, k) → (M,) float64."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)
    return length


def _factors(candidates: Candidates) -> tuple[Tensor, Tensor]:
    """Return h (M, d) and a (M, C) float64, in the candidates' order: g = h ⊗ a."""
    features, logits = candidates.require("features").detach(), candidates.require("logits").detach()
    device = float64_device(features.device)
    features = features.to(device, torch.promote_types(features.dtype, torch.float32))
    logits = logits.to(device).double()
    label = logits.argmax(-1, keepdim=True)
    others = F.softmax(logits, dim=-1).scatter_(-1, label, 0.0)
    # a's entry at the label is Σ of the others: 1 − p of a sure prediction rounds to 0.
    return features, others.neg().scatter_(-1, label, others.sum(-1, keepdim=True))
