"""One training of a run, a round's or the warm-up: its Trainer, checkpoints, seconds, and its end by a signal.

A Trainer that fits twice trains nothing the second time, so each training has a new one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from assl_lightning.base.interruption import Interruption
from assl_lightning.base.processes import check_that_results_return, is_first_rank
from assl_lightning.base.seeding import derive_key
from assl_lightning.learning.checkpointing import AtomicCheckpointIO, StepCheckpoints
from assl_lightning.learning.loading import LoadingDataModule
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.fit_checkpoints import FitCheckpoints
from assl_lightning.loop.settings import RoundSettings


@dataclass(frozen=True)
class Fitting:
    """Maker of a run's trainings; the arguments are those of `run_rounds`."""

    make_trainer: Callable[..., Trainer]
    settings: RoundSettings
    directory: RunDirectory
    clock: Callable[[], float]
    interruption: Interruption

    @contextmanager
    def initial_weights(self) -> Iterator[None]:
        """Draw in this block the initial weights of a network, which are the same each time.

        Networks are made on the CPU. Generators of other devices are seeded too, and left so: to put those of all GPUs
        back, each process would open a context on each of them.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_key(self.settings.seed, "initial_weights"))
            yield

    def new_trainer(self, directory: Path, max_epochs: int, callbacks: Sequence[Callback | None]) -> Trainer:
        """Make a Trainer of a training whose files lie in `directory`.

        Raises:
            ValueError: its results would be lost, its precision is not possible, or the run had other devices so far.
        """
        trainer = self.make_trainer(
            max_epochs=max_epochs,
            callbacks=[callback for callback in callbacks if callback is not None],
            plugins=[AtomicCheckpointIO()],
            logger=CSVLogger(str(directory), name="", version=""),
            default_root_dir=str(directory),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,  # else a shorter last epoch would end without a test
        )
        check_that_results_return(trainer)
        check_precision(trainer)
        if is_first_rank():
            devices = f"{trainer.world_size} × {trainer.strategy.root_device.type}"
            self.directory.config.check_devices(devices, self.settings.change_devices)
        return trainer

    def step_checkpoints(self, checkpoints: FitCheckpoints) -> StepCheckpoints:
        """Make the callback that writes `checkpoints`."""
        return StepCheckpoints(
            checkpoints.path,
            self.settings.checkpoint.every_n_steps,
            self.settings.checkpoint.every_n_seconds,
            identity=checkpoints.identity,
            interruption=self.interruption,
            on_saved=checkpoints.keep_newest,
        )

    def fit(
        self, trainer: Trainer, module: LightningModule, datamodule: LoadingDataModule, checkpoints: FitCheckpoints
    ) -> None:
        """Fit from the last good checkpoint, or from the start.

        Raises:
            Interrupted: a signal came.
        """
        with warnings.catch_warnings():
            # a round's directory holds pool.pt before the CSV logger opens it
            warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
            # the modules log by the training's step, so an epoch may be shorter than the interval
            warnings.filterwarnings("ignore", message="The number of training batches .* logging interval")
            # the sampler finds its position from the step
            warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch")
            try:
                trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoints.last(), weights_only=True)
            except (SIGTERMException, ChildProcessError):
                # the signal came before `StepCheckpoints` handled signals again, or reached a decoding worker too
                self.interruption.raise_if_asked("the same command goes on from the last checkpoint")
                raise
            finally:
                datamodule.stop_loading()


def check_precision(trainer: Trainer) -> None:
    """Raise a ValueError unless weights, images and averaged weights have one precision (16-true and so on differ)."""
    if trainer.precision in ("16-true", "bf16-true", "64-true"):
        raise ValueError(
            f"trainer.precision={trainer.precision}: must be 32-true, bf16-mixed or 16-mixed, since images, averaged "
            f"weights and statistics are float32; for a faster training use trainer.precision=bf16-mixed"
        )


class Times(Callback):
    """Seconds of a fit and of its tests, counted over interruptions, and the step of the last test."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._fit_started = self._test_started = clock()
        self._before = 0.0
        self.of_tests = 0.0
        self.last_step: int | None = None

    @property
    def of_fit(self) -> float:
        """Seconds from the callback's making until now, with those before an interruption."""
        return self._before + self._clock() - self._fit_started

    @property
    def state_key(self) -> str:
        """The name in checkpoints, which runs of earlier versions hold."""
        return "_Times"

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far."""
        return {"of_fit": self.of_fit, "of_tests": self.of_tests}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the seconds of a checkpoint."""
        self._before, self.of_tests = float(state_dict["of_fit"]), float(state_dict["of_tests"])

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of a test."""
        self._test_started = self._clock()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the seconds of a test."""
        self.of_tests += self._clock() - self._test_started
        self.last_step = trainer.global_step
