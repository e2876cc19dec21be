from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from assl_lightning.report.__main__ import main
from assl_lightning.report.sections import labelling as section
from assl_lightning.report.sections.labelling import find_labelling, labelling_blocks, people_csv
from assl_lightning.report.views import Fold, Paragraph, Table
from tests.report.asked import a_png, ask, say, take_back

if TYPE_CHECKING:
    from tests.report.conftest import Runs


@pytest.fixture
def run(runs: Runs) -> Path:
    """Two complete rounds and an open one; answers by two people, of whom one has changed their mind."""
    run_dir = runs.add(
        "entropy", 0, [0.5, 0.6], changes={"oracle": {"conflicts": "latest"}, "hold_out": 1, "rounds": 2}
    )
    ask(run_dir, 0, dict.fromkeys(["t", "a", "b"]))
    for name in "tab":
        say(run_dir, 0, name, "ok", seconds=10)
    ask(run_dir, 1, {"c": "ok", "d": "dent", "e": "ok"}, again=["a", "b"])
    say(run_dir, 1, "c", "dent", seconds=30)
    take_back(run_dir, say(run_dir, 1, "d", "ok", seconds=5))
    say(run_dir, 1, "d", "dent", seconds=None)
    say(run_dir, 1, "e", "skip", seconds=5)
    say(run_dir, 1, "a", "ok", seconds=5)
    say(run_dir, 1, "b", "scratch", "Bo", seconds=15)
    ask(run_dir, 2, {"f": None, "g": None}, is_open=True)
    say(run_dir, 2, "f", "ok", "", seconds=6)
    return run_dir


def blocks_of(runs: Runs) -> list[Any]:
    (found,) = find_labelling([runs.setting()]).values()
    return list(labelling_blocks(found, len(found)))


def texts_of(blocks: list[Any]) -> str:
    return "\n".join(block.text for block in blocks if isinstance(block, Paragraph))


@pytest.mark.usefixtures("run")
def test_a_round_is_a_row_with_what_was_asked_and_said(runs: Runs) -> None:
    answers, work = (block for block in blocks_of(runs)[:3] if isinstance(block, Table))
    assert answers.header == (
        *("round", "asked for", "labelled", "skipped", "bad image", "unanswered"),
        *("as the model", "asked again", "as before"),
    )
    assert answers.rows == (
        ("0", "3", "3", "0", "0", "0", "–", "0", "–"),
        ("1", "3", "2", "1", "0", "0", "1 of 2 (50.0 %)", "2", "1 of 2 (50.0 %)"),
        ("2, so far", "2", "1", "0", "0", "1", "–", "0", "–"),
        ("all", "8", "6", "1", "0", "1", "1 of 2 (50.0 %)", "2", "1 of 2 (50.0 %)"),
    )
    assert work.rows == (
        ("0", "3", "0", "3", "0.5", "360", "Ann (3)"),
        ("1", "6", "1", "5", "1.0", "180", "Ann (5), Bo (1)"),
        ("2, so far", "1", "0", "1", "0.1", "600", "no name (1)"),
        ("all", "10", "1", "9", "1.6", "262", "Ann (8), Bo (1), no name (1)"),
    )


def test_audits_are_a_row_of_the_time(runs: Runs, run: Path) -> None:
    ask(run, 2, {}, again=["c"], audit=1)
    say(run, 2, "c", "ok", seconds=12)
    _, work = (block for block in blocks_of(runs)[:3] if isinstance(block, Table))
    assert work.rows[-3:] == (
        ("2, so far", "1", "0", "1", "0.1", "600", "no name (1)"),
        ("audits", "1", "0", "1", "0.2", "300", "Ann (1)"),
        ("all", "11", "1", "10", "1.8", "267", "Ann (9), Bo (1), no name (1)"),
    )


@pytest.mark.usefixtures("run")
def test_agreement_has_its_n_and_what_is_not_known_is_said(runs: Runs) -> None:
    texts = texts_of(blocks_of(runs))
    assert "Samples of the hold-out, in round 0: 1, 1 of them with a label." in texts
    assert "Of 2 samples with a label and a known prediction, 1 (50.0 %) have the predicted class" in texts
    assert "The predictions of 2 of the 5 queried samples are unknown" in texts
    assert (
        "Of 2 samples with a second answer, 1 (50.0 %, 95 % interval 9.5 to 90.5 by Wilson) got the same label as "
        "before: 1 of 1 by the same person and 0 of 1 by another person."
    ) in texts
    assert "Of 1 sample with answers by several people, 1 has different answers now; such a sample gets the" in texts


def test_who_disagrees_is_listed_with_pictures(runs: Runs, run: Path) -> None:
    model, second, people = (block for block in blocks_of(runs) if isinstance(block, Table) and block.pictures)
    assert model.caption == "People give another class than the model: 1 sample"
    assert (model.header, model.rows) == (
        ("sample", "round", "model", "people", "score"),
        (("c", "1", "ok", "dent (Ann)", "2.00"),),
    )
    assert (second.header, second.rows) == (
        ("sample", "round", "first", "second", "label now"),
        (("b", "1", "ok (Ann)", "scratch (Bo)", "scratch"),),
    )
    assert (people.header, people.rows) == (
        ("sample", "round", "answers", "label now"),
        (("b", "1", "scratch (Bo); ok (Ann)", "scratch"),),
    )
    with Image.open(io.BytesIO(model.pictures[0].content if model.pictures[0] else b"")) as image:
        assert image.size == (112, 84)
        assert set(image.convert("L").tobytes()) == {0}
    shutil.rmtree(run / "round_01" / "to_label" / "images")
    assert not any(block.pictures for block in blocks_of(runs) if isinstance(block, Table))


def test_picks_of_a_strategy_without_scores_have_no_column_for_them(runs: Runs) -> None:
    run = runs.add("herding", 0, [0.5, 0.6])
    ask(run, 1, {"c": "ok"}, has_scores=False)
    say(run, 1, "c", "dent")
    (table,) = (block for block in blocks_of(runs) if isinstance(block, Table) and "than the model" in block.caption)
    assert (table.header, table.rows) == (("sample", "round", "model", "people"), (("c", "1", "ok", "dent (Ann)"),))


def test_a_sample_in_conflict_holds_nothing_yet(runs: Runs) -> None:
    run = runs.add("entropy", 0, [0.5])
    ask(run, 0, {"a": None})
    say(run, 0, "a", "ok")
    say(run, 0, "a", "bad", "")
    blocks = blocks_of(runs)
    table = blocks[-1]
    assert table.rows == (("a", "0", "ok (Ann); bad image", "none yet"),)
    assert blocks[1].header[5] == "in conflict"
    assert blocks[1].rows[0][:7] == ("0", "1", "0", "0", "0", "1", "0")
    assert "such a sample waits until they agree" in texts_of(blocks)


def test_without_any_prediction_the_report_says_so(runs: Runs) -> None:
    run = runs.add("assl", 0, [0.5, 0.6])
    ask(run, 0, {"a": None})
    assert "since there was no model yet" in texts_of(blocks_of(runs))
    ask(run, 1, {"b": None, "c": None}, again=["a"])
    texts = texts_of(blocks_of(runs))
    assert "The predictions of the 2 queried samples are unknown: they are recorded only if the query" in texts
    assert "Samples that are asked again: 1; none has a second answer yet." in texts


def test_predictions_that_people_could_see_are_mentioned(runs: Runs) -> None:
    run = runs.add("entropy", 0, [0.5, 0.6])
    ask(run, 1, {"a": "ok"}, show_predictions=True)
    say(run, 1, "a", "ok")
    assert "People could see the predictions, which sways their answers." in texts_of(blocks_of(runs))


class TestLongLists:
    COUNT = 40

    @pytest.fixture
    def run(self, runs: Runs) -> Path:
        run = runs.add("entropy", 0, [0.5, 0.6])
        noise = np.random.default_rng(0).integers(0, 255, (75, 112, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "PNG")
        ask(run, 1, {f"photos/{place:03d}": "ok" for place in range(self.COUNT)}, image=file.getvalue())
        for place in range(self.COUNT):
            say(run, 1, f"photos/{place:03d}", "dent")
        return run

    @pytest.mark.usefixtures("run")
    def test_the_first_are_open_the_next_folded_and_the_rest_in_the_file(
        self, runs: Runs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(section, "MOST_ROWS", 30)
        *_, table, fold = blocks_of(runs)
        assert table.caption == "People give another class than the model: 1 to 12 of 40 samples; people.csv has all"
        assert isinstance(fold, Fold)
        assert fold.summary == "People give another class than the model: 18 more samples"
        (rest,) = fold.blocks
        assert isinstance(rest, Table)
        assert rest.caption == "People give another class than the model: 13 to 30 of 40 samples; people.csv has all"
        assert [row[0] for row in (*table.rows, *rest.rows)] == [f"photos/{place:03d}" for place in range(30)]

    @pytest.mark.usefixtures("run")
    def test_pictures_end_where_the_page_would_grow_too_large(
        self, runs: Runs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        *_, table, fold = blocks_of(runs)
        pictures = [*table.pictures, *fold.blocks[0].pictures]
        sizes = [len(picture.uri) for picture in pictures]
        assert len(sizes) == self.COUNT
        with Image.open(io.BytesIO(pictures[0].content)) as image:
            assert (image.format, image.size) == ("JPEG", (112, 75))
        monkeypatch.setattr(section, "MOST_BYTES", sum(sizes[:20]) + sizes[20] // 2)
        *_, table, fold = blocks_of(runs)
        assert [picture is not None for picture in (*table.pictures, *fold.blocks[0].pictures)] == [True] * 20 + [
            False
        ] * 20

    def test_the_runs_of_a_page_share_what_it_may_weigh(self, runs: Runs, run: Path) -> None:
        for seed in (1, 2):
            other = runs.add("entropy", seed, [0.5, 0.6])
            for path in run.iterdir():
                if path.name not in {"config.yaml", "rounds.jsonl"}:
                    (shutil.copytree if path.is_dir() else shutil.copy)(path, other / path.name)
        assert main([str(runs.root)]) == 0
        page = (runs.root / "entropy" / "report" / "report.html").read_bytes()
        assert 700_000 < len(page) < 1_000_000
        assert b"entropy, seed 2: People give another class" in page


def test_the_file_has_a_row_for_each_question(runs: Runs, run: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(people_csv(find_labelling([runs.setting()])), newline="")))
    assert [(row["round"], row["sample_id"]) for row in rows] == [
        *(("0", "t"), ("0", "a"), ("0", "b"), ("1", "c"), ("1", "d"), ("1", "e"), ("1", "a"), ("1", "b")),
        *(("2", "f"), ("2", "g")),
    ]
    by_place = {(row["round"], row["sample_id"]): row for row in rows}
    assert by_place["0", "t"]["for_test"] == "1"
    disagreed, corrected, second = by_place["1", "c"], by_place["1", "d"], by_place["1", "b"]
    assert (disagreed["prediction"], disagreed["label"], disagreed["agrees_with_model"]) == ("ok", "dent", "0")
    assert (corrected["answers"], corrected["taken_back"], corrected["seconds"]) == ("2", "1", "5.0")
    assert (second["asked_again"], second["label_before"], second["second_answer"]) == ("1", "ok", "scratch")
    assert (second["agrees_with_before"], second["by_same_person"]) == ("0", "0")
    assert json.loads(second["annotators"]) == ["Bo"]
    assert {row["is_open"] for row in rows if row["round"] == "2"} == {"1"}
    assert (by_place["2", "g"]["state"], by_place["2", "g"]["seconds"]) == ("unanswered", "")
    assert str(run)


def test_runs_that_asked_nobody_have_no_such_section(runs: Runs) -> None:
    runs.add("assl", 0, [0.5, 0.6])
    assert find_labelling([runs.setting()]) == {}
    assert main([str(runs.root)]) == 0
    page = (runs.root / "assl" / "seed_0" / "report" / "report.html").read_text()
    assert "people" not in page
    assert not (runs.root / "assl" / "seed_0" / "report" / "people.csv").exists()


def test_odd_names_arrive_as_they_are(runs: Runs) -> None:
    evil = "<script>\"'&|`*_ü\n$x$"
    run = runs.add("entropy", 0, [0.5, 0.6])
    ask(run, 1, {evil: "ok"}, again=["=1+1"])
    say(run, 0, "=1+1", "ok")
    say(run, 1, evil, "dent", evil)
    assert main([str(run)]) == 0
    page = (run / "report" / "report.html").read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;&#34;&#39;&amp;|`*_ü\n$x$") >= 3  # its row, its picture, who said it
    tables = (run / "report" / "tables.md").read_text()
    assert "<script" not in tables
    assert "&lt;script>\"'&\\|\\`\\*\\_ü $x$" in tables
    with (run / "report" / "people.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sample_id"] for row in rows] == [evil, "=1+1"]
    assert json.loads(rows[0]["annotators"]) == [evil]


@pytest.mark.e2e
@pytest.mark.usefixtures("run")
def test_the_report_needs_no_torch_and_is_the_same_each_time(runs: Runs, tmp_path: Path) -> None:
    code = (
        "import sys; from assl_lightning.report.__main__ import main; failed = main(sys.argv[1:]); "
        "sys.exit(failed or ','.join({'torch', 'lightning', 'hydra'} & set(sys.modules)) or 0)"
    )
    for name in ("first", "second"):
        command = [sys.executable, "-c", code, str(runs.root), "--output", str(tmp_path / name)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ})
        assert (done.returncode, done.stderr) == (0, "")
    files = {path.name for path in (tmp_path / "first").iterdir()}
    assert files == {"curves.png", "people.csv", "report.html", "results.csv", "tables.md"}
    for name in files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("round_01/to_label/batch.json", "batch.json cannot be read"),
        ("round_01/to_label/images/0000.png", "0000.png is not an image"),
        ("labels.sqlite", "labels.sqlite must be a ledger of labels"),
    ],
)
def test_a_damaged_file_is_named_and_nothing_written(
    path: str, message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (run / path, run / f"{path}-wal"):
        if file.exists():
            file.write_bytes(b"damaged" * 100)
    assert main([str(run)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (run / "report").exists()


def test_pictures_of_any_kind_are_shown(tmp_path: Path) -> None:
    from assl_lightning.report.sections.thumbnails import thumbnail

    (tmp_path / "grey.png").write_bytes(a_png(200, (300, 100)))
    Image.new("RGBA", (5, 200), (1, 2, 3, 4)).save(tmp_path / "alpha.png")
    Image.new("P", (1, 1)).save(tmp_path / "palette.png")
    Image.new("RGB", (60, 50)).save(tmp_path / "medium.png")
    for name, size in (("grey", (112, 37)), ("alpha", (3, 112)), ("palette", (112, 112)), ("medium", (60, 50))):
        picture = thumbnail(tmp_path / f"{name}.png")
        assert picture is not None
        with Image.open(io.BytesIO(picture.content)) as image:
            assert image.size == size
            assert picture.media_type == f"image/{(image.format or '').lower()}"
    assert thumbnail(tmp_path / "none.png") is None
