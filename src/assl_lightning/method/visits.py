"""The visits of a batch, sample by sample and in their order, for tables that are exact where a sample occurs twice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Visits:
    """Rows of a table that a batch visits. The visits of one row follow one another, in the order of the batch."""

    row: Tensor  # (B,) int64
    order: Tensor | None  # (B,) int64, positions in the batch; None: the batch's own order
    first: Tensor  # (B,) bool, the first visit of its row in this batch
    last: Tensor  # (B,) bool, the last one

    @classmethod
    def of(cls, row: Tensor, *, assume_unique: bool) -> Visits:
        """Sort a batch by row, (B,) int64, unless no row occurs twice; without waiting for the device."""
        edge = torch.ones_like(row[:1], dtype=torch.bool)
        if assume_unique:
            every = torch.ones_like(row, dtype=torch.bool)
            return cls(row, None, every, every)
        row, order = torch.sort(row, stable=True)
        differs = row[1:] != row[:-1]
        return cls(row, order, torch.cat([edge, differs]), torch.cat([differs, edge]))

    def sort(self, values: Tensor) -> Tensor:
        """Return values of the batch, (B, …), in the order of the visits."""
        return values if self.order is None else values[self.order]

    def count(self, before: Tensor) -> Tensor:
        """Return the number of each visit, (B,) int64 ≥ 1, after the `before` (B,) of its row in earlier batches."""
        if self.order is None:
            return before.long() + 1
        position = torch.arange(len(self.row), device=self.row.device)
        start = torch.where(self.first, position, 0).cummax(0).values
        return before + position - start + 1

    def write(self, table: Tensor, values: Tensor) -> None:
        """Write the `values` (B, …) of the last visit of each row into the `table`, whose last row is not read."""
        table[torch.where(self.last, self.row, len(table) - 1)] = values.to(table.dtype)

    def average(self, before: Tensor, observed: Tensor, weight: Tensor | float) -> Tensor:
        """Return the running average after each visit, (B, w): average ← weight · observed + (1 − weight) · average.

        The visits of one row are a run of affine maps x ↦ a·x + b; a run's first map has the table's value put in
        (a = 0), which also keeps the runs apart in one prefix scan.

        Args:
            before: (B, w), the average of each row before this batch.
            observed: (B, w), in the order of the visits.
            weight: of the new value, in (0, 1]; a number, or (B, 1).
        """
        started = weight * observed + torch.where(self.first[:, None], (1 - weight) * before, 0.0)
        if self.order is None:
            return started
        return scan(torch.where(self.first[:, None], 0.0, 1 - weight), started)


def scan(decay: Tensor, offset: Tensor) -> Tensor:
    """Return the value after each of a row of maps x ↦ decay·x + offset: decay (B, 1), offset (B, w) → (B, w).

    Hillis and Steele's prefix scan over the composition of affine maps.
    """
    shift = 1
    while shift < len(offset):
        offset = torch.cat([offset[:shift], offset[shift:] + decay[shift:] * offset[:-shift]])
        decay = torch.cat([decay[:shift], decay[shift:] * decay[:-shift]])
        shift *= 2
    return offset
