"""`python -m assl_lightning.report.picks ONE OTHER`: the effect of a setting on the picks; needs no torch.

Two runs with the same seed that differ only in how they choose are trained identically until their picks differ for the
first time. At that query both chose from the same samples with the same weights, so that every difference between the
picks is an effect of the setting.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from assl_lightning.base.command_line import Parser, as_command
from assl_lightning.base.paths import path_argument
from assl_lightning.base.words import UNKNOWN, per_cent
from assl_lightning.base.words import seconds as in_seconds
from assl_lightning.report.analysis.overlap import picks_overlap
from assl_lightning.report.analysis.runs import Run, find_runs
from assl_lightning.report.markdown import markdown_table
from assl_lightning.report.views import Table

_TRAINING = ("labels", "unlabelled", "steps", "test_accuracy_raw", "test_accuracy_ema", "test_balanced_accuracy_raw")
"""The values that identical trainings have in common."""


@dataclass(frozen=True)
class PicksInCommon:
    """The first query in which two runs differ, or the last query if none differs."""

    seed: int
    round: int
    budget: int  # picks of each run
    candidates: int  # samples to choose from
    share: float  # of the picks in common, in [0, 1]
    seconds: tuple[float | None, float | None]  # of each acquisition

    @property
    def by_chance(self) -> float:
        """The average share that two uniform draws have in common, in [0, 1]."""
        return self.budget / self.candidates


def compare_picks(one: Run, other: Run) -> PicksInCommon:
    """Compare the first query in which the runs differ.

    Raises:
        ValueError: the runs were not trained identically before it, have no query, or picks of different numbers.
    """
    found = None
    for record, record_of_other in zip(one.records, other.records, strict=False):
        if not record.queried or not record_of_other.queried:
            break
        pairs = {name: (getattr(record, name), getattr(record_of_other, name)) for name in _TRAINING}
        unequal = next((name for name, (value, value_of_other) in pairs.items() if value != value_of_other), None)
        if unequal is not None:
            raise ValueError(
                f"{one.directory} and {other.directory} must be trained identically until their picks differ, but in "
                f"round {record.round} {unequal} is {pairs[unequal][0]} and {pairs[unequal][1]}; compare runs with the "
                f"same seed that differ only in how they choose"
            )
        found = PicksInCommon(
            seed=one.seed,
            round=record.round,
            budget=len(record.queried),
            candidates=record.unlabelled,
            share=picks_overlap(record.queried, record_of_other.queried),
            seconds=(record.seconds.get("acquire"), record_of_other.seconds.get("acquire")),
        )
        if found.share < 1:
            break
    if found is None:
        raise ValueError(f"{one.directory} and {other.directory} have no query in common; compare runs with rounds ≥ 1")
    return found


def compare_directories(one: Path, other: Path) -> list[PicksInCommon]:
    """Call `compare_picks` for each common seed, in ascending order.

    Raises:
        ValueError: a directory holds no run, a seed twice, or no seed of the other directory.
    """
    first, second = _by_seed(one), _by_seed(other)
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise ValueError(f"{one} and {other} have no seed in common; runs are paired by seed")
    return [compare_picks(first[seed], second[seed]) for seed in shared]


def _by_seed(directory: Path) -> Mapping[int, Run]:
    runs: dict[int, Run] = {}
    for run in find_runs([directory]):
        if run.seed in runs:
            raise ValueError(
                f"{directory} must hold one run for each seed, but {runs[run.seed].directory} and {run.directory} both "
                f"have seed {run.seed}; name the directory of one method"
            )
        runs[run.seed] = run
    return runs


def picks_table(found: Sequence[PicksInCommon], one: str, other: str) -> Table:
    """Return a row for each seed, and their mean (of seconds, the median)."""
    rows = [
        (
            str(query.seed),
            str(query.round),
            f"{query.budget:,} of {query.candidates:,}",
            per_cent(query.share),
            per_cent(query.by_chance, digits=2),
            *map(in_seconds, query.seconds),
        )
        for query in found
    ]
    total = (
        f"n = {len(found)}",
        "",
        "",
        per_cent(fmean(query.share for query in found)),
        per_cent(fmean(query.by_chance for query in found), digits=2),
        *(_median([query.seconds[side] for query in found]) for side in (0, 1)),
    )
    header = ("seed", "round", "picked", "in common %", "by chance %", f"{one}, s", f"{other}, s")
    return Table(f"Picks of {one} and {other}", header, (*rows, total), has_total=True)


def _median(durations: Sequence[float | None]) -> str:
    known = [duration for duration in durations if duration is not None]
    return in_seconds(median(known)) if known else UNKNOWN


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = Parser(
        prog="python -m assl_lightning.report.picks",
        description="Count, seed by seed, the picks that two methods have in common at the first query in which they "
        "differ. Both must have been trained identically until then.",
    )
    parser.add_argument(
        "one", type=path_argument, metavar="ONE", help="the directory of a method's runs, one for each seed"
    )
    parser.add_argument(
        "other",
        type=path_argument,
        metavar="OTHER",
        help="the directory of another method, which differs only in how it chooses",
    )
    options = parser.parse_args(arguments)
    found = compare_directories(options.one, options.other)
    sys.stdout.write(markdown_table(picks_table(found, options.one.name, options.other.name)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
