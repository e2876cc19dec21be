"""The table of a sweep: a row for each combination of the swept values, over its seeds.

The numbers are those of the jobs' directories, so a sweep that is repeated gives the same table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from rich.table import Table as TerminalTable
from rich.text import Text

from assl_lightning.base.atomic import write_text
from assl_lightning.base.csv_text import rows_as_csv
from assl_lightning.base.words import UNKNOWN, mean_and_deviation
from assl_lightning.loop.records import RoundRecord
from assl_lightning.report.analysis.comparison import aubc, has_area
from assl_lightning.report.markdown import escape, markdown_table
from assl_lightning.report.views import Table

CSV = "sweep.csv"
MARKDOWN = "sweep.md"
CAPTION = (
    "Test accuracy (%, EMA weights), mean ± sample s.d. over the n seeds that are done: after the last round, and as a "
    "mean over the labels (AUBC)"
)

_DIGITS = 7  # as many as a record's accuracies have


@dataclass(frozen=True)
class Result:
    """The rounds of one job."""

    overrides: tuple[str, ...]  # key=value, as the job was given them
    records: tuple[RoundRecord, ...] = ()  # of a job that is done: all its rounds
    failed: bool = False  # a job without records that has not failed waits for labels
    so_far: tuple[RoundRecord, ...] = ()  # of a job that waits: the rounds that are trained


@dataclass(frozen=True)
class Combination:
    """The jobs that differ only in the seed. Accuracies are shares in [0, 1], one for each finished seed."""

    values: Mapping[str, str]  # swept key → value
    accuracy: tuple[float, ...]  # of the averaged weights, after the last round
    aubc: tuple[float, ...]
    failed: int
    unfinished: int
    newest: tuple[float, ...] = ()  # of each unfinished job that has trained: accuracy after its newest round
    newest_rounds: tuple[int, ...] = ()  # these rounds' numbers


def summarise(results: Sequence[Result]) -> list[Combination]:
    """Return the combinations, in the order of their first jobs: jobs with equal values of all keys except `seed`."""
    values = [_values(result) for result in results]
    everything = dict.fromkeys(key for chosen in values for key in chosen if key != "seed")
    swept = [key for key in everything if len({chosen.get(key) for chosen in values}) > 1]
    members: dict[tuple[str, ...], list[Result]] = {}
    for chosen, result in zip(values, results, strict=True):
        members.setdefault(tuple(chosen.get(key, "") for key in swept), []).append(result)
    return [_combine(dict(zip(swept, chosen, strict=True)), jobs) for chosen, jobs in members.items()]


def terminal_table(combinations: Sequence[Combination]) -> TerminalTable:
    """Return the table for `rich` to print."""
    view = _view(combinations)
    table = TerminalTable(box=None, header_style="bold", pad_edge=False, title=CAPTION, title_justify="left")
    for number, name in enumerate(view.header):
        is_key = number < len(combinations[0].values)
        table.add_column(Text(name), justify="left" if is_key else "right", overflow="fold")
    for row in view.rows:
        table.add_row(*map(Text, row))  # brackets in a value are no markup
    return table


def write_table(combinations: Sequence[Combination], directory: Path, command: str) -> None:
    """Write the table of the sweep that `command` ran as `CSV` (shares in [0, 1]) and `MARKDOWN` (per cent)."""
    title = escape(f"Sweep in {directory.name}")
    table = markdown_table(_view(combinations))
    has_newest = _has_newest(combinations)
    write_text(directory / CSV, rows_as_csv([_row(combination, has_newest) for combination in combinations]))
    write_text(directory / MARKDOWN, f"# {title}\n\n    {command}\n\n{CAPTION}.\n\n{table}\n")


def _values(result: Result) -> dict[str, str]:
    """Return key → value; if a key comes twice, the last counts, as in Hydra."""
    parted = (override.lstrip("+~").partition("=") for override in result.overrides)
    return {key: value for key, _, value in parted}


def _combine(values: Mapping[str, str], results: Sequence[Result]) -> Combination:
    done = [result.records for result in results if result.records]
    failed = sum(result.failed for result in results)
    return Combination(
        values,
        accuracy=tuple(records[-1].test_accuracy_ema for records in done),
        aubc=tuple(_area(records) for records in done) if all(has_area(_labels(records)) for records in done) else (),
        failed=failed,
        unfinished=len(results) - len(done) - failed,
        newest=tuple(result.so_far[-1].test_accuracy_ema for result in results if result.so_far),
        newest_rounds=tuple(result.so_far[-1].round for result in results if result.so_far),
    )


def _area(records: Sequence[RoundRecord]) -> float:
    return float(aubc(_labels(records), [record.test_accuracy_ema for record in records]))


def _labels(records: Sequence[RoundRecord]) -> list[int]:
    return [record.labels for record in records]


def _view(combinations: Sequence[Combination]) -> Table:
    has_newest = _has_newest(combinations)
    rows = [
        (
            *combination.values.values(),
            str(len(combination.accuracy)),
            mean_and_deviation(combination.accuracy),
            mean_and_deviation(combination.aubc),
            *_missing(combination),
            *((_so_far(combination),) if has_newest else ()),
        )
        for combination in combinations
    ]
    header = (*combinations[0].values, "n", "last round", "AUBC", "failed", "unfinished")
    return Table(CAPTION, (*header, *(("unfinished so far",) if has_newest else ())), tuple(rows))


def _has_newest(combinations: Sequence[Combination]) -> bool:
    return any(combination.newest for combination in combinations)


def _so_far(combination: Combination) -> str:
    """Return the accuracy after the newest trainings of the unfinished jobs, with their rounds."""
    if not combination.newest:
        return UNKNOWN
    few, many = min(combination.newest_rounds), max(combination.newest_rounds)
    rounds = f"round {few}" if few == many else f"rounds {few} to {many}"
    return f"{mean_and_deviation(combination.newest)} ({rounds})"


def _missing(combination: Combination) -> tuple[str, str]:
    return str(combination.failed), str(combination.unfinished)


def _row(combination: Combination, has_newest: bool) -> dict[str, object]:
    row = {
        **combination.values,
        "n": len(combination.accuracy),
        **_columns("last_accuracy_ema", combination.accuracy),
        **_columns("aubc_ema", combination.aubc),
        "failed": combination.failed,
        "unfinished": combination.unfinished,
    }
    if not has_newest:
        return row
    rounds = {"unfinished_rounds": " ".join(map(str, combination.newest_rounds))}
    return row | _columns("unfinished_accuracy_ema", combination.newest) | rounds


def _columns(name: str, shares: Sequence[float]) -> dict[str, object]:
    return {
        f"{name}_mean": round(fmean(shares), _DIGITS) if shares else None,
        f"{name}_sd": round(stdev(shares), _DIGITS) if len(shares) > 1 else None,
    }
