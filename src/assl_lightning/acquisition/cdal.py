"""CDAL: greedy k-centre over predictions, the "CDAL-CS" variant.

Agarwal, Arora, Anand and Arora 2020: Contextual Diversity for Active Learning
Parvaneh et al. 2022: Active Learning by Feature Mixing (ALFA-Mix), whose code is the reference
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from assl_lightning.acquisition.k_center import KCenter
from assl_lightning.acquisition.points import Points, least_gap
from assl_lightning.method.candidates import Requirement
from assl_lightning.method.top_k import check_finite


@final
@dataclass(frozen=True)
class CDAL(KCenter):
    """Greedy k-centre under the symmetric KL divergence of class probabilities, (KL(a ‖ b) + KL(b ‖ a)) / 2 in nats.

    Args:
        double_softmax: take the softmax of the probabilities once more, as the reference code does, not the paper. No
            probability is then near 0 and no distance above (e − 1) / (e + C − 1), 0.147 for C = 10, so that picks
            spread over the simplex; without it the distance has no bound, and the picks are the confident predictions
            that contradict one another.
    """

    double_softmax: bool = True
    field: ClassVar[Literal["features", "logits"]] = "logits"
    requires: ClassVar[frozenset[Requirement]] = frozenset({"logits", "labelled"})

    def points(self, values: Tensor, index: Tensor) -> Points:
        """Return points of logits (M, C): vectors (p, log p) of 2 · C numbers and terms Σ p log p."""
        log = torch.log_softmax(values, dim=1, dtype=torch.float64)
        check_finite("smallest log-probability", log.amin(1), index)
        if self.double_softmax:
            log = torch.log_softmax(log.exp(), dim=1)
        probabilities = log.exp()
        return Points(torch.cat([probabilities, log], dim=1), torch.linalg.vecdot(probabilities, log))

    def distance(self, points: Points, centres: Points) -> Tensor:
        """Return the symmetric KL divergence to the nearest of the centres, (M,) ≥ 0."""
        # 2D = Σ a log a + Σ b log b − Σ a log b − Σ b log a: a centre's vector is (log b, b).
        swapped = centres.vectors.roll(centres.vectors.shape[1] // 2, dims=1)
        return least_gap(points, Points(swapped, centres.term)) / 2
