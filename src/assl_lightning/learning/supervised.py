"""Plain supervised training on the labelled images: active learning without the unlabelled ones."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from assl_lightning.base.rules import checked
from assl_lightning.learning.algorithm import Algorithm, MakeOptimizer, mean_cross_entropy
from assl_lightning.learning.settings import TrainAccuracy, WeightDecayExempt
from assl_lightning.method.contracts import Batch, StepOutput
from assl_lightning.networks.base import FeatureNetwork

_RIGHT = "assl_lightning_right"


class Supervised(Algorithm):
    """Cross-entropy on the labelled images, as ALFA-Mix trains its active learners (Parvaneh et al. 2022).

    Args:
        network: gives logits, and features on request.
        optimizer: called once with the parameter groups; Adam at 1e-3 in ALFA-Mix.
        weight_decay: ALFA-Mix has none.
        weight_decay_exempt: "by_module" | "by_name", see `parameter_groups`.
        stop_at_train_accuracy: training ends with the first pass over the labelled images whose running accuracy
            reaches this, in (0, 1]; None trains all steps.
    """

    produces: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        network: FeatureNetwork,
        *,
        optimizer: MakeOptimizer,
        weight_decay: float = 0.0,
        weight_decay_exempt: WeightDecayExempt = "by_module",
        stop_at_train_accuracy: float | None = 0.99,
    ) -> None:
        super().__init__(
            network, optimizer=optimizer, weight_decay=weight_decay, weight_decay_exempt=weight_decay_exempt
        )
        self.stop_at_train_accuracy: float | None = checked(
            "stop_at_train_accuracy", stop_at_train_accuracy, TrainAccuracy | None
        )
        self._right: list[Tensor] = []

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        """Return the loss of one step on the labelled images."""
        logits = self(batch["labelled_image"])
        loss = mean_cross_entropy(logits, batch["label"])
        self.log_step({"loss": loss}, batch_size=len(batch["label"]))
        if self.stop_at_train_accuracy is not None:
            self._right.append(logits.detach().argmax(-1) == batch["label"])
            if batch["ends_pass"]:
                self._stop_if_learned(self.stop_at_train_accuracy)
        return {"loss": loss}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the right and wrong answers of the current pass."""
        super().on_save_checkpoint(checkpoint)
        right = torch.cat(self._right) if self._right else torch.zeros(0, dtype=torch.bool, device=self.device)
        if self.trainer.world_size > 1:
            right = self.all_gather(right).flatten()  # type: ignore[union-attr]
        checkpoint[_RIGHT] = right

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the right and wrong answers of the current pass."""
        super().on_load_checkpoint(checkpoint)
        right, ranks = checkpoint.get(_RIGHT, torch.zeros(0, dtype=torch.bool)), self.trainer.world_size
        self._right = [right.tensor_split(ranks)[self.trainer.global_rank]] if len(right) else []

    def _stop_if_learned(self, target: float) -> None:
        """Stop the training if the pass was right often enough. Waits for the device, once a pass."""
        right = torch.cat([part.to(self.device) for part in self._right])
        self._right = []
        counts = torch.stack([right.sum(), torch.tensor(len(right), device=right.device)])
        if self.trainer.world_size > 1:
            counts = self.all_gather(counts).sum(0)  # type: ignore[union-attr]
        if counts[0] >= target * counts[1]:
            self.trainer.should_stop = True
