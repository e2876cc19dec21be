"""Features scaled to length 1, in the order of the pool index."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from assl_lightning.acquisition.points import Points, check_one_network, feature_points
from assl_lightning.base.ties import float64_device
from assl_lightning.method.candidates import Candidates


@dataclass(frozen=True)
class UnitSamples:
    """Samples whose index ascends."""

    index: Tensor  # (n,) int64 on the CPU
    order: Tensor  # (n,) int64 on the CPU, the position at which each was given
    points: Points  # n vectors of length 1, or 0 where there is no direction

    def __len__(self) -> int:
        return len(self.index)


def unit_samples(index: Tensor, features: Tensor) -> UnitSamples:
    """Return samples of `features` (n, d) and `index` (n,) in any order; features must be finite."""
    ascending, order = index.cpu().sort()
    if not torch.equal(ascending, index.cpu()):
        features = features[order.to(features.device)]
    return UnitSamples(ascending, order, feature_points(features, ascending.to(features.device), unit=True))


def pool_features(candidates: Candidates) -> tuple[Tensor, Tensor]:
    """Return the features of candidates (M, d) and of labelled samples (L, d), on one device that has float64."""
    features, labelled = candidates.require("features").detach(), candidates.require("labelled").features.detach()
    check_one_network("features", labelled, features)
    device = float64_device(features.device)
    return features.to(device), labelled.to(device)
