"""Folders whose images come, go and break while people label what a run on them asks for, from the command line."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assl_lightning.commands import messages
from assl_lightning.commands.status import read_status
from assl_lightning.commands.train import main
from assl_lightning.data.sample_names import read_samples
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.records import read_config, read_records
from assl_lightning.loop.training import RoundTraining
from assl_lightning.people.batch import LabelBatch, find_batches

pytestmark = pytest.mark.e2e

RUN = (
    *("data=folder", "data.root=photos", "oracle=file", "run_dir=run", "network=small_cnn", "network.width=4"),
    *("data.channels=1", "data.image_size=[8,8]", "data.num_classes=2", "data.source.class_names=[dark,light]"),
    *(
        "rounds=2",
        "initial_labels=4",
        "labels_per_round=3",
        "hold_out=4",
        "warm_up=none",
        "steps_per_round=3",
        "steps_per_epoch=3",
    ),
    *("algorithm.batch_size=2", "algorithm.mu=2", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1"),
    *("data.unreadable=exclude", "algorithm.weight_ema=0.8"),
)
TIMEOUT = 120  # seconds, of a command that takes ten


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty images in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    for number in range(30):
        draw(number)
    return tmp_path / "photos"


def name_of(number: int) -> str:
    """So that the order of the names is not that of the numbers."""
    return f"{number * 37 % 100:02d}.png"


def draw(number: int) -> Path:
    """An even number is dark; each image is another."""
    pixels = np.random.default_rng(number).integers(0, 40, (8, 8)) + (number % 2) * 150
    path = Path("photos", name_of(number))
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


CLASS_OF = {name_of(number): ("dark", "light")[number % 2] for number in range(100)}


def label(skipped: int = 0) -> LabelBatch:
    """Write labels.csv beside the newest batch, each image by what it shows; the first ones are skipped."""
    batch = find_batches(Path("run"))[-1]
    with (batch.directory / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_id", "label", "status"])
        for place, sample in enumerate(batch.samples):
            with Image.open(batch.image_path(sample)) as image:
                shown = ("dark", "light")[int(np.asarray(image).mean() > 100)]
            assert shown == CLASS_OF[sample.sample_id], "the image of another sample"
            writer.writerow([sample.sample_id, *(["", "skip"] if place < skipped else [shown, ""])])
    return batch


def call(*overrides: str) -> None:
    """One call, in this process."""
    assert main([*RUN, *overrides]) == 0


def pool_of(number: int) -> dict[str, torch.Tensor]:
    return RunDirectory(Path("run")).load_tensors(number, "pool.pt")


def finish(*overrides: str, rounds: int = 2) -> None:
    """Label and call until the run has ended; then look at what it has learned from."""
    for _ in range(10):
        if len(read_records(Path("run"))) == rounds + 1:
            break
        label()
        call(*overrides)
    names = read_samples(Path("run")).pool
    state = pool_of(rounds)
    for index, found in enumerate(state["labels"].tolist()):
        assert found < 0 or ("dark", "light")[found] == CLASS_OF[names[index]]
    asked = [sample.sample_id for batch in find_batches(Path("run")) for sample in batch.samples]
    assert len(set(asked)) == len(asked), "nobody skipped, so that nothing is asked twice"
    assert len(read_records(Path("run"))) == rounds + 1


class Killed(BaseException):
    pass


@pytest.fixture
def killed_in_training(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A call that dies in its next training."""

    def dies(*overrides: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(RoundTraining, "_fit", lambda *_: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                main([*RUN, *overrides])

    return dies


VARIANTS = {
    "as it is": (),
    "statistics that go on": ("acquisition=assl", "score.reset=false", "acquisition.unvisited=random"),
    "weights that go on": ("init=continue", "continue_from=ema"),
    "streamed": ("data.source.images=stream",),
}


FAST = "statistics that go on"


@pytest.mark.parametrize("name", [n if n == FAST else pytest.param(n, marks=pytest.mark.slow) for n in VARIANTS])
def test_images_come_go_and_break_between_the_rounds_and_a_killed_round_goes_on(
    killed_in_training: Any, photos: Path, name: str
) -> None:
    variant = VARIANTS[name]
    call(*variant)
    asked = label()
    new = draw(40)
    draw(3).unlink()
    killed_in_training(*variant)  # in round 0, which was asked for while one came and one went
    draw(41)
    size = len(pool_of(0)["labels"])
    assert size == 31
    call(*variant)
    assert len(pool_of(0)["labels"]) == size
    label()
    lost, broken = (photos / sample.sample_id for sample in asked.samples[4:6])
    lost.unlink()
    content = broken.read_bytes()
    broken.write_bytes(content[:40])
    (photos / new.name).rename(photos / name_of(42))
    killed_in_training(*variant)
    names, state = read_samples(Path("run")).pool, pool_of(1)
    assert set(names[30:]) == {name_of(number) for number in (40, 41, 42)}
    out = {names[index] for index in (state["labelled_in_round"] == -2).nonzero()[:, 0].tolist()}
    assert out == {lost.name, broken.name, new.name, name_of(3)}
    call(*variant)
    broken.write_bytes(content)  # mended, and its label is known
    finish(*variant)
    since = pool_of(2)["labelled_in_round"]
    assert since[names.index(broken.name)] == 2
    assert since[names.index(lost.name)] == -2
    config = read_config(Path("run"))
    assert len(config["data"]["mean"]) == 1


def test_a_run_among_its_own_images_asks_for_none_of_the_pictures_that_it_writes(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    call("data.root=.")
    assert sorted(path.suffix for path in Path("run").rglob("*.png"))
    finish("data.root=.")
    assert set(read_samples(Path("run")).pool) == {name_of(number) for number in range(30)}


def test_a_run_that_was_finished_with_people_goes_on_with_images_that_came_since(photos: Path) -> None:
    call("rounds=1")
    finish("rounds=1", rounds=1)
    draw(50)
    call("rounds=2")  # asks after the last round
    assert len(find_batches(Path("run"))) == 3
    status = read_status(Path("run"))
    assert "  round      2 of 2: waits for labels" in status.lines()
    assert [record.round for record in status.records] == [0, 1]
    draw(51)
    Path("photos", name_of(4)).unlink()
    finish("rounds=2")
    assert [record.round for record in read_records(Path("run"))] == [0, 1, 2]
    assert all(len(record.queried) == 3 for record in read_records(Path("run"))[:2])
    assert {name_of(50), name_of(51)} <= set(read_samples(Path("run")).pool)


def test_a_run_that_has_begun_does_with_fewer_images_and_with_one_that_was_mended(photos: Path) -> None:
    content = (photos / name_of(7)).read_bytes()
    (photos / name_of(7)).write_bytes(content[:40])
    call()
    mean = read_config(Path("run"))["data"]["mean"]
    asked = {sample.sample_id for sample in label().samples}
    call()
    (photos / name_of(7)).write_bytes(content)
    names = [path.name for path in sorted(photos.iterdir()) if path.name not in asked]
    for name in names[:-4]:  # of those, three are asked for now and one later
        (photos / name).unlink()
    label()
    call()
    assert read_config(Path("run"))["data"]["mean"] == mean
    assert pool_of(1)["labelled_in_round"][read_samples(Path("run")).pool.index(name_of(7))] == -2


def test_what_is_known_of_images_that_come_is_known_when_they_join(photos: Path) -> None:
    labels = Path("labels.csv")
    known = ("data.source.labels=labels.csv", "initial_labels=0")
    labels.write_text(f"sample_id,label\n{name_of(0)},dark\n{name_of(1)},light\n")
    call(*known)
    label()
    call(*known)
    draw(60)
    with labels.open("a") as file:
        file.write(f"{name_of(60)},dark\n")
    finish(*known)
    state = pool_of(1)
    index = read_samples(Path("run")).pool.index(name_of(60))
    assert (int(state["labelled_in_round"][index]), int(state["labels"][index])) == (1, 0)


def environment() -> dict[str, str]:
    ours = {key: value for key, value in os.environ.items() if not key.endswith("RANK") and key != "WORLD_SIZE"}
    return ours | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def start(*overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "assl_lightning", *RUN, *overrides]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_two_processes_ask_once_wait_together_and_go_on(photos: Path) -> None:
    ddp = ("trainer.devices=2", "trainer.strategy=ddp", "checkpoint.every_n_steps=1")

    def go_on() -> str:
        process = start(*ddp)
        output, errors = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, errors) == (0, "")
        return output

    assert go_on().count("waiting for labels") == 1
    label()
    assert go_on().count("waiting for labels") == 1  # both have trained, and end
    asked = label()
    (photos / asked.samples[0].sample_id).unlink()
    draw(70)
    process = start(*ddp)
    until = time.monotonic() + TIMEOUT
    while not any(Path("run/round_01/resume").glob("*.ckpt")) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=TIMEOUT)
    go_on()
    label()
    go_on()
    assert len(read_records(Path("run"))) == 3


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_an_error_of_the_one_process_that_asks_ends_both(photos: Path) -> None:
    ddp = ("trainer.devices=2", "trainer.strategy=ddp")
    start(*ddp).communicate(timeout=TIMEOUT)
    label()
    Path("run/round_01").mkdir(parents=True)
    Path("run/round_01/to_label").mkdir()  # without what a batch has
    process = start(*ddp)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, errors
    assert "must hold a batch to label" in errors
    assert len(errors.splitlines()) == 1, errors
