"""`python -m assl_lightning.export --format labels` and `folder`, while a run waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from assl_lightning.base.run_files import LEDGER
from assl_lightning.commands.export import main
from assl_lightning.data.answers import Answer
from assl_lightning.data.image_table import read_manifest
from assl_lightning.loop.records import write_config
from assl_lightning.people.ledger import Ledger
from tests.commands.checks import assert_imports_nothing_heavy, assert_refused
from tests.people.batches import CLASSES, SAMPLE_IDS, a_png, make_batch


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a run over photos/, which waits; two of its images are labelled."""
    batch = make_batch(tmp_path / "run")
    for name in SAMPLE_IDS:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(a_png())
    description = batch.directory / "batch.json"
    description.write_text(description.read_text().replace('"/photos/', '"photos/'))
    write_config(batch.run_dir, {"rounds": 1, "oracle": {"conflicts": "error"}})
    given = zip(SAMPLE_IDS, ("ok", "dent"), strict=False)
    Ledger(batch.run_dir / LEDGER).append(
        [Answer(name, "label", "Ann", "page", 0, label=label) for name, label in given]
    )
    monkeypatch.chdir(tmp_path)
    return batch.run_dir


def test_the_table_is_written_again_and_again(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run_dir), "--format", "labels"]) == 0
    assert capsys.readouterr().out == f"2 images with a label: {run_dir / 'labels.csv'}\n"
    given = (SAMPLE_IDS[0], "dent"), ("d.png", "ok")
    Ledger(run_dir / LEDGER).append([Answer(name, "label", "Bo", "page", 0, label=label) for name, label in given])
    assert main([str(run_dir), "--format", "labels"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("2 images with a label (without 1 image about which people differ): ")
    assert (run_dir / "labels.csv").read_text().splitlines()[1:] == [
        f"{Path('photos').resolve() / SAMPLE_IDS[1]},{SAMPLE_IDS[1]},dent,pool,0,Ann",
        f"{Path('photos').resolve() / 'd.png'},d.png,ok,pool,0,Bo",
    ]


def test_the_table_is_a_manifest(run_dir: Path) -> None:
    assert main([str(run_dir), "--format", "labels", "--output", "labels.csv"]) == 0
    read = read_manifest(Path("labels.csv"), class_names=CLASSES)
    assert read.sample_ids == SAMPLE_IDS[:2]
    assert [read.class_names[label] for label in read.labels] == ["ok", "dent"]


def test_the_folder_has_a_directory_for_each_class(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run_dir), "--format", "folder", "--output", "sorted"]) == 0
    assert capsys.readouterr().out == "2 images with a label: sorted\n"
    links = {path.relative_to("sorted").as_posix(): path.resolve() for path in Path("sorted").rglob("*.png")}
    assert links == {
        f"ok/{SAMPLE_IDS[0]}": Path("photos").resolve() / SAMPLE_IDS[0],
        f"dent/{SAMPLE_IDS[1]}": Path("photos").resolve() / SAMPLE_IDS[1],
    }


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["run", "--format", "labels", "--output", "no/such.csv"],
            "no/such.csv: there is no directory no; make it",
        ),
        (["run", "--format", "labels", "--output", "photos/a.png"], "photos/a.png: must end in .csv, so that no other"),
        (["run", "--format", "folder", "--output", "run"], "--output run: must be a directory that is new or empty"),
        (
            ["run", "--format", "folder", "--output", "photos/x"],
            "photos/x: must not lie among the pool's images",
        ),
        (["gone", "--format", "folder"], "is not there; give the command in the directory where the run was started"),
        (["empty", "--format", "labels"], "empty has no label by people yet; label images first"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(
    run_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    for name in ("gone", "empty"):
        make_batch(Path(name))
        write_config(Path(name), {"rounds": 1})
    Ledger(Path("gone") / LEDGER).append([Answer("d.png", "label", "Ann", "page", 0, label="ok")])
    assert_refused(main, arguments, line, Path(), capsys)


@pytest.mark.e2e
def test_labels_are_exported_without_torch(run_dir: Path) -> None:
    assert_imports_nothing_heavy("export", str(run_dir), "--format", "labels")
