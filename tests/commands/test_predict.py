"""`python -m assl_lightning.predict` on real runs."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from assl_lightning.base.run_files import LEDGER, POOL
from assl_lightning.commands.classes import main as change_classes
from assl_lightning.commands.predict import main
from assl_lightning.commands.predicting import Check, RunPredictor
from assl_lightning.commands.prediction_files import LabelledImage, write_links
from assl_lightning.commands.train import main as train
from assl_lightning.config.classifier import load_classifier
from assl_lightning.data.answers import Answer
from assl_lightning.data.image_table import read_manifest
from assl_lightning.people.ledger import Ledger
from tests.commands.checks import assert_refused
from tests.commands.finished_run import COUNT, RUN, RUN_DIR

pytestmark = pytest.mark.e2e


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_image_without_a_label_is_predicted_by_the_calibrated_network(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(RUN_DIR)]) == 0

    rows = rows_of(RUN_DIR / "predictions.csv")
    state = torch.load(RUN_DIR / "round_01" / POOL, weights_only=True)
    names = [f"{('blue', 'red')[n % 2]}/{n:03}.png" for n in (*range(0, COUNT, 2), *range(1, COUNT, 2))]
    unlabelled = {names[index] for index in (state["labelled_in_round"] == -1).nonzero()[:, 0].tolist()}
    assert {row["sample_id"] for row in rows} == unlabelled
    assert len(rows) == COUNT - 40 - 8 - 8

    confidences = [float(row["confidence"]) for row in rows]
    assert confidences == sorted(confidences, reverse=True)
    out = capsys.readouterr().out
    temperature = float(out.partition("(temperature ")[2].partition(")")[0])
    classifier = load_classifier(RUN_DIR)
    for row in rows[::7]:
        (probability,) = classifier.probabilities(f"photos/{row['sample_id']}")
        expected, label = (probability.double().log() / temperature).softmax(0).max(0)
        assert row["class"] == classifier.class_names[int(label)]
        assert float(row["confidence"]) == pytest.approx(float(expected), abs=5e-3)  # the temperature has two digits
        assert float(row["second_confidence"]) == pytest.approx(1 - float(row["confidence"]), abs=1e-5)
        assert {row["class"], row["second_class"]} == {"blue", "red"}
        assert 0 <= float(row["uncertainty"]) <= 2**0.5
    assert out.startswith(f"64 images without a label: {RUN_DIR / 'predictions.csv'}\n")
    assert "confidence: calibrated on 40 held-out images" in out


def test_what_can_be_trusted_is_told_with_its_error_and_put_together_with_the_labels(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--above", "0.9", "--folder", "sorted", "--manifest", "all.csv", "--output", "sure.csv"]
    assert main([str(RUN_DIR), *arguments]) == 0

    rows = rows_of(place / "sure.csv")
    assert rows
    assert all(float(row["confidence"]) >= 0.9 for row in rows)
    assert "of 64 images without a label with a confidence of at least 0.9: sure.csv" in capsys.readouterr().out
    table = read_manifest(place / "all.csv")
    assert len(table.sample_ids) == 40 + 8 + 8 + len(rows)
    assert table.splits.count("test") == 40
    labelled = {name: table.class_names[label] for name, label in zip(table.sample_ids, table.labels, strict=True)}
    assert all(labelled[row["sample_id"]] == row["class"] for row in rows)
    links = [path for path in (place / "sorted").rglob("*") if path.is_symlink()]
    assert len(links) == len(labelled)
    for link in links:
        class_name, *rest = link.relative_to(place / "sorted").parts
        assert labelled["/".join(rest)] == class_name
        assert link.resolve() == (place / "photos" / "/".join(rest)).resolve()


def test_the_manifest_is_data_for_another_run(place: Path) -> None:
    assert main([str(RUN_DIR), "--manifest", "all.csv"]) == 0

    data = ["data=manifest", "data.source.manifest=all.csv", "data.num_classes=2", "data.image_size=[16,16]"]
    rest = [item for item in RUN if not item.startswith(("data", "hold_out", "name"))]
    assert train([*data, *rest, "name=again"]) == 0


def test_answers_since_the_newest_training_count_as_labels(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(RUN_DIR), "--output", "before.csv"]) == 0
    sure, unsure, bad = (rows_of(place / "before.csv")[row]["sample_id"] for row in (0, -1, 5))
    ledger = Ledger(RUN_DIR / LEDGER)
    ledger.append([Answer(sure, "label", "Ann", "page", 1, "red"), Answer(unsure, "label", "Ann", "page", 1, "blue")])
    ledger.append([Answer(bad, "bad", "Ann", "page", 1)])
    capsys.readouterr()

    assert main([str(RUN_DIR), "--output", "after.csv", "--manifest", "all.csv"]) == 0

    assert "3 answers of people since the newest training: taken over here" in capsys.readouterr().out
    names = {row["sample_id"] for row in rows_of(place / "after.csv")}
    assert names == {row["sample_id"] for row in rows_of(place / "before.csv")} - {sure, unsure, bad}
    labels = {row["sample_id"]: row["label"] for row in rows_of(place / "all.csv")}
    assert (labels[sure], labels[unsure]) == ("red", "blue")
    assert bad not in labels


def test_links_have_their_files_suffix_and_none_is_lost(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("1.png", "2.png", "3.png")]
    for path in paths:
        path.touch()
    names = ("17", "../a.png", "a.png")
    images = [LabelledImage(name, "ok", path) for name, path in zip(names, paths, strict=True)]

    write_links(images, tmp_path / "out")

    links = {str(link.relative_to(tmp_path / "out")): link.resolve().name for link in (tmp_path / "out").rglob("*.png")}
    assert links == {"ok/17.png": "1.png", "ok/a.png": "2.png", "ok/a_2.png": "3.png"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_named_images_are_predicted_and_those_that_cannot_be_read_are_listed(
    place: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "new").mkdir()
    Image.new("RGB", (9, 9), (200, 10, 30)).save(place / "new/red.png")
    Image.new("RGB", (9, 9), (30, 10, 200)).save(place / "new/blue.png")
    (place / "new/broken.png").write_bytes(b"no image")

    assert main([str(RUN_DIR), "new", "--output", "new.csv"]) == 0

    rows = rows_of(place / "new.csv")
    assert {row["sample_id"]: row["class"] for row in rows} == {"new/red.png": "red", "new/blue.png": "blue"}
    assert all(row["uncertainty"] == "" for row in rows)
    assert "broken.png" in caplog.text
    assert "\n2 images: new.csv\n" in f"\n{capsys.readouterr().out}"


def test_parquet_has_the_same_rows(place: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert main([str(RUN_DIR), "--output", "p.parquet"]) == 0
    assert main([str(RUN_DIR), "--output", "p.csv"]) == 0

    found = parquet.read_table("p.parquet").to_pylist()
    expected = rows_of(place / "p.csv")
    assert [row["sample_id"] for row in found] == [row["sample_id"] for row in expected]
    for row, of_csv in zip(found, expected, strict=True):
        assert row["confidence"] == pytest.approx(float(of_csv["confidence"]), rel=1e-5)


def test_tasks_for_label_studio_have_the_predictions(place: Path) -> None:
    assert main([str(RUN_DIR), "--label-studio", "tasks.json", "--image-root", ".", "--output", "t.csv"]) == 0

    tasks = json.loads((place / "tasks.json").read_text())
    rows = rows_of(place / "t.csv")
    assert [task["data"]["sample_id"] for task in tasks] == [row["sample_id"] for row in rows]
    (prediction,) = tasks[0]["predictions"]
    assert prediction["result"][0]["value"]["choices"] == [rows[0]["class"]]
    assert tasks[0]["data"]["image"] == f"/data/local-files/?d=photos/{rows[0]['sample_id']}"


def test_classes_that_were_renamed_have_their_present_names(place: Path) -> None:
    for name in ("blue", "red"):
        shutil.copytree(place / "photos" / name, place / "test" / name)
    (place / "few.csv").write_text("sample_id,label\nblue/000.png,blue\nred/001.png,red\nred/003.png,red\n")
    rest = [item for item in RUN if not item.startswith(("data.source.labels", "hold_out", "name", "initial_labels"))]
    test = ["data.source.test_root=test", "data.source.labels=few.csv", "initial_labels=0"]
    waits = [*rest, *test, "oracle=file", "run_dir=runs/waits"]
    assert train(waits) == 0
    assert change_classes(["runs/waits", "--rename", "red=crimson"]) == 0

    assert main(["runs/waits", "--output", "w.csv"]) == 0
    assert {row["class"] for row in rows_of(place / "w.csv")} <= {"blue", "crimson"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["runs/run/seed_0", "photos"], "--output: name the table for the images that you name"),
        (["runs/run/seed_0", "--device", "tpu9"], "--device tpu9: must be a device of torch that is there"),
        (["runs/run/seed_0", "--above", "1.5"], "must be a number above 0 and at most 1; got '1.5'"),
        (["runs/run/seed_0", "--folder", "photos"], "--folder photos: must be a directory that is new or empty"),
        (
            ["runs/run/seed_0", "--folder", "photos/sorted"],
            "--folder photos/sorted: must not lie among the pool's images",
        ),
        (["runs/run/seed_0", "--label-studio", "t.json"], "--label-studio: add --image-root DIR"),
        (
            ["runs/run/seed_0", "--label-studio", "t.json", "--image-root", "runs"],
            "--image-root runs: must be a directory",
        ),
        (["runs/run/seed_0", "--output", "none/p.csv"], "--output none/p.csv: there is no directory none; make it"),
        (["runs/run/seed_0", "--manifest", "none/m.csv"], "--manifest none/m.csv: there is no directory none; make"),
        (["runs/run/seed_0", "photos", "--output", "o.csv", "--manifest", "m.csv"], "--manifest: is for the images of"),
        (["runs/run/seed_0", "missing", "--output", "o.csv"], "there is no image that can be read"),
        (
            ["runs/run/seed_0", "photos", "--output", "photos/0.png"],
            "--output photos/0.png: must end in .csv or .parquet, so that no other file is written over",
        ),
        (["runs/run/seed_0", "--manifest", "m.json"], "--manifest m.json: must end in .csv, so that no other file"),
        (["runs/run/seed_0", "--folder", "no/such"], "--folder no/such: there is no directory no; make it first"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert_refused(main, arguments, line, place, capsys)


def test_a_run_that_has_trained_nothing_yet_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for checkpoint in RUN_DIR.glob("round_*/final.ckpt"):
        checkpoint.unlink()
    assert main([str(RUN_DIR)]) == 1
    assert "must have trained a network, but has no final.ckpt yet; go on with it" in capsys.readouterr().err


def test_the_error_of_trusted_predictions_is_counted() -> None:
    check = Check("test", torch.tensor([0.99, 0.97, 0.9, 0.96]), torch.tensor([True, False, False, True]), 4, None)

    wrong, count, (low, high) = check.error_above(0.95)
    assert (wrong, count) == (1, 3)
    assert low == pytest.approx(0.0615, abs=1e-3)
    assert high == pytest.approx(0.7923, abs=1e-3)
    assert check.error_above(0.999) == (0, 0, (0.0, 1.0))


def test_merged_classes_have_the_sum_of_their_probabilities(place: Path) -> None:
    predictor = RunPredictor(RUN_DIR)
    predictor.class_names = ("colour",)
    predictor._present_label = torch.tensor([0, 0])
    logits = torch.randn(5, 2, dtype=torch.float64)

    torch.testing.assert_close(predictor._merged(logits)[:, 0], logits.logsumexp(1))
