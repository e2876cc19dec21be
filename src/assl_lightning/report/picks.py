"""`python -m assl_lightning.report.picks ONE OTHER`: what a switch changes in what is queried; needs no torch.

Two runs under one seed that differ only in how they choose train alike until their picks differ for the first time. At
that query both chose from the same samples with the same weights: what they do not share is the switch's doing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from assl_lightning.base.command_line import as_command
from assl_lightning.base.paths import path_argument
from assl_lightning.base.words import UNKNOWN, per_cent
from assl_lightning.base.words import seconds as in_seconds
from assl_lightning.report.analysis.overlap import picks_overlap
from assl_lightning.report.analysis.runs import Run, find_runs
from assl_lightning.report.markdown import markdown_table
from assl_lightning.report.views import Table

_TRAINING = ("labels", "unlabelled", "steps", "test_accuracy_raw", "test_accuracy_ema", "test_balanced_accuracy_raw")
"""What two trainings that were the same have in common."""


@dataclass(frozen=True)
class PicksInCommon:
    """The first query in which two runs differ, or the last one where they never do."""

    seed: int
    round: int
    budget: int  # samples that each picked
    candidates: int  # that they picked from
    share: float  # of the picks in common, in [0, 1]
    seconds: tuple[float | None, float | None]  # that each took to pick

    @property
    def by_chance(self) -> float:
        """The share that two uniform draws have in common on average, in [0, 1]."""
        return self.budget / self.candidates


def compare_picks(one: Run, other: Run) -> PicksInCommon:
    """The first query in which the runs differ.

    Raises:
        ValueError: they did not train alike before it, queried nothing, or not as many.
    """
    found = None
    for ours, theirs in zip(one.records, other.records, strict=False):
        if not ours.queried or not theirs.queried:
            break
        unlike = next((name for name in _TRAINING if getattr(ours, name) != getattr(theirs, name)), None)
        if unlike is not None:
            raise ValueError(
                f"{one.directory} and {other.directory} must have trained alike before their picks differ, but in "
                f"round {ours.round} {unlike} is {getattr(ours, unlike)} and {getattr(theirs, unlike)}; compare runs "
                f"under one seed that differ only in how they choose"
            )
        found = PicksInCommon(
            seed=one.seed,
            round=ours.round,
            budget=len(ours.queried),
            candidates=ours.unlabelled,
            share=picks_overlap(ours.queried, theirs.queried),
            seconds=(ours.seconds.get("acquire"), theirs.seconds.get("acquire")),
        )
        if found.share < 1:
            break
    if found is None:
        raise ValueError(f"{one.directory} and {other.directory} have no query in common; compare runs with rounds ≥ 1")
    return found


def compare_directories(one: Path, other: Path) -> list[PicksInCommon]:
    """`compare_picks` for each seed that both have, by seed.

    Raises:
        ValueError: a directory holds no run, one seed twice, or no seed of the other.
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
    """A row a seed, and their mean (seconds: median)."""
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
    parser = argparse.ArgumentParser(
        prog="python -m assl_lightning.report.picks",
        description="How many picks two ways of choosing have in common at the first query in which they differ, seed "
        "by seed. Both must have trained alike until then.",
    )
    parser.add_argument("one", type=path_argument, help="directory of a method's runs, one for each seed")
    parser.add_argument("other", type=path_argument, help="of another's, which differs only in how it chooses")
    options = parser.parse_args(arguments)
    found = compare_directories(options.one, options.other)
    sys.stdout.write(markdown_table(picks_table(found, options.one.name, options.other.name)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
