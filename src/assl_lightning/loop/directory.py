"""The directory of a run: its files, and the lock of the process that works on it.

<run_dir>/config.yaml               configuration and versions (`run_config`)
<run_dir>/samples.csv               names of the samples, in the order of their indices (`data.sample_names`)
<run_dir>/unreadable.csv            images that cannot be decoded, each with its reason; absent where there are none
<run_dir>/classes.json              changes of the classes; absent where there were none (`class_history`)
<run_dir>/warm_up.ckpt              weights of the network, without its head, with which rounds begin (`warming_up`)
<run_dir>/warm_up.json              steps, images, loss and seconds of the warm-up; absent where there is none
<run_dir>/warm_up/resume/           the last two checkpoints of an unfinished warm-up (`fit_checkpoints`)
<run_dir>/against_labels/           files of loggers that get a curve over the rounds (`round_log`)
<run_dir>/rounds.jsonl              one line for each complete round (`records`)
<run_dir>/round_00/pool.pt          labels with which the round trains
<run_dir>/round_00/initial.json     samples that were asked for before the first round; in round 0 alone
<run_dir>/round_00/state.json       training | trained | waiting, until the round's line is written; kept if the run
                                    ended before the answers to its last request came
<run_dir>/round_00/resume/          the last two checkpoints of an unfinished training (`fit_checkpoints`)
<run_dir>/round_00/repeat/          an unfinished second training on the same labels (`repeat_round`)
<run_dir>/round_00/queried.csv      samples of the round's query, best first
<run_dir>/round_00/queried.pt       probabilities of the classes for them, by the network of the round
<run_dir>/round_00/queried.png      a `contact_sheet` of the first hundred of them
<run_dir>/round_00/histograms.json  distributions of score and statistics, in the pool and among the queried samples
<run_dir>/round_00/statistics.pt    the table of `SampleStatistics`
<run_dir>/round_00/predictions.pt   each sample's latest prediction in training (`learning.latest_predictions`)
<run_dir>/round_00/evaluation.npz   predictions of the test, image by image (`evaluation`)
<run_dir>/round_00/errors.png       a `contact_sheet` of the wrong ones with the highest confidence, if any is wrong
<run_dir>/round_00/final.ckpt       raw and averaged weights; removed when the next round is complete
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assl_lightning.base import tensor_files
from assl_lightning.base.atomic import TEMPORARY, open_atomic, write_text
from assl_lightning.base.csv_text import rows_as_csv
from assl_lightning.base.locking import held
from assl_lightning.base.run_files import (
    CONFIG,
    ERRORS,
    EVALUATION,
    FINAL_CHECKPOINT,
    HISTOGRAMS,
    INITIAL,
    LOCK,
    POOL,
    QUERIED,
    REPEAT,
    RESUME,
    STATE,
    THUMBNAILS,
    UNREADABLE,
    WARM_UP,
    WARM_UP_WEIGHTS,
    round_directory,
)
from assl_lightning.base.words import one_line, shortened
from assl_lightning.data.growth import PoolOnDisk
from assl_lightning.data.pool import Pool, unused
from assl_lightning.data.reclassing import relabel
from assl_lightning.data.sample_names import SampleNames, read_samples, write_samples
from assl_lightning.data.sources.undecodable import Row, write_undecodable
from assl_lightning.loop.class_history import read_history
from assl_lightning.loop.evaluation import Evaluation, write_evaluation
from assl_lightning.loop.fit_checkpoints import FitCheckpoints
from assl_lightning.loop.histograms import Histogram
from assl_lightning.loop.records import (
    RoundRecord,
    State,
    read_records,
    read_state,
    round_under_way,
    write_record,
    write_state,
)
from assl_lightning.loop.run_config import RunConfig
from assl_lightning.loop.warm_up_record import WarmUpRecord, read_warm_up, write_warm_up


class RunDirectory:
    """The files of one run. Each file is replaced in one piece, so a file that exists is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = RunConfig(path)

    def open(self, config: Mapping[str, Any]) -> None:
        """Begin a run in a new or empty directory, or go on with the run of this configuration.

        Raises:
            ValueError: the directory holds something else, or a run with another configuration (`RunConfig.check`).
        """
        if not (self.path / CONFIG).exists():
            self._make()
            with self.held():
                if not (self.path / CONFIG).exists():  # another process may have begun meanwhile
                    self.config.begin(config)
                    return
        self.config.check(config)

    def _make(self) -> None:
        if not self.is_new():
            raise ValueError(
                f"run_dir {self.path} is not empty and holds no run (no config.yaml); choose another run_dir"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"run_dir {self.path} cannot be made ({error.strerror}); choose another run_dir"
            ) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise ValueError(f"run_dir {self.path} cannot be written; choose another run_dir")

    def is_new(self) -> bool:
        """True if the directory is missing, empty, or has only files of a start that was killed or refused."""
        if not self.path.exists():
            return True
        left = (LOCK, UNREADABLE)  # a refused start leaves the latter
        return all(path.name in left or path.name.endswith(TEMPORARY) for path in self.path.iterdir())

    def note_unreadable(self, rows: Sequence[Row]) -> Path:
        """Write the list of images that cannot be decoded, or remove it where there are none; return its path.

        Raises:
            ValueError: the directory holds something other than a run.
            OSError: the list cannot be written.
        """
        file = self.path / UNREADABLE
        if not (self.is_new() or (self.path / CONFIG).exists()):
            raise ValueError(f"{self.path} is not empty and holds no run")
        if rows:
            self.path.mkdir(parents=True, exist_ok=True)
            write_undecodable(file, rows)
        else:
            file.unlink(missing_ok=True)
        return file

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the directory's lock, which the system releases when the process ends in any way.

        Raises:
            ValueError: another process on this machine holds the lock.
        """
        with held(self.path):
            yield

    def records(self) -> list[RoundRecord]:
        """Read the records of the complete rounds."""
        return read_records(self.path)

    def commit(self, record: RoundRecord) -> None:
        """Write a round's record, which completes the round, and remove its temporary files."""
        write_record(self.path, record)
        self.tidy(record)

    def tidy(self, record: RoundRecord) -> None:
        """Remove the files that a complete round no longer needs, also those that a killed process has left."""
        number = record.round
        if not self._ended_before_its_labels(record):
            (self.round(number) / STATE).unlink(missing_ok=True)
        self.checkpoints(number).remove()
        self.remove_repeat(number)
        if number > 0:
            (self.round(number - 1) / FINAL_CHECKPOINT).unlink(missing_ok=True)

    def _ended_before_its_labels(self, record: RoundRecord) -> bool:
        """True if the round's query was made, but its answers are not wanted unless the run gets more rounds."""
        try:
            _, asked = self.read_state(record.round)
        except ValueError:
            return False
        return not record.queried and asked is not None and bool(asked.queried)

    def remove_temporary_files(self) -> None:
        """Remove files that a killed process was writing; call it only while the lock is `held`."""
        for leftover in [*self.path.rglob(f".*{TEMPORARY}")]:
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)

    # ---- the files of a round

    def round(self, number: int) -> Path:
        """Return the directory of a round."""
        return round_directory(self.path, number)

    def checkpoints(self, number: int) -> FitCheckpoints:
        """Return the checkpoints within the training of a round."""
        return FitCheckpoints(self.round(number) / RESUME, self.config, {"round": number})

    def repeat_checkpoints(self, number: int) -> FitCheckpoints:
        """Return the checkpoints within the second training of a round."""
        return FitCheckpoints(self.round(number) / REPEAT / RESUME, self.config, {"repeated_round": number})

    def remove_repeat(self, number: int) -> None:
        """Remove all files of the second training of a round."""
        shutil.rmtree(self.round(number) / REPEAT, ignore_errors=True)

    def warm_up_checkpoints(self, samples: str) -> FitCheckpoints:
        """Return the checkpoints within the warm-up on the `samples` of this digest."""
        return FitCheckpoints(self.path / WARM_UP / RESUME, self.config, {"warm_up": samples})

    def save_tensors(self, number: int, name: str, state: dict[str, Any]) -> None:
        """Write tensors and plain values, which `load_tensors` reads."""
        self.round(number).mkdir(exist_ok=True)
        tensor_files.save(state, self.round(number) / name)

    def load_tensors(self, number: int, name: str) -> dict[str, Any]:
        """Read tensors of `save_tensors`, or a trainer's checkpoint, onto the CPU; no code of the file is run."""
        return _load(self.require(number, name))

    def require(self, number: int, name: str) -> Path:
        """Return the path of a round's file, or raise a FileNotFoundError."""
        return _required(self.round(number) / name)

    @contextmanager
    def reading(self, number: int, name: str) -> Iterator[None]:
        """Name a round's file in errors that its content causes."""
        with _reading(self.round(number) / name):
            yield

    def read_warm_up(self) -> WarmUpRecord | None:
        """Read the record of the warm-up; None where it is not complete, or there is none."""
        return read_warm_up(self.path)

    def write_warm_up(self, weights: dict[str, Tensor], record: WarmUpRecord) -> None:
        """Write the weights that the warm-up leaves, by name, and then its record, which completes it."""
        tensor_files.save({"state_dict": weights}, self.path / WARM_UP_WEIGHTS)
        write_warm_up(self.path, record)

    @contextmanager
    def warm_up_weights(self) -> Iterator[dict[str, Tensor]]:
        """Read these weights, and name their file in errors that they cause in the block."""
        path = _required(self.path / WARM_UP_WEIGHTS)
        content = _load(path)
        with _reading(path):
            yield content["state_dict"]

    def load_pool(self, number: int, pool: Pool, *, grown: bool = False) -> None:
        """Restore the labels of a round into `pool`; if the pool has `grown`, new samples join the next round."""
        state = self.load_tensors(number, POOL)
        classes = read_history(self.path)
        with self.reading(number, POOL):
            if classes is not None:
                state = relabel(state, classes.present_labels(number), pool.labels)
            pool.load_state_dict(state, joining=number + 1 if grown else None)

    def pool_on_disk(self) -> PoolOnDisk | None:
        """Read which images the run has and needs; None where it has written down no names yet."""
        names = read_samples(self.path)
        if not names.pool:
            return None
        if not self.has(0, POOL):
            return PoolOnDisk(names, len(names.pool), between_rounds=self.has_begun)
        number = self.under_way()
        state = self.load_tensors(number, POOL)
        with self.reading(number, POOL):
            is_waiting = self.read_state(number)[0] == "waiting"
            return PoolOnDisk(names, len(state["labelled_in_round"]), is_waiting, unused(state))

    @property
    def has_begun(self) -> bool:
        """True once the first samples were asked for."""
        return self.has(0, INITIAL) or self.has(0, POOL)

    def write_initial(self, held_out: Tensor, others: Tensor) -> None:
        """Write the first request: (H,) samples to hold out and (K,) others, int64."""
        self.round(0).mkdir(exist_ok=True)
        content = {"held_out": held_out.tolist(), "others": others.tolist()}
        write_text(self.round(0) / INITIAL, json.dumps(content))

    def read_initial(self) -> tuple[Tensor, Tensor] | None:
        """Read the first request, samples to hold out and others; None where there was none yet."""
        if not self.has(0, INITIAL):
            return None
        with self.reading(0, INITIAL):
            content = json.loads((self.round(0) / INITIAL).read_text(encoding="utf-8"))
            held_out, others = (torch.tensor(content[name], dtype=torch.int64) for name in ("held_out", "others"))
            return held_out, others

    def under_way(self) -> int:
        """Return the round under way; see `records.round_under_way`."""
        return round_under_way(self.path)

    def note_samples(self, pool: Pool, test: Sequence[str]) -> None:
        """Write the names of all samples, in the order of their indices, if there are new ones.

        Raises:
            ValueError: the pool has the run's samples at other indices.
        """
        known = read_samples(self.path)
        if pool.sample_ids[: len(known.pool)] != known.pool:
            raise ValueError(
                f"{self.path} has other samples at the indices of the {len(known.pool)} that it knows; where another "
                f"process has just noted new images, start the run once more, and else restore its images"
            )
        if not known.pool and self.has(0, POOL):  # early versions wrote no names: check the digest in pool.pt
            self.load_pool(self.under_way(), Pool(pool.num_samples, pool.num_classes, pool.sample_ids), grown=True)
        if len(pool.sample_ids) > len(known.pool):
            write_samples(self.path, SampleNames(pool.sample_ids, tuple(test)))

    def has(self, number: int, name: str) -> bool:
        """True if a round's file exists."""
        return (self.round(number) / name).exists()

    def write_state(self, number: int, state: State, record: RoundRecord | None = None) -> None:
        """Write the state of an incomplete round; `trained` and `waiting` come with its record so far."""
        self.round(number).mkdir(exist_ok=True)
        write_state(self.path, number, state, record)

    def read_state(self, number: int) -> tuple[State, RoundRecord | None]:
        """Read the state of an incomplete round, and its record so far."""
        return read_state(self.path, number)

    def write_queried(
        self, number: int, rows: Sequence[Mapping[str, object]], histograms: Mapping[str, Histogram]
    ) -> None:
        """Write queried.csv, with a row for each sample, best first, and histograms.json."""
        write_text(self.round(number) / QUERIED, rows_as_csv(rows))
        write_text(self.round(number) / HISTOGRAMS, json.dumps(histograms))

    def write_evaluation(self, number: int, evaluation: Evaluation, errors: bytes | None) -> None:
        """Write evaluation.npz, and errors.png with the pictures that it names; None if it names none."""
        self.round(number).mkdir(exist_ok=True)
        if errors is None:
            (self.round(number) / ERRORS).unlink(missing_ok=True)
        else:
            with open_atomic(self.round(number) / ERRORS) as file:
                file.write(errors)
        write_evaluation(self.round(number) / EVALUATION, evaluation)

    def write_thumbnails(self, number: int, png: bytes) -> None:
        """Write queried.png."""
        with open_atomic(self.round(number) / THUMBNAILS) as file:
            file.write(png)


def _required(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing, but the run cannot go on without it; restore it or begin anew")
    return path


def _load(path: Path) -> dict[str, Any]:
    try:
        return tensor_files.load(path)
    except ValueError as error:
        raise ValueError(f"{error}; restore it or begin anew") from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        problem = shortened(one_line(error), 200)
        if str(path) in problem:
            raise
        raise ValueError(
            f"{path} does not hold what this run needs of it ({type(error).__name__}: {problem}); restore it or "
            f"begin anew"
        ) from error
