"""Runs on image files from the command line: what docs/your_own_images.md tells to type, and what can go wrong."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import yaml  # type: ignore[import-untyped]
from PIL import Image

from assl_lightning.check.__main__ import main as check_main
from assl_lightning.commands import messages
from assl_lightning.commands.train import main
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.records import read_records

pytestmark = pytest.mark.e2e

DOCUMENT = (Path(__file__).parents[1] / "docs" / "your_own_images.md").read_text()
COMMANDS = [  # those with a store are in test_remote_images.py
    command
    for command in re.findall(r"^python -m (assl_lightning\S*) (.+)$", DOCUMENT, re.MULTILINE)
    if "s3://" not in command[1]
]
SHORT = ["rounds=1", "warm_up=none", "steps_per_round=2", "algorithm.batch_size=4", "trainer.accelerator=cpu"]
DIGITS = [
    *("data=image_folder", "data.root=digits", "data.num_classes=10", "data.channels=1", "data.image_size=[16,16]"),
    *("data.weak.flip=false", "trainer.accelerator=cpu"),
]


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    return tmp_path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The error of a command that must fail."""

    def run(*overrides: str, command: Callable[[list[str]], int] = main) -> str:
        capsys.readouterr()
        assert command(list(overrides)) == 1
        return capsys.readouterr().err

    return run


def photograph(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(40, 50, 3), dtype=np.uint8))


def make_photographs(root: Path, first: int) -> list[Path]:
    """Twenty of each of two classes."""
    paths = [root / name / f"{number:02d}.jpg" for name in ("dent", "ok") for number in range(20)]
    for seed, path in enumerate(paths, start=first):
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(seed).save(path)
    return paths


def make_digits(root: Path) -> None:
    digits = sklearn.datasets.load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        (root / str(label)).mkdir(parents=True, exist_ok=True)
        pixels = (image * 255 / 16).round().astype(np.uint8)
        Image.fromarray(pixels).save(root / str(label) / f"{number:04d}.png")


def make_eurosat(root: Path) -> None:
    """Five of each of ten classes, as torchvision's class has its files."""
    for seed in range(50):
        path = root / "eurosat" / "2750" / f"class_{seed % 10}" / f"{seed:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(seed).save(path)


def save_with_datasets(root: Path, paths: list[Path]) -> None:
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dent", "ok"])})
    rows = [{"image": str(path), "label": path.parent.name} for path in paths]
    parts = {name: datasets.Dataset.from_list(part, features=features) for name, part in two_parts(rows)}
    datasets.DatasetDict(parts).save_to_disk(str(root))


def two_parts(rows: list[Any]) -> list[tuple[str, list[Any]]]:
    return [("train", rows[::2]), ("test", rows[1::2])]


@pytest.fixture
def photos(working_directory: Path) -> list[Path]:
    """What the document's commands take for granted."""
    paths = make_photographs(working_directory / "photos", 0)
    make_photographs(working_directory / "photos_test", 100)
    make_photographs(working_directory / "new", 200)
    lines = [f"{path.relative_to(working_directory)},{path.parent.name}" for path in paths]
    (working_directory / "images.csv").write_text("\n".join(["path,label", *lines]))
    return paths


def config_of(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(Path("runs", name, "seed_0", "config.yaml").read_text())
    return content


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the package datasets' own, and fork's on Python >= 3.12
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_the_document_works(
    photos: list[Path], capsys: pytest.CaptureFixture[str], command: tuple[str, str]
) -> None:
    run = {"assl_lightning": main, "assl_lightning.check": check_main}[command[0]]
    if "data=torchvision" in command[1]:
        make_eurosat(Path("data"))
    if "data=huggingface" in command[1]:
        save_with_datasets(Path("saved"), photos)
    if "network=timm" in command[1]:
        pytest.importorskip("timm", reason="the package timm is not installed")
    assert run([*shlex.split(command[1]), *SHORT]) == 0, capsys.readouterr()


@pytest.mark.parametrize("words", re.findall(r"`(data=\w+ [^`]+)`", DOCUMENT))
def test_the_documents_table_has_what_a_source_needs(
    photos: list[Path], capsys: pytest.CaptureFixture[str], words: str
) -> None:
    code = main([*shlex.split(words), *SHORT])
    error = capsys.readouterr().err
    assert code == int("data=folder" in words), error
    if code:
        assert "labels must be known for the whole pool, but 40 of its 40 samples have none; label them, or" in error
        assert not Path("runs").exists(), "before anything is written"


@pytest.mark.slow
def test_digits_from_files_are_a_run_like_any_other_and_config_yaml_holds_what_was_left_open(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_digits(working_directory / "digits")
    run = [*DIGITS, "rounds=1", "warm_up=none", "steps_per_round=60", "data.source.cache=cache"]
    assert check_main(run) == 0, capsys.readouterr()
    assert main(run) == 0, capsys.readouterr()

    records = read_records(Path("runs/image_folder/seed_0"))
    assert [record.labels for record in records] == [10, 20]
    assert records[1].test_accuracy_raw > 0.3, "sixty steps on twenty digits are better than guessing"
    data = config_of("image_folder")["data"]
    assert data["source"]["class_names"] == [str(digit) for digit in range(10)]
    assert data["mean"] == pytest.approx([0.305], abs=0.01)
    assert data["std"] == pytest.approx([0.3185], abs=0.01)
    assert len(list(Path("cache").iterdir())) == 2

    queried = Path("runs/image_folder/seed_0/round_00/queried.csv").read_text().splitlines()[1:]
    assert len(queried) == 10
    assert all(re.fullmatch(r"\d/\d{4}\.png", line.split(",")[2]) for line in queried)
    before = Path("runs/image_folder/seed_0/rounds.jsonl").read_bytes()
    shutil.rmtree("cache")
    assert main([override for override in run if "cache" not in override]) == 0
    assert Path("runs/image_folder/seed_0/rounds.jsonl").read_bytes() == before


@pytest.mark.slow
def test_the_whole_default_run_learns_digits_from_files(working_directory: Path) -> None:
    make_digits(working_directory / "digits")
    assert main(DIGITS) == 0
    records = read_records(Path("runs/image_folder/seed_0"))
    assert [record.labels for record in records] == [10, 20, 30, 40]
    assert records[-1].test_accuracy_ema > 0.6


def test_a_run_goes_on_only_with_the_same_images_and_classes(photos: list[Path], said: Callable[..., str]) -> None:
    run = ["data=image_folder", "data.root=photos", "data.source.test_root=photos_test", "data.num_classes=2", *SHORT]
    assert main(run) == 0
    more = [*run, "rounds=2"]

    photos[3].rename(photos[3].with_name("99.jpg"))
    assert "the pool lacks 1 of the images that the round under way has in it, such as dent/03.jpg" in said(*more)
    photos[3].with_name("99.jpg").rename(photos[3])

    error = said(*more, "data.source.class_names=[ok,dent]")
    assert "data.source.class_names=[ok, dent]: the run's classes are dent, ok, but ok, dent were asked for" in error

    photograph(999).save(photos[3].with_name("99.jpg"))  # which waits until a round ends by asking people
    assert main(more) == 0
    run_dir = RunDirectory(Path("runs/image_folder/seed_0"))
    sizes = [len(run_dir.load_tensors(number, "pool.pt")["labels"]) for number in range(3)]
    assert sizes == [40, 40, 40]


def test_a_sweep_skips_what_is_finished_without_looking_at_its_images(
    photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["-m", "data=image_folder", "data.root=photos", "data.num_classes=2", "seed=0,1", *SHORT, "rounds=0"]
    assert main(sweep) == 0
    for path in photos:
        path.unlink()
    capsys.readouterr()
    assert main(sweep) == 0
    assert capsys.readouterr().out.count("finished before, skipped") == 2


def test_statistics_that_are_given_stay(photos: list[Path]) -> None:
    given = ["data.mean=[0.5,0.4,0.3]", "data.std=[0.1,0.2,0.3]"]
    assert main(["data=image_folder", "data.root=photos", "data.num_classes=2", *given, *SHORT]) == 0
    data = config_of("image_folder")["data"]
    assert (data["mean"], data["std"]) == ([0.5, 0.4, 0.3], [0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "data.num_classes=???: has no value yet; give it with data.num_classes=VALUE"),
        (["data.num_classes=3"], "must be what image_folder has once loaded, data.num_classes=2: dent, ok"),
        (["data.num_classes=2", "data.root=phtos"], "phtos must be a directory of images; there is no such directory"),
        (
            ["data.num_classes=2", "data.mean=[0.5]"],
            "data.mean=[0.5]: must hold data.channels=3 numbers, one for each channel",
        ),
        (["data.num_classes=2", "data.source.resize=fit"], "resize must be one of crop, squash; got 'fit'"),
        (["data.num_classes=2", "initial_labels=99"], "initial_labels=99: must be at most "),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    photos: list[Path], said: Callable[..., str], overrides: list[str], message: str
) -> None:
    error = said("data=image_folder", "data.root=photos", *SHORT, *overrides)
    assert message in error
    assert error.count("\n") == 1
    assert not Path("runs").exists()


def test_a_folder_of_one_class_is_refused_before_it_is_trained_on(photos: list[Path], said: Callable[..., str]) -> None:
    shutil.copytree(photos[0].parent, Path("one") / photos[0].parent.name)
    error = said("data=image_folder", "data.root=one", "data.num_classes=2", "hold_out=2", *SHORT)
    assert error == (
        f"error: data.num_classes=2: must be at least 2, but image_folder has once loaded one class alone, "
        f"{photos[0].parent.name}; add images of another\n"
    )


def test_images_that_cannot_be_decoded_can_be_left_out(photos: list[Path], said: Callable[..., str]) -> None:
    run = ["data=image_folder", "data.root=photos", "data.source.test_root=photos_test", "data.num_classes=2", *SHORT]
    photos[7].write_bytes(photos[7].read_bytes()[:700])
    assert f"1 of the pool's 40 images cannot be decoded: {photos[7].relative_to(Path.cwd())} (" in said(*run)
    assert main([*run, "data.unreadable=exclude"]) == 0


def test_a_check_of_a_pool_without_labels_says_who_must_label(
    photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code = check_main(["data=folder", "data.root=new", "data.source.test_root=photos", "data.num_classes=2", *SHORT])
    printed = capsys.readouterr().out
    assert code == 1
    assert "folder: 40 images in the pool, 40 in the test set, 2 classes (dent, ok), 3 × 64 × 64" in printed
    assert "labels must be known for the whole pool, but 40 of its 40 samples have none; label them, or" in printed
