"""Picks and scores as strategies gave them in two calls, `acquire` and then `scores`: the oracle of the one call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from assl_lightning.acquisition.badge import BADGE, _factors, _length
from assl_lightning.acquisition.highest_score import HighestScore
from assl_lightning.acquisition.k_center import KCenter
from assl_lightning.acquisition.points import Points
from assl_lightning.base.copies import first_copies
from assl_lightning.base.ties import comparable, float64_device
from assl_lightning.method.assl import ASSL
from assl_lightning.method.assl_div import ASSLDiv
from assl_lightning.method.bounds import confidence_bound
from assl_lightning.method.candidates import Acquisition, Candidates, Requirement, Selection
from assl_lightning.method.d2_sampling import seed_outer_products
from assl_lightning.method.greedy import pick_greedily
from assl_lightning.method.top_k import in_index_order, top_k


@dataclass(frozen=True)
class TwoPasses:
    """A strategy that answers as another one did in two passes over the candidates."""

    strategy: Acquisition

    @property
    def requires(self) -> frozenset[Requirement]:
        return self.strategy.requires

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        return Selection(pick(self.strategy, candidates, budget, generator), score(self.strategy, candidates))


def score(strategy: Acquisition, candidates: Candidates) -> Tensor | None:
    """Return the scores (M,) of the second call."""
    if isinstance(strategy, HighestScore):
        return strategy.scores(candidates)
    if isinstance(strategy, ASSL | ASSLDiv):
        return confidence_bound(candidates.require("statistics"), strategy.c_u, strategy.c_i, strategy.factors)
    if isinstance(strategy, BADGE):
        features, difference = _factors(candidates)
        return comparable(_length(features) * _length(difference))
    if isinstance(strategy, KCenter):
        index, values = candidates.index, strategy._values(candidates)
        points = strategy.points(values, index.to(values.device))
        labelled = strategy._labelled(candidates)
        return strategy.distance(points, labelled).float()[first_copies(values)] if len(labelled) else None
    return None


def pick(strategy: Acquisition, candidates: Candidates, budget: int, generator: torch.Generator) -> Tensor:
    """Return the picks (budget,) of the first call."""
    if isinstance(strategy, ASSLDiv):
        return pick_diverse(strategy, candidates, budget, generator)
    if isinstance(strategy, BADGE):
        features, difference = _factors(candidates)
        index, features, difference = in_index_order(candidates.index.to(features.device), features, difference)
        return index.cpu()[seed_outer_products(features, difference, budget, generator, strategy.first)]
    if isinstance(strategy, KCenter):
        return pick_centres(strategy, candidates, budget)
    scores = score(strategy, candidates)
    assert scores is not None
    return top_k(scores, candidates.index, budget)


def pick_diverse(strategy: ASSLDiv, candidates: Candidates, budget: int, generator: torch.Generator) -> Tensor:
    features = candidates.require("features").detach()
    device = float64_device(features.device)
    features = features.to(device, torch.promote_types(features.dtype, torch.float32))
    scores = score(strategy, candidates)
    assert scores is not None
    index, scores, features = in_index_order(candidates.index.to(device), scores.to(device).double(), features)
    norm = torch.linalg.vector_norm(features, dim=1, dtype=torch.float64)
    scale = torch.where(norm > 0, scores / norm, 0.0) if strategy.normalize_features else scores
    return index.cpu()[seed_outer_products(features, scale[:, None], budget, generator, strategy.first)]


def pick_centres(strategy: KCenter, candidates: Candidates, budget: int) -> Tensor:
    values = strategy._values(candidates)
    index, values = in_index_order(candidates.index.to(values.device), values)
    points = strategy.points(values, index)
    labelled = strategy._labelled(candidates)

    def distance(rows: Tensor | None, centres: Points) -> Tensor:
        return comparable(strategy.distance(points if rows is None else points.at(rows), centres))

    def to_nearest(rows: Tensor | None, centres: Tensor) -> Tensor:
        return distance(rows, points.at(centres))

    nearest = distance(None, labelled) if len(labelled) else torch.full_like(points.term, torch.inf)
    first = first_copies(values)
    nearest = torch.where(first == torch.arange(len(first), device=first.device), nearest, 0.0)
    return index.cpu()[pick_greedily(nearest, to_nearest, budget)]
