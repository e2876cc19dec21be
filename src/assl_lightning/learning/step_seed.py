"""Random numbers that a network draws from torch's default generators, such as dropout, as a function of the step."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from assl_lightning.base.seeding import derive_key


class Generator(Protocol):
    """The default generator of a device."""

    def get_state(self) -> Tensor:
        """Its state, to be set again."""

    def set_state(self, state: Tensor) -> object:
        """Go on from `state`."""

    def manual_seed(self, seed: int) -> object:
        """Begin again from `seed`."""


class StepSeed(Callback):
    """Seed the default generators before each step from (seed, round, step, rank), and restore them after the fit.

    A run that was stopped and goes on then draws the same numbers as the undisturbed run. Everything else in this
    package has counter-based draws of its own and does not use these generators.
    """

    def __init__(self, seed: int, round_number: int) -> None:
        super().__init__()
        self.seed = seed
        self.round_number = round_number
        self._generators: list[Generator] = []
        self._before: list[torch.Tensor] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the states of the generators."""
        self._generators = [torch.default_generator]
        if pl_module.device.type == "cuda":
            self._generators.append(torch.cuda.default_generators[pl_module.device.index or 0])
        elif pl_module.device.type == "mps":
            self._generators.append(_AppleGenerator())
        self._before = [generator.get_state() for generator in self._generators]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed this step."""
        key = derive_key(self.seed, "step", self.round_number, trainer.global_step, trainer.global_rank)
        for generator in self._generators:
            generator.manual_seed(key)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the states of the generators."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the states of the generators after an error, too."""
        self._restore()

    def _restore(self) -> None:
        for generator, state in zip(self._generators, self._before, strict=True):
            generator.set_state(state)


class _AppleGenerator:
    """The default generator of an Apple GPU, which torch offers as functions only."""

    def get_state(self) -> Tensor:
        return torch.mps.get_rng_state()

    def set_state(self, state: Tensor) -> None:
        torch.mps.set_rng_state(state)

    def manual_seed(self, seed: int) -> None:
        torch.mps.manual_seed(seed)
