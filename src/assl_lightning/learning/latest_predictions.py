"""The latest prediction of every unlabelled sample, kept while training runs; rounds are compared by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

NEVER = -1
"""The class of a sample that training has not seen."""


class LatestPredictions(Callback):
    """Keep the class with the largest logit of each sample's latest weak view, as `training_step` returns it.

    Two bytes a sample (four with more than 32,767 classes), on the training device; nothing waits for it. A row whose
    logits are not finite is left out. Under DDP every rank gathers all rows and holds the same table.

    Args:
        num_samples: N, the size of the pool.
        num_classes: C.
        assume_unique: no batch holds an index twice (over all ranks); saves a sort in each step.
    """

    def __init__(self, num_samples: int, num_classes: int, *, assume_unique: bool = False) -> None:
        super().__init__()
        self.num_samples = num_samples
        self.assume_unique = assume_unique
        self.is_replayed = False
        dtype = torch.int16 if num_classes <= torch.iinfo(torch.int16).max else torch.int32
        # one row more than there are samples, for rows that count as none
        self._classes = torch.full((num_samples + 1,), NEVER, dtype=dtype)

    @property
    def classes(self) -> Tensor:
        """(N,) of the latest predictions, −1 where training has not seen the sample."""
        return self._classes[:-1]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the table to the training device."""
        self._classes = self._classes.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the predictions of a step; a step that was left out has none."""
        if not self.is_replayed:
            self.step_on_device(trainer, pl_module, outputs)

    def can_be_replayed(self) -> bool:
        """Return True, see `Replayable`."""
        return True

    @torch.no_grad()
    def step_on_device(self, trainer: Trainer, pl_module: LightningModule, outputs: Any) -> None:
        """Keep the predictions of a step."""
        if not isinstance(outputs, Mapping) or "index" not in outputs:
            return
        index, logits = outputs["index"], outputs["logits_weak"]
        row = torch.where((index >= 0) & (index < self.num_samples), index, self.num_samples)
        row = torch.where(logits.isfinite().all(-1), row, self.num_samples)
        rows = torch.stack([row, logits.argmax(-1)])  # (2, Bu)
        if trainer.world_size > 1:
            rows = pl_module.all_gather(rows).transpose(0, 1).flatten(1)  # type: ignore[union-attr]
        self.update(*rows)

    def update(self, row: Tensor, predicted: Tensor) -> None:
        """Keep `predicted` (M,) of the samples at `row` (M,) int64; of a sample that occurs twice the later one."""
        if not self.assume_unique:
            row, order = torch.sort(row, stable=True)
            predicted = predicted[order]
            is_last = torch.cat([row[1:] != row[:-1], torch.ones_like(row[:1], dtype=torch.bool)])
            row = torch.where(is_last, row, self.num_samples)
        self._classes[row] = predicted.to(self._classes)

    def state_dict(self) -> dict[str, Any]:
        """Return the table."""
        return {"classes": self.classes.clone()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the table of a checkpoint."""
        self._classes[:-1] = state_dict["classes"].to(self._classes)
