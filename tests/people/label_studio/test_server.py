"""One scenario against the server in this process, always, and against the real one where it is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from assl_lightning.base.run_files import LEDGER
from assl_lightning.data.answers import Incoming
from assl_lightning.people.batch import LabelBatch, find_batches
from assl_lightning.people.errors import IngestError
from assl_lightning.people.label_studio.errors import LabelStudioError
from assl_lightning.people.label_studio.exchange import LabelStudioExchange, LabelStudioFiles
from assl_lightning.people.label_studio.exports import ExportError, is_export, read_export
from assl_lightning.people.ledger import Ledger
from tests.people.batches import make_batch
from tests.people.label_studio import real_server
from tests.people.label_studio.fake_server import LEGACY, PERSONAL, FakeLabelStudio, serving
from tests.people.test_oracle import pool_of, run, truth
from tests.stripes import CLASS_NAMES, make_source

CLASSES = ("ok", "$dent & \"'<b>", "ü b")


@dataclass(frozen=True)
class Server:
    """Either of them, as the people who label and their browsers use it."""

    url: str
    legacy: str
    document_root: Path

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        headers = {"Authorization": f"Token {self.legacy}"}
        answer = httpx.request(method, self.url + path, headers=headers, json=content, timeout=60)
        assert answer.is_success, answer.text
        return answer.json()

    def personal_token(self) -> str:
        return PERSONAL if self.legacy == LEGACY else str(self.ask("POST", "/api/token/", {})["token"])

    def task_numbers(self, project: int) -> dict[str, list[int]]:
        """Sample id → its tasks' numbers."""
        listed = self.ask("GET", f"/api/tasks/?project={project}&page=1&page_size=100&include=id,meta")
        found: dict[str, list[int]] = {}
        for task in listed["tasks"]:
            found.setdefault(task["meta"]["sample_id"], []).append(task["id"])
        return found

    def annotate(self, task: int, choice: str | None, who: int | None = None) -> int:
        """Who annotated."""
        result = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [choice]}}
        content: dict[str, Any] = {"result": [result] if choice else [], "was_cancelled": choice is None}
        content |= {} if who is None else {"completed_by": who}
        return int(self.ask("POST", f"/api/tasks/{task}/annotations/", content | {"lead_time": 2.5})["completed_by"])

    def add_storage(self, project: int, path: Path) -> None:
        self.ask("POST", "/api/storages/localfiles", {"project": project, "path": str(path), "use_blob_urls": True})


@pytest.fixture(params=["in this process", pytest.param("real", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    if request.param != "real":
        with serving(FakeLabelStudio(document_root=tmp_path / "documents")) as fake:
            assert fake.document_root is not None
            yield Server(fake.url, LEGACY, fake.document_root)
        return
    asked = os.environ.get(real_server.SWITCH)
    if not asked:
        pytest.skip(f"{real_server.SWITCH} is not set")
    with real_server.installed(asked) as directory, real_server.running(directory, tmp_path / "data") as real:
        yield Server(real.url, real.legacy, real.document_root)


def said(answers: list[Incoming]) -> list[tuple[str, str, str | None, str]]:
    return [(answer.sample_id, answer.kind, answer.label, answer.annotator) for answer in answers]


def test_a_batch_is_labelled(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.legacy)
    exchange = LabelStudioExchange(server.url)
    exchange.check(CLASSES)
    batch = make_batch(tmp_path / "run", class_names=CLASSES, show_predictions=True)
    assert "4 images to label in Label Studio, 0 of them done: label or skip at" in exchange.offer(batch)
    project = int(exchange.offer(batch).partition("/projects/")[2].partition("/")[0])
    numbers = server.task_numbers(project)
    assert [len(tasks) for tasks in numbers.values()] == [1, 1, 1, 1]

    (first,), (second,), (third,), (fourth,) = (numbers[sample.sample_id] for sample in batch.samples)
    ann = server.annotate(first, "ok")
    bo = int(server.ask("POST", "/api/users/", {"email": "bo@example.com", "username": "bo"})["id"])
    assert server.annotate(first, CLASSES[1], bo) == bo != ann  # a conflict
    server.annotate(second, "assl:bad")
    server.annotate(third, None)
    server.annotate(fourth, "rust")  # no class of the run's

    LabelStudioFiles().offer(batch)
    server.ask("POST", f"/api/projects/{project}/import", batch_tasks(batch))
    doubled = server.task_numbers(project)
    assert [len(tasks) for tasks in doubled.values()] == [2, 2, 2, 2], "Label Studio takes tasks as often as they come"
    server.annotate(doubled["00123.png"][1], CLASSES[2], ann)  # thought again, in the other task

    expected = [
        ("00123.png", "label", CLASSES[1], str(bo)),
        ("sub/b 1.png", "bad", None, str(ann)),
        ("sub/ü.png", "skip", None, str(ann)),
        ("d.png", "label", "rust", str(ann)),
        ("00123.png", "label", CLASSES[2], str(ann)),
    ]
    assert said(exchange.collect(batch)) == expected
    assert exchange.progress(batch) == (4, 4)

    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.personal_token())
    answers = exchange.collect(batch)
    assert said(answers) == expected
    assert all(answer.seconds == 2.5 and answer.at and answer.at.endswith("+00:00") for answer in answers)
    assert "4 images to label in Label Studio, 4 of them done" in exchange.offer(batch)
    assert server.task_numbers(project) == doubled, "nothing was sent again"

    by_hand = server.ask("GET", f"/api/projects/{project}/export?exportType=JSON")
    assert is_export(by_hand)
    assert said(read_export(by_hand, "e.json")) == expected
    without_skips = server.ask("GET", f"/api/projects/{project}/export?exportType=JSON_MIN")
    assert batch.samples[2].sample_id not in {row["sample_id"] for row in without_skips if row["annotation_id"]}
    with pytest.raises(ExportError, match="skipped images are missing"):
        read_export(without_skips, "e.json")

    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
    with pytest.raises(LabelStudioError, match="refuses the token with 401"):
        exchange.check(CLASSES)
    check_images_of_the_server(server, project, tmp_path, monkeypatch)


@pytest.mark.e2e
def test_a_run_is_labelled_and_goes_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of its first batch one is skipped, one disputed, one of no class, and all are imported once more."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.legacy)
    run_dir, exchange = tmp_path / "run", LabelStudioExchange(server.url)
    assert run(run_dir, tool=exchange) == []
    (batch,) = find_batches(run_dir)
    assert f"{len(batch.samples)} images to label in Label Studio, 0 of them done" in caplog.text
    project = int(exchange.offer(batch).partition("/projects/")[2].partition("/")[0])
    tasks = {name: numbers[0] for name, numbers in server.task_numbers(project).items()}
    labels = truth(make_source())
    strange, disputed, skipped, *others = [sample.sample_id for sample in batch.samples]
    ann = server.annotate(tasks[disputed], labels[disputed])
    for name in others:
        server.annotate(tasks[name], labels[name])
    bo = int(server.ask("POST", "/api/users/", {"email": "bo@example.com", "username": "bo"})["id"])
    wrong = next(name for name in CLASS_NAMES if name != labels[disputed])
    server.annotate(tasks[disputed], wrong, bo)
    server.annotate(tasks[skipped], None)
    server.annotate(tasks[strange], "rust")
    LabelStudioFiles().offer(batch)
    server.ask("POST", f"/api/projects/{project}/import", batch_tasks(batch))

    with pytest.raises(IngestError) as refused:
        run(run_dir, tool=exchange)
    assert [line for line in refused.value.lines if "'rust' is none of the classes" in line]
    assert Ledger(run_dir / LEDGER).active_answers() == [], "all of it or nothing"
    server.annotate(tasks[strange], labels[strange])
    server.annotate(tasks[disputed], labels[disputed], bo)  # has thought again
    assert run(run_dir, tool=exchange) == []  # round 0 is trained
    first, second = find_batches(run_dir)
    pool = pool_of(run_dir, 0)
    for sample in first.samples:
        expected = -1 if sample.sample_id == skipped else CLASS_NAMES.index(labels[sample.sample_id])
        assert pool.labels[sample.index] == expected

    numbers = server.task_numbers(project)
    for sample in second.samples:
        server.annotate(numbers[sample.sample_id][0], labels[sample.sample_id], ann)
    (record,) = run(run_dir, tool=exchange)
    assert record.queried_labels == [CLASS_NAMES.index(labels[sample.sample_id]) for sample in second.samples]
    assert len(find_batches(run_dir)) == 3
    assert not any(server.legacy.encode() in path.read_bytes() for path in run_dir.rglob("*") if path.is_file())


def check_images_of_the_server(server: Server, project: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same project's next round, whose images lie below the server's document root."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.legacy)
    batch = make_batch(server.document_root / "ü & +", 1, class_names=CLASSES)
    exchange = LabelStudioExchange(server.url, image_root=str(server.document_root))
    with pytest.raises(LabelStudioError, match=r"the answer is 404; .* the project needs a storage of local files"):
        exchange.offer(batch)
    server.add_storage(project, batch.run_dir)
    assert (
        f"4 images to label in Label Studio, 0 of them done: label or skip at {server.url}/projects/{project}/data"
        in (exchange.offer(batch))
    )
    assert exchange.collect(batch) == []


def batch_tasks(batch: LabelBatch) -> Any:
    return httpx.Response(200, content=(batch.directory / "tasks.json").read_bytes()).json()
