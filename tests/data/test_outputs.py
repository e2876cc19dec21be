"""Directories of pictures that are no data, told from all others by what lies in them."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from assl_lightning.data.image_table import read_folder, read_image_folder, read_manifest
from assl_lightning.data.outputs import is_output_name, output_above, written_by

CONFIG = "name: folder\nlabels_per_round: 2\n"


def make(root: Path, *names: str, config: str = "") -> Path:
    """Empty files below `root`, and a config.yaml in it where there is one."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    if config:
        (root / "config.yaml").write_text(config)
    return root


@pytest.mark.parametrize(
    ("names", "config", "kind"),
    [
        (("rounds.jsonl", "round_00/queried.png"), CONFIG, "of runs"),
        (("samples.csv", "round_00/to_label/images/0000.png"), CONFIG, "of runs"),
        ((".lock",), CONFIG, "of runs"),
        (("labels.sqlite",), CONFIG, "of runs"),
        (("rounds.jsonl", "round_00/queried.png"), "", "of runs"),
        (("batch.json", "to_label.csv", "contact_sheet.png"), "", "of batches to label"),
        (("report.html", "tables.md", "curves.png"), "", "of reports"),
        (("rank_correlation.png", "uncertainty_histogram.png"), "", "of reports"),
        (("label_studio.sqlite3", "media/upload/1/a.png"), "", "of Label Studio"),
        (("samples.csv", "a.png"), "name: a data set of somebody's\n", ""),
        (("rounds.jsonl", "a.png"), "", ""),
        (("round_00/a.png",), CONFIG.replace("labels_per_round", "widths"), ""),
        (("report.html", "a.png"), "", ""),
        (("batch.json", "a.png"), "", ""),
    ],
)
def test_a_directory_is_known_by_files_that_nothing_else_writes_together(
    tmp_path: Path, names: tuple[str, ...], config: str, kind: str
) -> None:
    assert written_by(make(tmp_path / "photos", *names, config=config)) == kind


def test_directories_that_programs_leave_behind_are_known_by_their_names(tmp_path: Path) -> None:
    make(tmp_path, "@eaDir/a.png", "lightning_logs/version_0/a.png", "other/lightning_logs/a.png", "round_00/pool.pt")
    kinds = {name: written_by(tmp_path / name) for name in ("@eaDir", "lightning_logs", "round_00")}
    assert kinds == {"@eaDir": "of systems", "lightning_logs": "of loggers", "round_00": "of rounds"}
    assert written_by(tmp_path / "other" / "lightning_logs") == ""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two images, and beside them two runs, a report over them, thumbnails of a network drive, and an archive's."""
    root = make(tmp_path / "photos", "ok/a.png", "dent/b.png", "dent/@eaDir/b.png/THUMB.jpg", "__MACOSX/ok/._a.png")
    for run in ("runs/a/seed_0", "runs/a/seed_1"):
        make(root / run, "rounds.jsonl", "report/curve.png", "round_01/to_label/images/0000.png", config=CONFIG)
    make(root, "runs/report/report.html", "runs/report/tables.md", "runs/report/curves.png")
    return root


def test_pictures_that_are_no_data_are_in_no_pool_and_no_class_and_are_told(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert read_folder(photos, []).sample_ids == ("dent/b.png", "ok/a.png")
    assert caplog.messages == [
        f"{photos}: directories that are no data are passed over: 1 of reports (runs/report); "
        "2 of runs (runs/a/seed_0, runs/a/seed_1); 2 of systems (__MACOSX, dent/@eaDir)"
    ]
    table = read_image_folder(photos)
    assert (table.class_names, table.sample_ids) == (("dent", "ok"), ("dent/b.png", "ok/a.png"))


def test_a_directory_that_has_nothing_else_is_refused_with_what_it_has(photos: Path) -> None:
    with pytest.raises(ValueError, match=r"must have image files in it .* no data: 2 of runs \(seed_0, seed_1\)$"):
        read_folder(photos / "runs" / "a", [])


@pytest.mark.parametrize("below", ["", "round_01", "round_01/to_label/images", "report"])
def test_a_root_within_a_run_is_refused(photos: Path, below: str) -> None:
    run = photos / "runs" / "a" / "seed_0"
    with pytest.raises(
        ValueError, match=rf"{re.escape(str(run.resolve()))}\S* was written by a run, whose pictures are"
    ):
        read_folder(run / below, [])


def test_what_lies_beside_the_files_of_a_run_is_not_the_runs(photos: Path) -> None:
    make(photos / "runs" / "a" / "seed_0", "photos/c.png")
    assert output_above(photos / "runs" / "a" / "seed_0" / "photos") is None


def test_a_link_into_a_run_is_passed_over(photos: Path) -> None:
    (photos / "ok" / "more").symlink_to(photos / "runs" / "a" / "seed_0" / "round_01" / "to_label" / "images")
    assert read_folder(photos, []).sample_ids == ("dent/b.png", "ok/a.png")


def test_a_manifest_that_names_a_picture_of_a_run_is_refused_by_its_line(photos: Path) -> None:
    picture = "runs/a/seed_0/round_01/to_label/images/0000.png"
    manifest = photos / "all.csv"
    manifest.write_text(f"path,label\nok/a.png,ok\n{picture},dent\n")
    with pytest.raises(ValueError, match=r"one thing is wrong: line 3 names .*0000\.png, which a run has written"):
        read_manifest(manifest)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("runs/folder/seed_0/round_00/queried.png", True),
        ("runs/folder/seed_0/round_00/errors.png", True),
        ("round_12/to_label/contact_sheet.png", True),
        ("r/round_100/to_label/images/12345.webp", True),
        ("r/audit_01/to_label/images/0003.png", True),
        ("runs/folder/seed_0/report/curve.png", True),
        ("runs/report/curves_2.png", True),
        ("round_00/dent.png", False),
        ("images/0000.png", False),
        ("a_round_00/queried.png", False),
    ],
)
def test_a_picture_of_a_run_is_known_by_its_path(name: str, expected: bool) -> None:
    assert is_output_name(name) is expected
