"""Conditions under which the steps of a training can be replayed from a CUDA graph, and the reasons against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.optim import SGD, Adam, AdamW, Optimizer

from assl_lightning.learning.algorithm import TrainedNetwork
from assl_lightning.learning.fused_optimizers import can_skip_on_the_device, has_scaler
from assl_lightning.learning.non_finite import NonFinite

_HOOKS_WITHIN = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
"""Hooks that Lightning calls in the captured part of a step."""


def why_not(trainer: Trainer, module: LightningModule) -> str | None:
    """Return why the steps of a fit that begins cannot be captured, as the end of a sentence; None: they can be."""
    return next(_reasons(trainer, module), None)


def _reasons(trainer: Trainer, module: LightningModule) -> Iterator[str]:
    if module.device.type != "cuda":
        yield f"the training runs on {module.device.type}, and only CUDA devices have them"
    if trainer.world_size > 1 or not isinstance(trainer.strategy, SingleDeviceStrategy):
        yield "several processes agree in each step, and graphs were made for one (trainer.devices=1)"
    if not isinstance(module, TrainedNetwork) or not vars(type(module)).get("can_be_captured", False):
        yield f"{type(module).__name__} does not say that its steps can be captured (can_be_captured = True)"
    if not module.automatic_optimization or trainer.accumulate_grad_batches != 1:
        yield "a step of the optimizer is not one batch of Lightning's automatic optimization"
    if has_scaler(trainer):
        yield "the host reads the scale of gradients under trainer.precision=16-mixed; bf16-mixed has none"
    if trainer.lr_scheduler_configs:
        yield "the learning rate changes from step to step"
    yield from _of_optimizer(trainer, trainer.optimizers[0])
    yield from _of_callbacks(trainer)


def _of_optimizer(trainer: Trainer, optimizer: Optimizer) -> Iterator[str]:
    counts_there = all(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
    if type(optimizer) is not SGD and not (type(optimizer) in (Adam, AdamW) and counts_there):
        yield (
            f"{type(optimizer).__name__} may count its steps on the host; SGD, and Adam and AdamW that are fused or "
            f"capturable, do not"
        )
    skips = any(one.on_non_finite == "skip" for one in _callbacks(trainer) if isinstance(one, NonFinite))
    if skips and not can_skip_on_the_device(optimizer):
        yield "the host decides under non_finite=skip, but for fused optimizers (SGD, Adam, AdamW; without clipping)"


def _of_callbacks(trainer: Trainer) -> Iterator[str]:
    for callback in _callbacks(trainer):
        for hook in _HOOKS_WITHIN:
            is_own = getattr(type(callback), hook) is not getattr(Callback, hook)
            if is_own and not isinstance(callback, NonFinite):
                yield f"the callback {type(callback).__name__} has {hook}, which a replay does not call"


def _callbacks(trainer: Trainer) -> list[Any]:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # set outside the class
    return callbacks
