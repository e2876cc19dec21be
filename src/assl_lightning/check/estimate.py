"""Extrapolation from a trial to the whole run: seconds and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from assl_lightning.base.run_files import CONFIG, FINAL_CHECKPOINT, WARM_UP_WEIGHTS
from assl_lightning.base.words import counted
from assl_lightning.check.findings import Finding, remark, wrong
from assl_lightning.check.trial import Trial
from assl_lightning.config.schema import Config
from assl_lightning.learning.samplers import batches_per_pass

_INNER_CHECKPOINTS = 3  # at most, of a round while it trains


@dataclass(frozen=True)
class Item:
    """A part of a run that is done or written several times."""

    name: str
    each: float  # seconds or bytes
    times: int

    @property
    def total(self) -> float:
        """The seconds or bytes of all times together."""
        return self.each * self.times


@dataclass(frozen=True)
class Estimate:
    """The time and the disk that a run takes."""

    seconds: tuple[Item, ...]
    kept: tuple[Item, ...]  # bytes that stay when the run is finished
    meanwhile: tuple[Item, ...]  # further bytes during a training, at most

    @property
    def total_seconds(self) -> float:
        """The seconds of the whole run."""
        return sum(item.total for item in self.seconds)

    @property
    def kept_bytes(self) -> int:
        """The bytes of a finished run."""
        return round(sum(item.total for item in self.kept))

    @property
    def most_bytes(self) -> int:
        """The largest number of bytes at any time."""
        return self.kept_bytes + round(sum(item.total for item in self.meanwhile))


def extrapolate(
    config: Config, trial: Trial, read_seconds: float = 0.0, complete_rounds: int = 0, *, is_warm: bool = False
) -> Estimate:
    """Estimate the time of reading the data and of the rounds after `complete_rounds`, and the disk of all rounds.

    If the network `is_warm`, the run's warm-up is complete.
    """
    settings = config.settings
    warm_up_steps = int((config.warm_up or {}).get("steps", 0))
    steps = [_steps_of(config, number) for number in range(settings.rounds + 1)]
    tests = [-(-count // (settings.steps_per_epoch or settings.steps_per_round)) for count in steps]
    steps_left, tests_left = steps[complete_rounds:], tests[complete_rounds:]
    repeated = settings.repeat_round
    if repeated is not None and complete_rounds <= repeated <= settings.rounds:
        steps_left, tests_left = [*steps_left, steps[repeated]], [*tests_left, tests[repeated]]
    log_every: int = config.trainer.get("log_every_n_steps", 50)
    rows = sum(steps) // log_every + warm_up_steps // log_every + sum(tests)
    seconds = (
        Item("reading of the data", read_seconds, 1),
        Item("warm-up step", trial.warm_up_step_seconds, 0 if is_warm else warm_up_steps),
        Item("training step", trial.step_seconds, sum(steps_left)),
        Item("test", trial.test_seconds, sum(tests_left)),
        Item("acquisition", trial.query_seconds, max(settings.rounds - complete_rounds, 0)),
        Item("start and end of a training", trial.setup_seconds, len(steps_left)),
    )
    kept = (
        Item("round that acquires", trial.round_bytes, settings.rounds),
        Item("last round", trial.last_round_bytes, 1),
        Item("row of metrics", trial.metrics_bytes, rows),
        Item("line of rounds.jsonl", trial.line_bytes, settings.rounds + 1),
        Item(CONFIG, trial.config_bytes, 1),
        Item(f"weights ({FINAL_CHECKPOINT})", trial.checkpoint_bytes, 1),
        Item(f"weights of the warm-up ({WARM_UP_WEIGHTS})", trial.warm_up_bytes, 1),
    )
    meanwhile = (
        Item("weights of the round before", trial.checkpoint_bytes, min(settings.rounds, 1)),
        Item("checkpoint inside a round, at most", trial.inner_checkpoint_bytes, _INNER_CHECKPOINTS),
    )
    return Estimate(seconds, kept, meanwhile)


def check_disk(needed: int, free: int, directory: object) -> list[Finding]:
    """Report if `needed` further bytes exceed, or nearly exceed, the `free` bytes at `directory`."""
    if needed > free:
        return [
            wrong(
                f"The run needs {size(needed)}, and {directory} has {size(free)} free; make room, or choose another "
                f"run_dir."
            )
        ]
    if needed > free / 2:
        return [
            remark(
                f"The run needs {size(needed)} of the {size(free)} free at {directory}, which is not enough for two "
                f"such runs."
            )
        ]
    return []


def remarks_on(config: Config, trial: Trial) -> list[Finding]:
    """Report what the estimate leaves out."""
    remarks = []
    if trial.devices > 1:
        remarks.append(
            remark(
                f"The run has {trial.devices} devices; one was timed, with its share of each batch, so that the times "
                f"leave out the communication between them."
            )
        )
    if config.trainer.get("callbacks"):
        remarks.append(
            remark("The figures leave out what the callbacks in trainer.callbacks write, and do every so many steps.")
        )
    if config.trainer.get("logger") and not trial.metrics_bytes:
        remarks.append(remark("The figures leave out what the logger writes; it was not called."))
    if trial.steps < config.settings.steps_per_round and trial.steps < 4:
        remarks.append(remark(f"Only {counted(trial.steps, 'step')} could be timed, so that the times are rough."))
    return remarks


def duration(seconds: float) -> str:
    """Write a duration in its two largest units.

    >>> duration(0.0123), duration(5.26), duration(75), duration(7260), duration(200000)
    ('0.012 s', '5.3 s', '1 min 15 s', '2 h 1 min', '2 d 8 h')
    """
    if seconds < 59.5:
        digits = next((digits for limit, digits in ((9.95, 0), (0.0995, 1)) if seconds >= limit), 3)
        return f"{seconds:.{digits}f} s"
    if round(seconds) < 3600:
        return _in_two_units(round(seconds), 60, "min", "s")
    if round(seconds / 60) < 24 * 60:
        return _in_two_units(round(seconds / 60), 60, "h", "min")
    return _in_two_units(round(seconds / 3600), 24, "d", "h")


def _in_two_units(number: int, base: int, larger: str, smaller: str) -> str:
    whole, rest = divmod(number, base)
    return f"{whole} {larger} {rest} {smaller}"


def size(num_bytes: float) -> str:
    """Write a number of bytes in the unit that leaves one to three digits before the point.

    >>> size(0), size(999), size(12345), size(1e6), size(45.3e9)
    ('0 B', '999 B', '12 kB', '1.0 MB', '45 GB')
    """
    value, unit = float(num_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if round(value) < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"


def _steps_of(config: Config, number: int) -> int:
    """Return the largest number of steps of a training: an algorithm may stop after `max_passes` over its labels."""
    algorithm, settings = config.algorithm, config.settings
    if algorithm.labelled_stream == "passes" and algorithm.max_passes is not None:
        labels = settings.initial_labels + settings.labels_between(0, number)
        return min(settings.steps_per_round, algorithm.max_passes * batches_per_pass(labels, algorithm.batch_size))
    return settings.steps_per_round
