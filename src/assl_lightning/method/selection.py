"""From one number per candidate, or one point per candidate, to the picks. What several strategies share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, final

import torch
from torch import Tensor

from assl_lightning.base.ties import comparable

FirstCentre = Literal["norm", "uniform"]
ToNearest = Callable[[Tensor | None, Tensor], Tensor]

_CHUNK = 2**18  # rows: as fast as 2^15 to 2^19 on a CPU, in 20 MB; with 2^20 it is 70 MB and a third more time

# Two outer products count as one point where their squared distance is below this many roundings of ‖e‖² + ‖e'‖²: the
# products of equal vectors leave up to 34 of them (16 to 65,536 features, CPU).
_SAME_POINT = 256
_CONTENDERS = 64  # points that are brought up to date at first; 32 to 128 take as long, all of them 13 times that


def check_budget(budget: int, candidates: float = math.inf) -> None:
    """Raise unless 1 ≤ `budget` ≤ `candidates`; without their number, unless 1 ≤ `budget`."""
    if budget < 1:
        raise ValueError(f"the budget must be at least 1 sample; got {budget}")
    if budget > candidates:
        raise ValueError(
            f"the budget of {budget} samples exceeds the {candidates} candidates that there are; "
            f"query fewer, or stop when the pool is used up"
        )


def check_shape(name: str, values: Tensor, index: Tensor) -> None:
    """Raise unless `values` has the shape of `index` (M,)."""
    if values.shape != index.shape:
        raise ValueError(
            f"the {name} must be one number for each candidate, shape ({len(index)},); got {tuple(values.shape)}"
        )


def check_finite(name: str, values: Tensor, index: Tensor) -> None:
    """Raise unless `values` (M,) is one finite number for each candidate of `index` (M,)."""
    check_shape(name, values, index)
    wrong = ~values.isfinite()
    if not bool(wrong.any()):
        return
    wrong, index, values = wrong.cpu(), index.cpu(), values.detach().cpu()
    first = int(index[wrong].min())
    raise _wrong_value(name, first, float(values[index == first][0]), int(wrong.sum()), "a finite number")


def in_index_order(index: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
    """`index` (M,) ascending and each of `rows` (M, …) in the same order; without a copy where that is the order."""
    ascending, order = torch.sort(index)
    if torch.equal(ascending, index):
        return index, *rows
    return ascending, *(row[order] for row in rows)


def chunks(length: int) -> Iterator[slice]:
    """The rows 0 … `length` − 1 in slices of as many rows as are worked on at a time."""
    return (slice(start, min(start + _CHUNK, length)) for start in range(0, length, _CHUNK))


@final
class RunningTopK:
    """The largest of scores that come chunk by chunk, of equal ones those with the lower pool index.

    What lies below the `budget`-th largest score so far is dropped on the chunk's device, which is waited for a few
    times a chunk. The rest is kept on the CPU, in room for twice the budget; where that is full, the best half stays.

    Args:
        budget: how many to pick, ≥ 1.

    >>> best = RunningTopK(budget=2)
    >>> best.update(torch.tensor([0.1, 0.7]), torch.tensor([4, 9]))
    >>> best.update(torch.tensor([0.7]), torch.tensor([2]))
    >>> best.picks()
    tensor([2, 9])
    """

    def __init__(self, budget: int) -> None:
        check_budget(budget)
        self.budget = budget
        self.seen = 0
        """How many candidates came so far."""
        # A room of their own: as pieces of the chunks, the best 1,000 of 10⁸ scatter so that the heap grows by 280 MB.
        self._score = torch.empty(0)  # (2 · budget,) from the first chunk on; the first `_kept` count
        self._index = torch.empty(2 * budget, dtype=torch.int64)
        self._kept = 0
        # The last of the best `budget` when there was last no room: its score and its index.
        self._threshold: float = -math.inf
        self._last: float = math.inf
        self._nans = 0
        self._first_nan: float = math.inf

    def update(self, score: Tensor, index: Tensor) -> None:
        """Count some more candidates in.

        Args:
            score: (m,), larger means label sooner, of one dtype in all chunks; ±inf are numbers like others.
            index: (m,) int64 pool indices, in any order, none of which came before.
        """
        check_shape("score", score, index)
        if not self.seen:
            self._score = torch.empty_like(self._index, dtype=score.dtype)
        self.seen += len(index)
        score, index = self._contenders(score.detach(), index)
        if self._kept + len(index) > len(self._index):
            score, index = torch.cat([self._score[: self._kept], score]), torch.cat([self._index[: self._kept], index])
            score, index = _largest(score, index, self.budget)
            self._threshold = score.min().item()
            self._last = index[score == self._threshold].max().item()
            self._kept = 0
        rows = slice(self._kept, self._kept + len(index))
        self._score[rows], self._index[rows] = score, index
        self._kept = rows.stop

    def picks(self) -> Tensor:
        """(budget,) int64 pool indices on the CPU, best first.

        Raises:
            ValueError: fewer than `budget` candidates came, or the score of one of them is NaN.
        """
        check_budget(self.budget, self.seen)
        if self._nans:
            raise _wrong_value("score", int(self._first_nan), math.nan, self._nans, "a number")
        score, index = _largest(self._score[: self._kept], self._index[: self._kept], self.budget)
        index, score = in_index_order(index, score)
        return index[torch.sort(score, descending=True, stable=True).indices]

    def _contenders(self, score: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Those better than the last of the best `budget`, on the CPU; NaN is noted and left out."""
        reach = (score < self._threshold).logical_not_().nonzero()[:, 0]  # NaN is not less either
        score, index = score[reach].cpu(), index[reach.to(index.device)].cpu()
        nan = score.isnan()
        if bool(nan.any()):
            self._nans += int(nan.count_nonzero())
            self._first_nan = min(self._first_nan, int(index[nan].min()))
        better = (score > self._threshold) | ((score == self._threshold) & (index < self._last))
        return score[better], index[better]


def _largest(score: Tensor, index: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """The `budget` largest scores and their indices, ties to the lower index, in no order; without a sort."""
    least = score.topk(budget, sorted=False).values.min()
    above, tied = score > least, index[score == least]
    tied = tied.topk(budget - int(above.count_nonzero()), largest=False, sorted=False).values
    return torch.cat([score[above], least.expand(len(tied))]), torch.cat([index[above], tied])


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
    check_shape("score", score, index)
    check_budget(budget, len(index))
    best = RunningTopK(budget)
    for rows in chunks(len(index)):
        best.update(score[rows], index[rows])
    return best.picks()


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


def greedy_k_center(nearest: Tensor, to_nearest: ToNearest, budget: int) -> Tensor:
    """Greedy k-centre: each next pick is the point farthest from its nearest centre, and then is a centre itself.

    Sener and Savarese 2018, Algorithm 1. Ties go to the lower position, so where every distance is 0 the rest is picked
    in the order of the positions. On a CPU only the few points that may be farthest are brought up to date before each
    pick; anywhere else all of them are, and nothing in the loop waits for the device. The picks are the same, but among
    points whose distances differ by no more than their rounding.

    Args:
        nearest: (M,) floating-point, of each point to the nearest of the centres that there are before the first pick,
            larger means sooner; +inf everywhere where there are none, which starts at position 0. No NaN.
        to_nearest: positions (m,) int64 of points (None: all M) and (k,) int64 of centres → (m,) distances of the
            points to the nearest of those centres, in the units and on the device of `nearest`. A point's distance to
            itself is not read, since no point is picked twice.
        budget: how many to pick, 1 … M.

    Returns:
        (budget,) int64 distinct positions in 0 … M − 1 on the CPU, in the order of the picks.

    >>> points = torch.tensor([0.0, 1.0, 9.0, 5.0])
    >>> def to_nearest(rows, centres):
    ...     return (points[slice(None) if rows is None else rows, None] - points[centres]).abs().amin(1)
    >>> greedy_k_center(points, to_nearest, budget=3)  # one centre, at 0
    tensor([2, 3, 1])
    """
    check_budget(budget, len(nearest))
    pick = pick_lazily if nearest.device.type == "cpu" else pick_eagerly
    return pick(nearest.clone(), to_nearest, budget).cpu()


def pick_eagerly(nearest: Tensor, to_nearest: ToNearest, budget: int) -> Tensor:
    """`greedy_k_center`, all distances up to date before each pick; writes into `nearest`."""
    picks = [nearest.argmax()]
    while len(picks) < budget:
        torch.minimum(nearest, to_nearest(None, picks[-1].view(1)), out=nearest)
        nearest.index_fill_(0, picks[-1], -torch.inf)
        picks.append(nearest.argmax())
    return torch.stack(picks)


def pick_lazily(nearest: Tensor, to_nearest: ToNearest, budget: int) -> Tensor:
    """`greedy_k_center`, few distances up to date; writes into `nearest`, and looks at its numbers.

    Distances only shrink as centres are added, so an old one is a bound: the farthest by its bound is the farthest if
    it is up to date.
    """
    seen = torch.zeros(len(nearest), dtype=torch.int64)  # how many of the picks each distance takes into account
    picks = torch.empty(budget, dtype=torch.int64)
    for count in range(budget):
        pick, contenders = nearest.argmax(), _CONTENDERS
        while seen[pick] < count:
            rows = torch.cat([pick.view(1), nearest.topk(min(contenders, len(nearest))).indices]).unique()
            rows = rows[seen[rows] < count]
            contenders *= 2  # so that many that have come closer at once are soon all up to date
            closest = to_nearest(rows, picks[int(seen[rows].min()) : count])
            nearest[rows] = torch.minimum(nearest[rows], closest)
            seen[rows] = count
            pick = nearest.argmax()
        picks[count] = pick
        nearest[pick] = -torch.inf
    return picks


def _wrong_value(name: str, first: int, value: float, count: int, expected: str) -> ValueError:
    return ValueError(
        f"the {name} of sample {first} is {value}, not {expected} (nor is that of {count - 1} others); look for a "
        f"training that diverged"
    )
