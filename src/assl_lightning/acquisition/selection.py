"""From one number per candidate, or one point per candidate, to the picks. What several strategies share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

FirstCentre = Literal["norm", "uniform"]

# Two outer products count as one point where their squared distance is below this many roundings of ‖e‖² + ‖e'‖²: the
# products of equal vectors leave up to 34 of them (16 to 65,536 features, CPU).
_SAME_POINT = 256


def check_budget(budget: int, candidates: int) -> None:
    """Raise unless 1 ≤ `budget` ≤ `candidates`."""
    if budget < 1:
        raise ValueError(f"the budget must be at least 1 sample; got {budget}")
    if budget > candidates:
        raise ValueError(
            f"the budget of {budget} samples exceeds the {candidates} candidates that there are; "
            f"query fewer, or stop when the pool is used up"
        )


def check_finite(name: str, values: Tensor, index: Tensor) -> None:
    """Raise unless `values` (M,) is one finite number for each candidate of `index` (M,)."""
    _check_shape(name, values, index)
    _raise_first(name, values, ~values.isfinite(), index, "a finite number")


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU where it has no float64, as Apple's has none."""
    return torch.device("cpu") if device.type == "mps" else device


def in_index_order(index: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
    """`index` (M,) ascending and each of `rows` (M, …) in the same order; without a copy where that is the order."""
    ascending, order = torch.sort(index)
    if torch.equal(ascending, index):
        return index, *rows
    return ascending, *(row[order] for row in rows)


def top_k(score: Tensor, index: Tensor, budget: int) -> Tensor:
    """The candidates with the largest scores; of equal ones those with the lower pool index.

    Args:
        score: (M,), larger means label sooner. NaN is an error that names the sample; ±inf are numbers like others.
        index: (M,) int64 pool indices, in any order.
        budget: how many to pick, 1 … M.

    Returns:
        (budget,) int64 pool indices on the CPU, best first.

    >>> top_k(torch.tensor([0.1, 0.7, 0.7]), torch.tensor([4, 9, 2]), budget=2)
    tensor([2, 9])
    """
    _check_shape("score", score, index)
    check_budget(budget, len(index))
    index, score = in_index_order(index.cpu(), score.detach().cpu())
    _raise_first("score", score, score.isnan(), index, "a number")
    best_first = torch.sort(score, descending=True, stable=True).indices
    return index[best_first[:budget]]


def kmeans_plus_plus(
    squared_norm: Tensor,
    squared_distance: Callable[[Tensor], Tensor],
    budget: int,
    generator: torch.Generator,
    first: FirstCentre = "norm",
) -> Tensor:
    """k-means++ seeding: each next centre is drawn with probability ∝ D², the squared distance to its nearest one.

    Arthur and Vassilvitskii 2007, §2.2 (`first="uniform"`); Ash et al. 2020 (BADGE) start at the longest vector
    (`first="norm"`, ties to the lower position). Where every point coincides with a centre, the rest is drawn uniformly
    from those not chosen. All numbers are drawn at once, as float64 on the CPU, so that they depend on no device.

    Args:
        squared_norm: (M,) float64, of each point.
        squared_distance: position () int64 → (M,) float64 squared distances of all points to that one; what rounding
            made negative counts as 0. The points themselves need not exist anywhere. Nothing here waits for the device.
        budget: how many centres, 1 … M.
        generator: on the CPU; `budget` numbers are taken from it.
        first: the longest vector, or one drawn uniformly.

    Returns:
        (budget,) int64 distinct positions in 0 … M − 1 on the CPU, in the order of the picks.
    """
    check_budget(budget, len(squared_norm))
    uniform = torch.rand(budget, dtype=torch.float64, generator=generator).to(squared_norm.device)
    unchosen = torch.ones_like(squared_norm)
    pick = squared_norm.argmax() if first == "norm" else draw_position(unchosen, uniform[0])
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
    """`kmeans_plus_plus` over the points e_m = features_m ⊗ factors_m, which are never formed.

    Since ⟨e, e'⟩ = (h·h')(a·a'), it takes O(M·(d + k)) memory, and as much time per pick. In float64, since distances
    come out as differences: in float32 vectors that differ by a thousandth of their length are one point.

    Args:
        features: (M, d) h, finite.
        factors: (M, k) a, float64, finite; k = 1 scales each feature vector.
        budget, generator, first: as `kmeans_plus_plus` has them.

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
    """() int64, position m with probability weight[m] / Σ weight: where `uniform` () in [0, 1) falls on their sum.

    `weight` (M,) float64 ≥ 0, not all 0. A position of weight 0 is never drawn.
    """
    # float64: over 5·10⁴ weights of very different sizes a float32 sum is biased.
    running = weight.cumsum(0)
    position = torch.searchsorted(running, uniform * running[-1], right=True).clamp_max(len(weight) - 1)
    # `uniform` · total can round up to the total, and a parallel sum need not be monotone to the last bit.
    return torch.where(weight.index_select(0, position.view(1))[0] > 0, position, weight.argmax())


def greedy_k_center(nearest: Tensor, distances: Callable[[Tensor], Tensor], budget: int) -> Tensor:
    """Greedy k-centre: each next pick is the point farthest from its nearest centre, and then is a centre itself.

    Sener and Savarese 2018, Algorithm 1. Ties go to the lower position, so where every distance is 0 the rest is picked
    in the order of the positions. Nothing in the loop waits for the device.

    Args:
        nearest: (M,) floating-point, of each point to the nearest of the centres that there are before the first pick,
            larger means sooner; +inf everywhere where there are none, which starts at position 0. No NaN.
        distances: position () int64 → (M,) of all points to that one, in the units and on the device of `nearest`. A
            point's distance to itself is not read, since no point is picked twice.
        budget: how many to pick, 1 … M.

    Returns:
        (budget,) int64 distinct positions in 0 … M − 1 on the CPU, in the order of the picks.

    >>> points = torch.tensor([0.0, 1.0, 9.0, 5.0])
    >>> greedy_k_center(points, lambda pick: (points - points[pick]).abs(), budget=3)  # one centre, at 0
    tensor([2, 3, 1])
    """
    check_budget(budget, len(nearest))
    nearest = nearest.clone()
    picks = [nearest.argmax()]
    while len(picks) < budget:
        torch.minimum(nearest, distances(picks[-1]), out=nearest)
        nearest.index_fill_(0, picks[-1], -torch.inf)
        picks.append(nearest.argmax())
    return torch.stack(picks).cpu()


def _check_shape(name: str, values: Tensor, index: Tensor) -> None:
    if values.shape != index.shape:
        raise ValueError(
            f"the {name} must be one number for each candidate, shape ({len(index)},); got {tuple(values.shape)}"
        )


def _raise_first(name: str, values: Tensor, wrong: Tensor, index: Tensor, expected: str) -> None:
    if not bool(wrong.any()):
        return
    wrong, index, values = wrong.cpu(), index.cpu(), values.detach().cpu()
    first = int(index[wrong].min())
    raise ValueError(
        f"the {name} of sample {first} is {float(values[index == first][0])}, not {expected} (nor is that of "
        f"{int(wrong.sum()) - 1} others); look for a training that diverged"
    )
