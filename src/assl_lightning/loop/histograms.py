"""Histograms of a number over the pool and over the picked samples."""

from __future__ import annotations

import torch
from torch import Tensor

Histogram = dict[str, list[float]]


def histogram(pool: Tensor, queried: Tensor, bins: int = 40) -> Histogram | None:
    """Count numbers in `bins` of equal width from the pool's smallest to its largest; None if none is finite.

    Args:
        pool: (M,) a number for each candidate; those that are not finite are left out.
        queried: (K,) the numbers of the picks.

    Returns:
        `edges` (bins + 1), and the counts of `pool` and of `queried` between each two of them (bins). If all numbers
        are equal there is one bin, with that number as both edges.

    >>> histogram(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0]), bins=2)
    {'edges': [0.0, 0.5, 1.0], 'pool': [1.0, 2.0], 'queried': [0.0, 1.0]}
    """
    pool, queried = (values.detach().cpu().double() for values in (pool, queried))
    pool, queried = pool[pool.isfinite()], queried[queried.isfinite()]
    if not len(pool):
        return None
    low, high = pool.min(), pool.max()
    edges = torch.linspace(float(low), float(high), bins + 1, dtype=torch.float64) if low < high else low.repeat(2)
    return {
        "edges": edges.tolist(),
        "pool": _counts(pool, edges),
        "queried": _counts(queried, edges),
    }


def _counts(values: Tensor, edges: Tensor) -> list[float]:
    """Return counts (bins,) of `values` between the `edges`; others, and the last edge, count in the nearest bin."""
    bins = len(edges) - 1
    position = (torch.searchsorted(edges, values, right=True) - 1).clamp(0, bins - 1)
    counts: list[float] = torch.bincount(position, minlength=bins).double().tolist()
    return counts
