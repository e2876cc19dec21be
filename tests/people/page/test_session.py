"""Several people answer to one batch, each for themselves."""

from __future__ import annotations

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from assl_lightning.base.run_files import LEDGER
from assl_lightning.data.answers import Answer
from assl_lightning.people.files import read_labels
from assl_lightning.people.judging import ingest
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.page.session import LONGEST_SECONDS, AnswerError, ClosedError, Session, annotator_of
from assl_lightning.people.shares import Share
from tests.people.batches import SAMPLE_IDS, apply_batch, make_batch
from tests.shell import run_python

OK: dict[str, Any] = {"sample_id": "d.png", "kind": "label", "label": "ok"}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(make_batch(tmp_path, 1), Ledger(tmp_path / LEDGER))


def names(session: Session, annotator: str) -> list[str]:
    return [sample.sample_id for sample in session.order(annotator)]


@pytest.mark.e2e
def test_each_annotator_has_an_order_of_their_own_in_every_process(session: Session) -> None:
    orders = {who: names(session, who) for who in ("Ann", "Bo", "Cy", "Di", "Eve", "Flo")}
    assert all(sorted(order) == sorted(SAMPLE_IDS) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) > 3
    assert list(SAMPLE_IDS) not in list(orders.values())[:3], "the score's order would bias"
    code = (
        "import json, sys; from pathlib import Path; from assl_lightning.people.batch import read_batch;"
        "from assl_lightning.people.page.session import Session;"
        "order = Session(read_batch(Path(sys.argv[1])), None).order('Ann');"
        "print(json.dumps([sample.sample_id for sample in order]))"
    )
    again = run_python("-c", code, session.batch.directory)
    assert json.loads(again.stdout) == orders["Ann"]


def test_images_without_a_prediction_are_the_last_group_and_those_without_a_score_last_in_theirs(
    tmp_path: Path,
) -> None:
    batch = make_batch(tmp_path, 1, [f"{number}.png" for number in range(9)], ["ok", "dent"])
    known = [replace(one, score=None) if one.sample_id == "6.png" else one for one in batch.samples]
    mixed = [replace(one, prediction=None) if one.index % 3 == 0 else one for one in known]  # the indices begin at 10
    session = Session(replace(batch, samples=tuple(mixed)), Ledger(tmp_path / LEDGER))
    *groups, last = [[one.sample_id for one in group] for group in session.groups("Ann")]
    assert sorted(groups) == [["4.png", "0.png", "6.png"], ["7.png", "3.png", "1.png"]]
    assert last == ["8.png", "5.png", "2.png"]


def test_which_group_comes_first_does_not_tell_its_class(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, 1, [f"{number}.png" for number in range(6)], ["ok", "dent", "scratch"])
    session = Session(batch, Ledger(tmp_path / LEDGER))
    firsts = {session.groups(f"person {number}")[0][0].prediction for number in range(20)}
    assert firsts == {"ok", "dent", "scratch"}


def test_another_round_has_another_order(tmp_path: Path) -> None:
    many = [f"{number}.png" for number in range(30)]
    first, second = (Session(make_batch(tmp_path, r, many), Ledger(tmp_path / LEDGER)) for r in (0, 1))
    assert names(first, "Ann") != names(second, "Ann")


def test_an_answer_is_in_the_ledger_with_all_that_is_known(session: Session) -> None:
    before = datetime.now(timezone.utc)
    kept = session.answer("Ann", {**OK, "seconds": 1.2345, "age": 60})
    assert kept.at is not None
    assert 58 < (before - datetime.fromisoformat(kept.at)).total_seconds() < 61, "a minute before it arrived"
    expected = Answer("d.png", "label", "Ann", "page", 1, label="ok", seconds=1.23, at=kept.at, id=1, stated=kept.at)
    assert session.ledger.active_answers() == [expected] == [kept]


def test_delays_on_the_way_do_not_change_the_order_of_answers(session: Session) -> None:
    session.answer("Ann", {**OK, "age": 1.0})
    session.answer("Ann", {**OK, "label": "dent", "age": 1.4})  # it took less time to come than the first
    assert [one.label for one in session.answers("Ann")] == ["ok", "dent"]
    session.answer("Ann", {**OK, "label": "scratch", "age": 600})  # from another browser, which was not connected
    assert [one.label for one in session.answers("Ann")] == ["scratch", "ok", "dent"]


def test_seconds_have_a_limit(session: Session) -> None:
    assert session.answer("Ann", {**OK, "seconds": 1e9}).seconds == LONGEST_SECONDS
    assert session.answer("Bo", OK).seconds is None


def test_an_answer_that_is_sent_again_adds_nothing_and_another_one_does(session: Session) -> None:
    first = session.answer("Ann", OK)
    assert session.answer("Ann", OK) == first
    changed = session.answer("Ann", {**OK, "label": "dent"})
    assert session.answer("Ann", OK).id == 3
    assert session.answer("Bo", OK).id == 4
    assert [answer.id for answer in session.answers("Ann")] == [first.id, changed.id, 3]


def test_an_answer_that_is_sent_many_times_at_once_is_kept_once(session: Session) -> None:
    with ThreadPoolExecutor(8) as threads:
        kept = list(threads.map(lambda _: session.answer("Ann", OK), range(24)))
    assert {answer.id for answer in kept} == {1}
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: session.undo("Ann", 1), range(24)))
    assert session.ledger.active_answers() == []


def test_undo_takes_back_ones_own_answers_of_this_page_once(session: Session) -> None:
    session.answer("Ann", OK)
    session.answer("Ann", {**OK, "label": "dent"})
    session.undo("Ann", 2)
    session.undo("Ann", 2)  # its receipt was lost
    assert [answer.label for answer in session.answers("Ann")] == ["ok"]
    ingested, of_another_round = session.ledger.append(
        [
            Answer("d.png", "label", "Ann", "labels.csv, line 2", 1, label="ok"),
            Answer("d.png", "label", "Ann", "page", 0, label="ok"),
        ]
    )
    for who, number in (("Bo", 1), ("Ann", 99), ("Ann", ingested.id), ("Ann", of_another_round.id)):
        with pytest.raises(AnswerError, match="id must be of an answer that"):
            session.undo(who, number)
    assert len(session.ledger.active_answers()) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sample_id": "e.png"}, "sample_id must be one of the batch's 4; got 'e.png'"),
        ({"sample_id": None}, "sample_id must be"),
        ({"sample_id": ["d.png"]}, "sample_id must be"),
        ({"kind": "revoke"}, "kind must be one of label, skip, bad; got 'revoke'"),
        ({"kind": ["label"]}, "kind must be"),
        ({"label": "Ok"}, "label must be one of the batch's 3 classes; got 'Ok'"),
        ({"label": None}, "label must be one"),
        ({"label": 0}, "label must be one"),
        ({"kind": "skip"}, "label must be left out of a skip; got 'ok'"),
        ({"seconds": -1}, "seconds must be a number of at least 0, or null; got -1"),
        ({"seconds": float("nan")}, "seconds must be"),
        ({"seconds": float("inf")}, "seconds must be"),
        ({"seconds": 10**4000}, "seconds must be"),
        ({"seconds": True}, "seconds must be"),
        ({"age": "1"}, "age must be"),
    ],
)
def test_what_cannot_be_an_answer_is_refused(session: Session, content: dict[str, Any], message: str) -> None:
    with pytest.raises(AnswerError, match=message) as caught:
        session.answer("Ann", {**OK, **content})
    assert len(str(caught.value)) < 300
    assert session.ledger.active_answers() == []


def test_a_batch_that_was_taken_over_takes_no_answers(session: Session) -> None:
    session.answer("Ann", OK)
    apply_batch(session.batch)
    with pytest.raises(ClosedError, match="labels of round 1 were taken over meanwhile"):
        session.answer("Ann", {**OK, "label": "dent"})
    with pytest.raises(ClosedError):
        session.undo("Ann", 1)
    assert [answer.label for answer in session.ledger.active_answers()] == ["ok"]


def test_only_answers_to_this_batch_count(session: Session) -> None:
    session.ledger.append(
        [
            Answer("d.png", "label", "Ann", "page", 0, label="ok"),
            Answer("elsewhere.png", "label", "Ann", "page", 1, label="ok"),
        ]
    )
    assert session.answers("Ann") == []
    assert session.progress() == {}
    assert session.unfinished() == []


def test_progress_counts_images_not_answers(session: Session) -> None:
    for label in ("ok", "dent"):
        session.answer("Bo", {**OK, "label": label})
    for sample_id in SAMPLE_IDS:
        session.answer("Ann", {"sample_id": sample_id, "kind": "bad"})
    assert session.progress() == {"Bo": 1, "Ann": 4}
    assert session.unfinished() == ["Bo"]


def test_the_table_has_last_answers_of_one_or_of_all(session: Session) -> None:
    session.answer("Ann", {**OK, "seconds": 2})
    session.answer("Bo", {"sample_id": "sub/ü.png", "kind": "skip"})
    session.answer("Ann", {"sample_id": "00123.png", "kind": "bad", "seconds": 0.5})
    session.answer("Ann", {**OK, "label": "dent", "seconds": 1.5})
    rows = list(csv.DictReader(io.StringIO(session.table())))
    assert [list(row.values())[:5] for row in rows] == [
        ["sub/ü.png", "", "skip", "Bo", ""],
        ["00123.png", "", "bad", "Ann", "0.5"],
        ["d.png", "dent", "", "Ann", "1.5"],
    ]
    assert list(rows[0]) == ["sample_id", "label", "status", "annotator", "seconds", "at"]
    assert all(row["at"].endswith("+00:00") for row in rows)
    assert session.table("Bo").count("\n") == 2


@pytest.mark.parametrize("name", ["", "  ", None, 7, "a" * 61, "two\nlines", "a\x00", "\ud800", "right\u202eleft"])
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(AnswerError, match="annotator must be a name of 1 to 60 characters"):
        annotator_of(name)


def test_a_name_is_composed_and_has_no_spaces_around() -> None:
    assert annotator_of("  Zoe\u0308 <b> ") == "Zoë <b>"


def test_an_answer_from_a_file_counts_as_any_other(session: Session) -> None:
    session.ledger.append([Answer("d.png", "label", "Ann", "labels.csv, line 2", 1, label="ok")])
    assert session.progress() == {"Ann": 1}
    assert replace(session.answers("Ann")[0], at=None).id == 1


def differing(session: Session, *who: str) -> None:
    for name, label in zip(who, ("ok", "dent", "scratch"), strict=False):
        session.answer(name, {**OK, "label": label})


def test_a_decision_settles_what_people_differ_about_and_is_no_vote(session: Session) -> None:
    with pytest.raises(AnswerError, match=r"people do not differ about 'd\.png' any more"):
        session.answer("Di", {**OK, "decides": True})
    differing(session, "Ann", "Bo")
    assert list(session.disputes()) == session.unsettled() == ["d.png"]
    kept = session.answer("Ann", {**OK, "decides": True, "seconds": 2})
    assert kept.decides
    assert (kept.annotator, kept.label, kept.seconds) == ("Ann", "ok", 2.0)
    assert session.unsettled() == []
    assert session.disputes()["d.png"].label == "ok"
    assert session.progress() == {"Ann": 1, "Bo": 1}, "who decides has not labelled more for it"
    assert session.answer("Ann", {**OK, "decides": True}) == kept, "sent again"
    assert [one.decides for one in session.answers("Ann")] == [False]
    other = session.answer("Bo", {**OK, "label": "dent", "decides": True})
    assert session.disputes()["d.png"].label == "dent"
    session.undo("Bo", other.id)
    assert session.disputes()["d.png"].label == "ok", "the decision before"
    session.undo("Ann", kept.id)
    assert session.unsettled() == ["d.png"]
    with pytest.raises(AnswerError, match="decides must be true, false or left out; got 'yes'"):
        session.answer("Ann", {**OK, "decides": "yes"})


def test_under_a_policy_that_settles_all_may_still_be_decided(tmp_path: Path) -> None:
    session = Session(make_batch(tmp_path, 1), Ledger(tmp_path / LEDGER), "majority")
    differing(session, "Ann", "Bo")
    assert session.unsettled() == ["d.png"], "two who differ are a tie"
    session.answer("Cy", OK)
    assert session.unsettled() == []
    assert list(session.disputes()) == ["d.png"]
    session.answer("Cy", {**OK, "label": "dent", "decides": True})
    assert session.disputes()["d.png"].label == "dent"


def test_decisions_travel_in_the_table_of_answers(session: Session, tmp_path: Path) -> None:
    differing(session, "Ann", "Bo")
    session.answer("Di", {**OK, "label": "scratch", "decides": True})
    table = tmp_path / "answers.csv"
    table.write_text(session.table(), encoding="utf-8")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [(row["annotator"], row["label"], row["decides"]) for row in rows] == [
        ("Ann", "ok", ""),
        ("Bo", "dent", ""),
        ("Di", "scratch", "yes"),
    ]
    make_batch(tmp_path / "run", 1)
    ingest(tmp_path / "run", read_labels(table))
    elsewhere = Session(session.batch, Ledger(tmp_path / "run" / LEDGER))
    assert elsewhere.disputes()["d.png"].label == "scratch"
    assert "decides" not in session.table("Ann")


def test_an_image_in_common_begins_the_share_of_whoever_answered_it_here(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, sample_ids=[f"{number}.png" for number in range(7)])
    shares = [Share(person, 2, 0.4) for person in (1, 2)]
    first, second = (Session(batch, Ledger(tmp_path / LEDGER), share=share) for share in shares)
    own, common = shares[0].split(batch)
    second.answer("Bo", OK | {"sample_id": common[0].sample_id})
    assert (first.unfinished(), second.unfinished()) == ([], ["Bo"])
    left = [sample.sample_id for sample in (*common, *own)]
    first.answer("Ann", OK | {"sample_id": left[0]})
    assert first.unfinished() == ["Ann"]  # with --done, no end after her first image
    for name in left[1:]:
        first.answer("Ann", OK | {"sample_id": name})
    assert first.unfinished() == []
    again = Session(batch, Ledger(tmp_path / LEDGER), share=shares[1])
    again.answer("Cy", OK | {"sample_id": shares[1].split(batch)[0][0].sample_id})
    assert Session(batch, Ledger(tmp_path / LEDGER), share=shares[1]).unfinished() == ["Cy"]


def test_where_all_is_in_common_every_image_begins(tmp_path: Path) -> None:
    batch, share = make_batch(tmp_path), Share(1, 2, 1.0)
    Session(batch, Ledger(tmp_path / LEDGER), share=Share(2, 2, 1.0)).answer("Bo", OK)
    assert Session(batch, Ledger(tmp_path / LEDGER), share=share).unfinished() == ["Bo"]
