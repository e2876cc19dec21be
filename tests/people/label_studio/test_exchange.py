"""The two ways of an exchange, as the oracle uses them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from assl_lightning.base.run_files import LEDGER
from assl_lightning.data.answers import Incoming
from assl_lightning.loop.class_history import ClassHistory, write_history
from assl_lightning.people.batch import LabelBatch, read_batch
from assl_lightning.people.judging import ingest
from assl_lightning.people.label_studio.errors import ExportError, LabelStudioError
from assl_lightning.people.label_studio.exchange import LabelStudioExchange, LabelStudioFiles
from assl_lightning.people.label_studio.tasks import label_config
from assl_lightning.people.ledger import Ledger
from tests.people.batches import SAMPLE_IDS, make_batch
from tests.people.label_studio.fake_server import PERSONAL, FakeLabelStudio, json_reply, refusal

FIXTURES = Path(__file__).parent / "fixtures"
CLASSES = ("$ok", "dent <&\"'>", "ü b")


@pytest.fixture
def batch(tmp_path: Path) -> LabelBatch:
    return make_batch(tmp_path / "run")


@pytest.fixture
def exchange(fake: FakeLabelStudio) -> LabelStudioExchange:
    return LabelStudioExchange(fake.url)


def said(answers: list[Incoming]) -> list[tuple[str, str, str | None]]:
    return [(answer.sample_id, answer.kind, answer.label) for answer in answers]


def annotate(fake: FakeLabelStudio, number: int, choice: str | None) -> None:
    value = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [choice]}}
    content = {"result": [value] if choice else [], "was_cancelled": choice is None}
    fake._task("POST", fake.tasks[number], ["annotations"], content)


def test_files_go_out_and_an_export_of_the_browser_comes_back(tmp_path: Path) -> None:
    files = LabelStudioFiles()
    batch = make_batch(tmp_path, class_names=CLASSES)
    files.check(batch.class_names)
    directory = batch.directory
    sentence = (
        f"4 images to label in Label Studio: in the run's project, or a new one with the labeling interface of "
        f"{directory}/label_config.xml, import {directory}/tasks.json; label; export as JSON to "
        f"{directory}/label_studio.json; then give the same command again"
    )
    assert files.offer(batch) == sentence
    assert files.collect(batch) == []
    assert files.offer(batch) == sentence
    sent = json.loads((directory / "tasks.json").read_text(encoding="utf-8"))
    export = json.loads((FIXTURES / "export_by_browser.json").read_text(encoding="utf-8"))
    assert [task["data"] for task in sent] == [task["data"] for task in export]
    assert [task["meta"] for task in sent] == [task["meta"] for task in export]

    (directory / "label_studio.json").write_bytes(b"\xef\xbb\xbf" + (FIXTURES / "export_by_browser.json").read_bytes())
    assert said(files.collect(batch)) == [
        ("00123.png", "label", CLASSES[0]),
        ("sub/b 1.png", "label", CLASSES[1]),
        ("sub/ü.png", "bad", None),
        ("d.png", "skip", None),
        ("00123.png", "label", CLASSES[2]),
    ]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_json_is_named(batch: LabelBatch, content: bytes) -> None:
    path = batch.directory / "label_studio.json"
    path.write_bytes(content)
    with pytest.raises(ExportError) as caught:
        LabelStudioFiles().collect(batch)
    (line,) = caught.value.lines
    assert line.startswith(f"{path} must be Label Studio's JSON export; it cannot be read (")


def test_an_export_of_another_run_is_refused(batch: LabelBatch) -> None:
    path = batch.directory / "label_studio.json"
    path.write_bytes((FIXTURES / "export.json").read_bytes())
    with pytest.raises(ExportError, match="must have tasks of round 0 of the run 9f140cb3; none of its 4 tasks is"):
        LabelStudioFiles().collect(batch)


def test_a_batch_is_offered_once_however_often(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, batch: LabelBatch
) -> None:
    assert exchange.collect(batch) == []
    assert exchange.progress(batch) == (0, 0)
    assert not fake.projects, "who only looks makes nothing"
    where = f"label or skip at {fake.url}/projects/1/data, then give the same command again"
    assert exchange.offer(batch) == f"4 images to label in Label Studio, 0 of them done: {where}"
    annotate(fake, 2, "ok")
    assert exchange.offer(batch) == f"4 images to label in Label Studio, 1 of them done: {where}"
    assert [task["data"]["sample_id"] for task in fake.tasks.values()] == list(SAMPLE_IDS)
    del fake.tasks[3]
    exchange.offer(batch)
    assert sorted(task["data"]["sample_id"] for task in fake.tasks.values()) == sorted(SAMPLE_IDS)
    assert list(fake.projects) == [1]


def test_the_project_has_the_runs_name_classes_and_marker(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, batch: LabelBatch
) -> None:
    exchange.offer(replace(batch, name="n" * 80))
    project = fake.projects[1]
    assert project["title"] == "n" * 41 + " 9f140cb3"
    assert project["description"].endswith("assl_lightning run 9f140cb3")
    assert project["label_config"] == label_config(batch.class_names)
    assert project["enable_empty_annotation"] is False
    assert project["show_collab_predictions"] is False
    assert not any(task["predictions"] for task in fake.tasks.values())


def test_predictions_are_shown_where_the_batch_says_so(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, tmp_path: Path
) -> None:
    exchange.offer(make_batch(tmp_path, show_predictions=True))
    assert fake.projects[1]["show_collab_predictions"] is True
    assert all(task["predictions"] for task in fake.tasks.values())


def test_each_round_collects_its_own(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, batch: LabelBatch, tmp_path: Path
) -> None:
    later = make_batch(tmp_path / "run", 1, SAMPLE_IDS[:2])
    exchange.offer(batch)
    exchange.offer(later)
    assert list(fake.projects) == [1]
    annotate(fake, 1, "ok")
    annotate(fake, 2, None)
    annotate(fake, 5, "dent")
    assert said(exchange.collect(batch)) == [("00123.png", "label", "ok"), ("sub/b 1.png", "skip", None)]
    assert said(exchange.collect(later)) == [("00123.png", "label", "dent")]
    exported = [parse_qs(path)["ids[]"] for _, path, _ in fake.requests if "/export?" in path]
    assert exported == [["1", "2"], ["5"]], "and no image of what nobody has seen"
    assert exchange.progress(batch) == (2, 4)
    assert exchange.progress(later) == (1, 2)


def test_a_choice_that_is_none_is_refused_with_its_task(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, batch: LabelBatch
) -> None:
    exchange.offer(batch)
    annotate(fake, 1, "")
    with pytest.raises(ExportError, match=r"Label Studio project 1, task 1 \(00123\.png\): the annotation of 1"):
        exchange.collect(batch)


def test_what_arrived_though_the_answer_was_lost_is_not_sent_again(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, batch: LabelBatch
) -> None:
    fake.fault_after = {"POST import": (504, {}, b"")}
    exchange.offer(batch)
    assert len(fake.tasks) == 4


def test_a_project_that_was_made_though_the_answer_was_lost_is_found(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, batch: LabelBatch
) -> None:
    fake.fault_after = {"POST projects": (504, {}, b"")}
    with pytest.raises(LabelStudioError, match="give the same command again"):
        exchange.offer(batch)
    exchange.offer(batch)
    assert list(fake.projects) == [1]


def test_tasks_that_never_arrive_are_an_error(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, batch: LabelBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "_import", lambda project, content: json_reply(201, {"import": 7}))
    with pytest.raises(LabelStudioError, match="project 1 of Label Studio must have all 4 images that were sent; 4 of"):
        exchange.offer(batch)
    sent = [path for _, path, _ in fake.requests if path.endswith("/import")]
    assert len(sent) == 1, "an import that was accepted may only be late"


def test_an_offer_ends_where_no_answer_to_an_import_ever_comes(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, batch: LabelBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "_import", lambda project, content: (504, {}, b""))
    with pytest.raises(LabelStudioError, match=r"are missing \(Label Studio at .* it failed \(504\); .*\); give the"):
        exchange.offer(batch)
    assert len([path for _, path, _ in fake.requests if path.endswith("/import")]) == 3


def test_a_given_project_must_have_the_classes(fake: FakeLabelStudio, batch: LabelBatch) -> None:
    exchange = LabelStudioExchange(fake.url, project=1)
    with pytest.raises(LabelStudioError, match=r"has no project 1 that the token's user may see \(404\)"):
        exchange.check(batch.class_names)
    fake._create({"title": "mine", "description": "", "label_config": label_config(["ok", "rust"])})
    for call in (lambda: exchange.check(batch.class_names), lambda: exchange.offer(batch)):
        with pytest.raises(LabelStudioError) as caught:
            call()
        assert str(caught.value) == (
            "project 1 of Label Studio must have the run's classes in Choices named 'label'; it lacks dent, scratch "
            "and has also rust; put the content of label_config.xml into Settings, Labeling Interface, or give no "
            "project to have one made"
        )
    assert not fake.tasks
    fake._create({"title": "right", "description": "", "label_config": label_config(batch.class_names)})
    exchange = LabelStudioExchange(fake.url, project=2)
    exchange.check(batch.class_names)
    exchange.offer(batch)
    assert {task["project"] for task in fake.tasks.values()} == {2}
    assert len(fake.projects) == 2


def test_the_runs_own_project_offers_a_new_class_at_once_and_keeps_what_was_answered(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, batch: LabelBatch
) -> None:
    exchange.offer(batch)
    annotate(fake, min(fake.tasks), "dent")
    history = ClassHistory.begin(batch.class_names).add(["crack"], 0)
    write_history(batch.run_dir, history)
    exchange.offer(read_batch(batch.directory))
    offered = ["ok", "dent", "scratch", "crack", "assl:bad"]
    assert fake.projects[1]["parsed_label_config"]["label"]["labels"] == offered

    write_history(batch.run_dir, history.rename("dent", "bump", 0).merge(["scratch", "crack"], "line", 0))
    now = read_batch(batch.directory)
    exchange.offer(now)
    offered = ["ok", "bump", "line", "dent", "scratch", "crack", "assl:bad"]
    assert fake.projects[1]["parsed_label_config"]["label"]["labels"] == offered
    changes = sum(method == "PATCH" for method, _, _ in fake.requests)
    exchange.offer(now)
    assert sum(method == "PATCH" for method, _, _ in fake.requests) == changes, "nothing is left to change"
    given = LabelStudioExchange(fake.url, project=1)
    given.check(now.class_names)
    given.offer(now)
    ingest(batch.run_dir, exchange.collect(now))
    assert [answer.label for answer in Ledger(batch.run_dir / LEDGER).active_answers()] == ["bump"]


def test_a_project_with_another_interface_is_refused(fake: FakeLabelStudio, batch: LabelBatch) -> None:
    fake._create({"title": "mine", "label_config": "<View><Labels/></View>"})
    fake.projects[1]["parsed_label_config"] = {"label": {"type": "Labels", "labels": list(batch.class_names)}}
    with pytest.raises(LabelStudioError, match="it lacks ok, dent, scratch, assl:bad; put the content"):
        LabelStudioExchange(fake.url, project=1).check(batch.class_names)


def test_a_check_tells_before_a_training_what_would_fail_after_it(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.check(["ok"])
    assert not fake.projects
    with pytest.raises(ValueError, match="a class must have a name of printable characters"):
        exchange.check(["a\x00"])
    with pytest.raises(ValueError, match="a class must have a name of printable characters"):
        LabelStudioFiles().check(["a\x00"])
    fake.allow_legacy = False
    with pytest.raises(LabelStudioError, match="refuses the token with 401"):
        exchange.check(["ok"])
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", PERSONAL)
    exchange.check(["ok"])
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", " ")
    with pytest.raises(ValueError, match="the environment variable LABEL_STUDIO_API_KEY must hold a token"):
        exchange.check(["ok"])


def test_people_are_told_to_start_only_where_an_image_is_served(fake: FakeLabelStudio, batch: LabelBatch) -> None:
    root = batch.run_dir.parent
    exchange = LabelStudioExchange(fake.url, image_root=str(root))
    with pytest.raises(LabelStudioError, match="the answer is 403; start Label Studio with"):
        exchange.offer(batch)
    fake.document_root = root
    with pytest.raises(LabelStudioError, match=r"the answer is 404; .* the project needs a storage of local files"):
        exchange.offer(batch)
    fake.storages.append(batch.run_dir)
    assert "0 of them done" in exchange.offer(batch)
    assert len(fake.tasks) == 4


def test_an_image_that_was_cut_off_is_noticed(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, batch: LabelBatch
) -> None:
    exchange.offer(batch)
    data = fake.tasks[1]["data"]
    data["image"] = data["image"][:-4]
    with pytest.raises(
        LabelStudioError, match=r"task 1 of Label Studio must hold the image .*0000.png; it holds another"
    ):
        exchange.offer(batch)


def test_images_elsewhere_are_looked_for_without_the_token(fake: FakeLabelStudio, batch: LabelBatch) -> None:
    with pytest.raises(
        LabelStudioError, match=r"localhost:\d+/photos/00123.png must be served as an image; the answer"
    ):
        LabelStudioExchange(fake.url, image_prefix=f"{fake.url.replace('127.0.0.1', 'localhost')}/photos").offer(batch)
    asked = [authorization for _, path, authorization in fake.requests if path.startswith("/photos/")]
    assert asked == [""]


def test_the_token_is_written_nowhere(
    fake: FakeLabelStudio, batch: LabelBatch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for token in (PERSONAL, "0123456789abcdef0123456789abcdef01234567"):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
        exchange = LabelStudioExchange(fake.url)
        sentence = exchange.offer(batch)
        annotate(fake, 1, "ok")
        texts = [sentence, repr(exchange), repr(vars(exchange)), repr(exchange.collect(batch)), *capsys.readouterr()]
        texts += [path.read_text("latin-1") for path in batch.run_dir.rglob("*") if path.is_file()]
        texts += [repr(fake.projects), repr(fake.tasks)]
        assert not [text for text in texts if token in text or "access.token" in text]


def test_the_way_by_files_needs_no_httpx_and_the_other_says_what_to_install(
    batch: LabelBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    for name in ("client", "connection"):
        monkeypatch.delitem(sys.modules, f"assl_lightning.people.label_studio.{name}", raising=False)
    LabelStudioFiles().offer(batch)
    with pytest.raises(ImportError, match=r"needs httpx: pip install 'httpx>=0\.27'; "):
        LabelStudioExchange("http://127.0.0.1:8080").offer(batch)


def test_a_refused_import_ends_the_offer(
    fake: FakeLabelStudio, exchange: LabelStudioExchange, batch: LabelBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "_import", lambda project, content: refusal(400, "Validation error"))
    with pytest.raises(LabelStudioError, match=r"refuses what was asked with 400 \(Validation error\)"):
        exchange.offer(batch)


def test_no_project_is_made_where_images_cannot_be_shown(fake: FakeLabelStudio, batch: LabelBatch) -> None:
    arguments: dict[str, Any] = {"image_root": "/somewhere/else"}
    with pytest.raises(ValueError, match="image_root must be a directory above the images"):
        LabelStudioExchange(fake.url, **arguments).offer(batch)
    assert not fake.projects
