"""A JSON export becomes answers, or all that is wrong with it at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assl_lightning.data.answers import Incoming
from assl_lightning.people.label_studio.exports import ExportError, is_export, read_export, tasks_of_batch
from tests.people.batches import make_batch

FIXTURES = Path(__file__).parent / "fixtures"


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


def said(answers: list[Incoming]) -> list[tuple[str, str, str | None, str]]:
    return [(answer.sample_id, answer.kind, answer.label, answer.annotator) for answer in answers]


def an_annotation(*choices: str, at: str = "2026-11-22T13:12:04.062034Z", **changes: Any) -> dict[str, Any]:
    result = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": list(choices)}}
    content = {"id": 1, "completed_by": 1, "result": [result], "was_cancelled": False, "updated_at": at, "lead_time": 2}
    return content | changes


def a_task(*annotations: Any, number: int = 12, sample_id: Any = "a.png") -> dict[str, Any]:
    return {"id": number, "data": {"sample_id": sample_id}, "annotations": list(annotations)}


def lines_of(*tasks: Any) -> tuple[str, ...]:
    with pytest.raises(ExportError) as caught:
        read_export(list(tasks), "e.json")
    assert str(caught.value) == "\n".join(caught.value.lines)
    return caught.value.lines


def test_a_recorded_export_is_read() -> None:
    answers = read_export(recorded("export.json"), "export.json")
    assert said(answers) == [
        ("sub/img0.png", "label", "red", "1"),
        ("sub/img2.png", "skip", None, "1"),
        ("sub/img1.png", "label", "green", "1"),  # the same person's blue was half a second older
    ]
    assert answers[0] == Incoming(
        where="export.json, task 1208 (sub/img0.png)",
        sample_id="sub/img0.png",
        kind="label",
        label="red",
        annotator="1",
        seconds=2.5,
        at="2026-11-22T13:12:04.062+00:00",
    )


def test_what_people_did_in_the_browser_is_read() -> None:
    answers = read_export(recorded("export_by_browser.json"), "e.json")
    assert said(answers) == [
        ("00123.png", "label", "$ok", "1"),
        ("sub/b 1.png", "label", "dent <&\"'>", "1"),
        ("sub/ü.png", "bad", None, "1"),
        ("d.png", "skip", None, "1"),
        ("00123.png", "label", "ü b", "2"),
    ]
    assert [answer.seconds for answer in answers] == [7.475, 2.945, 2.744, 2.159, None]


def test_a_skip_holds_though_the_prediction_is_still_chosen() -> None:
    bad, skipped, _ = recorded("export_with_problems.json")
    assert skipped["annotations"][0]["result"][0]["value"] == {"choices": ["green"]}
    assert said(read_export([bad, skipped], "e.json")) == [
        ("sub/red.png", "bad", None, "1"),
        ("sub/green.png", "skip", None, "1"),
    ]


@pytest.mark.parametrize(
    ("task", "line"),
    [
        (
            a_task(an_annotation("ok", "dent")),
            "e.json, task 12 (a.png): the annotation of 1 must choose one class in 'label'; 2 were chosen ('ok', "
            "'dent'); correct it in Label Studio and export again",
        ),
        (
            a_task(an_annotation(completed_by=None)),
            "e.json, task 12 (a.png): the annotation must choose one class in 'label'; none was chosen; correct it in "
            "Label Studio and export again",
        ),
        (
            a_task(an_annotation("ok"), sample_id=None),
            "e.json, task 12 must have the sample's id as a text in its data, sample_id; it has none; import the tasks "
            "from tasks.json, which has them",
        ),
        (
            a_task(an_annotation("ok"), sample_id=123),
            "e.json, task 12 must have the sample's id as a text in its data, sample_id; it has 123; import the tasks "
            "from tasks.json, which has them",
        ),
        (
            a_task(an_annotation("ok", completed_by=[])),
            "e.json, task 12 (a.png) has an annotation that cannot be read: completed_by must be a person's number or "
            "e-mail; it is []; export the project once more",
        ),
        (
            a_task(an_annotation("ok", at="yesterday")),
            "e.json, task 12 (a.png) has an annotation that cannot be read: updated_at must be a time such as "
            "2026-11-22T13:12:04Z; it is 'yesterday'; export the project once more",
        ),
        (
            a_task(an_annotation("ok", at="2026-13-45T13:12:04Z")),
            "e.json, task 12 (a.png) has an annotation that cannot be read: updated_at must be a time such as "
            "2026-11-22T13:12:04Z; it is '2026-13-45T13:12:04Z'; export the project once more",
        ),
        (
            a_task("ok"),
            "e.json, task 12 (a.png) has an annotation that cannot be read: it must be an object; it is a text; export "
            "the project once more",
        ),
        (
            {"id": 12, "data": {}, "annotations": None},
            "e.json, task 12 must have a list of annotations; it has nothing; export the project once more, as JSON",
        ),
        (["task"], "e.json, entry 2 must be a task; it is a list; export the project once more"),
    ],
)
def test_what_cannot_be_understood_is_named_with_its_task(task: Any, line: str) -> None:
    assert lines_of(a_task(an_annotation("fine"), number=11, sample_id="b.png"), task) == (line,)


def test_all_problems_are_said_at_once() -> None:
    wrong = [a_task(an_annotation(*["ok", "dent"][: 2 * (n % 2)]), number=n, sample_id=f"{n}.png") for n in range(9)]
    lines = lines_of(*wrong, a_task(an_annotation("ok"), number=9))
    assert sorted(line.partition(" (")[0] for line in lines) == [f"e.json, task {n}" for n in range(9)]
    assert len(lines_of(*recorded("export_with_problems.json"))) == 1, "the empty annotation is its person's newest"


def test_an_export_without_the_skips_is_recognised_and_refused() -> None:
    content = recorded("export.min.json")
    assert is_export(content)
    with pytest.raises(ExportError, match="it is JSON-MIN, from which skipped images are missing; export the project"):
        read_export(content, "export")


def test_what_was_sent_is_no_export() -> None:
    tasks = [{"data": {"sample_id": "a.png"}, "meta": {}}]
    assert is_export(tasks)
    with pytest.raises(ExportError, match="its tasks have no annotations, as those that are sent there"):
        read_export(tasks, "tasks.json")


@pytest.mark.parametrize(
    "content", [[], {}, None, 3, "", "sample_id,label\na.png,ok", [{"sample_id": "a.png", "label": "ok"}], ["a.png"]]
)
def test_other_files_are_no_exports(content: Any) -> None:
    assert not is_export(content)


@pytest.mark.parametrize("content", [{}, None, 3, True])
def test_what_is_no_list_is_refused(content: Any) -> None:
    with pytest.raises(ExportError, match=r"a list of tasks; it is (an object|nothing|a number|a truth value); export"):
        read_export(content, "e.json")


def test_of_one_person_the_newest_holds_also_over_tasks_that_were_imported_twice() -> None:
    first = an_annotation("ok", at="2026-11-22T13:00:00Z")
    later = an_annotation("dent", at="2026-11-22T13:00:00.5Z")
    other = an_annotation("ok", at="2026-11-22T12:00:00+00:00", completed_by=2)
    assert said(read_export([a_task(later, number=2), a_task(first, other, number=1)], "e")) == [
        ("a.png", "label", "ok", "2"),
        ("a.png", "label", "dent", "1"),
    ]
    skipped = an_annotation("ok", at="2026-11-22T14:00:00+01:30", was_cancelled=True)  # half an hour before the first
    assert said(read_export([a_task(skipped, first)], "e")) == [("a.png", "label", "ok", "1")]
    corrected = [a_task(an_annotation("ok", "dent", id=1), an_annotation("ok", id=2))]
    assert said(read_export(corrected, "e")) == [("a.png", "label", "ok", "1")], "what no longer holds is no problem"


@pytest.mark.parametrize(
    ("completed_by", "annotator"),
    [(7, "7"), ("ann@example.com", "ann@example.com"), ({"id": 7, "email": "ann@example.com"}, "ann@example.com"),
     ({"id": 7, "email": ""}, "7"), (None, "")],
)  # fmt: skip
def test_a_person_is_known_by_mail_or_number(completed_by: Any, annotator: str) -> None:
    (answer,) = read_export([a_task(an_annotation("ok", completed_by=completed_by))], "e")
    assert answer.annotator == annotator


@pytest.mark.parametrize("lead_time", [None, -1, True, float("nan"), float("inf"), 10**400, "2"])
def test_what_is_no_duration_is_left_out(lead_time: Any) -> None:
    (answer,) = read_export([a_task(an_annotation("ok", lead_time=lead_time))], "e")
    assert answer.seconds is None


def test_drafts_predictions_and_other_controls_are_nobodys_answer() -> None:
    other = {"from_name": "quality", "type": "choices", "value": {"choices": ["poor"]}}
    annotation = an_annotation("ok", ground_truth=True)
    annotation["result"].insert(0, other)
    task = a_task(annotation) | {"drafts": [an_annotation("dent")], "predictions": [an_annotation("dent")]}
    assert said(read_export([task], "e")) == [("a.png", "label", "ok", "1")]
    assert read_export([task | {"annotations": []}], "e") == []


def test_a_batch_has_its_own_tasks_of_a_project_with_many(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, 1)
    mine, earlier, other = (
        a_task(an_annotation("ok"), sample_id=name) | {"meta": {"run_id": run, "round": number}}
        for name, run, number in (("a", "9f140cb3", "1"), ("b", "9f140cb3", "0"), ("c", "00000000", "1"))
    )
    assert tasks_of_batch([earlier, mine, other], batch, "e.json") == [mine]
    assert tasks_of_batch([], batch, "e.json") == []
    with pytest.raises(ExportError, match=r"must have tasks of round 1 of the run 9f140cb3; none of its 2 tasks is"):
        tasks_of_batch([earlier, other], batch, "e.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
ANNOTATIONS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers() | JSON,
        "completed_by": st.integers() | st.text() | JSON,
        "updated_at": st.datetimes().map(lambda time: time.isoformat() + "Z") | JSON,
        "was_cancelled": st.booleans() | JSON,
        "lead_time": st.floats() | JSON,
        "result": st.lists(
            st.fixed_dictionaries(
                {"type": st.just("choices"), "from_name": st.just("label")},
                optional={"value": st.fixed_dictionaries({"choices": st.lists(st.text() | JSON)}) | JSON},
            )
            | JSON
        )
        | JSON,
    },
)
TASKS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers() | JSON,
        "data": st.fixed_dictionaries({"sample_id": st.text() | JSON}) | JSON,
        "annotations": st.lists(ANNOTATIONS | JSON) | JSON,
    },
)


def answers_or_lines(content: Any) -> tuple[list[Incoming] | None, tuple[str, ...] | None]:
    try:
        return read_export(content, "e.json"), None
    except ExportError as error:
        return None, error.lines


@settings(max_examples=50)
@given(content=st.lists(TASKS | JSON) | JSON)
def test_any_json_becomes_answers_or_an_error_with_its_lines(content: Any) -> None:
    answers, lines = answers_or_lines(content)
    assert (lines is None) == (answers is not None)
    assert lines is None or (lines and all(line.startswith("e.json") for line in lines))
    assert all((answer.kind == "label") == bool(answer.label) for answer in answers or [])
    assert len({(answer.sample_id, answer.annotator) for answer in answers or []}) == len(answers or [])
    assert is_export(content) in {True, False}


SAID = st.tuples(
    st.sampled_from(["a.png", "b.png"]),
    st.integers(1, 3),
    st.sampled_from(["ok", "dent", "skip", "assl:bad"]),
)


@given(said_in_order=st.lists(SAID, max_size=20), order=st.randoms())
def test_whatever_the_order_of_an_export_the_last_word_of_each_person_comes_out(said_in_order: Any, order: Any) -> None:
    expected: dict[tuple[str, str], str] = {}
    tasks = []
    for number, (sample, who, what) in enumerate(said_in_order, start=1):
        expected.pop((sample, str(who)), None)
        expected[sample, str(who)] = what
        at = f"2026-11-22T13:{number:02d}:00Z"
        cancelled = what == "skip"
        annotation = an_annotation(what, at=at, id=number, completed_by=who, was_cancelled=cancelled)
        tasks.append(a_task(annotation, number=number, sample_id=sample))
    order.shuffle(tasks)
    answers = read_export(tasks, "e")
    named = {"skip": "skip", "bad": "assl:bad"}
    found = [((one.sample_id, one.annotator), one.label or named[one.kind]) for one in answers]
    assert found == list(expected.items()), "oldest first"
