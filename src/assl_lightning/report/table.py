"""The rounds of a run as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from assl_lightning.base.words import per_cent, seconds
from assl_lightning.loop.records import RoundRecord
from assl_lightning.report.sections.hold_out import describe_test_set


def rounds_table(records: Sequence[RoundRecord]) -> Table:
    """Return a row for each trained round: shares in per cent, and the seconds of each part of a round."""
    parts = list(dict.fromkeys(part for record in records for part in record.seconds))
    table = Table(
        box=None, header_style="bold", pad_edge=False, collapse_padding=True
    )  # fits 80 columns with four parts
    names = ("round", "labels", "EMA %", "raw %", "visited %", "queried", *(f"{part} s" for part in parts))
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for record in records:
        table.add_row(
            str(record.round),
            f"{record.labels:,}",
            per_cent(record.test_accuracy_ema, digits=2),
            per_cent(record.test_accuracy_raw, digits=2),
            per_cent(record.coverage, digits=1),
            f"{len(record.queried):,}",
            *(seconds(record.seconds.get(part)) for part in parts),
        )
    return table


def print_rounds(records: Sequence[RoundRecord], console: Console, *, hold_out: int, initial_labels: int) -> None:
    """Print `rounds_table` to `console`, and below it a line on the test set.

    `hold_out` and `initial_labels` are those of the run's configuration.
    """
    console.print(rounds_table(records))
    if records:
        line = describe_test_set(records, hold_out=hold_out, initial_labels=initial_labels)
        console.print(line, soft_wrap=True, highlight=False, markup=False)
