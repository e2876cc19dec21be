"""CoreSet: greedy k-centre over feature vectors.

Sener and Savarese 2018: Active Learning for Convolutional Neural Networks: A Core-Set Approach, Algorithm 1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from assl_lightning.acquisition.k_center import KCenter, Points, least_gap
from assl_lightning.method.candidates import Requirement
from assl_lightning.method.top_k import check_finite


@final
@dataclass(frozen=True)
class CoreSet(KCenter):
    """Greedy k-centre under the Euclidean distance of feature vectors: the picks cover the pool.

    Args:
        normalize_features: scale every feature vector to length 1 first, so that only its direction counts. Needs twice
            the memory for a moment.
    """

    normalize_features: bool = False
    field: ClassVar[Literal["features", "logits"]] = "features"
    requires: ClassVar[frozenset[Requirement]] = frozenset({"features", "labelled"})

    def points(self, values: Tensor, index: Tensor) -> Points:
        """Return points of features (M, d): vectors h and terms ‖h‖² / 2, so that a gap is half a squared distance."""
        vectors = values.double()
        length = torch.linalg.vector_norm(vectors, dim=1)
        check_finite("squared length of the feature vector", length.square(), index)
        if self.normalize_features:
            vectors = vectors / torch.where(length > 0, length, 1.0).unsqueeze(1)
            length = (length > 0).double()
        return Points(vectors, length.square() / 2)

    def distance(self, points: Points, centres: Points) -> Tensor:
        """Return the Euclidean distance to the nearest of the centres, (M,) ≥ 0."""
        return (2 * least_gap(points, centres)).sqrt()
