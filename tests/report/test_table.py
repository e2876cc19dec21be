from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from math import nan
from typing import Any

from rich.console import Console

from assl_lightning.loop.records import RoundRecord
from assl_lightning.report.table import print_rounds, rounds_table


def make_record(number: int, labels: int, ema: float, raw: float, **known: Any) -> RoundRecord:
    return RoundRecord(number, labels, 0, 600, ema, raw, **known)


RECORDS = [
    make_record(
        *(0, 1000, 0.50125, 0.25), queried=[*range(100)], coverage=0.9876, seconds={"train": 1234.5, "acquire": 0.0512}
    ),
    make_record(1, 1100, nan, 1.0, seconds={"train": 12.34, "test": 3.0}),
]


def printed(records: Sequence[RoundRecord], width: int = 80, hold_out: int = 0) -> list[list[str]]:
    text = StringIO()
    print_rounds(records, Console(file=text, width=width), hold_out=hold_out, initial_labels=6)
    return [line.split() for line in text.getvalue().splitlines()]


def test_a_round_is_a_row_and_a_part_that_any_round_has_is_a_column() -> None:
    header, *rows, _ = printed(RECORDS)
    assert " ".join(header) == "round labels EMA % raw % visited % queried train s acquire s test s"
    assert rows == [
        ["0", "1,000", "50.12", "25.00", "98.8", "100", "1,234", "0.05", "–"],
        ["1", "1,100", "–", "100.00", "–", "0", "12.3", "–", "3.00"],
    ]


def test_a_run_without_a_complete_round_is_a_header() -> None:
    assert rounds_table([]).row_count == 0
    assert len(printed([])) == 1


def test_a_large_run_fits_eighty_columns() -> None:
    seconds = {"train": 45678.9, "test": 25.0, "acquire": 1013.44, "label": 0.001}
    record = make_record(10, 11000, 0.7, 0.7, queried=[*range(1000)], coverage=1.0, seconds=seconds)
    (_, row, _) = printed([record])
    assert row == ["10", "11,000", "70.00", "70.00", "100.0", "1,000", "45,679", "25.0", "1,013", "0.0010"]
