"""An exponential moving average of the weights, as FixMatch evaluates it (Sohn et al. 2020; kekmodel's code)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.func import functional_call
from torchmetrics.classification import MulticlassStatScores

from assl_lightning.base.rules import checked
from assl_lightning.learning.algorithm import Algorithm, accuracies_by_name
from assl_lightning.learning.image_predictions import ImagePredictions, TestedImages
from assl_lightning.learning.settings import Decay

Network = TypeVar("Network", bound=torch.nn.Module)


class WeightEMA(Callback):
    """average ← decay·average + (1 − decay)·weights after each optimizer step, from the weights at the fit's start.

    Parameters are averaged in one foreach call; buffers (BatchNorm's running statistics) are the module's own, which is
    what copying them after each step gives. There is no warm-up and no bias correction. In each validation it adds
    the accuracies "…_ema", by a second forward pass with the averaged weights put in; the module is never touched.

    Checkpoints have the layout of Lightning's `WeightAveraging`: `state_dict` holds the average, `current_model_state`
    the raw weights.

    Args:
        decay: in [0, 1); 0.999 in FixMatch.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        self.decay: float = checked("decay", decay, Decay)
        self._averages: dict[str, Tensor] = {}
        self._updates = 0
        self._last_step = 0
        self.is_replayed = False
        self._counts: MulticlassStatScores | None = None
        self._predictions = ImagePredictions()
        self.tested: TestedImages | None = None
        """The last test, by the averaged weights; None where batches have no positions."""

    @property
    def averages(self) -> Mapping[str, Tensor]:
        """The averaged parameters, by their names in the module; on its device during a fit, empty before one."""
        return self._averages

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget the last fit's average."""
        if stage == "fit":
            self._averages, self._updates, self._last_step = {}, 0, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the weights as they are, or go on from a checkpoint's average."""
        source = self._averages or dict(pl_module.named_parameters())
        self._averages = {name: value.detach().clone().to(pl_module.device) for name, value in source.items()}
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average, if the optimizer has stepped since the last batch."""
        if trainer.global_step == self._last_step:
            return
        self._last_step = trainer.global_step
        self._updates += 1
        if not self.is_replayed:
            self.step_on_device(trainer, pl_module, outputs)

    def can_be_replayed(self) -> bool:
        """Return True, see `Replayable`."""
        return True

    def step_on_device(self, trainer: Trainer, pl_module: LightningModule, outputs: Any) -> None:
        """Take the present weights into the average."""
        self.average(pl_module)

    @torch.no_grad()
    def average(self, pl_module: LightningModule) -> None:
        """Take the present weights into the average."""
        weights = [parameter.detach() for parameter in pl_module.parameters()]
        torch._foreach_lerp_(list(self._averages.values()), weights, 1 - self.decay)

    def averaged(self, module: Network, prefix: str = "") -> Network:
        """A copy of `module` (a part of the trained one, named by `prefix`) with the averaged parameters."""
        copy = deepcopy(module)
        with torch.no_grad():
            for name, parameter in copy.named_parameters():
                parameter.copy_(self._averages[prefix + name])
        return copy

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fresh counts on the module's device."""
        if isinstance(pl_module, Algorithm) and self._averages:
            self._counts = pl_module.new_counts().to(pl_module.device)
            self._predictions = ImagePredictions().to(pl_module.device)

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Evaluate the averaged weights on the batch that the raw weights were just evaluated on."""
        if self._counts is None:
            return
        with trainer.precision_plugin.forward_context():
            logits = functional_call(pl_module, self._averages, (batch["image"],))
        self._counts.update(logits, batch["label"])
        if "position" in batch:
            self._predictions.update(logits, batch["position"], batch["label"])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log `test_accuracy_ema` and `test_balanced_accuracy_ema`, in [0, 1]."""
        if self._counts is not None:
            pl_module.log_dict(accuracies_by_name(self._counts.compute(), "ema"), sync_dist=True)
            self._counts = None
            self.tested = self._predictions.take()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the average in the place of the weights, and the weights beside it."""
        if not self._averages:
            return
        raw = checkpoint["state_dict"]
        checkpoint["current_model_state"] = raw
        checkpoint["state_dict"] = {name: self._averages.get(name, value) for name, value in raw.items()}
        checkpoint["averaging_state"] = {"n_averaged": torch.tensor(self._updates)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the average back, and give the module its raw weights."""
        if "current_model_state" not in checkpoint:
            raise KeyError(
                "this checkpoint has no 'current_model_state', so it was saved without weight averaging; "
                "resume it without WeightEMA"
            )
        names = {name for name, _ in pl_module.named_parameters()}
        self._averages = {name: value for name, value in checkpoint["state_dict"].items() if name in names}
        self._updates = int(checkpoint["averaging_state"]["n_averaged"])
        pl_module.load_state_dict(checkpoint["current_model_state"])
