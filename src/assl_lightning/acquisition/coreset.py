"""CoreSet: greedy k-centre over feature vectors.

Sener and Savarese 2018: Active Learning for Convolutional Neural Networks: A Core-Set Approach, Algorithm 1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from assl_lightning.acquisition.k_center import KCenter
from assl_lightning.acquisition.points import Points, feature_points, least_gap
from assl_lightning.method.candidates import Requirement


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
        """Return points of features (M, d), whose gap is half a squared distance."""
        return feature_points(values, index, unit=self.normalize_features)

    def distance(self, points: Points, centres: Points) -> Tensor:
        """Return the Euclidean distance to the nearest of the centres, (M,) ≥ 0."""
        return (2 * least_gap(points, centres)).sqrt()
