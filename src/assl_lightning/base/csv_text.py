"""Tables as the text of a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence


def table_as_csv(header: Iterable[object], rows: Iterable[Iterable[object]], *, line_end: str = "\n") -> str:
    """Write rows under a header; None becomes empty.

    Args:
        header: the names of the columns.
        rows: the cells of each row, in the order of the columns.
        line_end: "\\r\\n" where a cell may have either of the two characters: a cell is quoted for those alone that end
            a line.

    >>> print(table_as_csv(["name", "label"], [["a, b", None], ["c", "ok"]]), end="")
    name,label
    "a, b",
    c,ok
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=line_end)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def rows_as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Write one or more rows that have the same keys, under those of the first as the header.

    >>> print(rows_as_csv([{"step": 1, "accuracy": 0.5}, {"step": 2, "accuracy": None}]), end="")
    step,accuracy
    1,0.5
    2,
    """
    return table_as_csv(rows[0], ([row[name] for name in rows[0]] for row in rows))
