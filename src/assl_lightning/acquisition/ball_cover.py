"""Greedy cover of points by balls of one radius, for ProbCover and DCoM.

Gaps (`points`) are half squared distances of vectors of length 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assl_lightning.acquisition.points import ROUNDING, Points, gaps
from assl_lightning.base.rules import Rule

Radius = Annotated[float, Rule("a distance between vectors of length 1, in (0, 2]", lambda value: 0 < value <= 2)]

_BYTES = 128  # of each row of bits at a time: 1,024² gaps are 8 MiB, which stays in a CPU's cache


def ball_edge(radius: Tensor) -> Tensor:
    """Return the gap below which a point is inside a ball, float64 of the shape of `radius`.

    A ball is open: a point is outside at the radius, and up to 2⁻²⁶ of it nearer. Copies of the centre are inside.
    """
    edge = radius.double().square() / 2 * (1 - 2**-25)
    return edge.clamp_min(ROUNDING)


def inside_any(points: Points, centres: Points, radii: Tensor) -> Tensor:
    """Return if each of A points is inside a ball around one of B centres, with `radii` (B,): (A,) bool on the CPU."""
    inside = torch.zeros(len(points), dtype=torch.bool, device=points.term.device)
    edges, size = ball_edge(radii.to(points.term.device)), 8 * _BYTES
    for part, found in zip(points.split(size), inside.split(size), strict=True):
        for centre, edge in zip(centres.split(size), edges.split(size), strict=True):
            found.logical_or_((gaps(part, centre) < edge).any(1))
    return inside.cpu()


def nearest_other(points: Points, label: Tensor) -> Tensor:
    """Return the distance of each point to the nearest one of another `label` (n,): (n,) float64 ≥ 0, +inf if none."""
    label = label.to(points.term.device)
    least = torch.full_like(points.term, torch.inf)
    for rows, columns, gap in _pairs(points):
        gap.masked_fill_(label[rows, None] == label[columns], torch.inf)
        least[rows] = torch.minimum(least[rows], gap.amin(1))
        least[columns] = torch.minimum(least[columns], gap.amin(0))
    return (2 * least).clamp_min(0).sqrt()


def draw_nodes(count: int, limit: int, generator: torch.Generator) -> Tensor:
    """Return all positions 0 … `count` − 1, or `limit` of them drawn uniformly if there are more; ascending int64."""
    if count <= limit:
        return torch.arange(count)
    return torch.randperm(count, generator=generator)[:limit].sort().values


@final
class BallCover:
    """A greedy cover of n points by balls of one radius around them.

    One bit for each pair of points stores if one is inside the other's ball, n² / 8 bytes: 12.5 MB for 10,000 points. A
    list of the pairs would be larger if more than 1/32 of all pairs are inside, as with balls of half a class. Making
    the bits takes n² · d operations; covering all points reads each bit once.

    Args:
        points: n vectors of length 1, on any device.
        radius: of all balls, in (0, 2]; see `ball_edge`.
    """

    def __init__(self, points: Points, radius: float) -> None:
        self.gain = torch.zeros(len(points), dtype=torch.int64)
        """The number of uncovered points in the ball around each point, (n,) int64 on the CPU."""
        self.covered = torch.zeros(len(points), dtype=torch.bool)
        self._bits: NDArray[np.uint8] = np.zeros((len(points), -(-len(points) // 8)), np.uint8)
        edge = ball_edge(torch.tensor(radius, dtype=torch.float64)).item()
        for rows, columns, gap in _pairs(points):
            inside = (gap < edge).cpu()
            if rows == columns:
                self._note(rows, columns, inside & inside.T)
            else:
                self._note(rows, columns, inside)
                self._note(columns, rows, inside.T)

    def cover(self, points: Tensor) -> None:
        """Mark the points that are True, (n,) bool on the CPU, as covered."""
        new = (points & ~self.covered).nonzero()[:, 0]
        self.covered |= points
        for part in new.split(8 * _BYTES):
            self.gain -= torch.from_numpy(self._balls(part).sum(0, dtype=np.int64))

    def cover_ball(self, centre: int) -> None:
        """Mark all points in the ball around the point at `centre` as covered."""
        self.cover(torch.from_numpy(self._balls(torch.tensor([centre]))[0]).bool())

    def _note(self, rows: slice, columns: slice, inside: Tensor) -> None:
        self.gain[rows] += inside.sum(1)
        self._bits[rows, columns.start // 8 : -(-columns.stop // 8)] = np.packbits(inside.numpy(), axis=1)

    def _balls(self, centres: Tensor) -> NDArray[np.uint8]:
        """Return the balls around the points at `centres` (m,) int64: (m, n), 1 for each point inside."""
        return np.unpackbits(self._bits[centres.numpy()], axis=1, count=len(self.gain))


def _pairs(points: Points) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield the gaps of all pairs of points in blocks: a slice of rows, one of the same or later columns, the gaps."""
    size = 8 * _BYTES
    parts = points.split(size)
    slices = [slice(start, start + len(part)) for start, part in zip(range(0, len(points), size), parts, strict=True)]
    for number, (rows, part) in enumerate(zip(slices, parts, strict=True)):
        for columns, other in zip(slices[number:], parts[number:], strict=True):
            yield rows, columns, gaps(part, other)
