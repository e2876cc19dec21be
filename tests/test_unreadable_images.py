"""Images that cannot be decoded, in a run of one's own images: told, listed, left out, mended."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from assl_lightning.check.__main__ import main as check
from assl_lightning.commands import messages, running
from assl_lightning.config.schema import Config, ConfigurationError

Compose = Callable[..., Config]

RUN = (
    *("data=image_folder", "data.root=photos", "data.num_classes=2", "data.image_size=[8,8]", "network=small_cnn"),
    *(
        "rounds=0",
        "warm_up=none",
        "steps_per_round=1",
        "initial_labels=6",
        "labels_per_round=1",
        "algorithm.batch_size=4",
    ),
    *("trainer.accelerator=cpu", "name=photos"),
)
LIST = Path("runs/photos/seed_0/unreadable.csv")


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Sixty photos of two classes, in the working directory's `photos`; Lightning's tips are left out meanwhile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    generator = np.random.default_rng(0)
    for name in ("dent", "ok"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(30):
            pixels = generator.integers(256, size=(8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number:02d}.png")
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    yield tmp_path / "photos"
    logger.setLevel(level)


def spoil(photos: Path, count: int) -> list[str]:
    """Make text of the first `count` photos of the class ok; their sample ids."""
    names = [f"ok/{number:02d}.png" for number in range(count)]
    for name in names:
        (photos / name).write_text("not an image")
    return names


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def run(config: Config) -> list[Any]:
    return running.run(config, Console(file=StringIO(), width=100))


def refusal(config: Config) -> str:
    with pytest.raises(ConfigurationError) as caught:
        run(config)
    (line,) = caught.value.lines
    return line


@pytest.mark.e2e
def test_what_an_error_cannot_name_is_listed_where_the_run_would_be(photos: Path, compose_run: Compose) -> None:
    names = spoil(photos, 12)
    line = refusal(compose_run(*RUN))
    assert line.endswith(f"or leave them out of the run with data.unreadable=exclude; {LIST} lists all 12")
    rows = rows_of(LIST)
    assert sorted(row["sample_id"] for row in rows) == names
    assert {row["split"] for row in rows} == {"pool"}, "such an image is never drawn for the test"
    assert rows[0] == {
        "split": "pool",
        "sample_id": rows[0]["sample_id"],
        "reason": f"photos/{rows[0]['sample_id']} (no image format that Pillow knows)",
    }
    assert [path.name for path in LIST.parent.iterdir()] == ["unreadable.csv"]
    assert {path.suffix for path in photos.rglob("*") if path.is_file()} == {".png"}, "nothing is written among them"

    for name in names:  # mended, they make a run there as if nothing had been
        Image.new("RGB", (8, 8)).save(photos / name)
    assert len(run(compose_run(*RUN))) == 1
    assert not LIST.exists()


def test_what_an_error_names_leaves_no_file_behind(photos: Path, compose_run: Compose) -> None:
    names = spoil(photos, 3)
    line = refusal(compose_run(*RUN))
    assert [name for name in names if f"photos/{name} (no image" not in line] == []
    assert line.endswith("data.unreadable=exclude")
    assert not Path("runs").exists()


def test_a_directory_that_holds_something_else_gets_no_list(photos: Path, compose_run: Compose) -> None:
    spoil(photos, 12)
    LIST.parent.mkdir(parents=True)
    (LIST.parent / "thesis.tex").touch()
    assert refusal(compose_run(*RUN)).endswith("data.unreadable=exclude")
    assert [path.name for path in LIST.parent.iterdir()] == ["thesis.tex"]


@pytest.mark.e2e
def test_what_is_left_out_is_listed_in_the_runs_directory(
    photos: Path, compose_run: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    names = spoil(photos, 5)
    config = compose_run(*RUN, "data.unreadable=exclude")
    assert len(run(config)) == 1
    assert [(row["split"], row["sample_id"]) for row in rows_of(LIST)] == [("pool", name) for name in names]
    (told,) = [message for message in caplog.messages if "cannot be decoded" in message]
    assert told.endswith(
        f"are left out of the run, which keeps their indices: {', '.join(names[:3])}, and 2 more; {LIST} has all"
    )


@pytest.mark.e2e
def test_a_check_lists_them_where_it_is_told_to_and_nowhere_else(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = spoil(photos, 12)
    assert check(list(RUN)) == 1
    assert "of the pool's " in (printed := capsys.readouterr().out)
    assert "; --unreadable FILE lists all)" in printed
    assert [path.name for path in Path().iterdir()] == ["photos"]

    assert check([*RUN, "--unreadable", "broken.csv"]) == 1
    assert "broken.csv lists 12\n" in capsys.readouterr().out
    assert sorted(row["sample_id"] for row in rows_of(Path("broken.csv"))) == names


@pytest.mark.e2e
def test_an_item_that_takes_its_label_with_it_is_left_out_too(photos: Path, compose_run: Compose) -> None:
    """As torchvision's ImageFolder does, which opens a file when the item is asked for."""
    spoil(photos, 1)
    items = "data.source.pool={_target_: torchvision.datasets.ImageFolder, root: photos}"
    config = compose_run(*RUN[2:], "data=dataset", items, "data.unreadable=exclude")
    assert len(run(config)) == 1
    (row,) = rows_of(LIST)
    assert row == {
        "split": "pool",
        "sample_id": "pool/000030-undecodable",
        "reason": "item 30 (no image format that Pillow knows)",
    }


@pytest.mark.e2e
def test_a_check_says_that_they_are_links_to_nothing(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        (photos / "ok" / f"link{number}.png").symlink_to(f"/not/mounted/{number}.png")
    assert check(list(RUN)) == 1
    (found,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong:")]
    assert "5 of the pool's " in found
    assert "; of these, 5 are links to nothing: mount what they lead to; fetch them again" in found


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            "labels.csv",
            "labels.csv holds something else than a list of images that cannot be decoded; name another file",
        ),
        ("nowhere/broken.csv", "nowhere/broken.csv cannot be written, since nowhere is no directory; make it first"),
    ],
)
def test_a_check_overwrites_nothing_else(file: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("labels.csv").write_text("sample_id,label\n")
    assert check([*RUN, "--unreadable", file]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"
    assert Path("labels.csv").read_text() == "sample_id,label\n"
