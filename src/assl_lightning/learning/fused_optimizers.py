"""Optimizers that make their step in one launch, and leave it out by a flag on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

_OWN_CHOICE = {"fused", "foreach", "differentiable", "capturable"}
"""Arguments by which somebody has said how the step is computed."""


def make_optimizer(
    make: Callable[[Iterable[dict[str, Any]]], Optimizer], groups: Iterable[dict[str, Any]], trainer: Trainer | None
) -> Optimizer:
    """Make the optimizer of `groups`; SGD, Adam and AdamW with `fused=True` where their weights are on a CUDA device.

    An optimizer that is not a `functools.partial` of these, or that says itself how its step is computed, is made as it
    is. So are all on a CPU, where the results of earlier runs stay the same to the last bit; and under clipping of
    gradients or a gradient scaler, which Lightning and torch do not offer together with it.
    """
    groups = list(groups)
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    is_known = isinstance(make, partial) and make.func in (SGD, Adam, AdamW) and not _OWN_CHOICE & make.keywords.keys()
    if devices != {"cuda"} or not is_known or trainer is None or trainer.gradient_clip_val or has_scaler(trainer):
        return make(groups)
    return cast("partial[Optimizer]", make)(groups, fused=True)


def has_scaler(trainer: Trainer) -> bool:
    """Return if a gradient scaler is in use (16-mixed), which leaves steps out by itself."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def can_skip_on_the_device(optimizer: Optimizer) -> bool:
    """Return if `skip_where` works for an optimizer."""
    if type(optimizer) not in (SGD, Adam, AdamW):
        return False
    return all(group.get("fused") and not group.get("dampening", 0) for group in optimizer.param_groups)


def skip_where(optimizer: Optimizer, flag: Tensor) -> None:
    """Let the next step of a fused optimizer change nothing if `flag` () bool is True, without waiting for the device.

    Momentum that has not begun is made to begin at 0, which is what its first step would have made of it: torch leaves
    it without numbers where its first step is left out.
    """
    for group in optimizer.param_groups:
        if not group.get("momentum"):
            continue
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if parameter.grad is not None and state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    optimizer.found_inf = flag.to(torch.float32)  # type: ignore[attr-defined]  # as torch's GradScaler sets it
