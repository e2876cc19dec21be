"""A round at the paper's size on a GPU: steps a second, and what that makes of a run's 56,320 steps.

ResNet-18 on CIFAR-10's shape, 64 labelled and 448 unlabelled images a step; tests and start-up are reported beside it.
On a CPU a round takes hours: nothing is measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.figures import Figure, Target
from benchmarks.measuring import synchronise
from benchmarks.setups import SETUPS, configured
from benchmarks.step import train, trainer_overrides

_SECTION = "paper_round"
_RUN = 56_320  # steps: 11 rounds of 5,120
_BLOCK, _BLOCKS, _WARM_UP = 256, 5, 256


def measure(device: torch.device, quick: bool) -> Iterator[Figure]:
    """Steps a second in blocks of 256, after 256 of warm-up; minutes for a run; seconds that are not training."""
    setup = SETUPS[0]
    figure = partial(Figure, _SECTION, size=setup.name)
    if device.type != "cuda" or quick:
        yield figure("steps a second", unit="1/s", values=(), target=Target("≥", 188))
        yield figure("a run of 56,320 steps", unit="min", values=(), target=Target("≤", 5))
        return
    started = time.perf_counter()
    config, parts = configured([*setup.overrides, *trainer_overrides(device)])
    clock = _Blocks(device)
    train(config, parts, clock, _WARM_UP + _BLOCKS * _BLOCK)
    rates = tuple(_BLOCK / seconds for seconds in clock.seconds)
    yield figure("steps a second", unit="1/s", values=rates, target=Target("≥", 188))
    minutes = tuple(_RUN / rate / 60 for rate in rates)
    yield figure("a run of 56,320 steps", unit="min", values=minutes, target=Target("≤", 5))
    yield figure("start-up until the end of the first step", unit="s", values=(clock.first - started,))
    yield figure("a test over 256 images, and the end", unit="s", values=(time.perf_counter() - clock.last,))


class _Blocks(Callback):
    """Seconds of each block of steps after the warm-up."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.seconds: list[float] = []
        self.first = self.last = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == 1:
            synchronise(self.device)
            self.first = time.perf_counter()
        if step < _WARM_UP or (step - _WARM_UP) % _BLOCK:
            return
        synchronise(self.device)
        now = time.perf_counter()
        if step > _WARM_UP:
            self.seconds.append(now - self.last)
        self.last = now
