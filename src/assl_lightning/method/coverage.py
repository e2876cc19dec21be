"""Coverage: how well a set of samples represents a pool, by a Gaussian kernel of the distance between unit vectors.

A set S covers a sample x by max_{s ∈ S} k(x, s), where k(x, s) = exp(−‖x − s‖² / σ²). The coverage of a pool,
Σ_x w_x · max_{s ∈ S} k(x, s), is monotone and submodular, so that the greedy choice has at least 1 − 1/e of the best
value (Bae et al. 2024, "Generalized Coverage for More Robust Low-Budget Active Learning").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from assl_lightning.base.copies import first_copies
from assl_lightning.base.ties import comparable
from assl_lightning.method.top_k import check_finite

_BLOCK = 2**22  # numbers of float64 at a time, 32 MiB: with a quarter of it the products take several times as long
_BLOCK_GPU = 2**26
_SLACK = 2.0**-21  # by which a kernel value must exceed another to count as more: eight roundings of a float32
_ROWS = 1000  # samples whose nearest neighbours calibrate the width
_HALVINGS = 40
_CENTRES = 4096  # centres whose distances are computed at a time


def unit_vectors(features: Tensor, index: Tensor) -> Tensor:
    """Scale features (M, d) of the samples `index` (M,) to length 1, as float64; zeros stay zeros.

    A feature vector that is not finite is an error that names the sample.
    """
    vectors = features.double()
    length = torch.linalg.vector_norm(vectors, dim=1)
    check_finite("length of the feature vector", length, index)
    return vectors / torch.where(length > 0, length, 1.0).unsqueeze(1)


def squared_distances(points: Tensor, others: Tensor) -> Tensor:
    """Return ‖a − b‖² of points (M, d) and others (R, d), both float64, as (M, R) float32 ≥ 0."""
    found = torch.empty(len(points), len(others), dtype=torch.float32, device=points.device)
    of_others = others.square().sum(1)
    for rows in _blocks(len(points), len(others), points.device):
        part = points[rows]
        products = torch.addmm(of_others, part, others.T, alpha=-2)
        found[rows] = products.add_(part.square().sum(1, keepdim=True)).clamp_min_(0)
    return found


def kernel(distance: Tensor, width: float) -> Tensor:
    """Return exp(−distance / σ²) of squared distances, in place: in [0, 1], 1 for a distance of 0."""
    return distance.div_(-(width**2)).exp_()


@dataclass(frozen=True)
class Coverage:
    """Coverage of a pool by labelled samples and picks, and the gain of each candidate."""

    kernel: Tensor  # (M, R) float32, of each candidate with each sample to cover
    weight: Tensor  # (R,) float64 ≥ 0, of each sample to cover
    covered: Tensor  # (R,) float32 in [0, 1], the coverage so far; changed in place by picks

    def gains_after(self, rows: Tensor | None, picks: Tensor) -> Tensor:
        """Return Σ_x w_x · max(0, k(x, s) − covered_x) for candidates s, after adding `picks` to the covering set.

        A copy of a sample that is in the covering set gains nothing.

        Args:
            rows: (m,) int64 positions of candidates; None: all.
            picks: (k,) int64 positions of candidates.

        Returns:
            (m,) float64 ≥ 0.
        """
        if len(picks):
            torch.maximum(self.covered, self.kernel[picks].amax(0), out=self.covered)
        before = self.covered + _SLACK
        count = len(self.kernel) if rows is None else len(rows)
        gain = torch.empty(count, dtype=torch.float64, device=self.weight.device)
        for part in _blocks(count, len(self.weight), self.weight.device):
            values = self.kernel[part if rows is None else rows[part]]
            gain[part] = (values - before).clamp_min_(0).double() @ self.weight
        return comparable(gain)


def density(points: Tensor, radius: float) -> Tensor:
    """Return Σ_b exp(−‖a − b‖² / radius²) over all points b, for each point a of (R, d): (R,) float64 ≥ 1."""
    return kernel(squared_distances(points, points), radius).sum(1, dtype=torch.float64).clamp_min_(1)


def covered_by(points: Tensor, centres: Tensor, width: float) -> Tensor:
    """Return the coverage of points (R, d) by the nearest of the centres (L, d): (R,) float32 in [0, 1], 0 if none."""
    covered = torch.zeros(len(points), dtype=torch.float32, device=points.device)
    for part in centres.split(_CENTRES) if len(centres) else ():
        torch.maximum(covered, kernel(squared_distances(part, points).amin(0), width), out=covered)
    return covered


def half_covering_width(points: Tensor, count: int) -> float:
    """Return the σ > 0 for which `count` samples drawn at random cover half of the others, on average.

    The average is computed without drawing: with n others at the distances d₁ ≤ d₂ ≤ …, the nearest of those drawn is
    the j-th with probability q(1 − q)^(j − 1), q = count / n, and covers exp(−d_j² / σ²). Copies count once. At most
    1,000 samples, evenly spaced, are used. σ has six digits; it is 1 if all samples are copies.

    Args:
        points: (M, d) float64 unit vectors.
        count: the number of samples drawn, ≥ 1; all of them if there are fewer.
    """
    own = torch.arange(len(points), device=points.device)
    points = points[first_copies(points) == own]
    others = len(points) - 1
    if others < 1:
        return 1.0
    share = min(1.0, count / others)
    nearest = min(others, int(10 / share) + 1)  # beyond them lie 5·10⁻⁵ of the draws
    rows = torch.linspace(0, others, min(_ROWS, others + 1), dtype=torch.float64, device=points.device).long()
    distance = squared_distances(points[rows], points)
    distance.scatter_(1, rows.unsqueeze(1), torch.inf)  # no sample is one of its own neighbours
    squared = distance.topk(nearest, largest=False).values.double()  # (rows, nearest), ascending
    chance = (1 - share) ** torch.arange(nearest, dtype=torch.float64, device=points.device)
    chance /= chance.sum()

    low, high = 1e-6, 10.0  # unit vectors are at most 2 apart
    for _ in range(_HALVINGS):
        width = (low * high) ** 0.5
        covered = float(((-squared / width**2).exp() @ chance).mean())
        low, high = (low, width) if covered > 0.5 else (width, high)
    width = (low * high) ** 0.5
    return float(f"{width:.6g}")  # the last bits, which differ between processors, would change every kernel value


def _blocks(rows: int, columns: int, device: torch.device) -> list[slice]:
    """Divide the rows of a table into slices that fit into memory."""
    size = max(1, (_BLOCK if device.type == "cpu" else _BLOCK_GPU) // max(columns, 1))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
