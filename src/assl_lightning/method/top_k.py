"""Exact top-k by score, and the checks that strategies make of their input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

_CHUNK = 2**18  # rows: as fast as 2^15 to 2^19 on a CPU, in 20 MB; with 2^20 it is 70 MB and a third more time


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
    """Sort `index` (M,) and each of `rows` (M, …) with it; without a copy where the index ascends already."""
    ascending, order = torch.sort(index)
    if torch.equal(ascending, index):
        return index, *rows
    return ascending, *(row[order] for row in rows)


def chunks(length: int) -> Iterator[slice]:
    """Divide the rows 0 … `length` − 1 into slices that are worked on one at a time."""
    return (slice(start, min(start + _CHUNK, length)) for start in range(0, length, _CHUNK))


@final
class RunningTopK:
    """Top-k of scores that come chunk by chunk; of equal scores those with the lower pool index.

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
        """Number of candidates so far."""
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
        """Add candidates.

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
        """Return the top `budget`: int64 pool indices on the CPU, best first.

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
        """Return the candidates better than the last of the best `budget`, on the CPU; NaN is noted and left out."""
        reach = (score < self._threshold).logical_not_().nonzero()[:, 0]  # NaN is not less either
        score, index = score[reach].cpu(), index[reach.to(index.device)].cpu()
        nan = score.isnan()
        if bool(nan.any()):
            self._nans += int(nan.count_nonzero())
            self._first_nan = min(self._first_nan, int(index[nan].min()))
        better = (score > self._threshold) | ((score == self._threshold) & (index < self._last))
        return score[better], index[better]


def _largest(score: Tensor, index: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """Return the `budget` largest scores and their indices, ties to the lower index, in no order; without a sort."""
    least = score.topk(budget, sorted=False).values.min()
    above, tied = score > least, index[score == least]
    tied = tied.topk(budget - int(above.count_nonzero()), largest=False, sorted=False).values
    return torch.cat([score[above], least.expand(len(tied))]), torch.cat([index[above], tied])


def top_k(score: Tensor, index: Tensor, budget: int) -> Tensor:
    """Return the candidates with the largest scores; of equal scores those with the lower pool index.

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


def top_k_with_drawn_ties(score: Tensor, index: Tensor, budget: int, generator: torch.Generator) -> Tensor:
    """Return what `top_k` does, but draw among equal scores.

    A count has many of them, and samples of one class may lie side by side in a pool, so that those of the lowest
    indices would be alike. The draw depends on the indices and the generator, not on the order of the candidates.
    """
    check_finite("score", score, index)
    position = torch.arange(len(index), device=index.device)
    ascending, position = in_index_order(index, position)
    place = torch.randperm(len(index), generator=generator)  # of each candidate in index order, on the CPU
    ranked = top_k(score[position.to(score.device)], place.to(score.device), budget)
    return ascending.cpu()[torch.argsort(place)[ranked]]


def _wrong_value(name: str, first: int, value: float, count: int, expected: str) -> ValueError:
    return ValueError(
        f"the {name} of sample {first} is {value}, not {expected} (nor is that of {count - 1} others); look for a "
        f"training that diverged"
    )
