from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from math import nan

from rich.console import Console

from assl_lightning.records import RoundRecord
from assl_lightning.report.table import RoundResult, print_rounds, rounds_table


@dataclass(frozen=True)
class Result:
    round: int
    labels: int
    test_accuracy_ema: float
    test_accuracy_raw: float
    queried: Sequence[int] = ()
    coverage: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


RECORDS = [
    Result(0, 1000, 0.50125, 0.25, range(100), 0.9876, {"train": 1234.5, "acquire": 0.0512}),
    Result(1, 1100, nan, 1.0, [], None, {"train": 12.34, "test": 3.0}),
]


def printed(records: Sequence[RoundResult], width: int = 80) -> list[list[str]]:
    text = StringIO()
    print_rounds(records, Console(file=text, width=width))
    return [line.split() for line in text.getvalue().splitlines()]


def test_a_round_is_a_row_and_a_part_that_any_round_has_is_a_column() -> None:
    header, *rows = printed(RECORDS)
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
    (_, row) = printed([Result(10, 11000, 0.7, 0.7, range(1000), 1.0, seconds)])
    assert row == ["10", "11,000", "70.00", "70.00", "100.0", "1,000", "45,679", "25.0", "1,013", "0.0010"]


def test_a_rounds_record_can_be_shown() -> None:
    record: RoundResult = RoundRecord(
        round=0, labels=10, unlabelled=90, steps=5, test_accuracy_ema=0.5, test_accuracy_raw=0.4
    )
    assert printed([record])[1] == ["0", "10", "50.00", "40.00", "–", "0"]
