"""The ledger only grows, and holds all of an import or nothing."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from assl_lightning.labelling.ledger import FILE_NAME, Answer, Ledger

OK = Answer("a.png", "label", "Ann", "page", 0, label="ok", seconds=1.5)
SKIP = Answer("b.png", "skip", "Ann", "page", 0)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / FILE_NAME)


def test_answers_come_back_in_their_order_with_time_and_id(ledger: Ledger) -> None:
    written = ledger.append([OK, SKIP])
    assert [answer.id for answer in written] == [1, 2]
    assert all(answer.at is not None and answer.at.endswith("+00:00") for answer in written)
    assert ledger.standing() == written
    assert [replace(answer, at=None, id=None) for answer in written] == [OK, SKIP]


def test_who_only_reads_makes_no_file(ledger: Ledger) -> None:
    assert ledger.standing() == []
    assert ledger.history() == []
    assert ledger.append([]) == []
    assert not ledger.path.exists()


def test_what_is_taken_back_stays_and_holds_no_more(ledger: Ledger) -> None:
    first, second = ledger.append([OK, SKIP])
    assert ledger.revoke([1], "Bo", "undo") == [first]
    assert ledger.standing() == [second]
    assert ledger.history() == [(first, 3), (second, None)]
    with pytest.raises(ValueError, match="has no answer 1 that could be taken back"):
        ledger.revoke([2, 1], "Bo", "undo")
    assert ledger.standing() == [second]


@pytest.mark.parametrize(
    "wrong",
    [replace(OK, label=None), replace(SKIP, label="ok"), replace(SKIP, kind="revoke")],  # type: ignore[arg-type]
)
def test_one_answer_that_makes_no_sense_keeps_all_out(ledger: Ledger, wrong: Answer) -> None:
    with pytest.raises(ValueError, match="an answer must be a label with its class"):
        ledger.append([OK, wrong])
    assert ledger.standing() == []


@pytest.mark.parametrize("statement", ["DELETE FROM events", "UPDATE events SET label = 'dent'"])
def test_rows_can_be_neither_changed_nor_deleted(ledger: Ledger, statement: str) -> None:
    ledger.append([OK])
    with sqlite3.connect(ledger.path) as connection, pytest.raises(sqlite3.IntegrityError, match="only grows"):
        connection.execute(statement)
    connection.close()


def test_many_write_at_once_from_the_first_row_on(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: Ledger(ledger.path).append([replace(OK, sample_id=f"{n}.png"), SKIP]), range(40)))
    standing = ledger.standing()
    assert [answer.id for answer in standing] == list(range(1, 81))
    assert {answer.sample_id for answer in standing[::2]} == {f"{n}.png" for n in range(40)}


def test_another_file_is_no_ledger(ledger: Ledger) -> None:
    ledger.path.write_bytes(b"sample_id,label\n" * 500)
    with pytest.raises(ValueError, match="must be a ledger of labels"):
        ledger.append([OK])
    ledger.path.unlink()
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("CREATE TABLE other (id INTEGER)")
    connection.close()
    with pytest.raises(ValueError, match="is not a ledger of this version's"):
        ledger.standing()
