"""The progress of a run: two bars on a terminal; elsewhere a line a round, and one a minute while it trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from math import isfinite
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from torch import Tensor

from assl_lightning.base.heartbeat import Heartbeat


class RoundProgress(Callback):
    """The progress of one round and of the run, or of the warm-up before them; one is made for each training.

    Give the Trainer `enable_progress_bar=False` beside it. The values shown are read every `trainer.log_every_n_steps`
    steps, from `trainer.callback_metrics`: "loss", "mask_rate", "test_accuracy_ema" and "test_accuracy_raw", if they
    exist. Between those steps nothing is read and nothing is drawn, so that the host does not wait for the device. Only
    the global-zero rank writes. Without a terminal no metric is read before the round's end: a line after ten seconds,
    and then each minute, has the step, the rate and the time left, which the host knows without the device.

    Args:
        round: this round's number; None: the warm-up, which has no round, no labels and no test.
        rounds: the last round's number, in the same counting.
        labels: how many labels this round trains on.
        images_per_step: how many images one step puts through the network, over all ranks.
        console: where to write; standard output by default.
        clock: seconds from any start.
    """

    def __init__(
        self,
        round: int | None,
        rounds: int,
        labels: int,
        images_per_step: int,
        console: Console | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.round = round
        self.rounds = rounds
        self.labels = labels
        self.images_per_step = images_per_step
        self.console = Console() if console is None else console
        self.clock = clock
        self._display: Progress | None = None
        self._heartbeat: Heartbeat | None = None  # where there is no display
        self._run_bar, self._round_bar = TaskID(0), TaskID(0)
        self._started = clock()
        self._steps_started = 0  # a round that is resumed does not start at step 0
        self._read_at = (0, self._started)  # step and second of the last reading
        self._values: list[str] = []  # of the last reading
        self._accuracy = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and the display where there is a terminal."""
        if not trainer.is_global_zero:
            return
        self._started = self.clock()
        self._steps_started = trainer.global_step
        self._read_at = (trainer.global_step, self._started)
        if trainer.global_step:
            self._say(f"resumed at {_step_of(trainer)}")
        if not self.console.is_terminal:
            self._heartbeat = Heartbeat(self.clock)
        else:
            self._display = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                console=self.console,
                auto_refresh=False,  # a thread of its own would draw, and hold the interpreter, between the readings
                transient=True,
            )
            is_round = self.round is not None
            self._run_bar = self._display.add_task(
                "round", total=self.rounds, completed=self.round or 0, detail="", visible=is_round
            )
            self._round_bar = self._display.add_task(
                "step" if is_round else "warm-up step",
                total=_total_steps(trainer),
                completed=trainer.global_step,
                detail="",
            )
            self._display.start()
            self._draw(trainer.global_step)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Read and draw at the steps at which the algorithm logs; elsewhere, print the step once a minute."""
        step = trainer.global_step
        if self._heartbeat is not None and self._heartbeat.is_due():
            self._beat(trainer)
        interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set outside the class
        if self._display is None or step % max(interval, 1) != 0 or step == self._read_at[0]:
            return
        metrics = trainer.callback_metrics
        values = [
            f"{name} {value:.3f}"
            for name, key in (("loss", "loss"), ("mask", "mask_rate"))
            if (value := _read(metrics, key)) is not None
        ]
        self._values = [*values, *self._rate(step)]  # after the values: reading them waited for the device's work
        self._draw(step)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print the number of the test batch once a minute, where there is no terminal."""
        if self._heartbeat is not None and not trainer.sanity_checking and self._heartbeat.is_due():
            total = trainer.num_val_batches[dataloader_idx]
            count = f" of {total:,}" if isfinite(total) else ""
            self._say(f"{_step_of(trainer)}, testing, batch {batch_idx + 1:,}{count}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the test accuracies; the time of the test does not count in images/s."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        self._read_accuracy(trainer)
        self._read_at = (trainer.global_step, self.clock())
        if self._display is not None:
            self._draw(trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the display and print one line for the training."""
        if not trainer.is_global_zero:
            return
        seconds = self.clock() - self._started
        self._read_accuracy(trainer)
        self._stop()
        accuracy = f", {self._accuracy}" if self._accuracy else ""
        what = f"{trainer.global_step:,} steps" if self.round is None else f"{self.labels:,} labels{accuracy}"
        self._say(f"{what}, {seconds:,.1f} s")

    def on_exception(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        exception: BaseException,
    ) -> None:
        """Remove the display before the error is shown."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove the display at the end of any fit."""
        self._stop()

    def _stop(self) -> None:
        self._heartbeat = None
        if self._display is not None:
            self._display.stop()
            self._display = None

    def _say(self, what: str) -> None:
        name = "warm-up" if self.round is None else f"round {self.round}/{self.rounds}"
        self.console.print(f"{name}: {what}", highlight=False, soft_wrap=True)

    def _beat(self, trainer: Trainer) -> None:
        step = trainer.global_step
        told = [_step_of(trainer), *self._rate(step)]
        if (left := self._time_left(step, _total_steps(trainer))) is not None:
            told.append(f"{_duration(left[0])} left")
            is_last = self.round is None or self.round == self.rounds
            told += [] if is_last else [f"about {_duration(left[1])} for all rounds"]
        self._say(", ".join(told))

    def _rate(self, step: int) -> list[str]:
        """Return the images a second since the last reading as text; nothing if no time has passed."""
        now = self.clock()
        step_before, before = self._read_at
        self._read_at = (step, now)
        return [f"{(step - step_before) * self.images_per_step / (now - before):,.0f} images/s"] if now > before else []

    def _time_left(self, step: int, total: float | None) -> tuple[float, float] | None:
        """Return the seconds left in the round and in the run, if other rounds take as long; None if unknown."""
        done = step - self._steps_started
        if total is None or done <= 0:
            return None
        seconds_per_step = (self.clock() - self._started) / done
        left = seconds_per_step * (total - step)
        return left, left + seconds_per_step * total * (self.rounds - (self.round or 0))

    def _read_accuracy(self, trainer: Trainer) -> None:
        metrics = trainer.callback_metrics
        values = [
            f"{value:.3f} ({name})"
            for name, key in (("EMA", "test_accuracy_ema"), ("raw", "test_accuracy_raw"))
            if (value := _read(metrics, key)) is not None
        ]
        if values:
            self._accuracy = f"test accuracy {' '.join(values)}"

    def _draw(self, step: int) -> None:
        assert self._display is not None
        total = self._display.tasks[self._round_bar].total
        round_detail, run_detail = list(self._values), [f"{self.labels:,} labels"]
        if self._accuracy:
            run_detail.append(self._accuracy)
        if (left := self._time_left(step, total)) is not None:
            round_detail.append(f"{_duration(left[0])} left")
            run_detail.append(f"about {_duration(left[1])} left")
        self._display.update(self._run_bar, detail=" · ".join(run_detail))
        self._display.update(self._round_bar, completed=step, detail=" · ".join(round_detail))
        self._display.refresh()


def _step_of(trainer: Trainer) -> str:
    total = _total_steps(trainer)
    return f"step {trainer.global_step:,}{'' if total is None else f' of {total:,}'}"


def _total_steps(trainer: Trainer) -> int | None:
    """Return the number of steps of this fit; None if it has no end."""
    total = trainer.estimated_stepping_batches
    return int(total) if isfinite(total) else None


def _read(metrics: Mapping[str, Tensor], name: str) -> float | None:
    """Return the metric as a number, None if it was not logged. Waits for the device."""
    return float(metrics[name]) if name in metrics else None


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
