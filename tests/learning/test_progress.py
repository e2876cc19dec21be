from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from itertools import count
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from assl_lightning.learning.progress import RoundProgress

STEPS = 6


class Module(LightningModule):
    """Logs what an algorithm logs: once every `log_every_n_steps`, and two accuracies after testing."""

    def __init__(self, breaks_at: int | None = None, error: BaseException | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.breaks_at, self.error = breaks_at, error

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if batch_idx == self.breaks_at:
            assert self.error is not None
            raise self.error
        if (self.trainer.global_step + 1) % 2 == 0:
            self.log_dict({"loss": 0.25, "mask_rate": 0.5}, batch_size=len(batch[0]))
        return self.weight.sum()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log_dict({"test_accuracy_ema": 0.912, "test_accuracy_raw": 0.905}, batch_size=len(batch[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_clock(seconds: float = 1.0) -> Iterator[float]:
    return count(0.0, seconds)


def fit(
    *,
    terminal: bool,
    module: Module | None = None,
    validate: bool = True,
    sanity: int = 0,
    round: int | None = 2,
    labels: int = 1030,
) -> tuple[str, RoundProgress]:
    text, ticks = StringIO(), make_clock(0.5)
    progress = RoundProgress(
        round=round,
        rounds=5,
        labels=labels,
        images_per_step=100,
        console=Console(force_terminal=terminal, file=text, width=120),
        clock=lambda: next(ticks),
    )
    loader = DataLoader(TensorDataset(torch.zeros(STEPS, 1)))
    trainer = Trainer(
        max_steps=STEPS,
        log_every_n_steps=2,
        callbacks=[progress],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=sanity,
    )
    try:
        trainer.fit(module or Module(), loader, loader if validate else None)
    except (RuntimeError, SystemExit) as error:
        text.write(f"\nended with {type(error).__name__}")
    return text.getvalue(), progress


pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*GPU available but not used"),
]

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(text: str) -> str:
    return ESCAPE.sub("", text)


def test_away_from_a_terminal_a_round_is_one_plain_line() -> None:
    text, _ = fit(terminal=False)
    assert re.fullmatch(r"round 2/5: 1,030 labels, test accuracy 0\.912 \(EMA\) 0\.905 \(raw\), \d+\.\d s\n", text), (
        text
    )


def test_the_line_holds_the_seconds_of_the_clock_and_leaves_out_what_was_not_tested() -> None:
    text, _ = fit(terminal=False, validate=False)
    assert text == "round 2/5: 1,030 labels, 4.0 s\n"  # a reading at the start, one a step and two at the ends


def test_on_a_terminal_the_bars_show_the_run_and_the_round_and_the_line_remains() -> None:
    text, progress = fit(terminal=True)
    for piece in ("2/5", "4/6", "6/6", "1,030 labels", "loss 0.250", "mask 0.500", "images/s", "left", "about"):
        assert piece in plain(text), piece
    assert "test accuracy 0.912 (EMA) 0.905 (raw) · about" in plain(text)
    assert plain(text).rstrip().endswith(" s")
    assert progress._display is None


@pytest.mark.parametrize("terminal", [False, True])
def test_a_warm_up_has_a_bar_of_its_own_without_a_round(terminal: bool) -> None:
    text, _ = fit(terminal=terminal, validate=False, round=None, labels=0)
    assert plain(text).rstrip().endswith("warm-up: 6 steps, 4.0 s" if not terminal else " s")
    assert "round" not in plain(text)
    assert "labels" not in plain(text)
    if terminal:
        for piece in ("warm-up step", "6/6", "loss 0.250", "images/s", "left"):
            assert piece in plain(text), piece


def test_only_the_steps_of_the_interval_are_drawn() -> None:
    text, _ = fit(terminal=True, validate=False)
    assert {int(step) for step in re.findall(r"(\d)/6", plain(text))} == {0, 2, 4, 6}


@pytest.mark.parametrize("error", [RuntimeError("diverged"), KeyboardInterrupt()])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_terminal_is_given_back_when_training_breaks(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # Lightning ignores Ctrl-C for good after the first
    text, progress = fit(terminal=True, module=Module(breaks_at=3, error=error))
    assert "ended with" in text
    assert progress._display is None
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor was hidden and shown again
    assert "1,030 labels," not in plain(text)  # no line for a round that did not end


def test_a_sanity_check_is_no_test_accuracy() -> None:
    text, _ = fit(terminal=True, sanity=1)
    assert "test accuracy" not in plain(text).split("4/6")[0]


class FakeTrainer:
    """What the callback reads of a Trainer, counting the reads of metrics."""

    is_global_zero, sanity_checking, log_every_n_steps, estimated_stepping_batches = True, False, 10, 100
    num_val_batches = (8,)

    def __init__(self) -> None:
        self.global_step, self.reads = 0, 0

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        self.reads += 1
        return {"loss": torch.tensor(0.5)}


def start(trainer: FakeTrainer, seconds: list[float], terminal: bool = True) -> tuple[RoundProgress, StringIO]:
    text = StringIO()
    console = Console(force_terminal=terminal, file=text, width=140)
    progress = RoundProgress(1, 3, 20, 64, console, clock=lambda: seconds[0])
    progress.on_train_start(cast(Trainer, trainer), cast(LightningModule, None))
    return progress, text


def end_step(progress: RoundProgress, trainer: FakeTrainer) -> None:
    trainer.global_step += 1
    nothing = SimpleNamespace()
    progress.on_train_batch_end(cast(Trainer, trainer), cast(LightningModule, None), nothing, nothing, 0)


def test_metrics_are_read_at_the_interval_and_at_no_other_step() -> None:
    trainer, seconds = FakeTrainer(), [0.0]
    progress, text = start(trainer, seconds)
    reads, lengths = [], []
    for _ in range(25):
        seconds[0] += 0.1
        end_step(progress, trainer)
        reads.append(trainer.reads)
        lengths.append(len(text.getvalue()))
    assert reads == [0] * 9 + [1] * 10 + [2] * 6
    assert len(set(lengths)) == 3
    progress.teardown(cast(Trainer, trainer), cast(LightningModule, None), "fit")


def test_speed_and_time_left_follow_from_the_clock() -> None:
    trainer, seconds = FakeTrainer(), [5.0]
    progress, text = start(trainer, seconds)
    for step in range(20):
        seconds[0] += 1.0 if step < 10 else 3.0
        end_step(progress, trainer)
    progress.teardown(cast(Trainer, trainer), cast(LightningModule, None), "fit")
    last = plain(text.getvalue())
    assert "64 images/s" in last  # 10 steps of 64 images in 10 s
    assert "21 images/s" in last  # then in 30 s
    assert "0:02:40 left" in last  # 80 steps of 2 s
    assert "about 0:09:20 left" in last  # and two rounds of 100 such steps


def test_accumulated_batches_between_two_steps_are_read_once() -> None:
    trainer = FakeTrainer()
    progress, _ = start(trainer, [0.0])
    trainer.global_step = 9
    end_step(progress, trainer)
    trainer.global_step = 9
    end_step(progress, trainer)
    assert trainer.reads == 1
    progress.teardown(cast(Trainer, trainer), cast(LightningModule, None), "fit")


def test_testing_does_not_count_in_the_speed() -> None:
    trainer, seconds = FakeTrainer(), [0.0]
    progress, text = start(trainer, seconds)
    seconds[0] = 100.0
    progress.on_validation_end(cast(Trainer, trainer), cast(LightningModule, None))
    for _ in range(10):
        seconds[0] += 1.0
        end_step(progress, trainer)
    assert "64 images/s" in plain(text.getvalue())
    progress.teardown(cast(Trainer, trainer), cast(LightningModule, None), "fit")


def test_away_from_a_terminal_a_line_after_ten_seconds_and_then_each_minute_says_how_far_it_is() -> None:
    trainer, seconds = FakeTrainer(), [0.0]
    progress, text = start(trainer, seconds, terminal=False)
    for _ in range(36):
        seconds[0] += 4.0
        end_step(progress, trainer)
    assert text.getvalue().splitlines() == [  # 16 images a second; after this round two more, of 100 steps each
        "round 1/3: step 3 of 100, 16 images/s, 0:06:28 left, about 0:19:48 for all rounds",
        "round 1/3: step 18 of 100, 16 images/s, 0:05:28 left, about 0:18:48 for all rounds",
        "round 1/3: step 33 of 100, 16 images/s, 0:04:28 left, about 0:17:48 for all rounds",
    ]
    assert trainer.reads == 0  # nothing waits for the device


def test_away_from_a_terminal_a_long_test_is_told_too() -> None:
    trainer, seconds = FakeTrainer(), [0.0]
    progress, text = start(trainer, seconds, terminal=False)
    trainer.global_step = 7
    for number in range(8):
        seconds[0] += 6.0
        nothing = SimpleNamespace()
        progress.on_validation_batch_end(cast(Trainer, trainer), cast(LightningModule, None), nothing, nothing, number)
    assert text.getvalue() == "round 1/3: step 7 of 100, testing, batch 2 of 8\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_round_that_goes_on_says_from_where(terminal: bool) -> None:
    trainer, seconds = FakeTrainer(), [0.0]
    trainer.global_step = 40
    progress, text = start(trainer, seconds, terminal)
    assert "round 1/3: resumed at step 40 of 100\n" in plain(text.getvalue()).replace("\r", "")
    progress.teardown(cast(Trainer, trainer), cast(LightningModule, None), "fit")


@pytest.mark.parametrize("terminal", [True, False])
def test_other_ranks_write_nothing(terminal: bool) -> None:
    trainer, seconds = FakeTrainer(), [0.0]
    trainer.is_global_zero, trainer.global_step = False, 40
    progress, text = start(trainer, seconds, terminal)
    for _ in range(10):
        seconds[0] += 30.0
        end_step(progress, trainer)
    progress.on_validation_end(cast(Trainer, trainer), cast(LightningModule, None))
    progress.on_fit_end(cast(Trainer, trainer), cast(LightningModule, None))
    assert text.getvalue() == ""
    assert trainer.reads == 0
