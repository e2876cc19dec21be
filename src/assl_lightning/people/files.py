"""Files of labels that people send back: CSV, Parquet or JSON → answers. Samples and classes are not looked up here.

A file that is not what `read_labels` says is refused with a sentence for every line that is wrong.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from assl_lightning.base.tables import SPREADSHEETS, Columns, Row, Table, TableError, read_table, read_text
from assl_lightning.base.words import printable, shortened
from assl_lightning.data.answers import Incoming
from assl_lightning.data.label_rows import label_columns, read_label_row
from assl_lightning.people.errors import IngestError

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".json")
"""Suffixes of files of labels, in small letters."""

_OPTION = "--encoding"


def read_labels(
    path: Path, *, annotator: str = "", encoding: str | None = None, class_names: Collection[str] = ()
) -> list[Incoming]:
    """Read the answers in a file of labels, line by line; whether samples and classes exist is for `judging`.

    The file is CSV (.csv, .tsv, .txt) or Parquet, as `read_table` reads it, with the rows of `label_rows`, or JSON: a
    list of objects with the same keys, one object {"sample_id": "label"}, or an export of Label Studio.

    Samples and labels are taken to the letter: nothing is put in front of a name or taken away, neither here nor in
    to_label.csv, so that a name which begins with =, +, - or @ comes back as it went out. An apostrophe before it
    would keep a spreadsheet from computing it, and would be part of the name in every other program. What a
    spreadsheet makes of such a name (#NAME?), or of 00123, is no sample's id, and is refused with what it may be.

    Args:
        path: the file; its name is what `Incoming.where` begins with.
        annotator: of the lines that name none.
        encoding: of CSV and JSON; None: UTF-8, or what a byte order mark says.
        class_names: of the run; a class among them may be called as other programs call a missing value, such as nan.

    Raises:
        IngestError: with a sentence for everything that is wrong.
    """
    name = display_name(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        hint = "; save the sheet as CSV UTF-8" if suffix in SPREADSHEETS else ""
        raise IngestError(f"{name} must be a file of labels, named {', '.join(SUFFIXES[:-1])} or .json{hint}")
    columns = label_columns(class_names)
    try:
        if suffix != ".json":
            return _answers(read_table(path, name, columns, encoding=encoding, option=_OPTION), name, annotator)
        text, faults = read_text(path, name, encoding, _OPTION)
        if faults:
            raise IngestError(f"{name}, {fault}" for fault in faults)
        content = _parse_json(text, name)
        if _may_be_an_export(content):
            from assl_lightning.people.label_studio.exports import is_export, read_export

            if is_export(content):
                return [replace(one, annotator=one.annotator or annotator) for one in read_export(content, name)]
        return _answers(columns.table(list(_json_rows(content, name, columns))), name, annotator)
    except TableError as error:
        raise IngestError(error.problems) from None
    except ImportError as error:
        raise IngestError(str(error)) from None


def display_name(path: Path) -> str:
    """Return a file's name, without its directory, as text that can be printed and stored."""
    return printable(path.name)


def _answers(table: Table, name: str, annotator: str) -> list[Incoming]:
    read = [read_label_row(row, name, annotator) for row in table.rows]
    problems = [*(f"{name}, {fault}" for fault in table.faults), *(text for _, wrong in read for text in wrong)]
    if problems:
        raise IngestError(problems)
    return [answer for answer, _ in read if answer is not None]


# --- JSON ------------------------------------------------------------------------------------------------------------


class _Object(dict[str, Any]):
    """A JSON object that keeps the keys which it has more than once."""

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


def _may_be_an_export(content: Any) -> bool:
    """True for a list of objects with a key of Label Studio's; `is_export` decides, and its import takes a moment."""
    keys = {"annotations", "annotation_id", "data"}  # each kind of export has one
    return isinstance(content, list) and any(isinstance(entry, dict) and keys & entry.keys() for entry in content)


def _json_rows(content: Any, name: str, columns: Columns) -> Iterator[Row]:
    """Yield the entries of a list of objects, or of one object, sample id → label."""
    if isinstance(content, _Object):
        for number, pair in enumerate(content.pairs, start=1):
            yield columns.row_of_values(f"entry {number}", columns.needed, pair)
        return
    if not isinstance(content, list):
        raise TableError(
            f'{name} must be a list of objects with sample_id and label, or one object {{"sample_id": "label"}}; it is '
            f"{shortened(ascii(content))}"
        )
    if content:
        keys = dict.fromkeys(key for entry in content if isinstance(entry, dict) for key in entry)
        columns.check(name, list(keys))
    for number, entry in enumerate(content, start=1):
        where = f"entry {number}"
        if not isinstance(entry, _Object):
            fault = f"an entry must be an object with sample_id and label; got {shortened(ascii(entry))}"
            yield columns.row(where, (), (), fault)
            continue
        row = columns.row_of_values(where, list(entry), list(entry.values()))
        repeated = [key for key in entry.repeated if key in columns.names]
        yield replace(row, fault=f"{repeated[0]} must be there once; it is there more often") if repeated else row
