"""Cells of tables as texts, by one rule for all readers: a missing value is an empty text, whatever the format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from math import isnan
from pathlib import Path
from typing import Any

from assl_lightning.base.extras import install_command
from assl_lightning.base.words import one_line

MISSING_WORDS = frozenset(("nan", "NaN", "NaT", "<NA>"))
"""Texts that pandas and NumPy write for a missing value where a format has none for it, as in CSV."""

_LARGEST_EXACT = 2.0**53  # of the floats that are whole numbers, each is one number up to here

_ODD_CONTENT = (OSError, ValueError, TypeError, LookupError, ArithmeticError, NotImplementedError, MemoryError)
"""Raised by pyarrow for damaged files, and for values that Python has none for, beside its own errors."""


def cell_text(value: object) -> str:
    """A cell of Parquet or JSON as a text, "" where it is missing: None, NaN and NaT.

    A whole number has no decimals: a column of integers becomes one of floats where a program has no other way to leave
    a cell empty. Times are written as ISO 8601 has them.

    >>> cell_text("ok"), cell_text(None), cell_text(float("nan")), cell_text(1.0), cell_text(1.5), cell_text(7)
    ('ok', '', '', '1', '1.5', '7')

    Raises:
        TypeError: it is a list, an object or bytes.
    """
    if isinstance(value, (list, tuple, dict, set, bytes)):
        raise TypeError(f"a cell must be a text, a number or a time; got a {type(value).__name__}")
    if is_missing(value):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT:
        return str(int(value))
    return value.isoformat() if isinstance(value, date) else str(value)


def is_missing(value: object) -> bool:
    """True for None, NaN as a float or a decimal number, and pandas' NaT and NA.

    >>> is_missing(float("nan")), is_missing(0)
    (True, False)
    """
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, float):
        return isnan(value)
    return value is None or type(value).__name__ in ("NaTType", "NAType")


def read_parquet(
    file: Path | Any, name: str, choose: Callable[[Sequence[str]], Sequence[str]]
) -> tuple[Sequence[str], list[tuple[object, ...]]]:
    """The columns that `choose` takes of all the names in a Parquet file, and the rows of them.

    Args:
        file: its path, or a binary file that is open.
        name: of the file, for messages.
        choose: from the names of all columns to those that are read; what it raises passes through.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: it is no Parquet file, or is damaged.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{name} is a Parquet file, and pyarrow, which reads it, is not installed; install it with "
            f"{install_command('parquet')}, or save the table as CSV"
        ) from error
    try:
        opened = parquet.ParquetFile(file)
        names = opened.schema_arrow.names
    except (pyarrow.ArrowException, *_ODD_CONTENT) as error:
        raise ValueError(_no_parquet(name, error)) from error
    known = choose(names)
    try:
        table = opened.read(columns=list(known))
        columns = [table.column(column).to_pylist() for column in known]
    except (pyarrow.ArrowException, *_ODD_CONTENT) as error:
        raise ValueError(_no_parquet(name, error)) from error
    return known, list(zip(*columns, strict=True))


def _no_parquet(name: str, error: Exception) -> str:
    return f"{name} must be a Parquet file ({one_line(error)}); write it again"
