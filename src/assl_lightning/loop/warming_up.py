"""The training of a network on images alone, before the first label is asked for.

It is made once, on the pool as the run begins, and is resumed as a round's training is. Its weights are those at which
rounds begin, but for the network's head, which keeps its own initial weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from assl_lightning.base.processes import is_first_rank, wait_for_all_ranks
from assl_lightning.base.run_files import WARM_UP
from assl_lightning.base.seeding import derive_key
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.non_finite import NonFinite
from assl_lightning.learning.simclr import SimCLR
from assl_lightning.learning.step_seed import StepSeed
from assl_lightning.learning.view_pairs import ViewPairDataModule
from assl_lightning.loop.fit_checkpoints import FitCheckpoints
from assl_lightning.loop.fitting import Fitting, Times
from assl_lightning.loop.warm_up_record import WarmUpRecord
from assl_lightning.networks.base import FeatureNetwork

_BEFORE_ROUNDS = -1  # in the place of a round's number, in draws
_HEAD = "head."


@dataclass(frozen=True)
class WarmUp:
    """The warm-up of a run; the arguments are those of `run_rounds`."""

    fitting: Fitting
    datamodule: PoolDataModule
    make_network: Callable[[], FeatureNetwork]
    make_warm_up: Callable[[FeatureNetwork], SimCLR]
    make_progress: Callable[..., Callback] | None

    def run(self, index: Tensor) -> None:
        """Train on the samples at `index` (M,) int64, from the last checkpoint if there is one, unless it was done.

        What was trained on other samples is trained anew: this is called before anything is asked for, and the pool may
        have changed since.

        Raises:
            Interrupted: a signal came; the training is saved.
        """
        directory, samples = self.fitting.directory, _digest(index)
        checkpoints = directory.warm_up_checkpoints(samples)
        record = directory.read_warm_up()
        if record is None or record.samples != samples:
            with self.fitting.interruption.deferred():
                module, record = self._train(index, samples, checkpoints)
                if is_first_rank():
                    directory.write_warm_up(_without_head(module.network), record)
            wait_for_all_ranks()
            self.fitting.interruption.raise_if_asked("the warm-up is complete, and the same command goes on from there")
        if is_first_rank():
            checkpoints.remove()

    def _train(self, index: Tensor, samples: str, checkpoints: FitCheckpoints) -> tuple[SimCLR, WarmUpRecord]:
        fitting, settings = self.fitting, self.fitting.settings
        module = self._new_module()
        self.datamodule.start_round(0, seed=settings.seed, steps_per_round=settings.steps_per_round)
        data = ViewPairDataModule(self.datamodule, index, steps=module.steps, batch_size=module.batch_size)
        times, non_finite, loss = Times(fitting.clock), NonFinite(settings.non_finite), _LastLoss()
        seed, saving = StepSeed(settings.seed, _BEFORE_ROUNDS), fitting.step_checkpoints(checkpoints)
        callbacks = [seed, non_finite, times, loss, saving, self._progress(module, len(index))]
        trainer = fitting.new_trainer(fitting.directory.path / WARM_UP, 1, callbacks)
        fitting.fit(trainer, module, data, checkpoints)
        if trainer.global_step != module.steps:
            raise RuntimeError(
                f"the warm-up was to train {module.steps} steps, but the trainer made {trainer.global_step}; a trainer "
                f"setting such as max_steps or limit_train_batches must have cut it short"
            )
        non_finite.check_weights(trainer, module)
        return module, WarmUpRecord(
            steps=trainer.global_step,
            images=len(index),
            loss=loss.value,
            skipped_steps=non_finite.skipped,
            seconds=times.of_fit,
            samples=samples,
        )

    def _new_module(self) -> SimCLR:
        """Make the module with the run's initial weights, and a projection head of its own draws."""
        with self.fitting.initial_weights():
            network = self.make_network()
            torch.manual_seed(derive_key(self.fitting.settings.seed, "projection"))
            return self.make_warm_up(network)

    def _progress(self, module: SimCLR, num_images: int) -> Callback | None:
        if self.make_progress is None:
            return None
        images_per_step = 2 * min(module.batch_size, num_images)
        return self.make_progress(
            round=None, rounds=self.fitting.settings.rounds, labels=0, images_per_step=images_per_step
        )

    def load_into(self, network: FeatureNetwork) -> None:
        """Give `network` the weights of the warm-up; its head stays as it is.

        Raises:
            FileNotFoundError: they are not there.
            ValueError: they cannot be read, or are those of another network.
        """
        with self.fitting.directory.warm_up_weights() as weights:
            missing, strange = network.load_state_dict(weights, strict=False)
            others = [*(name for name in missing if not name.startswith(_HEAD)), *strange]
            if others:
                raise ValueError(f"only one of the two networks has the weights {others[0]}")


def _without_head(network: FeatureNetwork) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in network.state_dict().items() if not name.startswith(_HEAD)}


def _digest(index: Tensor) -> str:
    return hashlib.blake2b(index.numpy().tobytes(), digest_size=16).hexdigest()


class _LastLoss(Callback):
    """The loss of the last step, which all ranks compute alike."""

    def __init__(self) -> None:
        super().__init__()
        self._last: Tensor | None = None

    @property
    def value(self) -> float | None:
        """None where it is not finite. Waits for the device."""
        assert self._last is not None
        loss = float(self._last)
        return loss if isfinite(loss) else None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._last = outputs["loss"].detach()
