"""The labelled set at any time: what counts now, with who said so."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from assl_lightning.base.run_files import INITIAL, LEDGER
from assl_lightning.data.answers import Answer
from assl_lightning.loop.class_history import ClassHistory, write_history
from assl_lightning.people.files import read_labels
from assl_lightning.people.labelled_set import LabelledSample, labelled_set
from assl_lightning.people.ledger import Ledger
from tests.people.batches import CLASSES, SAMPLE_IDS, make_batch

FIRST, SECOND, THIRD, FOURTH = SAMPLE_IDS


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Of a run with two batches: labels of two people, who differ about one image, a skip and a bad image."""
    make_batch(tmp_path, 0)
    make_batch(tmp_path, 1, ["later.png", "never.png"])
    (tmp_path / "round_00" / INITIAL).write_text(json.dumps({"held_out": [10, 13], "others": [11, 12]}))
    given = [
        *((0, FIRST, "Ann", "ok"), (0, FIRST, "Bo", "ok"), (0, SECOND, "Ann", "ok"), (0, SECOND, "Bo", "dent")),
        *((0, THIRD, "Ann", "bad"), (0, FOURTH, "Ann", "ok"), (0, FOURTH, "Ann", "dent")),
        (1, "later.png", "", "scratch"),
    ]
    for number, name, who, said in given:
        kind, label = ("label", said) if said in CLASSES else (said, None)
        Ledger(tmp_path / LEDGER).append([Answer(name, kind, who, "page", number, label=label)])  # type: ignore[arg-type]
    return tmp_path


def test_each_image_has_the_label_that_counts_and_who_gave_it(run_dir: Path) -> None:
    found = labelled_set(run_dir, "error")
    assert found.samples == (
        LabelledSample(FIRST, Path(f"/photos/{FIRST}"), "ok", 0, ("Ann", "Bo"), True),
        LabelledSample(FOURTH, Path(f"/photos/{FOURTH}"), "dent", 0, ("Ann",), True),
        LabelledSample("later.png", Path("/photos/later.png"), "scratch", 1, ("",), False),
    )
    assert found.disputed == 1


def test_the_policy_and_a_decision_settle_what_people_differ_about(run_dir: Path) -> None:
    assert {one.sample_id: (one.label, one.people) for one in labelled_set(run_dir, "latest").samples}[SECOND] == (
        "dent",
        ("Bo",),
    )
    decision = Answer(SECOND, "label", "Di", "page", 0, label="scratch", decides=True)
    Ledger(run_dir / LEDGER).append([decision])
    found = labelled_set(run_dir, "error")
    assert {one.sample_id: (one.label, one.people) for one in found.samples}[SECOND] == ("scratch", ("Di",))
    assert found.disputed == 0


def test_labels_are_of_the_present_classes(run_dir: Path) -> None:
    write_history(run_dir, ClassHistory.begin(CLASSES).rename("ok", "good", 1))
    assert {one.label for one in labelled_set(run_dir, "error").samples} == {"good", "dent", "scratch"}


def test_the_table_is_read_as_labels(run_dir: Path) -> None:
    make_batch(run_dir, 2, ["=1+1.png"])
    Ledger(run_dir / LEDGER).append([Answer("=1+1.png", "label", "Ann, B", "page", 2, label="ok")])
    table = run_dir / "labels.csv"
    table.write_text(labelled_set(run_dir, "error").table(), encoding="utf-8", newline="")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["split"] for row in rows] == ["test", "test", "pool", "pool"]
    assert [row["people"] for row in rows] == ["Ann; Bo", "Ann", "no name", "Ann, B"]
    expected = [(FIRST, "ok"), (FOURTH, "dent"), ("later.png", "scratch"), ("=1+1.png", "ok")]
    assert [(one.sample_id, one.label) for one in read_labels(table)] == expected


def test_paths_are_absolute_where_the_files_are(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = run_dir / "photos"
    photos.mkdir()
    (photos / FIRST).touch()
    path = run_dir / "round_00" / "to_label" / "batch.json"
    path.write_text(path.read_text().replace('"/photos/', '"photos/'))
    assert {one.path for one in labelled_set(run_dir, "error").samples if one.round == 0} == {
        Path("photos") / FIRST,
        Path("photos") / FOURTH,
    }
    monkeypatch.chdir(run_dir)
    assert labelled_set(run_dir, "error").samples[0].path == photos / FIRST


def test_without_a_run_it_is_what_the_copy_has_and_a_file_that_is_broken_is_named(run_dir: Path) -> None:
    (run_dir / "round_00" / INITIAL).unlink()
    assert not any(one.is_held_out for one in labelled_set(run_dir, "error").samples)
    (run_dir / "round_00" / INITIAL).write_text("[]")
    with pytest.raises(ValueError, match=r"initial\.json cannot be read \(.*\); restore it"):
        labelled_set(run_dir, "error")
