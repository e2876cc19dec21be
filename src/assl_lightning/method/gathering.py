"""Rows of all ranks of a distributed training, in one gather a step, so that every rank keeps the same tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from assl_lightning.method.statistics import NOTHING

Rows = Mapping[str, Tensor]
"""Name → rows of a step: an index (B,) int64, and numbers (B,) or (B, w) beside it."""


class RankGather:
    """Gather each step's rows from the ranks, by one collective call that every rank makes in every step.

    A rank without rows sends some that count as none, and one that cannot go on says so in the same call: no rank waits
    for a call that another one never makes. Ranks agree on names, counts and widths in the first step in which one of
    them has rows, which waits for the device; from then on each sends as many rows as the largest had in that step.

    Args:
        kinds: name → type of all rows that there may be; the first is the index. Of rows that a rank lacks those of
            int64 are −1, and others 0.
        optional: names that a rank may lack in a step, though others have them.
    """

    def __init__(self, kinds: Mapping[str, torch.dtype], optional: tuple[str, ...] = ()) -> None:
        self.kinds = dict(kinds)
        self.optional = optional
        self.layout: dict[str, tuple[int, int]] = {}
        """Name → count and width (0: the rows are numbers) of what a rank had in that first step."""
        self._steps = 0
        self._failed: Tensor | None = None  # (W,), the step in which each rank could not go on, or 0

    @property
    def is_agreed(self) -> bool:
        """True if a rank had rows in one of several processes."""
        return bool(self.layout)

    def gather(self, rows: Rows | None, trainer: Trainer, module: LightningModule) -> Rows | None:
        """Return the rows of all ranks, rank after rank, on every rank the same; None if none had any so far.

        Args:
            rows: of this rank; None: it has none in this step.
            trainer: of the fit.
            module: gathers.

        Raises:
            ValueError: this rank's rows are more than those of the first step, or of other names or widths.
            RuntimeError: another rank could not go on; on a GPU it is told by `check`, without waiting in each step.
        """
        if trainer.world_size == 1:
            return rows
        self._steps += 1
        if not self.is_agreed:
            self._agree(rows, module)
            if not self.is_agreed:
                return None
        if rows is not None and (problem := self._misfit(rows)):
            self._send(None, module, failed=True)
            raise ValueError(f"rank {trainer.global_rank} {problem}")
        gathered = self._send(rows, module)
        if module.device.type == "cpu":
            self.check()
        return self._unpack(gathered)

    @contextmanager
    def telling(self, trainer: Trainer, module: LightningModule) -> Iterator[None]:
        """Send the other ranks an error in place of rows, if the block before `gather` raises one."""
        try:
            yield
        except Exception:
            if trainer.world_size > 1:
                self._steps += 1
                if self.is_agreed:
                    self._send(None, module, failed=True)
                else:
                    module.all_gather(self._sizes(None, 1, module))
            raise

    def check(self) -> None:
        """Raise if a rank could not go on; waits for the device."""
        if self._failed is None or not bool(self._failed.any()):
            return
        rank = int(self._failed.nonzero()[0])
        raise RuntimeError(
            f"rank {rank} could not observe training batch {int(self._failed[rank])} of the fit, and so the others end "
            f"with it; its own message says why"
        )

    def _agree(self, rows: Rows | None, module: LightningModule) -> None:
        gathered: Tensor = module.all_gather(self._sizes(rows, 0, module))  # type: ignore[assignment]
        self._note_failed(gathered[:, -1])
        self.check()
        most = gathered[:, :-1].amax(0).unflatten(0, (-1, 2)).tolist()
        found = {name: (count, width) for name, (count, width) in zip(self.kinds, most, strict=True) if count >= 0}
        if any(count for count, _ in found.values()):
            self.layout = found

    def _sizes(self, rows: Rows | None, failed: int, module: LightningModule) -> Tensor:
        """Return the count and the width under each name, −1 where there is none, and whether this rank failed."""
        sizes = []
        for name in self.kinds:
            of_name = None if rows is None else rows.get(name)
            sizes += [-1, -1] if of_name is None else [len(of_name), _width(of_name)]
        return torch.tensor([*sizes, failed], device=module.device)

    def _misfit(self, rows: Rows) -> str | None:
        """Say how this rank's rows differ from those of the first step; None if they do not."""
        for name in self.layout:
            if name not in rows and name not in self.optional:
                return f"has no {name} in a batch, and a rank had some in the fit's first one; observe the same in each"
        for name, values in rows.items():
            if name not in self.layout:
                return f"has {name} in a batch, and no rank had any in the fit's first one; observe the same in each"
            most, width = self.layout[name]
            if values.dtype != self.kinds[name]:
                return f"has {name} of {values.dtype}; it must be {self.kinds[name]}"
            if len(values) > most:
                return (
                    f"has {len(values)} rows of {name} in a batch, but no rank had more than {most} in the fit's first "
                    f"one: under DDP the first batch must be the largest"
                )
            if width != _width(values):
                return f"has {name} of shape {tuple(values.shape)}, and a rank had {width} numbers a row in the first"
        return None

    def _send(self, rows: Rows | None, module: LightningModule, *, failed: bool = False) -> Tensor:
        """Gather the bytes of each rank, (W, n) uint8: whether it failed, and its rows, filled up."""
        parts = [torch.full((1,), int(failed), dtype=torch.uint8, device=module.device)]
        for name, (most, width) in self.layout.items():
            dtype = self.kinds[name]
            shape = (most, width) if width else (most,)
            block = torch.full(shape, NOTHING if dtype == torch.int64 else 0, dtype=dtype, device=module.device)
            if rows is not None and name in rows:
                block[: len(rows[name])] = rows[name].detach()
            parts.append(block.flatten().view(torch.uint8))
        gathered: Tensor = module.all_gather(torch.cat(parts))  # type: ignore[assignment]
        self._note_failed(gathered[:, 0])
        return gathered

    def _note_failed(self, failed: Tensor) -> None:
        before = torch.zeros_like(failed, dtype=torch.int64) if self._failed is None else self._failed
        self._failed = torch.where((before == 0) & (failed != 0), self._steps, before)

    def _unpack(self, gathered: Tensor) -> Rows:
        rows: dict[str, Tensor] = {}
        start = 1
        for name, (most, width) in self.layout.items():
            size = most * max(width, 1) * self.kinds[name].itemsize
            block = gathered[:, start : start + size].clone(memory_format=torch.contiguous_format)
            values = block.view(self.kinds[name]).flatten()
            rows[name] = values.unflatten(0, (-1, width)) if width else values
            start += size
        return rows


def _width(rows: Tensor) -> int:
    """Return w of rows (B, w); 0 of numbers (B,)."""
    return rows.shape[1] if rows.ndim > 1 else 0
