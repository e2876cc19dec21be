"""Runs whose images stay in files: as in memory to the last bit, with any number of workers, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assl_lightning.commands import messages
from assl_lightning.commands.train import main
from assl_lightning.data.image_stream import StreamedImages
from assl_lightning.learning.fixmatch import FixMatch
from tests.same_run import differences_of_runs

RUN = [
    *("data=image_folder", "data.root=photos", "data.num_classes=2", "data.image_size=[16,16]", "network.width=4"),
    *("rounds=1", "initial_labels=6", "labels_per_round=4", "algorithm.batch_size=4", "algorithm.mu=2"),
    *(
        "warm_up=none",
        "steps_per_round=6",
        "steps_per_epoch=3",
        "trainer.log_every_n_steps=2",
        "trainer.accelerator=cpu",
    ),
]
STREAM = ["data.source.images=stream", "data.num_workers=0"]
STREAM_BY_TWO = ["data.source.images=stream", "data.num_workers=2"]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # of a machine with a single core
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # Python >= 3.12
]


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eighty images of two classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    generator = np.random.default_rng(0)
    for number in range(80):
        path = tmp_path / "photos" / ("dent" if number % 2 else "ok") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(128 + 64 * (number % 2), size=(20, 18, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def run(name: str, *overrides: str) -> int:
    return main([*RUN, f"run_dir={name}", *overrides])


def test_a_run_is_the_same_with_images_in_memory_and_in_files_and_with_any_number_of_workers(photos: Path) -> None:
    (photos / "ok" / "10.png").write_bytes(b"nothing")
    query = ["acquisition=badge", "data.unreadable=exclude", "data.source.test_seed=1"]  # looks at the pool again
    query += ["warm_up=simclr", "warm_up.steps=3", "warm_up.batch_size=8"]
    for name, how in (("memory", []), ("alone", STREAM), ("by_two", [*STREAM_BY_TWO, "data.source.cache=cache"])):
        assert run(name, *query, *how) == 0
    for name in ("alone", "by_two"):
        assert list(differences_of_runs(Path("memory"), Path(name))) == []
    assert [path.suffix for path in Path("cache").iterdir()] == [".json"] * 2


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = FixMatch.training_step

    def training_step(self: FixMatch, batch: Any, batch_idx: int) -> Any:
        if batch["step"] == step:
            raise RuntimeError("stopped")
        return made(self, batch, batch_idx)

    monkeypatch.setattr(FixMatch, "training_step", training_step)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each decoding was of, in this process."""
    counts: list[int] = []
    decode = StreamedImages.__getitem__

    def spy(self: StreamedImages, index: torch.Tensor) -> torch.Tensor:
        counts.append(len(index))
        return decode(self, index)

    monkeypatch.setattr(StreamedImages, "__getitem__", spy)
    return counts


def test_a_run_that_was_stopped_goes_on_in_files_as_it_would_have_in_memory_and_decodes_nothing_twice(
    photos: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[int]
) -> None:
    run_it = ["rounds=0", "checkpoint.every_n_steps=1"]
    assert run("straight", *run_it) == 0
    assert decoded == []
    for step, how in ((1, STREAM), (5, STREAM_BY_TWO)):
        with monkeypatch.context() as patch:
            stop_at(step, patch)
            assert run("stopped", *run_it, *how) == 1
    decoded.clear()
    assert run("stopped", *run_it, *STREAM) == 0
    a_step = 4 + 2 * 4
    assert decoded.count(a_step) == 1, "the sixth"
    assert list(differences_of_runs(Path("straight"), Path("stopped"))) == []


def test_an_image_that_cannot_be_decoded_any_more_ends_the_run_with_its_name_and_the_run_goes_on_once_it_is_back(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    content = {path: path.read_bytes() for path in photos.rglob("*.png")}
    made = FixMatch.training_step

    def training_step(self: FixMatch, batch: Any, batch_idx: int) -> Any:
        if batch["step"] == 2:
            for path in content:
                path.write_bytes(b"nothing")
        return made(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(FixMatch, "training_step", training_step)
        assert run("run", "rounds=0", *STREAM_BY_TWO, "checkpoint.every_n_steps=1") == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1, error
    assert ".png (no image format that Pillow knows): an image that could be decoded when the run began" in error
    for path, kept in content.items():
        path.write_bytes(kept)
    assert run("run", "rounds=0", *STREAM_BY_TWO) == 0
    assert run("straight", "rounds=0") == 0
    assert list(differences_of_runs(Path("straight"), Path("run"))) == []


def children(process: int) -> Iterator[int]:
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                parent = (directory / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue  # it has ended meanwhile
            if int(parent) == process:
                yield int(directory.name)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell whose child a process is")
def test_a_worker_that_is_killed_ends_the_run_in_a_sentence_and_the_same_command_goes_on(photos: Path) -> None:
    command = [*RUN, *STREAM_BY_TWO, "rounds=0", "steps_per_round=200", "steps_per_epoch=null"]
    command += ["checkpoint.every_n_steps=50", "run_dir=killed"]
    process = subprocess.Popen(
        [sys.executable, "-m", "assl_lightning", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    resume = Path("killed") / "round_00" / "resume"
    while process.poll() is None and not list(resume.glob("*.ckpt")):
        time.sleep(0.005)
    workers = [child for child in children(process.pid) if os.getpgid(child) == child]
    assert len(workers) == 2, process.communicate()
    os.kill(workers[0], signal.SIGKILL)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert error.count("\n") == 1, error
    assert error.startswith(
        f"error: a process that decodes images was lost (process {workers[0]} by SIGKILL); the same command goes on "
        f"from the last checkpoint"
    )
    assert list(resume.glob("*.ckpt"))

    assert main(command) == 0
    assert main([*command, "run_dir=straight", "data.source.images=memory"]) == 0
    assert list(differences_of_runs(Path("straight"), Path("killed"))) == []
