"""k-means++ seeding: draw points that lie apart, each with a probability ∝ its squared distance to those drawn so far.

Arthur and Vassilvitskii 2007, §2.2; shared by ASSL with diversity, BADGE and k-means++ over features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from assl_lightning.base.ties import comparable
from assl_lightning.method.top_k import check_budget

FirstCentre = Literal["norm", "uniform"]

# Two outer products count as one point where their squared distance is below this many roundings of ‖e‖² + ‖e'‖²: the
# products of equal vectors leave up to 34 of them (16 to 65,536 features, CPU).
_SAME_POINT = 256


def kmeans_plus_plus(
    squared_norm: Tensor,
    squared_distance: Callable[[Tensor], Tensor],
    budget: int,
    generator: torch.Generator,
    first: FirstCentre = "norm",
) -> Tensor:
    """Choose centres by k-means++ seeding: each is drawn with probability ∝ D², squared distance to the nearest so far.

    Arthur and Vassilvitskii 2007, §2.2 (`first="uniform"`); Ash et al. 2020 (BADGE) start at the longest vector
    (`first="norm"`, ties to the lower position). Where every point coincides with a centre, the rest is drawn uniformly
    from those not chosen. All numbers are drawn at once, as float64 on the CPU, so that they depend on no device.

    Args:
        squared_norm: (M,) float64, of each point.
        squared_distance: position () int64 → (M,) float64 squared distances of all points to the point there; a
            distance that rounding made negative counts as 0. The points themselves need not exist anywhere. Nothing
            here waits for the device.
        budget: how many centres, 1 … M.
        generator: on the CPU; `budget` numbers are taken from it.
        first: "norm", the longest vector, or "uniform", a vector drawn uniformly.

    Returns:
        (budget,) int64 distinct positions in 0 … M − 1 on the CPU, in the order of the picks.
    """
    check_budget(budget, len(squared_norm))
    uniform = torch.rand(budget, dtype=torch.float64, generator=generator).to(squared_norm.device)
    unchosen = torch.ones_like(squared_norm)
    longest = comparable(squared_norm).argmax()
    pick = longest if first == "norm" else draw_position(unchosen, uniform[0])
    nearest = torch.full_like(squared_norm, torch.inf)
    picks = [pick]
    for number in uniform[1:]:
        unchosen.index_fill_(0, pick, 0.0)
        nearest = torch.minimum(nearest, squared_distance(pick).clamp_min(0)) * unchosen
        pick = draw_position(torch.where(nearest.sum() > 0, nearest, unchosen), number)
        picks.append(pick)
    return torch.stack(picks).cpu()


def seed_outer_products(
    features: Tensor, factors: Tensor, budget: int, generator: torch.Generator, first: FirstCentre = "norm"
) -> Tensor:
    """Choose centres among the points e_m = features_m ⊗ factors_m, which are never formed, as `kmeans_plus_plus` does.

    Since ⟨e, e'⟩ = (h·h')(a·a'), it takes O(M·(d + k)) memory, and as much time per pick. In float64, since distances
    come out as differences: in float32 vectors that differ by a thousandth of their length are one point.

    Args:
        features: (M, d) h, finite.
        factors: (M, k) a, float64, finite; k = 1 scales each feature vector.
        budget: as `kmeans_plus_plus` has it.
        generator: as `kmeans_plus_plus` has it.
        first: as `kmeans_plus_plus` has it.

    Returns:
        (budget,) int64 distinct positions in 0 … M − 1 on the CPU, in the order of the picks.
    """
    features = features.double()
    norm = torch.linalg.vector_norm(features, dim=1) * torch.linalg.vector_norm(factors, dim=1)
    squared_norm = norm.square()  # (M,) ‖e‖²
    rounding = _SAME_POINT * torch.finfo(features.dtype).eps

    def squared_distance(centre: Tensor) -> Tensor:
        at = centre.view(1)  # `features[centre]` would wait for the device, as all indexing by a () does
        products = (features @ features.index_select(0, at)[0]) * (factors @ factors.index_select(0, at)[0])
        both = squared_norm + squared_norm.index_select(0, at)
        distance = both - 2 * products  # (M,) ‖e_m − e_centre‖²
        return torch.where(distance > rounding * both, distance, 0.0)

    return kmeans_plus_plus(squared_norm, squared_distance, budget, generator, first)


def draw_position(weight: Tensor, uniform: Tensor) -> Tensor:
    """Draw position m, () int64, with probability weight[m] / Σ weight: where `uniform` () in [0, 1) falls on the sum.

    `weight` (M,) float64 ≥ 0, not all 0. A position of weight 0 is never drawn.
    """
    # float64: over 5·10⁴ weights of very different sizes a float32 sum is biased.
    running = weight.cumsum(0)
    position = torch.searchsorted(running, uniform * running[-1], right=True).clamp_max(len(weight) - 1)
    # `uniform` · total can round up to the total, and a parallel sum need not be monotone to the last bit.
    return torch.where(weight.index_select(0, position.view(1))[0] > 0, position, weight.argmax())
