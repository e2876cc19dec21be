"""The latest prediction of every unlabelled sample, kept while training runs; rounds are compared by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from assl_lightning.method.gathering import RankGather, Rows
from assl_lightning.method.statistics import NOTHING
from assl_lightning.method.visits import Visits

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
        self._gather = _new_gather()

    @property
    def classes(self) -> Tensor:
        """(N,) of the latest predictions, −1 where training has not seen the sample."""
        return self._classes[:-1]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the table to the training device."""
        self._gather = _new_gather()
        self._classes = self._classes.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the predictions of a step; a step that was left out has none, on any rank."""
        if not self.is_replayed:
            self.step_on_device(trainer, pl_module, outputs)

    def can_be_replayed(self) -> bool:
        """Return True, see `Replayable`."""
        return True

    @torch.no_grad()
    def step_on_device(self, trainer: Trainer, pl_module: LightningModule, outputs: Any) -> None:
        """Keep the predictions of a step."""
        rows: Rows | None = None
        if isinstance(outputs, Mapping) and "index" in outputs:
            index, logits = outputs["index"], outputs["logits_weak"]
            is_known = (index < self.num_samples) & logits.isfinite().all(-1)
            rows = {"index": torch.where(is_known, index, NOTHING), "class": logits.argmax(-1)}
        rows = self._gather.gather(rows, trainer, pl_module)
        if rows is not None:
            self.update(rows["index"], rows["class"])

    def update(self, index: Tensor, predicted: Tensor) -> None:
        """Keep `predicted` (M,) of the samples at `index` (M,) int64; of a sample that occurs twice the later one."""
        row = torch.where(index >= 0, index, self.num_samples)
        visits = Visits.of(row, assume_unique=self.assume_unique)
        visits.write(self._classes, visits.sort(predicted))

    def state_dict(self) -> dict[str, Any]:
        """Return the table."""
        return {"classes": self.classes.clone()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the table of a checkpoint."""
        self._classes[:-1] = state_dict["classes"].to(self._classes)


def _new_gather() -> RankGather:
    return RankGather({"index": torch.int64, "class": torch.int64})
