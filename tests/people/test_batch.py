"""A batch is a directory that says all a labelling tool needs to know."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from assl_lightning.base.run_files import TO_LABEL
from assl_lightning.people.batch import (
    find_all_batches,
    find_audits,
    find_batches,
    next_audit,
    read_batch,
    waiting_batch,
    write_batch,
)
from tests.people.batches import CLASSES, SAMPLE_IDS, a_png, apply_batch, make_batch


def test_what_was_written_is_read(tmp_path: Path) -> None:
    batch = make_batch(tmp_path)
    read = read_batch(batch.directory)
    assert read == batch
    assert read.class_names == CLASSES
    assert [sample.sample_id for sample in read.samples] == list(SAMPLE_IDS)
    assert [read.image_path(sample).read_bytes() for sample in read.samples] == [a_png(20 * n) for n in range(4)]


def test_it_is_read_where_it_was_copied_to(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "run")
    shutil.copytree(batch.directory, tmp_path / "laptop" / "round_00" / "to_label")
    assert waiting_batch(tmp_path / "laptop") == batch


def test_the_table_has_what_is_known_and_room_for_the_answers(tmp_path: Path) -> None:
    table = (make_batch(tmp_path, 0, show_predictions=True).directory / "to_label.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["sample_id"] for row in rows] == list(SAMPLE_IDS)
    assert [row["uncertainty_mean"] for row in rows] == ["0.0", "0.25", "0.5", "0.75"]
    assert {row["label"] + row["status"] + row["visits"] for row in rows} == {""}
    assert [row["prediction"] for row in rows] == ["ok", "dent", "scratch", "ok"]


def test_the_table_hides_what_the_model_thinks_unless_people_may_see_it(tmp_path: Path) -> None:
    table = (make_batch(tmp_path, 0).directory / "to_label.csv").read_text()
    header, *rows = csv.reader(table.splitlines())
    assert header == ["sample_id", "label", "status", "path", "image", "round"]
    assert rows[1] == ["sub/b 1.png", "", "", "/photos/sub/b 1.png", "images/0001.png", "0"]


def test_writing_that_ends_half_way_leaves_no_batch(tmp_path: Path) -> None:
    batch = make_batch(tmp_path)
    shutil.rmtree(batch.directory)
    with pytest.raises(ValueError, match="shorter"):
        write_batch(batch, [a_png()], a_png())
    assert find_batches(tmp_path) == []
    write_batch(batch, [a_png()] * 4, a_png())
    assert find_batches(tmp_path) == [batch]


def test_a_run_waits_for_the_last_batch_that_was_not_taken_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be the directory of a run, but has no config\.yaml"):
        waiting_batch(tmp_path)
    with pytest.raises(ValueError, match="no such directory"):
        waiting_batch(tmp_path / "nowhere")
    first, second = make_batch(tmp_path, 0), make_batch(tmp_path, 1)
    apply_batch(first)
    assert waiting_batch(tmp_path) == second
    assert find_batches(tmp_path) == [first, second]
    apply_batch(second)
    with pytest.raises(ValueError, match="waits for no labels"):
        waiting_batch(tmp_path)


def test_an_audit_has_batches_of_its_own_which_no_round_waits_for(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, 1)
    assert next_audit(tmp_path) == tmp_path / "audit_01" / TO_LABEL
    shutil.copytree(batch.directory, next_audit(tmp_path))
    shutil.copytree(batch.directory, tmp_path / "audit_09" / TO_LABEL)
    (tmp_path / "audit_old").mkdir()

    first, second = find_audits(tmp_path)
    assert (first.title, second.title, batch.title) == ("audit 1", "audit 9", "round 1")
    assert (first.is_audit, batch.is_audit) == (True, False)
    assert next_audit(tmp_path) == tmp_path / "audit_10" / TO_LABEL
    assert find_batches(tmp_path) == [batch]
    assert find_all_batches(tmp_path) == [batch, first, second]
    assert waiting_batch(tmp_path) == batch
    apply_batch(batch)
    assert not read_batch(batch.directory).is_open
    assert read_batch(first.directory).is_open, "its answers are corrections, at any time"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format must be 1"),
        ({"samples": []}, "at least one"),
        ({"class_names": ["ok", "ok"]}, "distinct"),
        ({"round": -1}, "round must be an integer"),
        ({"run_id": ""}, "run_id must be a text"),
        ({"image": "../../pool.pt"}, "must be named 0000.png"),
        ({"image": "/etc/passwd"}, "must be named 0000.png"),
        ({"score": float("nan")}, "a score must be a number"),
        ({"index": True}, "index must be an integer"),
        ({"colour": "red"}, "must not have colour"),
    ],
)
def test_what_is_no_batch_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = make_batch(tmp_path).directory / "batch.json"
    content = json.loads(path.read_text())
    for name, value in changes.items():
        (content if name in content else content["samples"][1])[name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        find_batches(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 5000, "\x00", '{"format": 1}'])
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = make_batch(tmp_path).directory / "batch.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="restore it") as caught:
        read_batch(path.parent)
    assert str(path) in str(caught.value)
