"""Vectors as points, and the distances between them, block by block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from assl_lightning.method.coverage import unit_vectors
from assl_lightning.method.top_k import check_finite

# A gap of at most this share of the point's own term is 0: the products of equal vectors leave up to 51 roundings of it
# (2,048 features, CPU), and up to 87 for predictions (1,000 classes). Features nearer than 2.4·10⁻⁷ of their length,
# four roundings of a float32, so count as the same.
ROUNDING = 256 * torch.finfo(torch.float64).eps
_BLOCK = 1024  # 1,024² products at once are 8 MiB, which stays in a CPU's cache


@dataclass(frozen=True)
class Points:
    """M vectors whose products give distances: `gaps`, `least_gap`."""

    vectors: Tensor  # (M, k) float64
    term: Tensor  # (M,) float64, what each adds to all of its gaps

    def __len__(self) -> int:
        return len(self.term)

    def at(self, positions: Tensor) -> Points:
        """Return the points at `positions` (m,) int64."""
        return Points(self.vectors.index_select(0, positions), self.term.index_select(0, positions))

    def split(self, size: int) -> list[Points]:
        """Return the points in parts of `size`, in order."""
        parts = zip(self.vectors.split(size), self.term.split(size), strict=True)
        return [Points(vectors, term) for vectors, term in parts]


def feature_points(features: Tensor, index: Tensor, *, unit: bool) -> Points:
    """Return points whose gap is half a squared Euclidean distance: vectors h and terms ‖h‖² / 2.

    Args:
        features: (M, d) of any float type; one that is not finite is an error that names its sample.
        index: (M,) pool indices, for that error.
        unit: scale every vector to length 1 first, but one of length 0, which stays.
    """
    if unit:
        vectors = unit_vectors(features, index)
        return Points(vectors, vectors.any(1).double() / 2)
    vectors = features.double()
    squared = torch.linalg.vector_norm(vectors, dim=1).square()
    check_finite("squared length of the feature vector", squared, index)
    return Points(vectors, squared / 2)


def join(*parts: Points) -> Points:
    """Return the points of all parts, one after the other."""
    return Points(torch.cat([part.vectors for part in parts]), torch.cat([part.term for part in parts]))


def gaps(points: Points, centres: Points) -> Tensor:
    """Return the gaps of all points a to all centres b, term_a + term_b − vector_a · vector_b: (A, B) float64.

    Rounding may make one negative, and those of equal points up to `ROUNDING` of a term.
    """
    return torch.addmm(centres.term, points.vectors, centres.vectors.T, alpha=-1).add_(points.term[:, None])


def least_gap(points: Points, centres: Points) -> Tensor:
    """Return the least gap from each point a to any centre b, term_a + term_b − vector_a · vector_b: (M,) float64 ≥ 0.

    Not more than 1,024² products exist at a time. float64, since no switch for cheaper products touches it (TF32,
    `torch.set_float32_matmul_precision`, autocast), and since what is left of two long vectors' difference is precise.
    """
    columns = min(_BLOCK, len(centres))
    rows = _BLOCK**2 // columns
    gap = torch.full_like(points.term, torch.inf)
    for part, least in zip(points.vectors.split(rows), gap.split(rows), strict=True):
        for vectors, term in zip(centres.vectors.split(columns), centres.term.split(columns), strict=True):
            torch.minimum(least, torch.addmm(term, part, vectors.T, alpha=-1).amin(1), out=least)
    gap += points.term
    return torch.where(gap > ROUNDING * points.term.abs(), gap, 0.0)


def check_one_network(field: str, labelled: Tensor, candidates: Tensor) -> None:
    """Raise unless the values of labelled samples (L, d) and candidates (M, d) are of one width."""
    if labelled.shape[1:] != candidates.shape[1:]:
        raise ValueError(
            f"the {field} of labelled samples and candidates must come from one network; got shapes "
            f"{tuple(labelled.shape)} and {tuple(candidates.shape)}"
        )
