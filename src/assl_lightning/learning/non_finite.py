"""Losses and gradients that are not finite: they end a run, or their step is left out."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.words import first_few
from assl_lightning.learning.fused_optimizers import can_skip_on_the_device, has_scaler, skip_where
from assl_lightning.learning.kept_buffers import KeptBuffers
from assl_lightning.learning.samplers import StepSampler
from assl_lightning.learning.settings import OnNonFinite
from assl_lightning.learning.view_pairs import PairSampler, ViewPairDataModule

_SHOWN = 8  # indices of each kind in an error
_ADVICE = (
    "lower the learning rate, clip gradients (+trainer.gradient_clip_val=1), use another precision, or leave such "
    "steps out with non_finite=skip. No checkpoint holds weights from such a step"
)


class NonFinite(Callback):
    """Stop at a loss that is not finite, or leave out steps whose gradients are not finite.

    "stop" notes the first such step on the device and raises at the next reading: every `trainer.log_every_n_steps`
    steps, before each test and before each checkpoint, so that no checkpoint holds weights from such a step; the
    weights of each checkpoint are checked, too.

    "skip" leaves a step out where a gradient is not finite: neither weights nor momentum nor the batch norms' running
    statistics change, and the step counts in `skipped`. With a fused optimizer (SGD, Adam and AdamW are, on CUDA) this
    happens on the device; any other is asked to step by the host, which waits for the device once a step. Under 16-bit
    floats with a gradient scaler it is the scaler that leaves the step out, as it does when it lowers its scale.

    Args:
        on_non_finite: "stop" or "skip".

    Raises:
        FloatingPointError: under "stop", with the step and, with a `PoolDataModule`, its round and its samples.
    """

    def __init__(self, on_non_finite: OnNonFinite = "stop") -> None:
        super().__init__()
        require_one_of("on_non_finite", on_non_finite, OnNonFinite)
        self.on_non_finite = on_non_finite
        self._skipped = 0
        self._skipped_there: Tensor | None = None  # () int64 on the device: further ones
        self._first: Tensor | None = None  # () int64 on the device: the first step whose loss was not finite, or −1
        self._buffers = KeptBuffers()
        self._kept_at = -1  # steps of the optimizer before the kept buffers; one step may take several batches

    @property
    def skipped(self) -> int:
        """Number of steps that were left out; waits for the device."""
        return self._skipped + (0 if self._skipped_there is None else int(self._skipped_there))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Reset the count and the note of a fault."""
        if stage == "fit":
            self._skipped, self._skipped_there, self._first = 0, None, None
            self._buffers, self._kept_at = KeptBuffers(), -1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Under "skip", keep a copy of the buffers."""
        if self.on_non_finite == "skip" and self._kept_at != trainer.global_step:
            self._buffers.keep(pl_module.buffers())
            self._kept_at = trainer.global_step

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Under "skip", remove the gradients if one is not finite; gradients are the same on all ranks."""
        if self.on_non_finite != "skip":
            return
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))  # a norm that overflows is of no use either
        is_fault = ~norms.isfinite().all()
        is_scaled = has_scaler(trainer)
        if can_skip_on_the_device(optimizer) and not is_scaled:
            skip_where(optimizer, is_fault)
            self._buffers.put_back_where(is_fault)
            if self._skipped_there is None:
                self._skipped_there = torch.zeros((), dtype=torch.int64, device=is_fault.device)
            self._skipped_there += is_fault
            return
        if not is_fault:
            return
        self._skipped += 1
        self._buffers.put_back()
        if not is_scaled:
            optimizer.zero_grad(set_to_none=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Under "stop", note a loss that is not finite, and read the note at the steps at which algorithms log."""
        if self.on_non_finite != "stop" or not outputs:
            return
        loss = outputs["loss"].detach()
        if self._first is None:
            self._first = torch.full((), -1, device=loss.device)
        is_fault = loss - loss != 0  # a launch less than `isfinite` for each of its operators
        self._first.masked_fill_((self._first < 0) & is_fault, trainer.global_step - 1)
        if trainer.global_step % max(trainer.log_every_n_steps, 1) == 0:  # type: ignore[attr-defined]
            self.check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise before weights are tested that a loss has spoilt."""
        self.check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Raise before such weights are saved, or weights that a gradient has spoilt."""
        self.check_weights(trainer, pl_module)

    def check_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise the fault that any rank has noted, or that the weights show; waits for the device."""
        self.check(trainer)
        if self.on_non_finite == "stop" and not all(weights.isfinite().all() for weights in pl_module.parameters()):
            raise FloatingPointError(
                f"after {trainer.global_step} steps{_round_of(trainer)} the weights are not finite, though every loss "
                f"was, so a gradient was not; {_ADVICE}"
            )

    def check(self, trainer: Trainer) -> None:
        """Raise the fault that any rank has noted; waits for the device."""
        if self._first is None:
            return
        first = self._first
        if trainer.world_size > 1:
            of_ranks = trainer.strategy.all_gather(first).flatten()
            first = of_ranks[of_ranks >= 0].min() if bool((of_ranks >= 0).any()) else first
        step = int(first)
        if step >= 0:
            raise FloatingPointError(
                f"the loss of step {step}{_round_of(trainer)} was not finite{_samples_of(trainer, step)}; {_ADVICE}"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the number of skipped steps."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of skipped steps."""
        self._skipped, self._skipped_there = int(state_dict["skipped"]), None


def _round_of(trainer: Trainer) -> str:
    datamodule = getattr(trainer, "datamodule", None)
    if isinstance(datamodule, ViewPairDataModule):
        return " of the warm-up"
    number = getattr(datamodule, "round_number", None)
    return "" if number is None else f" of round {number}"


def _samples_of(trainer: Trainer, step: int) -> str:
    """Name the samples of a step, if the sampler is ours: its draws are a function of the step."""
    sampler = getattr(trainer.train_dataloader, "sampler", None)
    if isinstance(sampler, PairSampler):
        return f" (samples {first_few(sampler.pair_indices(step).sample.tolist(), _SHOWN)})"
    if not isinstance(sampler, StepSampler):
        return ""
    indices = sampler.step_indices(step)
    told = [
        f"{kind} samples {first_few(index.tolist(), _SHOWN)}"
        for kind, index in (("labelled", indices.labelled), ("unlabelled", indices.unlabelled))
        if len(index)
    ]
    return f" ({'; '.join(told)})"
