"""The observations of all ranks of a distributed training, so that every rank keeps the same table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from assl_lightning.method.contracts import Observation
from assl_lightning.method.statistics import NOTHING


@dataclass(frozen=True)
class GatheredRows:
    """Rows of all ranks, rank-major; M of observations and L of labelled samples."""

    index: Tensor  # (M,) int64, −1 where a rank had fewer rows
    uncertainty: Tensor  # (M,)
    inconsistency: Tensor  # (M,)
    features: Tensor | None  # (M, d) float16; None where they are not kept
    labelled_index: Tensor | None  # (L,) int64
    labelled_features: Tensor | None  # (L, d) float16
    further: Tensor | None  # (M, W) float32; None where no further statistics are kept


class RankGather:
    """Gather each step's rows from the ranks. A rank that observed nothing sends rows that count as none.

    Ranks agree on the shapes in the fit's first batch that one of them observed, which waits for the device; from then
    on a step sends as many rows as the largest first batch of a rank had.
    """

    def __init__(self, keep_features: bool) -> None:
        self.keep_features = keep_features
        self.rows = self.labelled_rows = self.width = self.further_width = 0
        self.is_agreed = False
        self.has_one_view: bool | None = None  # None: there is one process, or nothing was observed so far

    def gather(self, observation: Observation | None, trainer: Trainer, module: Any) -> GatheredRows | None:
        """Return the rows of all ranks, on every rank the same; None if no rank has observed anything so far."""
        if trainer.world_size > 1 and not self.is_agreed:
            self._agree(observation, module)
        if observation is None:
            if trainer.world_size == 1 or not self.is_agreed:
                return None
            observation = self._nothing(module)
        uncertainty, inconsistency = observation.uncertainty.float(), observation.inconsistency
        inconsistency = torch.zeros_like(uncertainty) if inconsistency is None else inconsistency.float()
        if trainer.world_size > 1:
            values = torch.stack([uncertainty, inconsistency], dim=-1)  # (B, 2)
            uncertainty, inconsistency = self._all(values, 0.0, self.rows, trainer, module).unbind(-1)
        index = self._all(observation.index, NOTHING, self.rows, trainer, module)
        features, labelled_index, labelled_features = self._features(observation, trainer, module)
        further = observation.further
        further = None if further is None else self._all(further, 0.0, self.rows, trainer, module)
        return GatheredRows(index, uncertainty, inconsistency, features, labelled_index, labelled_features, further)

    def _agree(self, observation: Observation | None, module: LightningModule) -> None:
        rows, width, labelled, one_view, further = -1, -1, -1, -1, -1
        if observation is not None:
            rows = len(observation.index)
            if self.keep_features and observation.features is not None:
                width = observation.features.shape[1]
            if self.keep_features and observation.labelled_index is not None:
                labelled = len(observation.labelled_index)
            one_view = int(observation.inconsistency is None)
            further = -1 if observation.further is None else observation.further.shape[1]
        sizes = torch.tensor([rows, width, labelled, one_view, further], device=module.device)
        most: Tensor = module.all_gather(sizes).flatten(0, -2).amax(0)  # type: ignore[union-attr]
        rows, self.width, self.labelled_rows, one_view, self.further_width = map(int, most)
        self.is_agreed = rows >= 0
        self.has_one_view = one_view == 1 if self.is_agreed else None
        self.rows = max(rows, 0)

    def _nothing(self, module: LightningModule) -> Observation:
        device = module.device
        none, no_numbers = torch.empty(0, dtype=torch.int64, device=device), torch.empty(0, device=device)
        features = torch.empty(0, self.width, device=device) if self.width >= 0 else None
        further = torch.empty(0, self.further_width, device=device) if self.further_width >= 0 else None
        return Observation(none, no_numbers, no_numbers, features, further=further)

    def _features(
        self, observation: Observation, trainer: Trainer, module: LightningModule
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        if not self.keep_features or observation.features is None:
            return None, None, None
        features = self._all(observation.features.detach().half(), 0, self.rows, trainer, module)
        index, of_labelled = observation.labelled_index, observation.labelled_features
        if index is None or of_labelled is None:
            if trainer.world_size == 1 or self.labelled_rows < 0:
                return features, None, None
            index = observation.index.new_empty(0)
            of_labelled = observation.features.new_empty(0, observation.features.shape[1])
        most = max(self.labelled_rows, 0)
        return (
            features,
            self._all(index, NOTHING, most, trainer, module),
            self._all(of_labelled.detach().half(), 0, most, trainer, module),
        )

    def _all(self, rows: Tensor, filler: float, most: int, trainer: Trainer, module: LightningModule) -> Tensor:
        """Gather rows: (B, …) on each of W ranks → (W·R, …) on every rank.

        R is `most`. Ranks with fewer rows add some of `filler`: tensors of unequal shape cannot be gathered, and no
        rank knows the others' without waiting for the device.
        """
        if trainer.world_size == 1:
            return rows
        missing = most - len(rows)
        if missing < 0:
            raise ValueError(
                f"rank {trainer.global_rank} has {len(rows)} samples in a batch, but no rank had more than {most} in "
                f"the fit's first one: under DDP the first batch must be the largest"
            )
        rows = torch.cat([rows, rows.new_full((missing, *rows.shape[1:]), filler)])
        gathered: Tensor = module.all_gather(rows).flatten(0, 1)  # type: ignore[union-attr]
        return gathered
