"""queried.csv of a round: what was known of each sample when it was picked. Reports read it without torch."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

Row = Mapping[str, str]

STATISTICS = ("uncertainty_mean", "uncertainty_variance", "inconsistency_mean", "inconsistency_variance")
"""Columns of queried.csv with the running statistics; empty where training never visited the sample."""


def read_queried(path: Path) -> list[Row]:
    """Read the rows of queried.csv in pick order; none if there is no file.

    Raises:
        ValueError: the file is no such table, or has a text in place of a number.
    """
    if not path.exists():
        return []
    line = 0
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows: list[Row] = []
            for row in reader:
                line = reader.line_num
                for name in ("score", *STATISTICS):
                    float(row.get(name) or 0)
                rows.append(row)
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(
            f"{path} is not a table of queried samples ({error}, after line {line}); restore or remove it"
        ) from error
    return rows
