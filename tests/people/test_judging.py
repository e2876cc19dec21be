"""What people send back is applied as a whole or not at all, and in whatever order it comes, the same holds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assl_lightning.base.run_files import LEDGER
from assl_lightning.data.answers import Answer, Conflicts, Incoming, resolve
from assl_lightning.people.batch import LabelBatch, find_batches
from assl_lightning.people.errors import IngestError
from assl_lightning.people.judging import Judgement, ingest, judge
from assl_lightning.people.ledger import Ledger
from tests.people.batches import apply_batch, make_batch

POLICIES: tuple[Conflicts, ...] = ("error", "latest", "majority")
IDS = ("00123", "1-2", "sub/b 1.png", "d.png")
A, B, C, D = IDS


@pytest.fixture
def batch(tmp_path: Path) -> LabelBatch:
    return make_batch(tmp_path, sample_ids=IDS)


def line(number: int, sample_id: str, what: str, who: str = "Ann", file: str = "l.csv") -> Incoming:
    """`what` is a class, or - for a skip, or ! for a bad image."""
    kind: Any = {"-": "skip", "!": "bad"}.get(what, "label")
    return Incoming(f"{file}, line {number}", sample_id, kind, what if kind == "label" else None, who)


def lines(*said: tuple[str, str, str], file: str = "l.csv") -> list[Incoming]:
    return [line(number, *one, file=file) for number, one in enumerate(said, start=2)]


def taken(incoming: Sequence[Incoming], round_number: int = 0) -> list[Answer]:
    return [
        Answer(one.sample_id, one.kind, one.annotator, one.where, round_number, one.label, one.seconds, one.at)
        for one in incoming
    ]


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_answers_are_taken_with_all_that_is_known_of_them(batch: LabelBatch) -> None:
    first = Incoming("l.csv, line 2", A, "label", "ok", "Ann", 1.5, "2026-01-31T13:05:00.000+00:00")
    second = line(3, C, "!", "Bo")
    judgement = judge([first, second], [batch], [])
    assert judgement == Judgement(
        answers=(
            Answer(A, "label", "Ann", "l.csv, line 2", 0, "ok", 1.5, "2026-01-31T13:05:00.000+00:00"),
            Answer(C, "bad", "Bo", "l.csv, line 3", 0),
        ),
        problems=(),
        notices=("round 0: 2 of 4 images have no answer yet",),
    )


def test_it_says_when_nothing_is_missing(batch: LabelBatch) -> None:
    said = lines(*((name, "ok", "Ann") for name in IDS))
    assert judge(said, [batch], []).notices == ("round 0: all 4 images have an answer",)
    assert judge(said[1:], [batch], taken(said[:1])).notices == ("round 0: all 4 images have an answer",)


def test_an_answer_is_for_the_newest_batch_that_asked(tmp_path: Path) -> None:
    older, newer = make_batch(tmp_path, 0, [A, B]), make_batch(tmp_path, 2, [B, C])
    apply_batch(older)
    for batches in ([older, newer], [newer, older]):
        judgement = judge(lines((A, "ok", "Ann"), (B, "ok", "Ann"), (C, "-", "Ann")), batches, [])
        assert [(answer.sample_id, answer.round) for answer in judgement.answers] == [(A, 0), (B, 2), (C, 2)]
        assert judgement.notices == (
            "1 answer is for round 0, which has trained already; the next round takes them over (l.csv, line 2)",
            "round 2: all 2 images have an answer",
        )


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_there_already_is_not_taken_again(batch: LabelBatch, policy: Conflicts) -> None:
    said = lines((A, "ok", "Ann"), (A, "ok", "Bo"), (B, "-", "Ann"), (C, "!", "Ann"))
    judgement = judge(said, [batch], taken(said), conflicts=policy)
    assert (judgement.answers, judgement.problems) == ((), ())
    assert judgement.notices[0] == (
        "4 answers are in the ledger already, and not written again (l.csv, line 2; l.csv, line 3; l.csv, line 4; "
        "l.csv, line 5)"
    )
    elsewhere = [replace(one, where="again.csv, line 9") for one in said]
    assert judge(elsewhere, [batch], taken(said), conflicts=policy).answers == ()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_change_of_mind_in_a_later_file_is_a_correction(batch: LabelBatch, policy: Conflicts) -> None:
    before = taken(lines((A, "ok", "Ann"), file="first.csv"))
    judgement = judge(lines((A, "dent", "Ann")), [batch], before, conflicts=policy)
    assert [answer.label for answer in judgement.answers] == ["dent"]
    assert judgement.notices[0] == f"l.csv, line 2: 'Ann' corrects {A!r} from 'ok' (first.csv, line 2) to 'dent'"


def test_an_old_file_does_not_undo_what_was_corrected_since(batch: LabelBatch) -> None:
    file = lines((A, "ok", "Ann"))
    corrected = [*taken(file), replace(taken(file)[0], label="dent", source="page")]
    judgement = judge(file, [batch], corrected)
    assert judgement.answers == ()
    assert judgement.notices[0] == (
        f"l.csv, line 2: 'ok' of {A!r} was taken over before, and replaced since by 'dent' (page), which stays"
    )


def test_a_file_that_was_changed_and_changed_back_says_what_it_says(batch: LabelBatch) -> None:
    first, second = lines((A, "ok", "Ann")), lines((A, "dent", "Ann"))
    (answer,) = judge(first, [batch], [*taken(first), *taken(second)]).answers
    assert answer.label == "ok"


def test_what_is_asked_once_more_needs_another_answer(tmp_path: Path) -> None:
    older, plain = make_batch(tmp_path, 0, [A]), make_batch(tmp_path, 1, [A, B])
    newer = replace(plain, samples=(replace(plain.samples[0], again=True), plain.samples[1]))
    apply_batch(older)
    file = lines((A, "ok", "Ann"), file="first.csv")
    waiting = "round 1: 2 of 2 images have no answer yet"
    assert judge(file, [older, newer], taken(file)).answers == (), "an old file is no second opinion"
    assert judge(file, [older, newer], taken(file)).notices[-1] == waiting
    judgement = judge(lines((A, "ok", "Ann"), (B, "ok", "Ann")), [older, newer], taken(file))
    assert [(answer.sample_id, answer.round) for answer in judgement.answers] == [(A, 1), (B, 1)]
    assert judgement.notices == ("round 1: all 2 images have an answer",)
    assert judge(lines((A, "ok", "Ann")), [older, newer], judgement.answers).answers == ()
    assert judge(lines((A, "ok", "Ann")), [older, plain], taken(file)).answers == ()


def test_the_same_line_twice_counts_once(batch: LabelBatch) -> None:
    for policy in POLICIES:
        judgement = judge(lines((A, "ok", "Ann"), (A, "ok", "Ann")), [batch], [], conflicts=policy)
        assert len(judgement.answers) == 1
        assert judgement.notices[0] == f"l.csv, line 3: repeats the answer to {A!r} of l.csv, line 2; it counts once"


# --- times -----------------------------------------------------------------------------------------------------------


def timed(number: int, what: str, at: str | None, who: str = "Ann", file: str = "l.csv") -> Incoming:
    """Of the sample A; `at` is an hour of one day, or a whole time."""
    at = f"2026-01-31T{at}:00:00.000+00:00" if at is not None and len(at) == 2 else at
    return replace(line(number, A, what, who, file), at=at)


def held(batch: LabelBatch, policy: Conflicts = "error") -> str | None:
    return resolve(Ledger(batch.run_dir / LEDGER).active_answers(), policy)[A].label


@pytest.mark.parametrize("policy", POLICIES)
def test_an_older_answer_that_comes_later_corrects_nothing(batch: LabelBatch, policy: Conflicts) -> None:
    ingest(batch.run_dir, [timed(2, "dent", "15", file="tuesday.csv")], conflicts=policy)
    older = [timed(2, "ok", "14", file="monday.csv")]
    judgement = ingest(batch.run_dir, older, conflicts=policy)
    assert judgement.notices[0] == (
        f"monday.csv, line 2: 'ok' of {A!r} was given at 2026-01-31T14:00:00.000+00:00, before 'dent' at "
        "2026-01-31T15:00:00.000+00:00 (tuesday.csv, line 2), which stays"
    )
    assert held(batch, policy) == "dent"
    assert ingest(batch.run_dir, older, conflicts=policy).answers == (), "and is not kept twice"
    ledger = Ledger(batch.run_dir / LEDGER)
    ledger.revoke([1], "Ann", "undo")
    assert held(batch, policy) == "ok", "the one before what was taken back"


@pytest.mark.parametrize("policy", POLICIES)
def test_of_two_times_in_one_file_the_later_holds_in_whatever_order(batch: LabelBatch, policy: Conflicts) -> None:
    judgement = judge([timed(2, "dent", "15"), timed(3, "ok", "14")], [batch], [], conflicts=policy)
    assert [answer.label for answer in judgement.answers] == ["dent"]
    assert judgement.notices[0] == f"l.csv, line 2: 'dent' of {A!r} replaces 'ok' of l.csv, line 3"


def test_equal_times_and_one_without_a_time_do_not_tell_which_is_later(batch: LabelBatch) -> None:
    for at in ("15", None):
        said = [timed(2, "dent", "15"), timed(3, "ok", at)]
        assert judge(said, [batch], []).problems == (
            f"l.csv, line 3: 'Ann' says 'ok' of {A!r}, and 'dent' in l.csv, line 2; leave one of them",
        )
        (answer,) = judge(said, [batch], [], conflicts="latest").answers
        assert answer.label == "ok"
    (answer,) = judge([timed(2, "ok", None), timed(3, "dent", "15")], [batch], [], conflicts="latest").answers
    assert answer.label == "ok", "without a time it counts as given when it is taken, whatever its line"


def test_under_latest_the_later_of_two_people_holds_whoever_came_first(batch: LabelBatch) -> None:
    ingest(batch.run_dir, [timed(2, "dent", "15"), timed(3, "ok", "14", "Bo")], conflicts="latest")
    assert held(batch, "latest") == "dent"


def test_an_answer_without_a_time_counts_from_when_it_is_taken(batch: LabelBatch) -> None:
    ingest(batch.run_dir, [timed(2, "dent", None, file="first.csv")])
    ingest(batch.run_dir, [timed(2, "ok", "15", file="old.csv")])
    assert held(batch) == "dent"
    ingest(batch.run_dir, [timed(2, "scratch", None, file="new.csv")])
    assert held(batch) == "scratch"


def test_a_time_that_is_still_to_come_counts_as_now(batch: LabelBatch) -> None:
    future = [timed(2, "dent", "2999-01-01T00:00:00.000+00:00", file="clock.csv")]
    notices = ingest(batch.run_dir, future).notices
    assert notices[0] == (
        "clock.csv, line 2: the time 2999-01-01T00:00:00.000+00:00 is still to come; the answer counts as given now"
    )
    assert ingest(batch.run_dir, future).answers == ()
    ingest(batch.run_dir, [timed(2, "ok", None, file="new.csv")])
    assert held(batch) == "ok"
    assert ingest(batch.run_dir, future).answers == (), "what was taken before stays replaced"
    assert held(batch) == "ok"


def test_an_older_answer_contradicts_nobody(batch: LabelBatch) -> None:
    ingest(batch.run_dir, [timed(2, "dent", "15"), timed(3, "dent", "16", "Bo")])
    assert ingest(batch.run_dir, [timed(4, "ok", "14", file="old.csv")]).problems == ()


# --- what contradicts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["error", "majority"])
def test_who_contradicts_themselves_in_one_file_is_asked_to_choose(batch: LabelBatch, policy: Conflicts) -> None:
    judgement = judge(lines((A, "ok", "Ann"), (A, "-", "Ann"), (A, "ok", "Ann")), [batch], [], conflicts=policy)
    assert judgement.answers == ()
    assert judgement.problems == (
        f"l.csv, line 3: 'Ann' says skip of {A!r}, and 'ok' in l.csv, line 2; leave one of them",
    )


def test_under_latest_the_later_line_holds(batch: LabelBatch) -> None:
    said = lines((A, "ok", "Ann"), (A, "dent", "Ann"), (A, "-", "Ann"))
    judgement = judge(said, [batch], [], conflicts="latest")
    assert judgement.answers == (taken(said)[2],)
    assert judgement.notices[:2] == (
        f"l.csv, line 3: 'dent' of {A!r} replaces 'ok' of l.csv, line 2",
        f"l.csv, line 4: skip of {A!r} replaces 'dent' of l.csv, line 3",
    )


def test_under_error_nobody_may_contradict_what_another_said(batch: LabelBatch) -> None:
    before = taken(lines((A, "ok", "Bo"), (B, "-", "Bo"), (C, "!", "Bo"), (D, "ok", "Bo"), file="bo.csv"))
    said = lines((A, "dent", "Ann"), (B, "dent", "Ann"), (C, "ok", "Ann"), (D, "-", "Ann"), (D, "ok", ""))
    judgement = judge([*said, line(9, D, "scratch", "")], [batch], before)
    advice = (
        "agree on one, or choose --conflicts latest, or majority, under which a tie is settled on the page; a "
        "correction has the name of the person whose answer it corrects (column annotator, or --annotator NAME)"
    )
    assert judgement.problems == (
        f"l.csv, line 2: 'Ann' says 'dent' of {A!r}, but 'Bo' 'ok' (bo.csv, line 2); {advice}",
        f"l.csv, line 4: 'Ann' says 'ok' of {C!r}, but 'Bo' bad (bo.csv, line 4); {advice}",
        f"l.csv, line 9: an annotator without a name says 'scratch' of {D!r}, and 'ok' in l.csv, line 6; leave one of "
        "them",
    )
    for policy in POLICIES[1:]:
        judgement = judge(said, [batch], before, conflicts=policy)
        assert judgement.answers == tuple(taken(said))


def test_under_error_nobody_may_contradict_another_in_the_same_file(batch: LabelBatch) -> None:
    judgement = judge(lines((A, "ok", "Ann"), (A, "dent", "Bo"), (A, "ok", "Cy")), [batch], [])
    assert [problem.partition(";")[0] for problem in judgement.problems] == [
        f"l.csv, line 3: 'Bo' says 'dent' of {A!r}, but 'Ann' 'ok' (l.csv, line 2)",
        f"l.csv, line 4: 'Cy' says 'ok' of {A!r}, but 'Bo' 'dent' (l.csv, line 3)",
    ]


def test_a_contradiction_ends_when_one_of_the_two_gives_way(batch: LabelBatch) -> None:
    before = taken(lines((A, "ok", "Ann"), (A, "dent", "Bo"), file="page"))
    assert len(judge(lines((A, "ok", "Bo")), [batch], before).answers) == 1
    both = judge(lines((A, "scratch", "Ann"), (A, "scratch", "Bo")), [batch], before)
    assert len(both.answers) == 2
    assert both.problems == ()


def decision(number: int, what: str, who: str = "Di") -> Incoming:
    return replace(line(number, A, what, who, "answers.csv"), decides=True)


def test_a_decision_comes_by_a_file_and_settles_what_is_contradictory(batch: LabelBatch) -> None:
    said = [*lines((A, "ok", "Ann"), (A, "dent", "Bo")), decision(4, "dent")]
    (ann, bo, di) = ingest(batch.run_dir, said).answers
    assert [ann.decides, bo.decides, di.decides] == [False, False, True]
    assert held(batch) == "dent"
    assert ingest(batch.run_dir, said).answers == ()
    own = ingest(batch.run_dir, [line(5, A, "scratch", "Di")])
    assert own.notices[0] == (
        f"l.csv, line 5: 'scratch' of {A!r} is kept, but 'Di' decided for 'dent', which holds until that is taken back "
        "(--undo 3)"
    )
    assert held(batch) == "dent"
    Ledger(batch.run_dir / LEDGER).revoke([3, 4], "Di", "undo")
    assert resolve(Ledger(batch.run_dir / LEDGER).active_answers(), "error")[A].kind == "conflict"


# --- what does not exist ---------------------------------------------------------------------------------------------

NUMBER = "a spreadsheet takes it for a number; import the column as text"
SLASHES = "its directories are parted by slashes, not by backslashes"
CASE = "its letters are the same but for their case, which counts"
DATE = "a spreadsheet takes it for a date; import the column as text"


def test_a_name_in_another_unicode_form_or_with_spaces_around_it_is_the_name(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, sample_ids=("\u00fc.png", "a.png", " a.png"), class_names=("gr\u00fcn", "ok"))
    said = lines(("u\u0308.png", "gru\u0308n", "Ann"), ("\ta.png", " ok ", "Ann"), (" a.png", "ok", "Ann"))
    judgement = judge(said, [batch], [])
    assert [(answer.sample_id, answer.label) for answer in judgement.answers] == [
        ("\u00fc.png", "gr\u00fcn"),
        ("a.png", "ok"),
        (" a.png", "ok"),
    ]
    assert judge(said, [batch], judgement.answers).answers == (), "the same lines again"


@pytest.mark.parametrize(
    ("sample_id", "hint"),
    [
        ("123", f" (did you mean '00123'? {NUMBER})"),
        ("123.0", f" (did you mean '00123'? {NUMBER})"),
        ("1.23E+02", f" (did you mean '00123'? {NUMBER})"),
        ("02-Jan", f" (did you mean '1-2'? {DATE})"),
        ("sub\\b 1.png", f" (did you mean 'sub/b 1.png'? {SLASHES})"),
        ("SUB/b 1.png", f" (did you mean 'sub/b 1.png'? {CASE})"),
        ("/photos/d.png", " (did you mean 'd.png'?)"),
        ("zebra", ""),
    ],
)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_sample_that_was_not_asked_for_is_told_and_never_guessed(
    batch: LabelBatch, sample_id: str, hint: str, policy: Conflicts
) -> None:
    judgement = judge([line(2, sample_id, "ok"), line(3, D, "ok")], [batch], [], conflicts=policy)
    assert judgement.answers == ()
    assert judgement.problems == (f"l.csv, line 2: {sample_id!r} is no sample that was asked for{hint}",)


@pytest.mark.parametrize(
    ("classes", "label", "hint"),
    [
        (("ok", "dent"), "OK", f" (did you mean 'ok'? {CASE})"),
        (("ok", "dent"), "dnet", " (did you mean 'dent'?)"),
        (("ok", "dent"), "cat", "; they are 'ok', 'dent'"),
        (("ok", "dent"), "NaN", "; they are 'ok', 'dent'; where the class is not known, leave the cell empty"),
        (("0", "1"), "1.0", f" (did you mean '1'? {NUMBER})"),
        (("00", "01"), "1", f" (did you mean '01'? {NUMBER})"),
        (("true", "false"), "TRUE", f" (did you mean 'true'? {CASE})"),
        (("True", "False"), "WAHR", " (did you mean 'True'?)"),
        (("1-2", "3-4"), "04-Mar", f" (did you mean '3-4'? {DATE})"),
    ],
)
def test_a_class_that_there_is_not_is_told_and_never_guessed(
    tmp_path: Path, classes: Sequence[str], label: str, hint: str
) -> None:
    batch = make_batch(tmp_path, sample_ids=IDS, class_names=classes)
    judgement = judge([line(2, A, label)], [batch], [])
    assert judgement == Judgement((), (f"l.csv, line 2: {label!r} is none of the classes{hint}",), ())


def test_all_problems_come_at_once_in_the_order_of_the_lines(batch: LabelBatch) -> None:
    said = lines((A, "ok", "Ann"), ("zebra", "cat", "Ann"), (A, "dent", "Ann"), (B, "OK", "Ann"), (A, "dent", "Bo"))
    said.append(Incoming("l.csv, line 7", C, "skip", annotator="\ud800"))
    problems = judge(said, [batch], []).problems
    assert [problem.partition(":")[0] for problem in problems] == [f"l.csv, line {n}" for n in (3, 3, 4, 5, 6, 7)]
    assert problems[-1] == "l.csv, line 7: the annotator must be a text that UTF-8 can write; got '\\ud800'"


# --- the ledger ------------------------------------------------------------------------------------------------------


def test_ingest_writes_all_that_was_taken(batch: LabelBatch) -> None:
    said = lines((A, "ok", "Ann"), (B, "-", "Ann"))
    judgement = ingest(batch.run_dir, said)
    ledger = Ledger(batch.run_dir / LEDGER)
    assert [replace(answer, id=None, at=None) for answer in ledger.active_answers()] == list(judgement.answers)
    assert ingest(batch.run_dir, said).answers == ()
    assert len(ledger.history()) == 2


@pytest.mark.parametrize("dry_run", [False, True])
def test_ingest_that_is_refused_or_a_dry_run_makes_no_ledger(batch: LabelBatch, dry_run: bool) -> None:
    with pytest.raises(IngestError) as caught:
        ingest(batch.run_dir, lines((A, "ok", "Ann"), ("zebra", "ok", "Ann"), (B, "cat", "Ann")), dry_run=dry_run)
    assert len(caught.value.lines) == 2
    assert len(ingest(batch.run_dir, lines((A, "ok", "Ann")), dry_run=True).answers) == 1
    assert not (batch.run_dir / LEDGER).exists()


def test_of_two_that_contradict_each_other_one_is_refused_however_close_they_come(
    batch: LabelBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = Ledger.active_answers

    def standing_and_then_another_comes(ledger: Ledger) -> list[Answer]:
        found = standing(ledger)
        monkeypatch.setattr(Ledger, "active_answers", standing)
        ingest(batch.run_dir, lines((A, "dent", "Bo"), file="bo.csv"))
        return found

    monkeypatch.setattr(Ledger, "active_answers", standing_and_then_another_comes)
    with pytest.raises(IngestError, match=r"'Ann' says 'ok' of '00123', but 'Bo' 'dent' \(bo.csv, line 2\)"):
        ingest(batch.run_dir, lines((A, "ok", "Ann"), (B, "ok", "Ann")))
    assert [answer.annotator for answer in Ledger(batch.run_dir / LEDGER).active_answers()] == ["Bo"]


def test_a_directory_without_a_batch_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere must be the directory of a run; there is no such directory"):
        ingest(tmp_path / "nowhere", [])
    with pytest.raises(ValueError, match=r"must be the directory of a run, but has no config\.yaml"):
        ingest(tmp_path, [])


# --- laws ------------------------------------------------------------------------------------------------------------

SAID = st.lists(
    st.tuples(st.sampled_from(IDS), st.sampled_from(["ok", "dent", "-", "!"]), st.sampled_from(["Ann", "Bo", "Cy"])),
    max_size=12,
)


def in_parts(batch: LabelBatch, parts: Sequence[Sequence[Incoming]], policy: Conflicts) -> list[Answer]:
    standing: list[Answer] = []
    for part in parts:
        judgement = judge(part, [batch], standing, conflicts=policy)
        assert judgement.problems == ()
        standing += judgement.answers
    return standing


def what_holds(standing: Sequence[Answer], policy: Conflicts) -> dict[str, tuple[str, str | None]]:
    return {name: (verdict.kind, verdict.label) for name, verdict in resolve(standing, policy).items()}


@settings(deadline=None)
@given(said=SAID, policy=st.sampled_from(POLICIES), data=st.data())
def test_a_file_in_parts_says_what_the_whole_says(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, str, str]], policy: Conflicts, data: st.DataObject
) -> None:
    """In any order; under latest, whose answer depends on it, for each person alone and in that of the lines."""
    batch = a_batch(tmp_path_factory)
    whole = lines(*((name, what, "Ann" if policy == "latest" else who) for name, what, who in said))
    judgement = judge(whole, [batch], [], conflicts=policy)
    order = whole if policy == "latest" else data.draw(st.permutations(whole))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    parts = [order[start:end] for start, end in itertools.pairwise([0, *cuts, len(whole)])]
    if judgement.problems:
        return
    standing = in_parts(batch, parts, policy)
    assert what_holds(standing, policy) == what_holds(judgement.answers, policy)
    assert in_parts(batch, [*parts, whole, whole], policy) == standing, "and what comes again changes nothing"


TIMED = st.lists(
    st.tuples(st.sampled_from(["ok", "dent", "-", "!"]), st.sampled_from(["Ann", "Bo", "Cy"])), min_size=1, max_size=6
)


@settings(deadline=None)
@given(said=TIMED, policy=st.sampled_from(POLICIES[1:]), data=st.data())
def test_where_all_have_times_the_order_of_the_files_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, str]], policy: Conflicts, data: st.DataObject
) -> None:
    """Against a loop over the hours: each person's last word, and then the policy."""
    batch = a_batch(tmp_path_factory)
    files = [[timed(2, what, f"{hour:02d}", who, f"{hour}.csv")] for hour, (what, who) in enumerate(said)]
    expected = what_holds([answer for file in files for answer in taken(file)], policy)
    standing = in_parts(batch, data.draw(st.permutations(files)), policy)
    assert what_holds(standing, policy) == expected


@settings(deadline=None)
@given(
    incoming=st.lists(
        st.builds(
            Incoming,
            where=st.just("l.csv, line 2"),
            sample_id=st.sampled_from([*IDS, "123", "02-Jan", "D.PNG"]) | st.text(),
            kind=st.sampled_from(["label", "skip", "bad"]),
            label=st.sampled_from(["ok", "dent", "OK"]) | st.text(),
            annotator=st.sampled_from(["Ann", "Bo"]),
        ).map(lambda one: one if one.kind == "label" else replace(one, label=None)),
        max_size=6,
    ),
    policy=st.sampled_from(POLICIES),
)
def test_nothing_is_taken_that_was_not_asked(
    tmp_path_factory: pytest.TempPathFactory, incoming: list[Incoming], policy: Conflicts
) -> None:
    batch = a_batch(tmp_path_factory)
    judgement = judge(incoming, [batch], [], conflicts=policy)
    exist = [one.sample_id in IDS and one.label in (None, *batch.class_names) for one in incoming]
    assert bool(judgement.answers and judgement.problems) is False
    assert all(answer.sample_id in IDS for answer in judgement.answers)
    assert all(answer.label in batch.class_names for answer in judgement.answers if answer.kind == "label")
    if not all(exist):
        assert judgement.answers == ()
        assert len(judgement.problems) >= exist.count(False)


def a_batch(factory: pytest.TempPathFactory) -> LabelBatch:
    """The same for all examples."""
    run_dir = factory.getbasetemp() / "judged"
    if not run_dir.exists():
        make_batch(run_dir, sample_ids=IDS)
    return find_batches(run_dir)[0]
