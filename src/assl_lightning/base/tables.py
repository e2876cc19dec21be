"""Read tables that people write, as CSV or Parquet: rows of texts, each with its place and its fault."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from math import isnan
from pathlib import Path

from assl_lightning.base.extras import install_command
from assl_lightning.base.words import first_few, nearest, one_line, shortened

MISSING_WORDS = frozenset(("nan", "NaN", "NaT", "<NA>"))
"""Texts that pandas and NumPy write for a missing value where a format has none for it, as in CSV."""

_LIKE_MISSING = frozenset(("na", "n/a", "none", "null", "nil", *map(str.casefold, MISSING_WORDS)))

SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
"""Suffixes of files that only a spreadsheet reads."""

_DELIMITERS = (",", ";", "\t")
_MOST_LINES = 10  # that a message names
_LARGEST_EXACT = 2.0**53  # up to here a float that is a whole number is one number

_ODD_CONTENT = (OSError, ValueError, TypeError, LookupError, ArithmeticError, NotImplementedError, MemoryError)
"""Errors of pyarrow for damaged files, and for values that Python cannot represent, beside its own errors."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class TableError(ValueError):
    """An error for a file that cannot be read as a table; `problems` has a sentence for each problem."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


@dataclass(frozen=True)
class Row:
    """A row of a table, with a text for each column of `Columns.names`, "" if the row has none."""

    where: str  # "line 3" of CSV, as the file counts; "row 3" of Parquet
    cells: Mapping[str, str]
    fault: str = ""  # a problem of the row itself, such as too few cells


@dataclass(frozen=True)
class Table:
    """The rows of a file, without empty ones."""

    rows: tuple[Row, ...]
    faults: tuple[str, ...] = ()  # such as lines in another encoding, which are not among the rows
    unused: tuple[str, ...] = ()  # columns that are not read
    emptied: int = 0  # cells that had one of `MISSING_WORDS`


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are read.

    Attributes:
        needed: columns that must be there.
        optional: columns that may be there.
        exact: columns whose cells keep the spaces around them; other cells lose them.
        words: column → the `MISSING_WORDS` that are values in it, such as a class called nan.
    """

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    words: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (*self.needed, *self.optional)

    def check(self, where: str, header: Sequence[str]) -> None:
        """Raise a `TableError` if columns are missing, there twice, or have nearly the name of one that is read."""
        counted = Counter(header)
        absent = [name for name in self.names if name not in counted]
        long_enough = [name for name in absent if len(name) > 2]  # "at" is close to too much
        hints = {name: nearest(name, long_enough, 0.75) for name in counted if name not in self.names}
        problems = [f"{name} is there {counted[name]} times" for name in self.names if counted[name] > 1]
        problems += [f"it has {name!r}{hint}" for name, hint in hints.items() if hint]
        missing = [name for name in self.needed if name in absent and repr(name) not in "".join(hints.values())]
        if missing:
            shown = ", ".join(map(repr, header[:20])) or "nothing"
            problems.append(f"{' and '.join(missing)} missing, there is {shown}")
        if problems:
            must = f"the column{'s' * (len(self.needed) > 1)} must be {' and '.join(self.needed)}"
            may = f", and may be {', '.join(self.optional)}" if self.optional else ""
            raise TableError(f"{where}: {must}{may}; {'; '.join(problems)}")

    def row(self, where: str, header: Sequence[str], cells: Sequence[str], fault: str = "") -> Row:
        """Make a row of the `cells` below a `header`."""
        given = dict(zip(header, cells, strict=False))
        kept = {name: given.get(name, "") for name in self.names}
        return Row(where, {name: cell if name in self.exact else cell.strip() for name, cell in kept.items()}, fault)

    def row_of_values(self, where: str, header: Sequence[str], values: Sequence[object]) -> Row:
        """Make a row of `values` of Parquet or JSON, which need not be texts."""
        cells, fault = [], ""
        for name, value in zip(header, values, strict=True):
            try:
                cells.append(cell_text(value))
            except TypeError:
                cells.append("")
                fault = fault or (f"{name} must be a text; got {shortened(ascii(value))}" if name in self.names else "")
            if name in self.names and not is_utf8(cells[-1]):
                fault = fault or f"{name} must be a text that UTF-8 can write; got {cells[-1]!a}"
        return self.row(where, header, cells, fault)

    def table(self, rows: Sequence[Row], faults: Sequence[str] = (), header: Sequence[str] = ()) -> Table:
        """Make a table of the rows; cells with one of `MISSING_WORDS` become empty."""
        emptied = 0
        found = []
        for row in rows:
            missing = [name for name, cell in row.cells.items() if self._is_missing(name, cell)]
            emptied += len(missing)
            found.append(replace(row, cells={**row.cells, **dict.fromkeys(missing, "")}) if missing else row)
        unused = tuple(dict.fromkeys(name for name in header if name not in self.names))
        return Table(tuple(found), tuple(faults), unused, emptied)

    def _is_missing(self, name: str, cell: str) -> bool:
        return cell.strip() in MISSING_WORDS and cell.strip() not in self.words.get(name, ())


def read_table(path: Path, name: str, columns: Columns, *, encoding: str | None = None, option: str = "") -> Table:
    """Read a Parquet file if its name ends in .parquet, else CSV with a header.

    The delimiter of CSV is the comma, semicolon or tab that gives the header the most columns of `columns`.

    Args:
        path: the file.
        name: the file's name, with which messages begin.
        columns: the columns to read; others are ignored.
        encoding: that of CSV, as Python calls it; None: the encoding of the byte order mark, else UTF-8.
        option: the option with which people can give the encoding, for messages; "" if there is none.

    Raises:
        ImportError: it is Parquet, and pyarrow is not installed.
        TableError: it cannot be read, or its header is wrong.
    """
    suffix = path.suffix.lower()
    if suffix in SPREADSHEETS:
        raise TableError(f"{name} must be CSV or Parquet; save the sheet as CSV UTF-8")
    if suffix == ".parquet":
        if encoding is not None:
            raise TableError(f"{name} is a Parquet file, which is always UTF-8; leave {option} {encoding} out")
        return _read_parquet(path, name, columns)
    text, faults = read_text(path, name, encoding, option)
    try:
        return _read_csv(text, name, columns, faults)
    except TableError as error:
        raise TableError(*(f"{name}, {fault}" for fault in faults), *error.problems) from None


# --- cells -----------------------------------------------------------------------------------------------------------


def cell_text(value: object) -> str:
    """Return a cell of Parquet or JSON as a text, "" if it is missing: None, NaN and NaT.

    A whole number has no decimals, since many programs make a column of integers with an empty cell one of floats.
    Times are written as in ISO 8601.

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


def looks_missing(text: str) -> bool:
    """True for words that programs write for a missing value, and people may mean as words, too.

    >>> looks_missing("NA"), looks_missing("<NA>"), looks_missing("ok")
    (True, True, False)
    """
    return text.casefold() in _LIKE_MISSING


def is_utf8(text: str) -> bool:
    """True if a text can be written as UTF-8: JSON and the names of files may hold half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- text ------------------------------------------------------------------------------------------------------------


def read_text(path: Path, name: str, encoding: str | None = None, option: str = "") -> tuple[str, list[str]]:
    """Read a file as text, and name the lines that are not in its encoding: they keep surrogates in their place.

    The arguments are those of `read_table`.

    Raises:
        TableError: the file cannot be read, or the encoding is none or not the file's.
    """
    data = _read_bytes(path)
    marked = next((codec for mark, codec in _MARKS if data.startswith(mark)), None)
    codec = _codec(encoding, name, option) or marked or "utf-8"
    if marked and not codec.startswith(marked):
        raise TableError(
            f"{name} begins with the byte order mark of {marked.upper()}, but {option} is {encoding}; leave it out"
        )
    faults: list[str] = []
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        text, fault = _decode_damaged(data, codec, error, name, option)
        faults.append(fault)
    except (UnicodeError, LookupError, ValueError) as error:
        raise TableError(f"{name} cannot be read as {codec} ({error}); give another {option}") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        advice = f", or say what it is with {option}, such as {option} utf-16-le" if option else ""
        raise TableError(
            f"{name}, line {line}: a text has no zero bytes, as this line does; save the file as UTF-8{advice}"
        )
    return text.removeprefix("\ufeff"), faults


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TableError(f"{str(path)!r} must be a file that can be read ({reason}); give its path") from None


def _codec(encoding: str | None, name: str, option: str) -> str | None:
    if encoding is None:
        return None
    try:
        return codecs.lookup(encoding).name
    except (LookupError, ValueError):
        raise TableError(
            f"{option} must be the name of one, such as utf-8, cp1252 or utf-16; got {encoding!r} for {name}"
        ) from None


def _decode_damaged(data: bytes, codec: str, error: UnicodeDecodeError, name: str, option: str) -> tuple[str, str]:
    """Return the text, with surrogates for what is not in its encoding, and a fault that names the lines."""
    try:
        text = data.decode(codec, errors="surrogateescape")
    except (UnicodeError, LookupError, ValueError):
        line = data[: error.start].decode(codec, errors="replace").count("\n") + 1
        raise TableError(f"{name}, {_wrong_bytes([line], codec, data[error.start], option)}") from None
    lines = [number for number, line in enumerate(io.StringIO(text, newline=""), start=1) if not is_utf8(line)]
    return text, _wrong_bytes(lines, codec, data[error.start], option)


def _wrong_bytes(lines: Sequence[int], codec: str, first: int, option: str) -> str:
    advice = f", or say what it is, as with {option} cp1252" if option else ""
    return (
        f"line{'s' * (len(lines) > 1)} {first_few(lines, _MOST_LINES)}: the bytes must be {codec.upper()}; line "
        f"{lines[0]} has {first:#04x}. Save the file as UTF-8{advice}"
    )


# --- CSV -------------------------------------------------------------------------------------------------------------


def _read_csv(text: str, name: str, columns: Columns, faults: Sequence[str]) -> Table:
    header_line, delimiter, header = _read_header(text, name, columns)
    columns.check(f"{name}, line {header_line}", header)
    rows = []
    for line, cells in _lines(text, delimiter):
        if isinstance(cells, csv.Error):
            fault = (
                f"the file cannot be read from here on ({cells}); close the quotes, and write quotes within them twice"
            )
            rows.append(columns.row(f"line {line}", (), (), fault))
        elif line > header_line and any(cell.strip() for cell in cells):
            fault = f"a line must have {len(header)} cells as the header has; it has {len(cells)}"
            row = columns.row(f"line {line}", header, cells, fault if len(cells) != len(header) else "")
            if row.fault or all(map(is_utf8, row.cells.values())):  # else it is among the faults of the file
                rows.append(row)
    return columns.table(rows, faults, header)


def _lines(text: str, delimiter: str, *, strict: bool = True) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Yield the number and the cells of each line; the last may be an error, after which nothing can be read."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        yield line, error


def _read_header(text: str, name: str, columns: Columns) -> tuple[int, str, list[str]]:
    """Return the header's line, the delimiter under which it has the most columns that are known, and its columns."""
    headers = []
    for delimiter in _DELIMITERS:
        for line, cells in _lines(text, delimiter, strict=False):
            if isinstance(cells, csv.Error):
                raise TableError(f"{name}, line {line}: the header cannot be read ({cells}); write it again")
            if any(cell.strip() for cell in cells):
                headers.append((line, delimiter, [cell.strip() for cell in cells]))
                break
    if not headers:
        raise TableError(f"{name} must begin with a header, such as {','.join(columns.needed)}; it is empty")
    return max(headers, key=lambda header: len(set(header[2]) & set(columns.names)))


# --- Parquet ---------------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, name: str, columns: Columns) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{name} is a Parquet file, and pyarrow, which reads it, is not installed; install it with "
            f"{install_command('parquet')}, or save the table as CSV"
        ) from error
    data = io.BytesIO(_read_bytes(path))
    try:
        file = parquet.ParquetFile(data)
        header: list[str] = file.schema_arrow.names
    except (pyarrow.ArrowException, *_ODD_CONTENT) as error:
        raise _no_parquet(name, error) from error
    columns.check(name, header)
    known = [column for column in header if column in columns.names]
    try:
        table = file.read(columns=known)
        values = [table.column(column).to_pylist() for column in known]
    except (pyarrow.ArrowException, *_ODD_CONTENT) as error:
        raise _no_parquet(name, error) from error
    numbered = enumerate(zip(*values, strict=True), start=1)
    rows = [columns.row_of_values(f"row {number}", known, cells) for number, cells in numbered]
    return columns.table(rows, (), header)


def _no_parquet(name: str, error: Exception) -> TableError:
    return TableError(f"{name} must be a Parquet file ({one_line(error)}); write it again")
