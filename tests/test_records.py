from __future__ import annotations

import json
from pathlib import Path

import pytest

from assl_lightning.records import RoundRecord, append_record, read_records

RECORD = RoundRecord(
    round=0,
    labels=10,
    unlabelled=90,
    steps=5,
    test_accuracy_ema=0.5,
    test_accuracy_raw=0.25,
    coverage=1.0,
    queried=[4, 2],
    seconds={"train": 1.5},
)


def test_records_come_back_in_order_one_line_each(tmp_path: Path) -> None:
    second = RoundRecord(1, 12, 88, 5, 0.75, 0.5)
    append_record(tmp_path, RECORD)
    append_record(tmp_path, second)
    assert read_records(tmp_path) == [RECORD, second]
    lines = (tmp_path / "rounds.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert (
        first.items()
        >= {
            "round": 0,
            "labels": 10,
            "test_accuracy_ema": 0.5,
            "test_accuracy_raw": 0.25,
            "queried": [4, 2],
            "seconds": {"train": 1.5},
        }.items()
    )
    assert json.loads(lines[1])["coverage"] is None


def test_a_line_without_the_fields_that_came_later_is_read(tmp_path: Path) -> None:
    append_record(tmp_path, RECORD)
    content = json.loads((tmp_path / "rounds.jsonl").read_text())
    for name in ("test_balanced_accuracy_ema", "test_balanced_accuracy_raw", "queried_labels"):
        del content[name]
    (tmp_path / "rounds.jsonl").write_text(json.dumps(content) + "\n")
    assert read_records(tmp_path) == [RECORD]


def test_a_directory_without_records_has_none(tmp_path: Path) -> None:
    assert read_records(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"round": 1', "line 2 is not JSON"),
        ('{"round": 1}', "line 2 is not the record of a round; it needs the keys"),
        ("[]", "line 2 is not the record of a round"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str, message: str) -> None:
    append_record(tmp_path, RECORD)
    with (tmp_path / "rounds.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        read_records(tmp_path)


def test_a_round_that_is_missing_is_noticed(tmp_path: Path) -> None:
    append_record(tmp_path, RECORD)
    append_record(tmp_path, RoundRecord(2, 12, 88, 5, 0.75, 0.5))
    with pytest.raises(ValueError, match="line 2 must be the record of round 1, but is that of round 2"):
        read_records(tmp_path)
