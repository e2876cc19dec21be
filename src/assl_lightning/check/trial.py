"""A few steps of the real run in a temporary directory, to measure the time of its parts and the size of its files.

`run_rounds` runs with the run's own network, images, trainer and strategy, but only two trainings of a few steps.
Labels are those of the data set, so that people are not asked.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from assl_lightning.base.run_files import (
    CONFIG,
    FINAL_CHECKPOINT,
    RECORDS,
    SAMPLES,
    WARM_UP_RECORD,
    WARM_UP_WEIGHTS,
    round_directory,
)
from assl_lightning.check.directory import weigh
from assl_lightning.config.build import make_parts, make_settings
from assl_lightning.config.schema import Config
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.loop.moving import with_run_dir
from assl_lightning.loop.oracles import HeldBackLabels
from assl_lightning.loop.records import RoundRecord
from assl_lightning.loop.rounds import run_rounds
from assl_lightning.loop.warm_up_record import read_warm_up
from assl_lightning.method.callback import ASSLScoreCallback
from assl_lightning.method.features import SampleFeatures
from assl_lightning.method.statistics import SampleStatistics

_UNTIMED_STEPS = 3  # not timed: kernels are chosen and memory is allocated
_STEPS = _UNTIMED_STEPS + 10

_METRICS = "metrics.csv"

_CSV_LOGGER = f"{CSVLogger.__module__}.{CSVLogger.__qualname__}"
_CSV_LOGGERS = (_CSV_LOGGER, "lightning.pytorch.loggers.CSVLogger")


@dataclass(frozen=True)
class Trial:
    """The measurements of a trial: seconds of one step, test or query, and sizes in bytes."""

    devices: int  # of the run; the trial has one, with its share of each batch
    steps: int  # of a training
    step_seconds: float  # median of the timed steps
    test_seconds: float  # one pass over the test set
    query_seconds: float  # one acquisition; 0 if the run has none
    setup_seconds: float  # of a training, without its steps and tests
    round_bytes: int  # files of a round that acquires, without metrics and weights
    last_round_bytes: int  # the same for the last round
    checkpoint_bytes: int  # the checkpoint of a finished round
    inner_checkpoint_bytes: int  # a checkpoint inside a round, with the optimizer's state
    metrics_bytes: float  # one row of metrics; 0 if no CSV is written
    line_bytes: float  # one line of rounds.jsonl
    config_bytes: int  # with the list of the samples' names
    warm_up_step_seconds: float = 0.0  # median; 0 if the run has no warm-up
    warm_up_bytes: int = 0  # its weights and its record


def run_trial(config: Config, source: PoolSource) -> Trial:
    """Train, test and query a shortened run of `config` on `source`, and remove its files.

    Raises:
        ConfigurationError: the parts of the configuration do not fit each other, or the run's directory.
    """
    with tempfile.TemporaryDirectory(prefix="assl_lightning_check_") as temporary, _only_errors():
        without_logger = replace(config, trainer={**config.trainer, "logger": None})
        whole = make_parts(without_logger, source)
        devices = _count_devices(whole.make_trainer, Path(temporary))
        run_dir = Path(temporary) / "run"
        shortened = _shorten(config, run_dir, devices)
        parts = make_parts(shortened, source)
        watches: dict[int | None, _Watch] = {}

        def watch(round: int | None, **_: Any) -> Callback:
            watches[round] = _Watch(parts.datamodule, config, Path(temporary) / "inner.ckpt")
            return watches[round]

        records = run_rounds(
            **vars(replace(parts, oracle=HeldBackLabels(_made_up(source)))),
            settings=make_settings(shortened),
            run_dir=run_dir,
            make_progress=watch,
        )
        return replace(_sum_up(devices, records, watches[len(records) - 1], run_dir), **_of_warm_up(watches, run_dir))


def _made_up(source: PoolSource) -> torch.Tensor:
    """Return (N,) int64 labels; unknown ones are replaced by arbitrary classes, which takes the same time."""
    index = torch.arange(len(source.hidden_labels))
    return torch.where(source.hidden_labels < 0, index % len(source.class_names), source.hidden_labels)


def _sum_up(devices: int, records: list[RoundRecord], watch: _Watch, run_dir: Path) -> Trial:
    first, last = round_directory(run_dir, 0), round_directory(run_dir, records[-1].round)
    train_seconds = records[-1].seconds["train"] - watch.own_seconds
    step_seconds = watch.step_seconds or train_seconds / records[-1].steps
    return Trial(
        devices=devices,
        steps=records[-1].steps,
        step_seconds=step_seconds,
        test_seconds=records[-1].seconds["test"] / devices,
        query_seconds=records[0].seconds.get("acquire", 0.0),
        setup_seconds=max(train_seconds - step_seconds * records[-1].steps, 0.0),
        round_bytes=_weigh_kept(first) if len(records) > 1 else 0,
        last_round_bytes=_weigh_kept(last),
        checkpoint_bytes=(last / FINAL_CHECKPOINT).stat().st_size,
        inner_checkpoint_bytes=watch.checkpoint_bytes,
        metrics_bytes=_row_bytes(last / _METRICS),
        line_bytes=(run_dir / RECORDS).stat().st_size / len(records),
        config_bytes=sum((run_dir / name).stat().st_size for name in (CONFIG, SAMPLES)),
    )


def _of_warm_up(watches: Mapping[int | None, _Watch], run_dir: Path) -> dict[str, Any]:
    """Return what the trial measured of the warm-up; nothing where the run has none."""
    record = read_warm_up(run_dir)
    if record is None:
        return {}
    files = (WARM_UP_WEIGHTS, WARM_UP_RECORD)
    return {
        "warm_up_step_seconds": watches[None].step_seconds or record.seconds / record.steps,
        "warm_up_bytes": sum((run_dir / name).stat().st_size for name in files),
    }


def _weigh_kept(directory: Path) -> int:
    beside = sum(
        (directory / name).stat().st_size for name in (FINAL_CHECKPOINT, _METRICS) if (directory / name).exists()
    )
    return weigh(directory) - beside


def _row_bytes(metrics: Path) -> float:
    """Return the bytes of a row with its share of the header; 0 if there is no such file."""
    if not metrics.exists():
        return 0.0
    rows = len(metrics.read_text().splitlines()) - 1
    return metrics.stat().st_size / max(rows, 1)


def _shorten(config: Config, run_dir: Path, devices: int) -> Config:
    """Return the same run with a few steps, at most one acquisition, one device, and no logger other than CSV."""
    logger = config.trainer.get("logger")
    writes_csv = isinstance(logger, Mapping) and logger.get("_target_") in _CSV_LOGGERS
    trainer = {**config.trainer, "logger": logger if writes_csv else None}
    warm_up = config.warm_up
    if warm_up is not None:  # of a step's images, each device has its share
        steps, images = (warm_up.get(name, least) for name, least in (("steps", 1), ("batch_size", 2)))
        warm_up = warm_up | {"steps": min(steps, _STEPS), "batch_size": max(images // devices, 2)}
    if devices > 1:
        trainer |= {"devices": 1, "num_nodes": 1, "strategy": "auto"}
    return replace(
        config,
        run_dir=str(run_dir),
        acquisition=replace(  # what a strategy keeps is kept in the trial's directory
            config.acquisition, strategy=with_run_dir(config.acquisition.strategy, config.run_dir, str(run_dir))
        ),
        settings=replace(
            config.settings,
            rounds=min(config.settings.rounds, 1),
            steps_per_round=min(config.settings.steps_per_round, _STEPS),
            steps_per_epoch=None,
            repeat_round=None,
        ),
        algorithm=replace(config.algorithm, batch_size=max(config.algorithm.batch_size // devices, 1)),
        warm_up=warm_up,
        stop=None,
        trainer=trainer,
    )


def _count_devices(make_trainer: Callable[..., Trainer], directory: Path) -> int:
    trainer = make_trainer(default_root_dir=str(directory), max_epochs=1)
    return max(trainer.num_devices * trainer.num_nodes, 1)


@contextmanager
def _only_errors() -> Iterator[None]:
    """Hide the messages and warnings of the trial; the run itself will print them."""
    ours = logging.getLogger("assl_lightning")
    level = ours.level
    ours.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ours.setLevel(level)


class _Watch(Callback):
    """A callback that times steps, weighs a checkpoint, and marks as many samples as visited as a whole round does."""

    def __init__(self, datamodule: PoolDataModule, config: Config, checkpoint: Path) -> None:
        super().__init__()
        self._datamodule = datamodule
        self._config = config
        self._checkpoint = checkpoint
        self._ended: list[float] = []  # the time of each step's end
        self.own_seconds = 0.0
        self.checkpoint_bytes = 0

    @property
    def step_seconds(self) -> float | None:
        """The median of the timed steps; None if there were too few."""
        timed = self._ended[_UNTIMED_STEPS - 1 :] if len(self._ended) > _UNTIMED_STEPS else self._ended
        durations = [after - before for before, after in pairwise(timed)]
        return median(durations) if durations else None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.device.type != "cpu":
            torch.accelerator.synchronize(pl_module.device)
        self._ended.append(time.perf_counter())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        started = time.perf_counter()
        trainer.save_checkpoint(self._checkpoint, weights_only=False)
        self.checkpoint_bytes = self._checkpoint.stat().st_size
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # set outside the class
        for callback in callbacks:
            if isinstance(callback, ASSLScoreCallback):
                self._visit(callback)
        self.own_seconds = time.perf_counter() - started

    def _visit(self, score: ASSLScoreCallback) -> None:
        """Mark as many samples as visited as a whole round visits, so that the query has as many candidates."""
        pool, algorithm = self._datamodule.pool, self._config.algorithm
        seen = self._config.settings.steps_per_round * algorithm.batch_size
        mark_visited(score, pool.unlabelled[: seen * algorithm.mu])
        if score.keep_features:
            mark_seen(score.features, pool.labelled[:seen])


def mark_visited(score: ASSLScoreCallback, index: torch.Tensor) -> None:
    """Record a visit with random numbers, and features if they are kept, for those of `index` (M,) without a visit."""
    statistics: SampleStatistics = score.statistics
    device = statistics.visits.device
    index = index.to(device)
    index = index[statistics.visits[index] == 0]
    for part in index.split(4096):
        numbers = torch.rand(2, len(part), device=device).unbind()
        width = statistics.further.width
        further = None if width is None else torch.rand(len(part), width, device=device)
        statistics.update(part, *numbers, assume_unique=True, further=further)
    if score.keep_features:
        mark_seen(score.features, index)


def mark_seen(features: SampleFeatures, index: torch.Tensor) -> None:
    """Keep random features for those of `index` (M,) that were not seen."""
    index = index.to(features.seen(index).device)
    for part in index[~features.seen(index)].split(4096):
        features.update(part, torch.randn_like(features.rows(part)), assume_unique=True)
