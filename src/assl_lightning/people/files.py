"""Files of labels that people send back: CSV, Parquet or JSON → what each line says. Nothing is looked up here.

A file is strictly what this says, or refused: every line that is not is named, all at once.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from assl_lightning.base.cells import cell_text, read_parquet
from assl_lightning.base.words import first_few, shortened
from assl_lightning.data.answers import Incoming, Kind, as_utc
from assl_lightning.people.answers import IngestError, is_utf8

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".json")
"""How the names of files of labels end, in small letters."""

_COLUMNS = ("sample_id", "label", "status", "annotator", "seconds", "at", "decides")
_NEEDED = ("sample_id", "label")
_STATUSES = ("skip", "bad")
_DECIDES = ("yes", "True")  # the second as Parquet and JSON have it
_DELIMITERS = (",", ";", "\t")
_LONGEST_LIST = 10  # of lines that a message names

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_labels(path: Path, *, annotator: str = "", encoding: str | None = None) -> list[Incoming]:
    """What a file of labels says, line by line; whether samples and classes exist is for `judging`.

    CSV (comma, semicolon or tab, whichever its header has; .csv, .tsv, .txt), Parquet (with pyarrow) or JSON: a list of
    objects, or one object {"sample_id": "label"}; also an export of Label Studio's. Columns:

    * sample_id, label: needed, taken to the letter. Nothing is trimmed, put in front or taken away, neither here nor in
      to_label.csv, so that a name which begins with =, +, - or @ comes back as it went out. An apostrophe before it
      would keep a spreadsheet from computing it, and would be part of the name in every other program. What a
      spreadsheet makes of such a name (#NAME?), or of 00123, is no sample's id, and is refused with what it may be.
    * status: skip or bad, in place of a label. A line with neither was not answered, and gives nothing.
    * annotator, seconds (≥ 0, that it took), at (ISO 8601, when; UTC where it does not say).
    * decides: yes, where the line settles what people differ about, as the page's table of answers has it.

    Other columns are passed over, but not one whose name is nearly one of these.

    Args:
        path: the file; its name is what `Incoming.where` begins with.
        annotator: who labelled, where the file does not say.
        encoding: of CSV and JSON; None: UTF-8, or what a byte order mark says.

    Raises:
        IngestError: with a line for everything that is wrong.
    """
    name = display_name(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        hint = "; save the sheet as CSV UTF-8" if suffix in (".xlsx", ".xls", ".ods") else ""
        raise IngestError(f"{name} must be a file of labels, named {', '.join(SUFFIXES[:-1])} or .json{hint}")
    if suffix == ".parquet":
        if encoding is not None:
            raise IngestError(f"{name} is a Parquet file, which is always UTF-8; leave --encoding {encoding} out")
        return _incoming(name, annotator, _read_parquet(path, name))
    problems: list[str] = []
    text = _decode(_read_bytes(path), name, encoding, problems)
    if suffix != ".json":
        return _incoming(name, annotator, _read_csv(text, name), problems)
    _refuse(problems)
    content = _parse_json(text, name)
    exported = _read_export(content, name, annotator)
    return _incoming(name, annotator, _read_json(content, name)) if exported is None else exported


def _read_export(content: Any, name: str, annotator: str) -> list[Incoming] | None:
    """What an export of Label Studio's says; None where it is none."""
    keys = {"annotations", "annotation_id", "data"}  # of which each kind of export has one
    if not isinstance(content, list) or not any(isinstance(one, dict) and keys & one.keys() for one in content):
        return None
    from assl_lightning.people.label_studio.exports import is_export, read_export

    if not is_export(content):
        return None
    return [replace(one, annotator=one.annotator or annotator) for one in read_export(content, name)]


def display_name(path: Path) -> str:
    """A file's name, without its directory, as text that can be printed and stored."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in path.name)


# --- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    where: str  # "labels.csv, line 7"
    cells: Mapping[str, str]  # column → text; "" where there is none
    fault: str = ""  # what is wrong with it as a row


def _incoming(name: str, annotator: str, rows: Iterable[_Row], before: Sequence[str] = ()) -> list[Incoming]:
    """What the rows say, or an error with all that is wrong: what was found `before`, and with the rows."""
    problems, found = list(before), []
    is_empty = True
    try:
        for row in rows:
            is_empty = False
            if not row.fault and not all(map(is_utf8, row.cells.values())):
                continue  # told for all lines together
            wrong = [row.fault] if row.fault else list(_problems_of(row.cells))
            problems += [f"{row.where}: {problem}" for problem in wrong]
            if not wrong and _is_answered(row.cells):
                found.append(_incoming_of(row, annotator))
    except IngestError as error:  # the file ends here
        problems += error.lines
    if is_empty and not problems:
        problems.append(f"{name} must have a line for each answer; it has none")
    _refuse(problems)
    return found


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise IngestError(problems)


def _is_answered(cells: Mapping[str, str]) -> bool:
    return bool(cells["label"] or cells["status"])


def _problems_of(cells: Mapping[str, str]) -> Iterator[str]:
    if not _is_answered(cells):
        return
    label, status = cells["label"], cells["status"]
    if not cells["sample_id"]:
        yield f"the answer {label or status!r} needs a sample_id; its cell is empty"
    if status and status not in _STATUSES:
        yield f"status must be {', '.join(_STATUSES)} or empty; got {status!r}"
    elif label and status:
        yield f"either label or status must be empty; got the label {label!r} and the status {status!r}"
    if cells["seconds"] and _seconds(cells["seconds"]) is None:
        yield f"seconds must be a number of at least 0 such as 1.5, or empty; got {cells['seconds']!r}"
    if cells["decides"] not in ("", *_DECIDES):
        yield f"decides must be {', '.join(_DECIDES)} or empty; got {cells['decides']!r}"
    if cells["at"] and _time(cells["at"]) is None:
        yield f"at must be a time such as 2026-01-31T14:05:00+01:00, or empty; got {cells['at']!r}"


def _incoming_of(row: _Row, annotator: str) -> Incoming:
    cells = row.cells
    kinds: Mapping[str, Kind] = {"": "label", "skip": "skip", "bad": "bad"}
    return Incoming(
        where=row.where,
        sample_id=cells["sample_id"],
        kind=kinds[cells["status"]],
        label=cells["label"] or None,
        annotator=cells["annotator"] or annotator,
        seconds=_seconds(cells["seconds"]),
        at=_time(cells["at"]),
        decides=cells["decides"] in _DECIDES,
    )


def _seconds(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) and number >= 0 and "_" not in text else None


def _time(text: str) -> str | None:
    """In UTC, as the ledger has it."""
    try:
        return as_utc(text)
    except ValueError:
        return None


def _row(where: str, columns: Sequence[str], cells: Sequence[str], fault: str = "") -> _Row:
    """Names and classes to the letter, the rest without spaces around it."""
    given = dict(zip(columns, cells, strict=False))
    kept = {name: given.get(name, "") for name in _COLUMNS}
    return _Row(where, {key: cell if key in _NEEDED else cell.strip() for key, cell in kept.items()}, fault)


def _check_columns(where: str, columns: Sequence[str]) -> None:
    """Raise where columns are missing, there twice, or nearly those that are known."""
    counted = Counter(columns)
    wanted = f"{where}: the columns must be sample_id and label, and may be {', '.join(_COLUMNS[2:])}"
    problems = [f"{wanted}; {name} is there {counted[name]} times" for name in _COLUMNS if counted[name] > 1]
    absent = [name for name in _COLUMNS if name not in counted]
    guesses = {name: _closest(name, absent) for name in counted if name not in _COLUMNS}
    problems += [f"{wanted}; it has {name!r} (did you mean {guess}?)" for name, guess in guesses.items() if guess]
    missing = [name for name in _NEEDED if name in absent and name not in guesses.values()]
    shown = ", ".join(map(repr, columns[:20])) or "nothing"
    problems += [f"{wanted}; {' and '.join(missing)} missing, there is {shown}"] if missing else []
    _refuse(problems)


def _closest(name: str, choices: Sequence[str]) -> str:
    long_enough = [choice for choice in choices if len(choice) > 2]  # "at" is close to too much
    return next(iter(difflib.get_close_matches(name.lower(), long_enough, n=1, cutoff=0.75)), "")


# --- text ------------------------------------------------------------------------------------------------------------


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise IngestError(_unreadable(path, error)) from None


def _unreadable(path: Path, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{str(path)!r} must be a file of labels that can be read ({reason}); give its path"


def _decode(data: bytes, name: str, encoding: str | None, problems: list[str]) -> str:
    """The file as text; lines that are not in the encoding become a problem, and keep surrogates in their place."""
    marked = next((codec for mark, codec in _MARKS if data.startswith(mark)), None)
    codec = _codec(encoding, name) or marked or "utf-8"
    if marked and not codec.startswith(marked):
        raise IngestError(
            f"{name} begins with the byte order mark of {marked.upper()}, and --encoding says {encoding}; leave it out"
        )
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        text = _decode_damaged(data, codec, error, name, problems)
    except (UnicodeError, LookupError, ValueError) as error:
        raise IngestError(f"{name} cannot be read as {codec} ({error}); give another --encoding") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise IngestError(
            f"{name}, line {line}: a text has no zero bytes, as this line does; save the file as UTF-8, or say what it "
            f"is with --encoding, such as --encoding utf-16-le"
        )
    return text.removeprefix("\ufeff")


def _codec(encoding: str | None, name: str) -> str | None:
    if encoding is None:
        return None
    try:
        return codecs.lookup(encoding).name
    except (LookupError, ValueError):
        raise IngestError(
            f"--encoding must be the name of one, such as utf-8, cp1252 or utf-16; got {encoding!r} for {name}"
        ) from None


def _decode_damaged(data: bytes, codec: str, error: UnicodeDecodeError, name: str, problems: list[str]) -> str:
    try:
        text = data.decode(codec, errors="surrogateescape")
    except (UnicodeError, LookupError, ValueError):
        line = data[: error.start].decode(codec, errors="replace").count("\n") + 1
        raise IngestError(_wrong_bytes(name, [line], codec, data[error.start])) from None
    lines = [number for number, line in enumerate(io.StringIO(text, newline=""), start=1) if not is_utf8(line)]
    problems.append(_wrong_bytes(name, lines, codec, data[error.start]))
    return text


def _wrong_bytes(name: str, lines: Sequence[int], codec: str, first: int) -> str:
    plural = "s" if len(lines) > 1 else ""
    return (
        f"{name}, line{plural} {first_few(lines, _LONGEST_LIST)}: the bytes must be {codec.upper()}; line {lines[0]} "
        f"has {first:#04x}. Save the file as UTF-8, or say what it is, as with --encoding cp1252"
    )


# --- CSV -------------------------------------------------------------------------------------------------------------


def _read_csv(text: str, name: str) -> Iterator[_Row]:
    header_line, delimiter, columns = _read_header(text, name)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for cells in reader:
            line, begins = begins, reader.line_num + 1
            if line <= header_line or not any(cell.strip() for cell in cells):
                continue
            fault = "" if len(cells) == len(columns) else f"a line must have {len(columns)} cells as the header has"
            yield _row(f"{name}, line {line}", columns, cells, fault and f"{fault}; it has {len(cells)}")
    except csv.Error as error:
        raise IngestError(
            f"{name}, line {begins}: the file cannot be read from here on ({error}); close the quotes, and write "
            f"quotes within them twice"
        ) from None


def _read_header(text: str, name: str) -> tuple[int, str, list[str]]:
    """Its line (from 1), the delimiter under which it has the most columns that are known, and its columns."""
    headers = []
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        begins = 1
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    headers.append((begins, delimiter, [cell.strip() for cell in cells]))
                    break
                begins = reader.line_num + 1
        except csv.Error as error:
            raise IngestError(f"{name}, line {begins}: the header cannot be read ({error}); write it again") from None
    if not headers:
        raise IngestError(f"{name} must begin with a header, such as sample_id,label; it is empty")
    best = max(headers, key=lambda header: len(set(header[2]) & set(_COLUMNS)))
    _check_columns(f"{name}, line {best[0]}", best[2])
    return best


# --- Parquet ---------------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, name: str) -> Iterator[_Row]:
    def choose(columns: Sequence[str]) -> list[str]:
        _check_columns(name, columns)
        return [column for column in columns if column in _COLUMNS]

    data = io.BytesIO(_read_bytes(path))
    try:
        known, rows = read_parquet(data, name, choose)
    except IngestError:
        raise
    except (ImportError, ValueError) as error:
        raise IngestError(str(error)) from None
    for number, values in enumerate(rows, start=1):
        yield _row_of_values(f"{name}, row {number}", known, values)


# --- JSON ------------------------------------------------------------------------------------------------------------


class _Object(dict[str, Any]):
    """A JSON object that knows which of its keys were there more than once."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
        self.repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]


def _parse_json(text: str, name: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        raise IngestError(f"{name}, line {error.lineno}: the file must be JSON ({error.msg}); write it again") from None
    except (ValueError, RecursionError) as error:
        raise IngestError(f"{name} must be JSON ({error}); write it again") from None


def _read_json(content: Any, name: str) -> Iterator[_Row]:
    """The entries of a list of objects, or of one object, sample id → label."""
    if isinstance(content, _Object):
        for number, pair in enumerate(content.pairs, start=1):
            yield _row_of_values(f"{name}, entry {number}", _NEEDED, pair)
        return
    if not isinstance(content, list):
        raise IngestError(
            f'{name} must be a list of objects with sample_id and label, or one object {{"sample_id": "label"}}; it is '
            f"{shortened(ascii(content))}"
        )
    if content:
        _check_columns(name, list(dict.fromkeys(key for one in content if isinstance(one, dict) for key in one)))
    for number, entry in enumerate(content, start=1):
        where = f"{name}, entry {number}"
        if not isinstance(entry, _Object):
            fault = f"an entry must be an object with sample_id and label; got {shortened(ascii(entry))}"
            yield _row(where, (), (), fault)
            continue
        repeated = [key for key in entry.repeated if key in _COLUMNS]
        row = _row_of_values(where, list(entry), list(entry.values()))
        fault = f"{repeated[0]} must be there once; it is there more often" if repeated else row.fault
        yield _Row(row.where, row.cells, fault)


def _row_of_values(where: str, columns: Sequence[str], values: Sequence[Any]) -> _Row:
    """The row of a file whose cells need not be texts; `cell_text` makes them texts."""
    cells, fault = [], ""
    for column, value in zip(columns, values, strict=True):
        try:
            cells.append(cell_text(value))
        except TypeError:
            cells.append("")
            fault = fault or (f"{column} must be a text; got {shortened(ascii(value))}" if column in _COLUMNS else "")
        if column in _COLUMNS and not is_utf8(cells[-1]):
            fault = fault or f"{column} must be a text that UTF-8 can write; got {cells[-1]!a}"
    return _row(where, columns, cells, fault)
