"""Files of labels in a batch's directory, which are read beside every labelling tool."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from assl_lightning.base.shell import command
from assl_lightning.base.tables import SPREADSHEETS
from assl_lightning.data.answers import Incoming
from assl_lightning.people.batch import TABLE, LabelBatch, known_classes
from assl_lightning.people.errors import IngestError
from assl_lightning.people.files import SUFFIXES, display_name, read_labels

RETURNED = ("labels.csv", "labels.parquet", "labels.json")
"""Names of files of labels in a batch's directory, beside the table itself."""

_OURS = frozenset({TABLE, *RETURNED, "batch.json", "tasks.json", "label_studio.json"})
_TRIES = 20  # to read a file that is being written
_PAUSE = 0.1  # seconds between them
_JUST_NOW = 2.0  # seconds; a wrong file that changed within them may be half written


def returned_files(batch: LabelBatch) -> list[Path]:
    """Find the files in a batch's directory that have answers: one of `RETURNED`, and the table once it is filled in.

    Raises:
        ValueError: there are several of `RETURNED`.
        IngestError: the table is no longer a table of labels.
    """
    found = [batch.directory / name for name in RETURNED if (batch.directory / name).exists()]
    if len(found) > 1:
        raise ValueError(
            f"{batch.directory} must hold one of {', '.join(RETURNED)}; it holds "
            f"{' and '.join(path.name for path in found)}: leave one, or name the file"
        )
    table = batch.directory / TABLE
    return [*found, *([table] if table.exists() and _read_settled(table, batch) else [])]


def read_returned(batch: LabelBatch) -> list[Incoming]:
    """Read the answers in all `returned_files`; the files themselves are never written.

    Raises:
        ValueError: as `returned_files`.
        IngestError: with every problem of the first file that has any.
    """
    return [
        replace(answer, round=batch.round) for path in returned_files(batch) for answer in _read_settled(path, batch)
    ]


def passed_over(batch: LabelBatch) -> str:
    """Return a sentence about files in a batch's directory that look like labels and are not read, or ""."""
    kinds = (*SUFFIXES, *SPREADSHEETS)
    found = sorted(
        path.name
        for path in batch.directory.iterdir()
        if path.suffix.lower() in kinds and path.name not in _OURS and not path.name.startswith((".", "~$"))
    )
    if not found:
        return ""
    names = ", ".join(map(repr, map(display_name, map(Path, found))))
    return (
        f"{names} there {'is' if len(found) == 1 else 'are'} not read: save the table as CSV UTF-8 under the name "
        f"{TABLE}, or hand the file in with {command('ingest', batch.run_dir, 'FILE')} first."
    )


def _read_settled(path: Path, batch: LabelBatch) -> Sequence[Incoming]:
    """Read the answers in a file once it no longer changes: a spreadsheet may be saving it."""
    for attempt in range(1, _TRIES + 1):
        before = _state(path)
        try:
            found = read_labels(path, class_names=known_classes([batch]))
        except IngestError:
            is_new = before is None or time.time() - before[1] / 1e9 < _JUST_NOW
            if attempt == _TRIES or (before == _state(path) and not is_new):
                raise
        else:
            if attempt == _TRIES or before == _state(path):
                return found
        time.sleep(_PAUSE)
    raise AssertionError("the last attempt returns or raises")


def _state(path: Path) -> tuple[int, int] | None:
    """Return a file's size and modification time; None if there is none, as while a program replaces it."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
