"""Draws without replacement, by weights that are mixed with a uniform share, with the probability of each draw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_by_weight(
    log_weight: Tensor, uniform_share: float, budget: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw `budget` of M positions, one after the other, and return them with the probability of each draw.

    Of the n positions that are left, each draw takes position i with the probability

        q_i = (1 − ε) · w_i / Σ_left w + ε / n                    # 1 / n where all weights left are 0

    The weights alone are drawn by independent exponential clocks with the rates w_i, which ring in the order of a draw
    without replacement (Plackett 1975; Efraimidis and Spirakis 2006). A clock that has not rung yet is as good as new,
    so the next one to ring among those left has the probability w_i / Σ_left w, also after a uniform draw has taken
    some away. O(M + budget · log budget) time, O(M) memory.

    Args:
        log_weight: (M,) float64 log w on the CPU; −∞ is a weight of 0.
        uniform_share: ε in (0, 1].
        budget: 1 … M.
        generator: on the CPU.

    Returns:
        (budget,) int64 distinct positions in 0 … M − 1 in the order of the draws, and (budget,) float64 q in (0, 1].
    """
    by_weight = _first_to_ring(log_weight, budget, generator)
    uniform = torch.randperm(len(log_weight), generator=generator)[:budget]
    is_uniform = torch.rand(budget, dtype=torch.float64, generator=generator) < uniform_share
    positions = torch.tensor(_merge(by_weight.tolist(), uniform.tolist(), is_uniform.tolist()))
    return positions, draw_probabilities(log_weight, positions, uniform_share)


def draw_probabilities(log_weight: Tensor, positions: Tensor, uniform_share: float) -> Tensor:
    """Return the probabilities (budget,) of the draws at `positions`, in their order, as `draw_by_weight` has them."""
    drawn = log_weight[positions]
    never_drawn = log_weight.index_fill(0, positions, -torch.inf).logsumexp(0)
    # Sums of what is left, from the last draw to the first: a difference to the sum of all would lose its digits.
    left = torch.logaddexp(drawn.flip(0).logcumsumexp(0).flip(0), never_drawn)
    number_left = len(log_weight) - torch.arange(len(positions), dtype=torch.float64)
    by_weight = torch.where(left > -torch.inf, (drawn - left).exp(), 1 / number_left)
    return ((1 - uniform_share) * by_weight + uniform_share / number_left).clamp_max(1.0)


def _first_to_ring(log_weight: Tensor, budget: int, generator: torch.Generator) -> Tensor:
    """Return the positions (budget,) whose clocks ring first, in that order; weights of 0 ring after all others."""
    uniform = torch.rand(len(log_weight), dtype=torch.float64, generator=generator)
    clock = -(-torch.log1p(-uniform)).clamp_min(2.0**-54).log()  # Gumbel, in [−3.7, 37.5]
    has_weight = log_weight > -torch.inf
    key = torch.where(has_weight, log_weight + clock, clock)
    if not bool(has_weight.all()):
        lowest = key[has_weight].min() if bool(has_weight.any()) else key.new_zeros(())
        key = torch.where(has_weight, key, lowest - 50 + clock)
    return key.topk(budget).indices


def _merge(by_weight: Sequence[int], uniform: Sequence[int], is_uniform: Sequence[bool]) -> list[int]:
    """Take from one or the other list, as `is_uniform` says, the next position that was not taken yet."""
    lists = iter(by_weight), iter(uniform)
    taken: dict[int, None] = {}
    for coin in is_uniform:
        taken[next(position for position in lists[coin] if position not in taken)] = None
    return list(taken)
