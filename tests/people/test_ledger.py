"""The ledger only grows, and holds all of an import or nothing."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from assl_lightning.base.run_files import LEDGER
from assl_lightning.data.answers import Answer
from assl_lightning.people.errors import IngestError
from assl_lightning.people.ledger import Ledger
from tests.unprivileged import read_only

OK = Answer("a.png", "label", "Ann", "page", 0, label="ok", seconds=1.5)
SKIP = Answer("b.png", "skip", "Ann", "page", 0)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / LEDGER)


def test_answers_come_back_in_their_order_with_time_and_id(ledger: Ledger) -> None:
    written = ledger.append([OK, SKIP])
    assert [answer.id for answer in written] == [1, 2]
    assert all(answer.at is not None and answer.at.endswith("+00:00") for answer in written)
    assert ledger.active_answers() == written
    assert [replace(answer, at=None, id=None) for answer in written] == [OK, SKIP]


def test_who_only_reads_makes_no_file(ledger: Ledger) -> None:
    assert ledger.active_answers() == []
    assert ledger.history() == []
    assert ledger.append([]) == []
    assert not ledger.path.exists()


def test_the_answers_to_one_sample_are_a_part_of_all(ledger: Ledger) -> None:
    assert ledger.active_answers("a.png") == []
    first, second, third = ledger.append([OK, SKIP, replace(OK, annotator="Bo")])
    assert ledger.active_answers("a.png") == [first, third]
    assert ledger.active_answers("b.png") == [second]
    ledger.revoke([1, 2], "Bo", "undo")
    assert ledger.active_answers("a.png") == [third]
    assert ledger.active_answers("b.png") == ledger.active_answers("c.png") == []


def test_what_stands_is_in_the_order_of_its_times_and_the_history_as_it_came(ledger: Ledger) -> None:
    later = replace(OK, at="2026-01-31T14:05:00+01:00")
    earlier = replace(OK, at="2026-01-31T13:04:59.5Z", label="dent")
    same = replace(OK, at="2026-01-31 13:05", annotator="Bo")
    written = ledger.append([later, earlier, same])
    stated = ["2026-01-31T13:05:00.000+00:00", "2026-01-31T13:04:59.500+00:00", "2026-01-31T13:05:00.000+00:00"]
    assert [(answer.at, answer.stated) for answer in written] == [(at, at) for at in stated]
    assert [answer.id for answer in ledger.active_answers()] == [2, 1, 3]
    assert [answer.id for answer, _ in ledger.history()] == [1, 2, 3]


def test_a_time_that_is_still_to_come_is_kept_and_counts_as_now(ledger: Ledger) -> None:
    (future,) = ledger.append([replace(OK, at="2999-01-01T00:00:00Z")])
    (now,) = ledger.append([SKIP])
    assert future.stated == "2999-01-01T00:00:00.000+00:00"
    assert future.at is not None
    assert now.at is not None
    assert future.at <= now.at < "2999"
    assert (now.stated, ledger.active_answers()) == (None, [future, now])


def test_what_is_no_time_keeps_all_out(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="yesterday"):
        ledger.append([OK, replace(SKIP, at="yesterday")])
    assert ledger.active_answers() == []


def test_a_ledger_of_an_older_version_is_read_and_written(ledger: Ledger) -> None:
    ledger.append([OK, SKIP])
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute("ALTER TABLE events DROP COLUMN stated")
        connection.commit()
    before = ledger.active_answers()
    assert [answer.sample_id for answer in before] == ["a.png", "b.png"]
    (third,) = ledger.append([replace(OK, at="2020-01-01T00:00:00Z")])
    assert ledger.active_answers() == [third, *before]


def test_what_is_taken_back_stays_and_holds_no_more(ledger: Ledger) -> None:
    first, second = ledger.append([OK, SKIP])
    assert ledger.revoke([1], "Bo", "undo") == [first]
    assert ledger.active_answers() == [second]
    assert ledger.history() == [(first, 3), (second, None)]
    with pytest.raises(ValueError, match="has no answer 1 that could be taken back"):
        ledger.revoke([2, 1], "Bo", "undo")
    assert ledger.active_answers() == [second]


@pytest.mark.parametrize(
    "wrong",
    [replace(OK, label=None), replace(SKIP, label="ok"), replace(SKIP, kind="revoke")],  # type: ignore[arg-type]
)
def test_one_answer_that_makes_no_sense_keeps_all_out(ledger: Ledger, wrong: Answer) -> None:
    with pytest.raises(ValueError, match="an answer must be a label with its class"):
        ledger.append([OK, wrong])
    assert ledger.active_answers() == []


@pytest.mark.parametrize("statement", ["DELETE FROM events", "UPDATE events SET label = 'dent'"])
def test_rows_can_be_neither_changed_nor_deleted(ledger: Ledger, statement: str) -> None:
    ledger.append([OK])
    with sqlite3.connect(ledger.path) as connection, pytest.raises(sqlite3.IntegrityError, match="only grows"):
        connection.execute(statement)
    connection.close()


def test_many_write_at_once_from_the_first_row_on(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: Ledger(ledger.path).append([replace(OK, sample_id=f"{n}.png"), SKIP]), range(40)))
    standing = ledger.active_answers()
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
        ledger.active_answers()


def test_who_begins_a_ledger_waits_for_another_who_does(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # SQLite refuses to begin a write-ahead log now, and does not wait
        monkeypatch.setattr("assl_lightning.people.ledger.time.sleep", lambda _: other.execute("ROLLBACK"))
        ledger.append([OK])
    assert len(ledger.active_answers()) == 1


def test_what_is_to_be_written_is_judged_in_sight_of_what_stands(ledger: Ledger) -> None:
    (first,) = ledger.append([OK])
    seen: list[Answer] = []

    def judge(standing: list[Answer]) -> list[Answer]:
        seen.extend(standing)
        return [SKIP]

    (second,) = ledger.append_judged(judge)
    assert seen == [first]
    assert ledger.active_answers() == [first, second]


def test_a_judgement_that_refuses_leaves_nothing(ledger: Ledger) -> None:
    def refuse(standing: list[Answer]) -> list[Answer]:
        raise IngestError("line 2: no")

    with pytest.raises(IngestError, match="line 2: no"):
        ledger.append_judged(refuse)
    assert ledger.active_answers() == []


def test_a_ledger_that_may_not_be_written_can_be_read(ledger: Ledger, shared_directory: Path) -> None:
    ledger.append([OK, SKIP])
    copy = Ledger(shared_directory / LEDGER)
    copy.path.write_bytes(ledger.path.read_bytes())
    with read_only(shared_directory):
        assert len(copy.active_answers()) == len(copy.history()) == 2
        with pytest.raises(ValueError, match=r"can be read and written; SQLite: .* readonly database\. Restore"):
            copy.append([OK])
