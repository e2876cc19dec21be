"""Runs on disk, and the methods and settings that they are grouped into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assl_lightning.base.run_files import CONFIG, RECORDS, STATE, round_directory
from assl_lightning.base.suggestions import nearest_path
from assl_lightning.loop.budget import planned_labels
from assl_lightning.loop.records import RoundRecord, read_config, reason_of_end, trained_records, with_later_keys
from assl_lightning.loop.warm_up_record import WarmUpRecord, read_warm_up

GROUPS = ("data", "network", "algorithm", "acquisition")
"""The groups of a configuration that have a name, which says more than their keys."""

_NEEDED: Mapping[str, type] = {
    **dict.fromkeys(GROUPS, dict),
    **dict.fromkeys(("seed", "rounds", "initial_labels"), int),
}


@dataclass(frozen=True)
class Run:
    """A run directory on disk."""

    directory: Path
    config: Mapping[str, Any]  # config.yaml, plain
    records: tuple[RoundRecord, ...]  # of the trained rounds, in order; at least one
    warm_up: WarmUpRecord | None = None  # the training before the first label, where there was one
    uncut: tuple[RoundRecord, ...] = ()  # all records, if `group` has cut them to the rounds that all runs have

    @property
    def seed(self) -> int:
        """The seed, which distinguishes the runs of a method."""
        return int(self.config["seed"])

    @property
    def environment(self) -> Mapping[str, str]:
        """The versions, platform and git commit at the start of the run; empty if they were not recorded."""
        return dict(self.config.get("environment") or {})

    @property
    def is_complete(self) -> bool:
        """True if all trainings are done, one more than acquisitions, or a rule ended the run."""
        return len(self.all_records) > int(self.config["rounds"]) or self.reason_of_end is not None

    @property
    def reason_of_end(self) -> str | None:
        """Why a rule ended the run before its last round, or None."""
        return reason_of_end(self.directory, int(self.config["rounds"]))

    @property
    def all_records(self) -> tuple[RoundRecord, ...]:
        """The records of all rounds, including those that other runs do not have."""
        return self.uncut or self.records

    def has_withdrawn(self, record: RoundRecord) -> bool:
        """True if the run was ended after the round had asked for labels; its query is still in the files."""
        return not record.queried and (round_directory(self.directory, record.round) / STATE).exists()

    @property
    def total_steps(self) -> int:
        """The optimizer steps of these rounds."""
        return sum(record.steps for record in self.records)


@dataclass(frozen=True)
class Method:
    """Runs that differ only in the seed."""

    name: str
    runs: Mapping[int, Run]  # seed → run, ascending

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the first run, which the others share except for the seed and the directory."""
        return next(iter(self.runs.values())).config


@dataclass(frozen=True)
class Setting:
    """Methods on the same task, in the order in which their runs were given."""

    name: str
    methods: Mapping[str, Method]  # by name
    labels: tuple[int, ...]  # of the training set, in each round that all runs have

    @property
    def runs(self) -> Iterator[Run]:
        """The runs of all methods."""
        return (run for method in self.methods.values() for run in method.runs.values())

    @property
    def is_cut(self) -> bool:
        """True if a run has more rounds than those that all runs have."""
        return any(run.uncut for run in self.runs)


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """Find the runs at or below each path, each once: in the order of the paths, sorted below each path.

    A run is a directory with config.yaml and at least one trained round, complete or waiting for labels.

    Raises:
        ValueError: there is no run at or below a path, or a file of a run cannot be read.
    """
    found: dict[Path, Run] = {}
    for path in paths:
        begun = [file.parent for file in sorted(path.rglob(CONFIG))]
        below = [run for directory in begun if _may_have_a_round(directory) and (run := _read_run(directory)).records]
        if not below:
            first = next((f"; {directory} has begun, but has none yet" for directory in begun), "")
            what = "holds no run" if path.exists() else f"does not exist{nearest_path(path)}"
            raise ValueError(
                f"{path} {what}; give a run's directory (with "
                f"{CONFIG} and at least one round that is trained{first}), or one with such directories below it"
            )
        stray = next((file.parent for file in sorted(path.rglob(RECORDS)) if not (file.parent / CONFIG).exists()), None)
        if stray is not None:
            raise ValueError(f"{stray} has rounds but no {CONFIG}; restore it, or leave the directory out")
        for run in below:
            found.setdefault(run.directory.resolve(), run)
    return list(found.values())


def shared_seeds(method: Method, *others: Method) -> tuple[int, ...]:
    """Return the seeds that all of the methods have, ascending, by which they are compared in pairs."""
    return tuple(sorted(set(method.runs).intersection(*(other.runs for other in others))))


Accuracy = Literal["ema", "raw", "balanced"]
"""Which test accuracy: of the averaged weights, of the weights as trained, or the averaged weights' balanced one."""

_FIELDS: Mapping[Accuracy, str] = {
    "ema": "test_accuracy_ema",
    "raw": "test_accuracy_raw",
    "balanced": "test_balanced_accuracy_ema",
}


def accuracies(method: Method, seeds: Sequence[int], which: Accuracy = "ema") -> NDArray[np.float64]:
    """Return test accuracies (seeds, rounds) in [0, 1]; rows as in `seeds`.

    `which`: `ema`, of the averaged weights; `raw`, of the weights as trained; `balanced`, of the averaged weights, the
    mean over the classes of the accuracy within each.

    Raises:
        ValueError: the method lacks a seed, or a run was recorded without balanced accuracies.
    """
    if which not in _FIELDS:
        raise ValueError(
            f"which={which!r}: must be 'ema', the averaged weights, 'raw', the weights as trained, or 'balanced', the "
            f"averaged weights' mean over classes"
        )
    missing = [seed for seed in seeds if seed not in method.runs]
    if missing:
        raise ValueError(
            f"{method.name} has no run with seed {missing[0]}; it has {', '.join(map(str, method.runs))}. "
            f"Use shared_seeds to choose those that methods have in common"
        )
    runs = [method.runs[seed] for seed in seeds]
    values = [[getattr(record, _FIELDS[which]) for record in run.records] for run in runs]
    unknown = next((run.directory for run, of_run in zip(runs, values, strict=True) if None in of_run), None)
    if unknown is not None:
        raise ValueError(f"{unknown} has no balanced accuracies, as runs of older versions; leave it out")
    rounds = len(next(iter(method.runs.values())).records)
    return np.array(values, float).reshape(len(seeds), rounds)


def _may_have_a_round(directory: Path) -> bool:
    file = directory / RECORDS
    return (file.exists() and file.stat().st_size > 0) or (round_directory(directory, 0) / STATE).exists()


def _read_run(directory: Path) -> Run:
    config = with_later_keys(read_config(directory))
    wrong = [key for key, kind in _NEEDED.items() if type(config.get(key)) is not kind]
    if planned_labels(config, 0) is None:
        wrong.append("labels_per_round")
    if wrong:
        raise ValueError(
            f"{directory / CONFIG} is not the configuration of a run: {', '.join(wrong)} must be there, groups as "
            f"groups and numbers as integers; restore it, or leave the directory out"
        )
    environment = config.get("environment") or {}
    if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
        raise ValueError(
            f"{directory / CONFIG}: environment must map names to versions; restore it, or leave the directory out"
        )
    return Run(directory, config, tuple(trained_records(directory, config["rounds"])), read_warm_up(directory))
