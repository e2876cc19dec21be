"""The lines of a table in a CSV or Parquet file: cells as texts, by column, and the faults of whole lines."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from assl_lightning.base.cells import cell_text, read_parquet
from assl_lightning.base.problems import refuse
from assl_lightning.base.words import nearest

log = logging.getLogger(__name__)

Row = Mapping[str, str]  # column → cell, without spaces around it; "" where there is none

Numbered = tuple[str, Row, str]
"""A line: its place ("line 3"), its cells, and the fault of the line itself, such as too many cells, or ""."""


def read_rows(path: Path, columns: Sequence[str], needed: Sequence[str]) -> Iterator[Numbered]:
    """The lines of a CSV file (UTF-8, commas, a header), or of a Parquet file where the name ends in .parquet.

    Of its columns those named in `columns` are read, the others are told; the `needed` ones must be there. A cell is a
    text as `cell_text` makes it.

    Raises:
        ImportError: it is Parquet, and pyarrow is not installed.
        ValueError: it cannot be read, or its header is wrong.
    """
    read = _read_parquet if path.suffix.lower() == ".parquet" else _read_csv
    return read(path, columns, needed)


def _read_csv(path: Path, columns: Sequence[str], needed: Sequence[str]) -> Iterator[Numbered]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            _check_header(path, header, columns, needed)
            begins = reader.line_num + 1
            for cells in reader:
                line, begins = begins, reader.line_num + 1
                if not any(cell.strip() for cell in cells):
                    continue
                fault = "" if len(cells) == len(header) else f"has {len(cells)} cells, the header {len(header)}"
                yield f"line {line}", _row(columns, header, cells), fault
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be written in UTF-8 ({error}); save it so") from error
    except csv.Error as error:
        raise ValueError(f"{path} must be a CSV file; {error} after line {reader.line_num}") from error


def _read_parquet(path: Path, columns: Sequence[str], needed: Sequence[str]) -> Iterator[Numbered]:
    header, rows = read_parquet(path, str(path), partial(_choose, path, columns=columns, needed=needed))
    for number, values in enumerate(rows, start=1):
        cells, fault = [], ""
        for name, value in zip(header, values, strict=True):
            try:
                cells.append(cell_text(value))
            except TypeError as error:
                cells.append("")
                fault = fault or f"has no text in the column {name}: {error}"
        yield f"row {number}", _row(columns, header, cells), fault


def _choose(path: Path, header: Sequence[str], columns: Sequence[str], needed: Sequence[str]) -> list[str]:
    _check_header(path, header, columns, needed)
    return [name for name in header if name in columns]


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str], needed: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(header).items() if count > 1 and name in columns]
    problems = [f"it has the column {name} more than once" for name in repeated]
    problems += [
        f"it has no column {name}; its columns are {', '.join(header) or 'none'}"
        for name in needed
        if name not in header
    ]
    others = [name for name in header if name not in columns]
    absent = [name for name in columns if name not in header]
    problems += [f"it has a column {name}{hint}" for name in others if (hint := nearest(name, absent, cutoff=0.75))]
    in_words = f"the column{'s' * (len(needed) > 1)} {' and '.join(needed)}"
    may_have = f", and may have {', '.join(columns)}" if len(columns) > len(needed) else ""
    refuse(f"{path} must have a header with {in_words}{may_have}", problems)
    if others:
        log.info("%s: columns that are not used: %s", path, ", ".join(others))


def _row(columns: Sequence[str], header: Sequence[str], cells: Sequence[str]) -> Row:
    given = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
    return {name: given.get(name, "") for name in columns}
