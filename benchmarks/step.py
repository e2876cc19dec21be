"""The whole training step against its floor, and where the step's time goes.

The *floor* is the bare forward, backward and optimizer step of the same network in a plain loop, on one batch that is
staged on the device: same sizes, same precision, and the weak views without a gradient where FixMatch takes them so.
Blocks of whole steps, as `run_rounds` trains them, and of the floor's
take turns within one fit, so that a ratio is of one moment. A second fit runs with a stopwatch around every part; what
no part claims is Lightning's loop and logging.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from assl_lightning.config.build import Parts
from assl_lightning.config.schema import Config
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.learning.progress import RoundProgress
from assl_lightning.learning.step_seed import StepSeed
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.loop.rounds import run_rounds
from assl_lightning.method.callback import ASSLScoreCallback
from benchmarks.figures import Figure, Target
from benchmarks.measuring import ratios, seconds, synchronise
from benchmarks.setups import SETUPS, TINY, Setup, configured

_SECTION = "step"
_REST = "Lightning's loop and logging"


def measure(device: torch.device, quick: bool) -> Iterator[Figure]:
    """Ratio to the floor, both times, and the split, for each of the setups."""
    repeats, warm_up = (2, 1) if quick else (7, 2)
    for setup in TINY if quick else SETUPS:
        yield from _measure_setup(setup, device, repeats, warm_up)


def _measure_setup(setup: Setup, device: torch.device, repeats: int, warm_up: int) -> Iterator[Figure]:
    steps = setup.steps[device.type]
    config, parts = configured([*setup.overrides, *trainer_overrides(device)])
    turns = Turns(device, steps, repeats, warm_up)
    train(config, parts, turns, turns.num_steps)
    figure = partial(Figure, _SECTION, size=setup.name)
    bound = setup.target.get(device.type)
    yield figure(
        "whole step ÷ floor",
        unit="×",
        values=ratios(tuple(turns.whole), tuple(turns.floor)),
        target=None if bound is None else Target("≤", bound),
    )
    yield figure("whole step", unit="ms", values=_milliseconds(turns.whole))
    yield figure("floor", unit="ms", values=_milliseconds(turns.floor))

    config, parts = configured([*setup.overrides, *trainer_overrides(device)])
    split = Split(parts, device, steps, repeats, warm_up)
    train(config, parts, split, split.num_steps)
    note = "The parts are timed in a fit of their own" + (
        ", with the host waiting for the device around each: their sum is more than the whole step."
        if device.type == "cuda"
        else "; their sum differs from the whole step by the stopwatch and by the moment."
    )
    for part, values in split.seconds.items():
        yield figure(f"part: {part}", unit="ms", values=_milliseconds(values), note=note)
    share = ratios(tuple(split.seconds["score callback"]), tuple(map(sum, zip(*split.seconds.values(), strict=True))))
    yield figure(
        "score callback ÷ all parts",
        unit="×",
        values=share,
        target=Target("≤", 0.01) if setup.name.startswith("ResNet-18") else None,
    )


def trainer_overrides(device: torch.device) -> list[str]:
    """Float32 on a CPU; on a GPU bfloat16, as one would train there."""
    if device.type == "cuda":
        return ["trainer.accelerator=gpu", "trainer.precision=bf16-mixed"]
    return ["trainer.accelerator=cpu"]


def train(config: Config, parts: Parts, callback: Callback, steps: int) -> None:
    """One round of `steps` steps, as a run trains it, with one more callback behind all others."""

    def make_trainer(**keywords: Any) -> Trainer:
        return parts.make_trainer(**(keywords | {"callbacks": [*keywords["callbacks"], callback]}))

    quiet = Console(file=io.StringIO())
    with tempfile.TemporaryDirectory() as directory:
        run_rounds(
            **(vars(parts) | {"make_trainer": make_trainer}),
            settings=replace(config.settings, rounds=0, steps_per_round=steps, steps_per_epoch=None, config={}),
            run_dir=Path(directory) / "run",
            make_progress=partial(RoundProgress, console=quiet),
        )


class Turns(Callback):
    """Seconds of one whole step and of one step of the floor, in blocks that take turns."""

    def __init__(self, device: torch.device, steps: int, repeats: int, warm_up: int) -> None:
        super().__init__()
        self.device = device
        self.steps = steps
        self.warm_up = warm_up * steps
        self.num_steps = self.warm_up + repeats * steps
        self.whole: list[float] = []
        self.floor: list[float] = []
        self._started = 0.0
        self._floor_step: Callable[[], None] | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step < self.warm_up or (trainer.global_step - self.warm_up) % self.steps:
            return
        if self._floor_step is None:
            assert isinstance(pl_module, Algorithm)
            self._floor_step = floor_step(trainer, pl_module, batch)
            seconds(self._floor_step, self.device, self.steps)
        else:
            synchronise(self.device)
            self.whole.append((time.perf_counter() - self._started) / self.steps)
            self.floor.append(seconds(self._floor_step, self.device, self.steps))
        synchronise(self.device)
        self._started = time.perf_counter()


def floor_step(trainer: Trainer, algorithm: Algorithm, batch: Any) -> Callable[[], None]:
    """A step of a copy of the network: forward of the batch's images, backward, optimizer."""
    twin = deepcopy(algorithm.network)
    groups = [
        group | {"params": [dict(twin.named_parameters())[name] for name in names]}
        for group, names in _named_groups(algorithm)
    ]
    optimizer = algorithm.optimizer_factory(groups)
    labelled, weak, strong = batch["labelled_image"], batch["weak"], batch["strong"]
    apart = twin.samples_are_independent
    images = torch.cat([labelled, strong] if apart else [labelled, weak, strong])
    target = torch.randint(twin.num_classes, (len(images),), device=images.device)

    def step() -> None:
        with trainer.precision_plugin.forward_context():
            loss = F.cross_entropy(twin(images).float(), target)
            if apart:
                with torch.no_grad():
                    twin(weak)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _named_groups(algorithm: Algorithm) -> Iterator[tuple[dict[str, Any], list[str]]]:
    names = {id(parameter): name for name, parameter in algorithm.network.named_parameters()}
    for group in algorithm.groups:
        yield group, [names[id(parameter)] for parameter in group["params"]]


class Split(Callback):
    """Seconds of every part of a step, one number a block. A part that runs within another is not counted there."""

    def __init__(self, parts: Parts, device: torch.device, steps: int, repeats: int, warm_up: int) -> None:
        super().__init__()
        self.datamodule = parts.datamodule
        self.device = device
        self.steps = steps
        self.warm_up = warm_up * steps
        self.num_steps = self.warm_up + repeats * steps
        self.seconds: dict[str, list[float]] = {}
        self._totals: dict[str, float] = defaultdict(float)
        self._open = [_REST]
        self._since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Algorithm)
        data, network = self.datamodule, pl_module.network
        assert trainer.train_dataloader is not None
        self._time("draw indices", trainer.train_dataloader.sampler, "step_indices")
        self._time("gather and transfer", trainer.strategy, "batch_to_device")
        self._time("gather and transfer", data, "_images")
        for name in ("weak", "strong"):
            self._time(f"{name} augmentation", data, name)
        self._time("normalise", data, "normalise")
        self._time("forward", network, "features")
        self._time("forward", network.head, "forward")
        self._time("loss and its logging", pl_module, "training_step")
        self._time("backward", trainer.strategy, "backward")
        for optimizer in trainer.optimizers:
            self._time("optimizer", optimizer, "step")
            self._time("optimizer", optimizer, "zero_grad")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            for kind, part in _CALLBACK_PARTS.items():
                if isinstance(callback, kind):
                    self._time(part, callback, "on_train_batch_end")
                    self._time(part, callback, "on_train_batch_start")
        self._since = self._now()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.global_step - self.warm_up) % self.steps:
            return
        self._switch()
        if trainer.global_step > self.warm_up:
            for part, total in self._totals.items():
                self.seconds.setdefault(part, []).append(total / self.steps)
        self._totals.update(dict.fromkeys(self._totals, 0.0))

    def _time(self, part: str, owner: Any, name: str) -> None:
        """Put a stopwatch around the method `name` of `owner`."""
        method = getattr(owner, name)

        @wraps(method)
        def timed(*arguments: Any, **keywords: Any) -> Any:
            self._switch()
            self._open.append(part)
            try:
                return method(*arguments, **keywords)
            finally:
                self._switch()
                self._open.pop()

        setattr(owner, name, timed)

    def _switch(self) -> None:
        """What has passed since the last switch belongs to the part that is open."""
        now = self._now()
        self._totals[self._open[-1]] += now - self._since
        self._since = now

    def _now(self) -> float:
        synchronise(self.device)
        return time.perf_counter()


_CALLBACK_PARTS: dict[type[Callback], str] = {
    ASSLScoreCallback: "score callback",
    WeightEMA: "weight EMA",
    StepSeed: "step seed",
}


def _milliseconds(values: list[float]) -> tuple[float, ...]:
    return tuple(1e3 * value for value in values)
