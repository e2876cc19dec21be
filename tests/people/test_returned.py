"""A table that is filled in where it lies, whatever a spreadsheet made of it, and files that lie beside it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from assl_lightning.people.batch import LabelBatch
from assl_lightning.people.errors import IngestError
from assl_lightning.people.files import read_labels
from assl_lightning.people.judging import ingest
from assl_lightning.people.returned import passed_over, read_returned, returned_files
from tests.people.batches import SAMPLE_IDS, make_batch

SLEEP = "assl_lightning.people.returned.time.sleep"


@pytest.fixture
def batch(tmp_path: Path) -> LabelBatch:
    return make_batch(tmp_path / "my run", 1)


def table_of(batch: LabelBatch) -> Path:
    return batch.directory / "to_label.csv"


def fill_in(batch: LabelBatch, *answers: str, **dialect: object) -> str:
    """The table with these labels in its first rows, as a program writes it in a dialect of CSV."""
    rows = list(csv.reader(io.StringIO(table_of(batch).read_text(encoding="utf-8"), newline="")))
    for row, label in zip(rows[1:], answers, strict=False):
        row[1] = label
    file = io.StringIO()
    csv.writer(file, **dialect).writerows(rows)  # type: ignore[arg-type]
    return file.getvalue()


def said(batch: LabelBatch) -> list[tuple[str, str | None, str]]:
    return [(one.sample_id, one.label, one.where) for one in read_returned(batch)]


EXPECTED = [(SAMPLE_IDS[0], "ok", "to_label.csv, line 2"), (SAMPLE_IDS[2], "dent", "to_label.csv, line 4")]

PROGRAMS: dict[str, Callable[[LabelBatch], bytes]] = {
    "as it was": lambda batch: fill_in(batch, "ok", "", "dent").encode(),
    "LibreOffice": lambda batch: fill_in(batch, "ok", "", "dent", lineterminator="\n").encode(),
    "Excel, CSV UTF-8, German": lambda batch: fill_in(batch, "ok", "", "dent", delimiter=";").encode("utf-8-sig"),
    "Excel, Unicode text": lambda batch: fill_in(batch, "ok", "", "dent", delimiter="\t").encode("utf-16"),
    "all quoted": lambda batch: fill_in(batch, "ok", "", "dent", quoting=csv.QUOTE_ALL).encode(),
    "a column of notes": lambda batch: fill_in(batch, "ok", "", "dent").replace("\r\n", ",\r\n").encode(),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_table_is_taken_where_it_lies_as_any_program_saves_it(batch: LabelBatch, program: str) -> None:
    assert (returned_files(batch), read_returned(batch)) == ([], [])
    content = PROGRAMS[program](batch)
    table_of(batch).write_bytes(content)
    assert returned_files(batch) == [table_of(batch)]
    assert said(batch) == EXPECTED
    assert {one.round for one in read_returned(batch)} == {1}
    assert table_of(batch).read_bytes() == content, "what was typed stays"


def test_a_table_of_another_program_is_one_answer_beside_the_file_that_came_back(batch: LabelBatch) -> None:
    table_of(batch).write_text(fill_in(batch, "ok", "dent"), newline="")
    lines = [f"{SAMPLE_IDS[0]},ok", f"{SAMPLE_IDS[3]},scratch"]
    (batch.directory / "labels.csv").write_text("\n".join(["sample_id,label", *lines]))
    judgement = ingest(batch.run_dir, read_returned(batch))
    assert sorted((one.sample_id, one.label) for one in judgement.answers) == sorted(
        [(SAMPLE_IDS[0], "ok"), (SAMPLE_IDS[1], "dent"), (SAMPLE_IDS[3], "scratch")]
    )
    assert "to_label.csv, line 2: repeats the answer" in judgement.notices[0]


def test_two_files_that_contradict_each_other_are_named_with_their_lines(batch: LabelBatch) -> None:
    table_of(batch).write_text(fill_in(batch, "ok"), newline="")
    (batch.directory / "labels.csv").write_text(f"sample_id,label\n{SAMPLE_IDS[0]},dent\n")
    with pytest.raises(IngestError) as caught:
        ingest(batch.run_dir, read_returned(batch))
    assert caught.value.lines == (
        f"to_label.csv, line 2: an annotator without a name says 'ok' of {SAMPLE_IDS[0]!r}, and 'dent' in labels.csv, "
        f"line 2; leave one of them",
    )


@pytest.mark.parametrize("damage", ["label", "everything"])
def test_a_table_that_is_one_no_more_is_told_with_its_line(batch: LabelBatch, damage: str) -> None:
    table = table_of(batch)
    table.write_text("" if damage == "everything" else fill_in(batch).replace("label,", "class,", 1), newline="")
    os.utime(table, (1, 1))
    with pytest.raises(IngestError, match=r"^to_label.csv"):
        read_returned(batch)


def test_a_table_that_is_saved_just_now_is_read_when_it_is_whole(
    batch: LabelBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, whole = table_of(batch), fill_in(batch, "ok", "", "dent")
    steps = [whole[: whole.index("ok") + 2], whole[: whole.index("dent") + 3], whole]
    table.write_text(steps.pop(0), newline="")
    monkeypatch.setattr(SLEEP, lambda _: steps and table.write_text(steps.pop(0), newline=""))
    with pytest.raises(IngestError, match="a line must have 6 cells"):
        read_labels(table)
    assert said(batch) == EXPECTED
    assert steps == []


def test_a_table_that_goes_on_being_wrong_is_told(batch: LabelBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fill_in(batch, "ok")
    table_of(batch).write_text(whole[: whole.index("ok") + 2], newline="")
    waited: list[float] = []
    monkeypatch.setattr(SLEEP, waited.append)
    with pytest.raises(IngestError, match="a line must have 6 cells"):
        read_returned(batch)
    assert 0 < sum(waited) < 5


def test_of_two_files_that_came_back_one_must_go(batch: LabelBatch) -> None:
    for name in ("labels.csv", "labels.json"):
        (batch.directory / name).touch()
    with pytest.raises(ValueError, match=r"it holds labels\.csv and labels\.json: leave one, or name the file"):
        read_returned(batch)


def test_files_that_look_like_labels_and_are_not_read_are_named(batch: LabelBatch) -> None:
    assert passed_over(batch) == ""
    for name in (
        "to_label.xlsx",
        "labels (1).csv",
        ".~lock.to_label.csv#",
        "~$to_label.xlsx",
        "tasks.json",
        "labels.csv",
    ):
        (batch.directory / name).touch()
    assert passed_over(batch) == (
        "'labels (1).csv', 'to_label.xlsx' there are not read: save the table as CSV UTF-8 under the name "
        f"to_label.csv, or hand the file in with python -m assl_lightning.ingest '{batch.run_dir}' FILE first."
    )
