"""The ledger: every answer that was ever given, with its time, its source and its annotator. It only grows.

`<run_dir>/labels.sqlite` has a row for each answer; a later row revokes an answer that is taken back. Rows are never
changed or deleted, and the answers of one call are written together or not at all. If the run's classes were renamed or
merged since, an active answer counts as the present class (`run_classes`).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

from assl_lightning.data.answers import Answer, Kind, as_utc, utc_now
from assl_lightning.loop.class_history import read_history

_FORMAT = 1
_APPLICATION = 0x4153534C  # "ASSL", in the header of the file
_PATIENCE = 30.0  # seconds, while another process writes

_TABLES = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    round INTEGER NOT NULL,
    sample_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('label', 'skip', 'bad', 'revoke')),
    label TEXT,
    annotator TEXT NOT NULL,
    source TEXT NOT NULL,
    seconds REAL,
    revokes INTEGER REFERENCES events (id),
    stated TEXT,
    decides INTEGER,
    CHECK ((kind = 'label') = (label IS NOT NULL)),
    CHECK ((kind = 'revoke') = (revokes IS NOT NULL))
);
CREATE INDEX events_of_a_sample ON events (sample_id);
CREATE TRIGGER events_stay BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;
CREATE TRIGGER events_are_final BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;
"""


class Ledger:
    """The answers of one run. Each call opens the file anew, so that threads and processes can share it.

    Args:
        path: the file; the first answer creates it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, answers: Sequence[Answer]) -> list[Answer]:
        """Write all of the answers or none; return them with their times and ids.

        An answer without a time, or with one in the future, counts as given now.
        """
        if not answers:
            return []
        with self._writing() as connection:
            return _insert_all(connection, answers)

    def append_judged(self, judge: Callable[[list[Answer]], Sequence[Answer]]) -> list[Answer]:
        """Write the answers that `judge` returns for all active answers, while no other process can write.

        All of them are written, or none. An error that `judge` raises is passed on, and nothing is written.
        """
        with self._writing() as connection:
            return _insert_all(connection, judge(self._as_now(_active(connection))))

    def revoke(self, ids: Iterable[int], annotator: str, source: str) -> list[Answer]:
        """Take answers back, all or none, and return them; they stay in the file, marked by later rows.

        Raises:
            ValueError: an id is of no active answer.
        """
        wanted = sorted(set(ids))
        now = utc_now()
        with self._writing() as connection:
            active = {answer.id: answer for answer in _active(connection)}
            missing = [number for number in wanted if number not in active]
            if missing:
                raise ValueError(
                    f"{self.path} has no answer {missing[0]} that could be taken back; it was taken back before, or "
                    f"never was there"
                )
            for number in wanted:
                answer = active[number]
                connection.execute(
                    "INSERT INTO events (at, round, sample_id, kind, annotator, source, revokes) "
                    "VALUES (?, ?, ?, 'revoke', ?, ?, ?)",
                    (now, answer.round, answer.sample_id, annotator, source, number),
                )
            return [active[number] for number in wanted]

    def active_answers(self, sample_id: str | None = None) -> list[Answer]:
        """Return all answers that were not taken back, oldest first (see `in_time`); none if there is no file.

        Their labels are the present classes of the run.

        Args:
            sample_id: of one sample, to return only its answers; this takes no longer in a long ledger.
        """
        with self._open() as connection:
            return self._as_now(_active(connection, sample_id)) if _has_tables(connection) else []

    def history(self, *, as_now: bool = False) -> list[tuple[Answer, int | None]]:
        """Return every answer in the order in which they came, each with the id of the row that revoked it, or None.

        Labels are as they were given or, with `as_now`, the present classes.
        """
        with self._open() as connection:
            if not _has_tables(connection):
                return []
            revoked_by = dict(connection.execute("SELECT revokes, id FROM events WHERE kind = 'revoke'").fetchall())
            columns = _selected(connection)
            rows = connection.execute(f"SELECT {columns} FROM events WHERE kind != 'revoke' ORDER BY id").fetchall()
            given = [_answer_of(row) for row in rows]
            answers = self._as_now(given) if as_now else given
            return [(answer, revoked_by.get(answer.id)) for answer in answers]

    def _as_now(self, answers: list[Answer]) -> list[Answer]:
        """Return the answers with the present names of their classes."""
        classes = read_history(self.path.parent)
        if classes is None:
            return answers
        return [
            answer if answer.label is None else replace(answer, label=classes.resolve(answer.label))
            for answer in answers
        ]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction, once those of other processes have ended."""
        with self._open(make=True) as connection:
            if not _has_tables(connection):
                _write_ahead(connection)
            connection.execute("BEGIN IMMEDIATE")
            try:
                if not _has_tables(connection):  # another process may have been faster
                    _make_tables(connection)
                _add_columns(connection)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _readable_name(self) -> str:
        """Return the name to open for reading: it creates no file, and a file that cannot change is immutable."""
        if not self.path.exists():
            return ":memory:"
        uri = self.path.absolute().as_uri()
        is_immutable = not os.access(self.path.parent, os.W_OK) and not Path(f"{self.path}-wal").exists()
        return f"{uri}?immutable=1" if is_immutable else uri

    @contextmanager
    def _open(self, make: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            name = str(self.path) if make else self._readable_name()
            with closing(sqlite3.connect(name, timeout=_PATIENCE, isolation_level=None, uri=not make)) as connection:
                if _has_tables(connection) and _identity(connection) != (_APPLICATION, _FORMAT):
                    raise ValueError(f"{self.path} is not a ledger of this version's; restore it, or move it away")
                connection.execute("PRAGMA synchronous = FULL")  # so that an acknowledged answer survives a power cut
                yield connection
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{self.path} must be a ledger of labels that can be read and written; SQLite: {error}. Restore "
                f"it, or free what holds it"
            ) from error


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Let readers go on beside a writer. SQLite itself does not wait if several processes create a ledger at once."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.005)
        else:
            return


def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,), (version,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    return application, version


def _has_tables(connection: sqlite3.Connection) -> bool:
    (count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(count)


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in _statements(_TABLES):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {_FORMAT}")


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


_COLUMNS = "sample_id, kind, annotator, source, round, label, seconds, at, id, stated, decides"
_ADDED = {"stated": "TEXT", "decides": "INTEGER"}  # columns that the first ledgers did not have, and their types


def _missing(connection: sqlite3.Connection) -> list[str]:
    there = {row[1] for row in connection.execute("PRAGMA table_info(events)")}
    return [name for name in _ADDED if name not in there]


def _add_columns(connection: sqlite3.Connection) -> None:
    """Add the columns of this version. Older versions can still read and write, since they name their columns."""
    for name in _missing(connection):
        connection.execute(f"ALTER TABLE events ADD COLUMN {name} {_ADDED[name]}")


def _selected(connection: sqlite3.Connection) -> str:
    """Return `_COLUMNS` as SQL selects them, also from a read-only ledger of an older version."""
    missing = _missing(connection)
    return ", ".join(f"NULL AS {name}" if name in missing else name for name in _COLUMNS.split(", "))


def _insert(connection: sqlite3.Connection, answer: Answer) -> int:
    if answer.kind not in get_args(Kind) or (answer.kind == "label") != (answer.label is not None):
        raise ValueError(f"an answer must be a label with its class, or a skip or bad without one; got {answer}")
    cursor = connection.execute(
        "INSERT INTO events (sample_id, kind, annotator, source, round, label, seconds, at, stated, decides) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(answer.sample_id, answer.kind, answer.annotator, answer.source),
            *(answer.round, answer.label, answer.seconds, answer.at, answer.stated, 1 if answer.decides else None),
        ),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _insert_all(connection: sqlite3.Connection, answers: Sequence[Answer]) -> list[Answer]:
    now = utc_now()
    stated = [None if answer.at is None else as_utc(answer.at) for answer in answers]
    timed = [replace(answer, at=min(at or now, now), stated=at) for answer, at in zip(answers, stated, strict=True)]
    return [replace(answer, id=_insert(connection, answer)) for answer in timed]


def _active(connection: sqlite3.Connection, sample_id: str | None = None) -> list[Answer]:
    of_sample, values = ("", ()) if sample_id is None else ("AND sample_id = ? ", (sample_id, sample_id))
    rows = connection.execute(
        f"SELECT {_selected(connection)} FROM events WHERE kind != 'revoke' {of_sample}"
        f"AND id NOT IN (SELECT revokes FROM events WHERE revokes IS NOT NULL {of_sample}) ORDER BY at, id",
        values,
    )
    return [_answer_of(row) for row in rows]


def _answer_of(row: Sequence[object]) -> Answer:
    cells = dict(zip(_COLUMNS.split(", "), row, strict=True))
    return Answer(**cells | {"decides": bool(cells["decides"])})  # type: ignore[arg-type]
