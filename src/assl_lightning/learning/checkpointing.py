"""Checkpoints inside a fit: their times, their content beside Lightning's own, and the end of a fit by a signal."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loops.progress import _BatchProgress

from assl_lightning.base import tensor_files
from assl_lightning.base.interruption import Interruption
from assl_lightning.base.processes import open_host_group
from assl_lightning.learning.settings import CheckpointSettings

CHECKPOINT_IDENTITY = "assl_lightning"
"""The key of a checkpoint under which the run, round and step that it belongs to are written."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its target and rename it: a kill leaves the old file or the new one, never half a file.

    Lightning's own plugin writes to the temporary directory; its last move across file systems is a copy, and a kill
    during the copy destroys the good file. Lightning writes targets that are no local path (s3://…).
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        tensor_files.save(checkpoint, target)


class StepCheckpoints(Checkpoint):
    """Save a fit at intervals of steps or seconds, and when a signal asks it to stop, so that it can go on from there.

    A step is saved when the next one begins, because callbacks, loggers and the test after an epoch are done with it
    by then. The last step of a fit is not saved here. The rows of a CSV logger are in the checkpoint, and a fit that
    goes on writes them again, because Lightning's logger begins with an empty file.

    Under DDP the first rank's clock and any rank's signal count for all of them, agreed on in each step between the
    hosts, which do not wait for their devices. Lightning's own agreement on SIGTERM, which waits, is then left out.

    Args:
        path_of_step: where the checkpoint of a step goes.
        every_n_steps: optimizer steps between two checkpoints; None: not by steps.
        every_n_seconds: seconds between two checkpoints, by a monotonic clock; None: not by time.
        identity: plain values that identify a checkpoint, stored under the key `CHECKPOINT_IDENTITY`.
        interruption: the signal that ends the fit with `Interrupted`, once the next step is saved.
        on_saved: called on the first rank with the step, once its checkpoint is whole.
        clock: seconds from any start.
    """

    def __init__(
        self,
        path_of_step: Callable[[int], Path],
        every_n_steps: int | None = None,
        every_n_seconds: float | None = None,
        *,
        identity: dict[str, Any] | None = None,
        interruption: Interruption | None = None,
        on_saved: Callable[[int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.path_of_step = path_of_step
        settings = CheckpointSettings(every_n_steps, every_n_seconds)
        self.every_n_steps, self.every_n_seconds = settings.every_n_steps, settings.every_n_seconds
        self.identity = dict(identity or {})
        self.interruption = interruption
        self.on_saved = on_saved
        self.clock = clock
        self._saved_at = 0.0
        self._last_step = 0
        self._is_first = True
        self._signum = 0  # as agreed on when it last was time to ask
        self._logged: list[str] = []
        self._hosts: Any = None  # the group over which the ranks agree

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, write the earlier log rows again, and take the signals back from Lightning."""
        self._saved_at, self._last_step = self.clock(), trainer.global_step
        for logger, text in zip(_csv_loggers(trainer), self._logged, strict=False):
            _log_again(logger, text)
        self._logged = []
        if self.interruption is not None:
            self.interruption.install()
        if trainer.world_size > 1 and torch.distributed.is_initialized():
            self._hosts = open_host_group()
            if self.interruption is not None:  # its handlers note signals in place of Lightning's
                trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _agree_on_nothing  # type: ignore[method-assign]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save the previous step, if a checkpoint is due and the optimizer made a step."""
        if batch_idx > 0 and self._is_due(trainer):
            with _before_its_batch(trainer.fit_loop.epoch_loop.batch_progress):
                self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step of an epoch, if a checkpoint is due."""
        if trainer.current_epoch + 1 != trainer.max_epochs and not trainer.should_stop and self._is_due(trainer):
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Agree among the ranks on a signal that came with the last step."""
        self._agreed(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the identity and the log rows so far."""
        checkpoint[CHECKPOINT_IDENTITY] = {**self.identity, "step": trainer.global_step}
        checkpoint[_LOGGED] = [_read(logger) for logger in _csv_loggers(trainer)] if trainer.is_global_zero else []

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the log rows until the logger exists."""
        self._logged = list(checkpoint.get(_LOGGED, []))

    def _is_due(self, trainer: Trainer) -> bool:
        if trainer.global_step == self._last_step:
            return False
        self._last_step = trainer.global_step
        by_time, self._signum = self._agreed(trainer)
        by_steps = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        return by_time or by_steps or self._signum > 0

    def _agreed(self, trainer: Trainer) -> tuple[bool, int]:
        """Return if a checkpoint is due by time, and the signal that asks to stop or 0; the same on all ranks."""
        by_time = self.every_n_seconds is not None and self.clock() - self._saved_at >= self.every_n_seconds
        signum = 0 if self.interruption is None else self.interruption.signum or 0
        if trainer.world_size > 1:
            of_rank = torch.tensor([by_time and trainer.is_global_zero, signum])
            torch.distributed.all_reduce(of_rank, torch.distributed.ReduceOp.MAX, group=self._hosts)
            by_time, signum = of_rank.tolist()
        if self.interruption is not None and signum:
            self.interruption.signum = int(signum)
        return bool(by_time), int(signum)

    def _save(self, trainer: Trainer) -> None:
        step = trainer.global_step
        path = self.path_of_step(step)
        trainer.save_checkpoint(path, weights_only=False)
        if self._is_first and trainer.is_global_zero:
            _check_that_it_loads(path)
        self._is_first = False
        self._saved_at = self.clock()
        if trainer.is_global_zero and self.on_saved is not None:
            self.on_saved(step)
        if self.interruption is not None and self._signum:  # a later signal is not agreed on yet
            self.interruption.raise_if_asked(f"step {step} is saved, and the same command goes on from there")


def _agree_on_nothing() -> None:
    """Stand in for Lightning's broadcast of a SIGTERM that it has noted."""


_LOGGED = "assl_lightning_metrics_csv"


def _check_that_it_loads(path: Path) -> None:
    """Raise now, not when the run goes on, if a module puts objects into checkpoints that are not read from files."""
    try:
        tensor_files.load(path)
    except ValueError as error:
        raise ValueError(
            f"{error}; keep what is no tensor or plain value out of checkpoints, such as what save_hyperparameters() "
            f"finds in an algorithm"
        ) from error


@contextmanager
def _before_its_batch(progress: _BatchProgress) -> Iterator[None]:
    """Set Lightning's count of batches back by the batch that is about to start, which a fit that goes on repeats.

    Otherwise that fit would count, and log, one step too many.
    """
    progress.total.ready, progress.current.ready = progress.total.ready - 1, progress.current.ready - 1
    try:
        yield
    finally:
        progress.total.ready, progress.current.ready = progress.total.ready + 1, progress.current.ready + 1


def _csv_loggers(trainer: Trainer) -> Iterator[CSVLogger]:
    return (logger for logger in trainer.loggers if isinstance(logger, CSVLogger))


def _read(logger: CSVLogger) -> str:
    logger.save()
    path = Path(logger.log_dir) / logger.experiment.NAME_METRICS_FILE
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _log_again(logger: CSVLogger, text: str) -> None:
    """Write the rows of a metrics file into a new one, without adding the logger's prefix a second time."""
    for row in csv.DictReader(io.StringIO(text)):
        values = {name: value for name, value in row.items() if value != "" and name != "step"}
        logger.experiment.log_metrics(values, step=int(row["step"]))
    logger.save()
