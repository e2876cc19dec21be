from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from assl_lightning.data.contact_sheet import contact_sheet
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.records import RoundRecord
from assl_lightning.loop.round_log import RoundLog
from assl_lightning.loop.settings import RoundSettings
from assl_lightning.stopping import StopOnPlateau
from tests import small_runs
from tests.stripes import IMAGES

ACCURACY = "against_labels/test_accuracy_ema"
QUERIED = "against_labels/queried"


class Kept(DummyLogger):
    """A logger that takes images, and keeps what it gets."""

    def __init__(self, kept: list[tuple[str, Any, int | None]]) -> None:
        super().__init__()
        self.kept = kept

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.kept += [(name, value, step) for name, value in metrics.items()]

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        self.kept += [(key, image, step) for image in images]


def record_of(number: int, accuracy: float, balanced: float | None = None) -> RoundRecord:
    return RoundRecord(number, 10 * (1 + number), 100, 5, accuracy, accuracy - 0.25, balanced)


def test_tensorboard_has_one_curve_against_labels_and_the_queried_images(tmp_path: Path) -> None:
    sheet = contact_sheet(IMAGES[:3], columns=2)  # 16 × 16 pixels
    for number, pictures in enumerate((sheet, None)):  # each as in a process of its own
        log = RoundLog(lambda save_dir, id: TensorBoardLogger(save_dir, name="", version=""), tmp_path, "run")
        log.add(record_of(number, 0.5 + 0.25 * number, balanced=0.75), pictures)
    events = EventAccumulator(str(tmp_path / "against_labels"), size_guidance={"images": 0})
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars(ACCURACY)] == [(10, 0.5), (20, 0.75)]
    raw = events.Scalars("against_labels/test_accuracy_raw")
    assert [(event.step, event.value) for event in raw] == [(10, 0.25), (20, 0.5)]
    assert "against_labels/test_balanced_accuracy_ema" in events.Tags()["scalars"]
    assert "against_labels/test_balanced_accuracy_raw" not in events.Tags()["scalars"], "it is not known"
    (image,) = events.Images(QUERIED)
    assert image.step == 10
    with Image.open(io.BytesIO(image.encoded_image_string)) as found, Image.open(io.BytesIO(sheet)) as small:
        expected = small.convert("RGB").resize((96, 96), Image.Resampling.NEAREST)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_large_pictures_keep_their_size_and_a_logger_without_images_gets_none(tmp_path: Path) -> None:
    kept: list[tuple[str, Any, int | None]] = []
    sheet = contact_sheet(torch.zeros(2, 3, 60, 60, dtype=torch.uint8))
    RoundLog(lambda save_dir, id: Kept(kept), tmp_path, None).add(record_of(0, 0.5), sheet)
    assert kept[0] == (ACCURACY, 0.5, 10)
    name, image, step = kept[-1]
    assert (name, step, image.shape) == (QUERIED, 10, (60, 600, 3))
    RoundLog(lambda save_dir, id: CSVLogger(save_dir, name="", version=""), tmp_path, None).add(
        record_of(1, 0.5), sheet
    )
    assert (tmp_path / "against_labels" / "metrics.csv").read_text().count("\n") == 2
    RoundLog(None, tmp_path / "none", None).add(record_of(0, 0.5), sheet)
    assert not (tmp_path / "none").exists()


def test_a_logger_that_fails_is_named_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Unreachable(DummyLogger):
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            raise ConnectionError("no route to host\nand more")

    def refuse(save_dir: str, id: str | None) -> DummyLogger:
        raise OSError("no space left")

    RoundLog(lambda save_dir, id: Unreachable(), tmp_path, "run").add(record_of(2, 0.5))
    RoundLog(refuse, tmp_path, "run").add(record_of(3, 0.5))
    unreachable, full = caplog.messages
    assert unreachable == (
        "Unreachable could not log round 2 below against_labels, so that this point may be missing there "
        "(ConnectionError: no route to host); the run goes on"
    )
    assert full.startswith("the logger could not log round 3")


@pytest.mark.e2e
def test_a_run_logs_each_round_once_under_its_own_name(tmp_path: Path) -> None:
    kept: list[tuple[str, Any, int | None]] = []
    asked = []

    def make_logger(save_dir: str, id: str | None) -> Kept:
        asked.append((save_dir, id))
        return Kept(kept)

    settings = RoundSettings(rounds=2, initial_labels=4, labels_per_round=3, steps_per_round=2, weight_ema=0.8)
    records = small_runs.run(tmp_path / "run", settings=settings, make_round_logger=make_logger)
    curve = [(step, value) for name, value, step in kept if name == ACCURACY]
    assert curve == [(record.labels, record.test_accuracy_ema) for record in records]
    assert [step for name, _, step in kept if name == QUERIED] == [4, 7], "the last round asks for nothing"
    assert len(asked) == 3
    ((save_dir, run_id),) = set(asked)
    assert save_dir == str(tmp_path / "run" / "against_labels")
    assert run_id is not None
    assert run_id in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.e2e
def test_a_run_that_a_rule_ends_logs_its_last_round_and_each_query_after_its_state(tmp_path: Path) -> None:
    kept: list[tuple[str, Any, int | None]] = []
    states: list[str] = []

    def make_logger(save_dir: str, id: str | None) -> Kept:
        states.append(RunDirectory(tmp_path / "run").read_state(len(states))[0])
        return Kept(kept)

    settings = RoundSettings(rounds=2, initial_labels=4, labels_per_round=3, steps_per_round=2, weight_ema=0.8)
    rule = StopOnPlateau(min_gain=1.0, rounds=1)  # it ends the run at round 1
    small_runs.run(tmp_path / "run", settings=settings, stop=rule, make_round_logger=make_logger)
    assert [step for name, _, step in kept if name == ACCURACY] == [4, 7]
    assert states == ["waiting", "trained"]
