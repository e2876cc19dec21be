"""From a folder of images that nobody has labelled to a classifier: by hand in a real browser, and by the document."""

from __future__ import annotations

import gzip
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import sklearn.datasets
import torch
import yaml  # type: ignore[import-untyped]
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from playwright.sync_api import Page as Tab

from assl_lightning.base.run_files import LEDGER
from assl_lightning.check.__main__ import main as check_main
from assl_lightning.commands import messages
from assl_lightning.commands.classes import main as classes_main
from assl_lightning.commands.ingest import main as ingest_main
from assl_lightning.commands.label import main as label_main
from assl_lightning.commands.predict import main as predict_main
from assl_lightning.commands.status import main as status_main
from assl_lightning.commands.train import main
from assl_lightning.config.classifier import load_classifier
from assl_lightning.config.schema import Config
from assl_lightning.data.answers import Answer
from assl_lightning.data.pool import EXCLUDED, HELD_OUT, UNLABELLED
from assl_lightning.data.sample_names import read_samples
from assl_lightning.loop.class_history import read_history
from assl_lightning.loop.records import read_records
from assl_lightning.people.batch import find_batches, waiting_batch
from assl_lightning.people.ledger import Ledger
from assl_lightning.report.__main__ import main as report_main
from tests.people.page.test_browser import CHROMIUM, SANDBOX, current, sign_in, wait_until_saved

DEBIAN_FILES = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("ok", "dent", "scratch")  # the document's, for clothes and digits that are as easily told apart
OF_FASHION_MNIST = {1: "scratch", 8: "dent", 9: "ok"}
OF_DIGITS = {0: "ok", 1: "dent", 6: "scratch"}

SHORT = ["warm_up=none", "steps_per_round=2", "algorithm.batch_size=4", "algorithm.mu=1", "trainer.accelerator=cpu"]
PATH = Path(__file__).parents[1] / "docs" / "label_your_own.md"
DOCUMENT = PATH.read_text(encoding="utf-8")

COMMANDS = re.findall(r"^python -m (assl_lightning\S*) (.+)$", DOCUMENT, re.MULTILINE)
THE_COMMAND = next(words for module, words in COMMANDS if module == "assl_lightning")
(YAML,) = re.findall(r"```yaml\n(.+?)```", DOCUMENT, re.DOTALL)
(PYTHON,) = re.findall(r"```python\n(.+?)```", DOCUMENT, re.DOTALL)

Truth = dict[str, str]  # sample id → class


def write_images(root: Path, first: int, count: int) -> Truth:
    """PNGs of three classes in two directories, from the `first` image on, and what they show."""
    images, labels, names = _fashion_mnist() if DEBIAN_FILES.is_dir() else _digits()
    places = [place for place, label in enumerate(labels.tolist()) if label in names][first : first + count]
    truth = {f"line-{1 + place % 2}/{place:05d}.png": names[labels[place]] for place in places}
    for name, place in zip(truth, places, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[place]).save(root / name)
    return truth


def _fashion_mnist() -> tuple[Any, Any, Mapping[int, str]]:
    def read(name: str, header: int) -> Any:
        return np.frombuffer(gzip.decompress((DEBIAN_FILES / name).read_bytes()), np.uint8, offset=header)

    images = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    return images, read("t10k-labels-idx1-ubyte.gz", 8), OF_FASHION_MNIST


def _digits() -> tuple[Any, Any, Mapping[int, str]]:
    digits = sklearn.datasets.load_digits()
    return (digits.images * 255 / 16).round().astype(np.uint8), digits.target, OF_DIGITS


@dataclass
class Place:
    """A fresh directory, a browser, and the commands that are typed there."""

    path: Path
    browser: Browser
    in_processes: bool  # of their own; otherwise in this one, which is faster
    caplog: pytest.LogCaptureFixture
    capsys: pytest.CaptureFixture[str]
    typed: Truth = field(default_factory=dict)  # what holds: a class, "skip" or "bad"

    def run(self, module: str, *arguments: str) -> str:
        """`python -m module arguments`, which must end well; what it printed."""
        if self.in_processes:
            command = [sys.executable, "-m", module, *arguments]
            ended = subprocess.run(command, cwd=self.path, capture_output=True, text=True, check=False, timeout=600)
            assert (ended.returncode, ended.stderr) == (0, ""), ended
            return ended.stdout
        self.caplog.clear()
        self.capsys.readouterr()
        code = MAINS[module](list(arguments))
        printed = self.capsys.readouterr()
        assert (code, printed.err) == (0, ""), printed
        return f"{self.caplog.text}{printed.out}"

    def label(self, run_dir: str, typist: Callable[[Tab], None]) -> str:
        """Serve the page, let somebody type, and end it from the keyboard; what the command printed."""
        command = [sys.executable, "-m", "assl_lightning.label", run_dir, "--no-browser", "--port", "0"]
        tab = self.browser.new_page(viewport={"width": 1280, "height": 800})
        tab.set_default_timeout(10_000)
        with subprocess.Popen(command, cwd=self.path, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                tab.goto(process.stdout.readline().removeprefix("open ").strip())
                sign_in(tab, "Ann")
                typist(tab)
                wait_until_saved(tab)
                finish(tab)
                printed = process.stdout.read()
                assert process.wait(20) == 0
            finally:
                tab.close()
                process.kill()
        return printed

    def type_answer(self, tab: Tab, answer: str) -> None:
        """One key, for the image that is shown."""
        self.typed[current(tab)] = answer
        tab.keyboard.press({"skip": "s", "bad": "x"}.get(answer) or str(1 + CLASSES.index(answer)))


MAINS: Mapping[str, Callable[[list[str]], int]] = {
    "assl_lightning": main,
    "assl_lightning.check": check_main,
    "assl_lightning.classes": classes_main,
    "assl_lightning.ingest": ingest_main,
    "assl_lightning.predict": predict_main,
    "assl_lightning.report": report_main,
    "assl_lightning.status": status_main,
}


def finish(tab: Tab) -> None:
    """The button that ends the page, from the keyboard."""
    for _ in range(40):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.id") == "finish":
            break
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#finished[open]")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=SANDBOX)
        yield one
        one.close()


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    return tmp_path


def labels_by_name(run_dir: Path, number: int) -> dict[str, tuple[int, int]]:
    """Sample id → its label, −1 where there is none, and since which round it is labelled, of `pool.pt`."""
    pool = torch.load(run_dir / f"round_{number:02d}" / "pool.pt", weights_only=True)
    names = read_samples(run_dir).pool
    return dict(zip(names, zip(pool["labels"].tolist(), pool["labelled_in_round"].tolist(), strict=True), strict=False))


def check_labels(run_dir: Path, number: int, typed: Truth, gone: str | None = None) -> None:
    """A round has the labels that were typed, by name, and no other."""
    for name, (label, since) in labels_by_name(run_dir, number).items():
        answer = typed.get(name)
        assert label == (CLASSES.index(answer) if answer in CLASSES else UNLABELLED), name
        assert since == HELD_OUT or (since == EXCLUDED) == (answer == "bad" or name == gone), name
        assert (since in (UNLABELLED, HELD_OUT)) or answer in (*CLASSES, "bad") or name == gone, name


IMAGES = "fashion_mnist" if DEBIAN_FILES.is_dir() else "digits"


@pytest.mark.e2e
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")
@pytest.mark.parametrize(
    ("in_processes", "initial"),
    [
        pytest.param(False, "kmeans_plus_plus", id=f"{IMAGES}-kmeans_plus_plus"),
        pytest.param(True, "random", id=f"{IMAGES}-random-in_processes", marks=pytest.mark.slow),
    ],
)
def test_an_unlabelled_folder_becomes_a_classifier_by_the_keys_that_people_press(
    working_directory: Path,
    browser: Browser,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    in_processes: bool,
    initial: Literal["random", "kmeans_plus_plus"],
) -> None:
    caplog.set_level("INFO", logger="assl_lightning")
    place = Place(working_directory, browser, in_processes, caplog, capsys)
    truth = write_images(Path("photos"), 0, 120)
    command = [
        *("data=folder", "data.root=photos", f"data.source.class_names=[{','.join(CLASSES)}]", "data.num_classes=3"),
        *("data.channels=1", "data.image_size=[28,28]", "oracle=page", "hold_out=12", "initial_labels=6"),
        *(f"initial_acquisition={initial}", "rounds=2", "labels_per_round=5", "warm_up=none", "steps_per_round=30"),
        *("algorithm.batch_size=8", "algorithm.mu=3", "network.width=8", "trainer.accelerator=cpu"),
    ]
    run_dir = Path("runs/folder/seed_0")

    assert "0 of the 18 images in runs/folder/seed_0/round_00/to_label" in place.run("assl_lightning", *command)
    assert read_records(run_dir) == []
    before = read_samples(run_dir).pool
    assert before == tuple(sorted(truth))

    def label_first(tab: Tab) -> None:
        for answer in ("skip", "bad"):
            place.type_answer(tab, answer)
        for _ in range(2):  # of two mistakes one is seen, and undone
            place.type_answer(tab, next(name for name in CLASSES if name != truth[current(tab)]))
        tab.keyboard.press("u")
        undone, _ = place.typed.popitem()
        assert current(tab) == undone
        label_rest(tab)

    def label_rest(tab: Tab) -> None:
        answered = set()  # now: an image that was skipped before may be asked for again
        while tab.is_disabled("#finish"):
            name = current(tab)
            assert name not in answered, "the page shows what has no answer yet, and then takes the end"
            answered.add(name)
            place.type_answer(tab, truth[name])
            wait_until_saved(tab)

    printed = place.label(str(run_dir), label_first)
    assert "answered: Ann 18 of 18" in printed
    assert len(place.typed) == 18

    assert "0 of the 5 images in runs/folder/seed_0/round_01/to_label" in place.run("assl_lightning", *command)
    check_labels(run_dir, 0, place.typed)
    held_out = [name for name, (_, since) in labels_by_name(run_dir, 0).items() if since == HELD_OUT]
    assert len(held_out) in (11, 12), "one may be a bad image"

    gone = next(name for name in truth if name not in place.typed and name not in asked(run_dir))
    (Path("photos") / gone).unlink()
    new = write_images(Path("photos"), 120, 6)
    truth |= new
    place.label(str(run_dir), label_rest)
    printed = place.run("assl_lightning", *command)
    assert "images that have come since: 6 (" in printed
    assert "images that are gone: 1 (" in printed
    names = read_samples(run_dir).pool
    assert names == (*before, *sorted(new)), "who was there keeps the index"
    check_labels(run_dir, 1, place.typed, gone)
    assert "waits for labels" in place.run("assl_lightning.status", str(run_dir))

    place.label(str(run_dir), label_rest)
    place.run("assl_lightning", *command)
    check_labels(run_dir, 2, place.typed, gone)
    records = read_records(run_dir)
    trained_on = [name for name, answer in place.typed.items() if answer in CLASSES and name not in held_out]
    assert [record.labels for record in records][-1] == len(trained_on)
    assert "finished" in place.run("assl_lightning.status", str(run_dir))

    classifier = load_classifier(run_dir)
    tested = [name for name in held_out if place.typed[name] in CLASSES]
    said = [name for name, _ in classifier.classify([Path("photos") / name for name in tested])]
    right = sum(one == place.typed[name] for one, name in zip(said, tested, strict=True))
    assert records[-1].test_accuracy_ema == pytest.approx(right / len(tested))

    place.run("assl_lightning.report", str(run_dir))
    told = (run_dir / "report" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"Test set: 12 images( \(.+ with a label\))? of the pool, drawn at random in round 0", told)
    assert "Labels by people" in told


def asked(run_dir: Path) -> set[str]:
    """Everything that was asked for so far."""
    return {sample.sample_id for batch in find_batches(run_dir) for sample in batch.samples}


# ---------------------------------------------------------------- the document


def answer_all(run_dir: Path, truth: Truth) -> None:
    """As if everything that is waited for had been labelled on the page."""
    batch = waiting_batch(run_dir)
    said = [
        Answer(one.sample_id, "label", "Ann", "page", batch.round, label=truth[one.sample_id]) for one in batch.samples
    ]
    Ledger(run_dir / LEDGER).append(said)


def write_table(run_dir: Path, truth: Truth, path: Path) -> None:
    """The batch that is waited for as a table that comes back."""
    lines = [f"{one.sample_id},{truth[one.sample_id]}" for one in waiting_batch(run_dir).samples]
    path.write_text("\n".join(["sample_id,label", *lines]))


def write_class_names(run_dir: Path) -> None:
    """Into the file, as the document says, where the run's classes have changed."""
    history, path = read_history(run_dir), Path("conf/experiment/castings.yaml")
    if history is not None:
        names = ", ".join(history.names())
        path.write_text(re.sub(r"class_names: \[.+\]", f"class_names: [{names}]", path.read_text()))


def save_weights(path: Path) -> None:
    """A network of timm for other classes, as it is published."""
    timm = pytest.importorskip("timm", reason="the package timm is not installed")
    safetensors = pytest.importorskip("safetensors.torch", reason="the package safetensors is not installed")
    safetensors.save_file(timm.create_model("mobilenetv3_small_050", num_classes=7).state_dict(), path)


@pytest.mark.e2e
def test_the_documents_commands_lead_from_a_folder_to_a_classifier(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = write_images(Path("photos"), 0, 200)
    write_images(Path("new"), 200, 4)
    Path("conf/experiment").mkdir(parents=True)
    Path("conf/experiment/castings.yaml").write_text(YAML)
    Path("labels.csv").write_text(
        "sample_id,label\n" + "".join(f"{name},{truth[name]}\n" for name in sorted(truth)[:9])
    )
    save_weights(Path("weights.safetensors"))
    run_dir = Path("runs/castings/seed_0")

    def type_in(module: str, arguments: str) -> str:
        words = shlex.split(arguments)
        if module == "assl_lightning.label":
            answer_all(run_dir, truth)
            assert label_main([*words, "--done", "--no-browser"]) == 0
            return capsys.readouterr().out
        if "thursday.csv" in words:
            write_table(run_dir, truth, Path("thursday.csv"))
        if "corrections.csv" in words:
            corrected = Ledger(run_dir / LEDGER).active_answers()[0].sample_id
            Path("corrections.csv").write_text(f"sample_id,label\n{corrected},{truth[corrected]}\n")
        if module == "assl_lightning.report":
            while len(read_records(run_dir)) < 4:
                assert main([*shlex.split(THE_COMMAND), *SHORT]) == 0
                if len(read_records(run_dir)) < 4:
                    answer_all(run_dir, truth)
        more = SHORT if module in ("assl_lightning", "assl_lightning.check") else []
        assert MAINS[module]([*words, *more]) == 0, capsys.readouterr()
        write_class_names(run_dir)
        return capsys.readouterr().out

    *_, reported, predicted = (type_in(*command) for command in COMMANDS)
    assert reported.endswith("report.html\n")
    assert "20 images without a label: runs/castings/seed_0/predictions.csv\n" in predicted
    assert [record.labels for record in read_records(run_dir)] == [30, 60, 90, 120]
    assert {path.name for path in Path("runs").iterdir()} == {"castings", "known", "pretrained"}

    exec(PYTHON, {})  # our own
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4, lines
    assert all(re.fullmatch(r"new/\S+\.png: (ok|dent|scratch|crack) \(\d+%\)", line) for line in lines), lines


def test_the_documents_figures_follow_from_its_file() -> None:
    content = yaml.safe_load(YAML)
    first, rounds, each = (
        content["hold_out"] + content["initial_labels"],
        content["rounds"],
        content["labels_per_round"],
    )
    assert f"{first} images to label first and {each} in each of {_SPELLED[rounds]} rounds" in DOCUMENT
    assert f"{first + rounds * each} in all" in DOCUMENT
    assert 3 * content["hold_out"] == first + rounds * each, "a third of the labels"
    for count in (content["hold_out"], 200):
        low, high = (f"{100 * bound:.0f}" for bound in wilson(0.9, count))
        assert f"{low} to {high} %" in DOCUMENT


_SPELLED = {3: "three"}


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    square = 1.96**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = 1.96 / (1 + square / count) * (share * (1 - share) / count + square / (4 * count**2)) ** 0.5
    return middle - half, middle + half


@pytest.mark.parametrize("override", re.findall(r"`([a-z_.]+(?:=|: )[a-z0-9_./]+)`", DOCUMENT))
def test_the_documents_keys_are_taken(compose_run: Callable[..., Config], override: str) -> None:
    known = [f"data.{key}={value}" for key, value in (("root", "photos"), ("num_classes", "3"))]
    compose_run("data=folder", "oracle=page", *known, override.replace(": ", "="))


def test_what_the_document_adds_to_its_file_is_taken(
    working_directory: Path, compose_run: Callable[..., Config]
) -> None:
    directory = Path("conf/experiment")
    directory.mkdir(parents=True)
    (directory / "castings.yaml").write_text(YAML + "\noracle:\n  conflicts: majority\n")
    config = compose_run(f"hydra.searchpath=[file://{directory.parent.resolve()}]", "+experiment=castings")
    assert config.oracle["conflicts"] == "majority"
    assert config.known_labels == "given"


def test_the_document_is_short_and_its_links_lead_somewhere() -> None:
    assert len(DOCUMENT.splitlines()) <= 190
    links = re.findall(r"\]\(([^)#]+)\)", DOCUMENT)
    assert links
    assert all((PATH.parent / link).exists() for link in links)
