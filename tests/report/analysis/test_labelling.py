from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assl_lightning.base.proportions import Proportion
from assl_lightning.base.run_files import LEDGER
from assl_lightning.data.answers import Answer
from assl_lightning.people.batch import AskedSample, LabelBatch, find_audits, find_batches
from assl_lightning.people.ledger import Ledger
from assl_lightning.report.analysis.labelling import Labelling, agreeing, labelling_of, work_of
from tests.report.asked import CLASSES, ask, say, take_back


def read(run_dir: Path, conflicts: Any = "error", hold_out: int = 0) -> Labelling:
    history = Ledger(run_dir / LEDGER).history()
    return labelling_of(find_batches(run_dir), history, conflicts, hold_out, find_audits(run_dir))


def test_each_sample_of_a_round_has_one_state(tmp_path: Path) -> None:
    ask(tmp_path, 0, dict.fromkeys("abcde"))
    for name, what, who in (
        ("a", "ok", "Ann"),
        ("b", "skip", "Ann"),
        ("c", "bad", "Ann"),
        ("d", "ok", "Ann"),
        ("d", "dent", "Bo"),
    ):
        say(tmp_path, 0, name, what, who)
    (found,) = read(tmp_path, hold_out=2).rounds
    assert [question.state for question in found.questions] == ["label", "skip", "bad", "conflict", "unanswered"]
    assert [found.count(state) for state in ("label", "skip", "bad", "conflict", "unanswered")] == [1] * 5
    assert [question.label for question in found.questions] == ["ok", None, None, None, None]
    assert [question.is_for_test for question in found.questions] == [True, True, False, False, False]
    (found,) = read(tmp_path, "latest").rounds
    assert found.questions[3].label == "dent"


def test_a_round_has_the_answers_that_were_given_for_it_alone(tmp_path: Path) -> None:
    ask(tmp_path, 0, {"a": None})
    ask(tmp_path, 1, {"a": None, "b": None}, is_open=True)
    say(tmp_path, 0, "a", "skip")
    first, second = read(tmp_path).rounds
    assert (first.is_open, second.is_open) == (False, True)
    assert [question.state for question in (*first.questions, *second.questions)] == ["skip"] + ["unanswered"] * 2


def test_people_agree_with_the_model_where_both_are_known(tmp_path: Path) -> None:
    ask(tmp_path, 1, {"a": "ok", "b": "ok", "c": None, "d": "ok", "e": "ok"})
    for name, what in (("a", "ok"), ("b", "dent"), ("c", "ok"), ("d", "bad")):
        say(tmp_path, 1, name, what)
    questions = read(tmp_path).questions
    assert [question.agrees_with_model for question in questions] == [True, False, None, None, None]
    assert agreeing([question.agrees_with_model for question in questions]) == Proportion(1, 2)


class TestASecondAnswer:
    def ask_twice(self, run_dir: Path, first: str = "ok", who: str = "Ann") -> None:
        ask(run_dir, 0, {"a": None})
        say(run_dir, 0, "a", first, who)
        ask(run_dir, 1, {"b": None}, again=["a"])

    @pytest.mark.parametrize(("second", "agrees"), [("ok", True), ("dent", False), ("bad", False), ("skip", None)])
    @pytest.mark.parametrize(("who", "same"), [("Ann", True), ("Bo", False), ("", None)])
    def test_is_held_against_what_held_before(
        self, second: str, agrees: bool | None, who: str, same: bool | None, tmp_path: Path
    ) -> None:
        self.ask_twice(tmp_path)
        say(tmp_path, 1, "a", second, who)
        (question,) = read(tmp_path, "latest").rounds[1].again
        assert question.agrees_with_before is agrees
        assert question.is_by_same_person is (None if agrees is None else same)

    def test_counts_as_it_was_first_given_even_where_people_have_agreed_since(self, tmp_path: Path) -> None:
        self.ask_twice(tmp_path)
        say(tmp_path, 1, "a", "dent", "Bo")
        say(tmp_path, 1, "a", "ok", "Bo")
        labelling = read(tmp_path)
        (question,) = labelling.rounds[1].again
        assert question.agrees_with_before is False
        assert (labelling.contested, labelling.seen_by_several) == ((), 1)

    def test_the_first_is_what_stood_as_it_came(self, tmp_path: Path) -> None:
        ask(tmp_path, 0, {"a": None})
        take_back(tmp_path, say(tmp_path, 0, "a", "scratch"))
        first = say(tmp_path, 0, "a", "ok")
        ask(tmp_path, 1, {}, again=["a"])
        say(tmp_path, 1, "a", "dent", "Bo")
        take_back(tmp_path, first)
        say(tmp_path, 0, "a", "dent")
        (question,) = read(tmp_path).rounds[1].again
        assert question.before is not None
        assert (question.before.label, question.agrees_with_before) == ("ok", False)

    def test_what_held_before_is_of_earlier_rounds(self, tmp_path: Path) -> None:
        self.ask_twice(tmp_path)
        taken_back = say(tmp_path, 1, "a", "dent", "Bo")
        say(tmp_path, 1, "a", "ok", "Cy")
        take_back(tmp_path, taken_back)
        (question,) = read(tmp_path).rounds[1].again
        assert (question.agrees_with_before, question.is_by_same_person) == (True, False)

    def test_one_that_was_taken_back_is_none(self, tmp_path: Path) -> None:
        self.ask_twice(tmp_path)
        take_back(tmp_path, say(tmp_path, 1, "a", "dent"))
        (question,) = read(tmp_path).rounds[1].again
        assert question.agrees_with_before is None
        say(tmp_path, 1, "a", "ok")
        (question,) = read(tmp_path).rounds[1].again
        assert question.agrees_with_before is True


@pytest.mark.parametrize(("conflicts", "holds"), [("error", "conflict"), ("latest", "label"), ("majority", "label")])
def test_people_who_disagree_are_listed_whatever_holds(conflicts: str, holds: str, tmp_path: Path) -> None:
    ask(tmp_path, 0, dict.fromkeys("abc"))
    for name, what, who in (
        *(("a", "ok", "Ann"), ("a", "ok", "Bo"), ("a", "dent", "Cy")),
        *(("b", "ok", "Ann"), ("b", "skip", "Bo"), ("c", "ok", "Ann"), ("c", "ok", "Bo")),
    ):
        say(tmp_path, 0, name, what, who)
    labelling = read(tmp_path, conflicts)
    assert [question.sample.sample_id for question in labelling.contested] == ["a"]
    assert labelling.holds["a"].kind == holds
    assert labelling.seen_by_several == 2


def test_time_is_of_all_answers_and_labels_of_those_that_stand(tmp_path: Path) -> None:
    ask(tmp_path, 0, dict.fromkeys("abcde"))
    take_back(tmp_path, say(tmp_path, 0, "a", "dent", seconds=4))
    take_back(tmp_path, say(tmp_path, 0, "e", "dent", seconds=6))
    say(tmp_path, 0, "a", "ok", seconds=5)
    say(tmp_path, 0, "b", "dent", "Bo", seconds=3)
    say(tmp_path, 0, "b", "ok", "Bo", seconds=2)
    say(tmp_path, 0, "c", "skip", seconds=20)
    say(tmp_path, 0, "d", "ok", "", seconds=None)
    work = work_of(read(tmp_path).given)
    assert (work.answers, work.taken_back, work.timed, work.seconds, work.timed_labels) == (7, 2, 6, 40.0, 2)
    assert work.labels_per_hour == pytest.approx(2 / 40 * 3600)
    assert list(work.annotators.items()) == [("Ann", 4), ("Bo", 2), ("", 1)]


def test_the_answers_to_audits_are_work_of_their_own_and_no_rounds(tmp_path: Path) -> None:
    ask(tmp_path, 0, dict.fromkeys("abc"))
    ask(tmp_path, 1, {"d": None}, is_open=True)
    ask(tmp_path, 1, {}, again=["a"], audit=1)  # beside the round that waits
    ask(tmp_path, 2, {}, again=["b"], audit=2)  # no round 2 is there
    for number, name, seconds in ((0, "a", 1), (0, "b", 2), (1, "d", 4), (1, "a", 8), (2, "b", 16)):
        say(tmp_path, number, name, "ok", seconds=seconds)
    labelling = read(tmp_path)
    assert [work_of(part.given).seconds for part in labelling.rounds] == [3, 4]
    assert work_of(labelling.audits).seconds == 24
    work = work_of(labelling.given)
    assert (work.answers, work.seconds, work.timed_labels) == (5, 31, 5)


@pytest.mark.parametrize("seconds", [None, float("nan"), float("inf"), -1.0])
def test_no_time_is_no_rate(seconds: float | None) -> None:
    work = work_of([(Answer("a", "label", "Ann", "page", 0, label="ok", seconds=seconds), None)])
    assert (work.timed, work.seconds, work.labels_per_hour) == (0, 0.0, None)
    assert work_of([]).labels_per_hour is None


@pytest.mark.parametrize(("right", "n"), [(0, 1), (3, 4), (50, 50), (437, 500)])
def test_the_interval_is_that_of_wilson(right: int, n: int) -> None:
    z, share = 1.959963984540054, right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert Proportion(right, n).interval == pytest.approx((middle - half, middle + half))


ANSWERS = st.tuples(
    st.integers(0, 2),
    st.sampled_from("abc"),
    st.sampled_from((*CLASSES, "skip", "bad")),
    st.sampled_from(["Ann", "Bo"]),
)


@given(st.lists(st.tuples(ANSWERS, st.booleans()), max_size=12), st.sampled_from(["error", "latest", "majority"]))
def test_every_answer_and_every_sample_counts_once(said: list[tuple[Any, bool]], conflicts: Any) -> None:
    batches = [
        LabelBatch(
            directory=Path("nowhere"),
            run_id="1",
            name="n",
            round=number,
            class_names=CLASSES,
            samples=tuple(AskedSample(name, 0, "0000.png", prediction="ok", again=number > 0) for name in "abc"),
        )
        for number in range(3)
    ]
    history = [
        (
            Answer(
                name,
                what if what in ("skip", "bad") else "label",
                who,
                "page",
                number,
                label=what if what in CLASSES else None,
                id=place + 1,
            ),
            100 + place if taken else None,
        )
        for place, ((number, name, what, who), taken) in enumerate(said)
    ]
    labelling = labelling_of(batches, history, conflicts)
    assert sorted(one.id or 0 for one, _ in labelling.given) == [*range(1, len(history) + 1)]
    for one in labelling.rounds:
        assert len(one.new) + len(one.again) == len(one.questions) == 3
        for question in one.questions:
            standing = [
                answer
                for answer, taken in history
                if taken is None and answer.round == one.round and answer.sample_id == question.sample.sample_id
            ]
            assert (question.state == "unanswered") == (not standing)
            assert question.label is None or question.label in {answer.label for answer in standing}
            if question.second is not None:
                assert question.second == next(answer for answer in standing if answer.kind != "skip")
    contested = {question.sample.sample_id for question in labelling.contested}
    for name in "abc":
        last = {
            answer.annotator: (answer.kind, answer.label)
            for answer, taken in history
            if taken is None and answer.sample_id == name
        }
        different = {vote for vote in last.values() if vote[0] != "skip"}
        assert (name in contested) == (len(different) > 1)
