"""Regions of images as samples of their own: a table of N · R rows, image after image, of which each is a region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assl_lightning.base.arguments import whole_number
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.pool_mask import as_mask


@dataclass(frozen=True)
class RegionGrid:
    """A grid of R = rows · columns regions over each image, counted row by row from the upper left.

    Region r of image i is row i · R + r of the table, so that images which a pool has gained lie behind the others.

    >>> grid = RegionGrid(2, 3)
    >>> grid.map(4, 6)
    tensor([[0, 0, 1, 1, 2, 2],
            [0, 0, 1, 1, 2, 2],
            [3, 3, 4, 4, 5, 5],
            [3, 3, 4, 4, 5, 5]])
    >>> grid.box(4, 4, 6)
    (2, 2, 4, 4)
    >>> grid.pairs(torch.tensor([6, 11]))
    tensor([[1, 0],
            [1, 5]])
    """

    rows: int
    columns: int

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least=1))

    @property
    def count(self) -> int:
        """Number of regions of an image, R."""
        return self.rows * self.columns

    def map(self, height: int, width: int) -> Tensor:
        """Return the region that each pixel of an image lies in, (H, W) int64 in [0, R).

        Cropped, flipped and resized (by nearest interpolation) as the image is, with −1 where that was padded, it is
        the map of a view. Where a side is no multiple of the regions, some are a pixel larger than others.
        """
        return self._bands(self.rows, height)[:, None] * self.columns + self._bands(self.columns, width)

    def box(self, region: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the pixels of a region, (left, top, right, bottom); right and bottom are the first ones behind it."""
        row, column = divmod(region, self.columns)
        left, right = self._ends(self.columns, width, column)
        top, bottom = self._ends(self.rows, height, row)
        return left, top, right, bottom

    def pairs(self, table_rows: Tensor) -> Tensor:
        """Return the image and the region of each row of the table, (M,) → (M, 2) int64."""
        return torch.stack([table_rows // self.count, table_rows % self.count], dim=-1)

    def mask(self, what: str, samples: Any, num_images: int, device: torch.device) -> Tensor:
        """Return images, or regions, as a mask of the table's rows, (N · R,) bool on `device`.

        Args:
            what: a word for one of them, for the errors, such as "candidate".
            samples: images as `as_mask` takes them, which stand for all of their regions; or regions, as a mask (N, R)
                bool, or distinct pairs (image, region), (M, 2).
            num_images: N.
            device: where the mask is made.

        Raises:
            TypeError, ValueError, IndexError: see `as_mask`; or pairs that are no regions of these images.
        """
        regions = _two_axes(samples)
        if regions is None:
            return as_mask(what, samples, num_images, device).repeat_interleave(self.count)
        if regions.dtype == torch.bool:
            if regions.shape != (num_images, self.count):
                raise ValueError(
                    f"a mask of {what} regions must have one entry for each region of each image, shape "
                    f"({num_images}, {self.count}); got {tuple(regions.shape)}"
                )
            return regions.to(device).flatten()
        if regions.shape[1] != 2:
            raise ValueError(
                f"{what}s must be images, or pairs (image, region), (M, 2); got shape {tuple(regions.shape)}"
            )
        image, region = regions.unbind(1)
        outside = (image < 0) | (image >= num_images) | (region < 0) | (region >= self.count)
        if bool(outside.any()):
            raise IndexError(
                f"{what} {tuple(regions[outside][0].tolist())} is no (image, region) of the {num_images} images with "
                f"{self.count} regions each"
            )
        return as_mask(what, image * self.count + region, num_images * self.count, device)

    def at_most(self, per_image: int, bound: Tensor, statistics: CandidateStatistics, mask: Tensor | None) -> Tensor:
        """Return the rows of the largest bounds of each image, (N · R,) bool: at most `per_image`, ties to the first.

        The k best of these are the k best of all with at most `per_image` an image.

        Args:
            per_image: how many of an image, ≥ 1.
            bound: (N · R,), larger means label sooner.
            statistics: of the same rows; what was never visited is left out.
            mask: (N · R,) bool, the rows to choose from; None: all.
        """
        eligible = statistics.visits > 0 if mask is None else mask & (statistics.visits > 0)
        by_image = bound.masked_fill(~eligible, -torch.inf).unflatten(0, (-1, self.count))  # (N, R)
        best = by_image.sort(dim=1, descending=True, stable=True).indices[:, :per_image]
        chosen = torch.zeros_like(by_image, dtype=torch.bool).scatter(1, best, True)
        return chosen.flatten() & eligible

    @staticmethod
    def _bands(count: int, length: int) -> Tensor:
        return torch.arange(length) * count // length

    @staticmethod
    def _ends(count: int, length: int, band: int) -> tuple[int, int]:
        return -(-band * length // count), -(-(band + 1) * length // count)


def _two_axes(samples: Any) -> Tensor | None:
    """Return a mask (N, R), or pairs of whole numbers, as a tensor; None of samples that have one axis."""
    if are_pairs(samples):
        samples = np.asarray([tuple(pair) for pair in samples])
    if not isinstance(samples, Tensor):
        if not hasattr(samples, "__array__"):
            return None
        array = np.asarray(samples)
        if array.dtype.kind not in "biu":
            return None
        samples = torch.as_tensor(array.copy())
    return samples if samples.ndim == 2 and not samples.is_floating_point() else None


def are_pairs(samples: Any) -> bool:
    """True of a list, tuple or set of pairs."""
    is_list = isinstance(samples, (list, tuple, set, frozenset))
    return is_list and bool(samples) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in samples)
