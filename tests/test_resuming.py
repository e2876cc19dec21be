"""A run that is stopped anywhere and started again is the same run, to the last bit."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import OmegaConf
from torch import Tensor, nn

from assl_lightning import FixMatch
from assl_lightning.acquisition.badge import BADGE
from assl_lightning.acquisition.coreset import CoreSet
from assl_lightning.base.command_line import line_of
from assl_lightning.base.interruption import Interrupted
from assl_lightning.data.pool import Answers
from assl_lightning.learning.checkpointing import StepCheckpoints
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.flexmatch import FlexMatch
from assl_lightning.learning.simclr import SimCLR
from assl_lightning.learning.softmatch import SoftMatch
from assl_lightning.learning.supervised import Supervised
from assl_lightning.loop import CheckpointSettings, RoundSettings, ScoreSettings, slurm
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.oracles import HeldBackLabels, LabelRequest, Oracle
from assl_lightning.loop.records import read_records
from assl_lightning.method.assl import ASSL
from assl_lightning.method.assl_div import ASSLDiv
from assl_lightning.method.candidates import Acquisition, Candidates, Selection
from assl_lightning.method.features import SampleFeatures
from assl_lightning.method.herding import Herding
from assl_lightning.networks.small import SmallCNN
from tests import small_runs
from tests.damage import flip_a_bit
from tests.same_run import differences_of_runs
from tests.stripes import LABELS, POOL_SIZE, SGD
from tests.unprivileged import read_only

pytestmark = pytest.mark.e2e  # it makes whole runs, over and over

SETTINGS = RoundSettings(
    rounds=1,
    initial_labels=6,
    labels_per_round=3,
    steps_per_round=9,
    steps_per_epoch=3,
    weight_ema=0.8,
    checkpoint=CheckpointSettings(every_n_steps=2),
)


class WithDropout(SmallCNN):
    """Draws from the default generators."""

    def __init__(self) -> None:
        super().__init__(3, width=4)
        self.drop = nn.Dropout(0.3)

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.drop(super().features(images))
        return features


class Stopped(Exception):
    pass


def number_of_round(trainer: Any) -> int | None:
    """Return the number of the round that trains; None in a warm-up."""
    return trainer.datamodule.round_number if isinstance(trainer.datamodule, PoolDataModule) else None


class StopAt(Callback):
    """Ends the fit, as a kill would, in the middle of a certain step of a certain round."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step

    def on_before_backward(self, trainer: Any, module: Any, loss: Tensor) -> None:
        if (number_of_round(trainer), trainer.global_step) == (self.number, self.step):
            raise Stopped


run = functools.partial(small_runs.run, settings=SETTINGS, make_network=WithDropout)


def assert_same_run(one: Path, other: Path) -> None:
    assert list(differences_of_runs(one, other)) == []


KINDS: dict[str, dict[str, Any]] = {
    "assl": {},
    "continue": {"settings": replace(SETTINGS, init="continue")},
    "statistics that go on": {"settings": replace(SETTINGS, score=ScoreSettings(reset=False))},
    "kept features": {
        "settings": replace(SETTINGS, acquisition_features="training"),
        "acquisition": ASSLDiv(),
    },
    "kept features of labelled samples": {
        "settings": replace(SETTINGS, acquisition_features="training"),
        "acquisition": CoreSet(),
    },
    "warm-up": {"make_warm_up": functools.partial(SimCLR, optimizer=SGD, steps=5, batch_size=8)},
    "answers of earlier queries": {
        "settings": replace(SETTINGS, acquisition_features="training"),
        "acquisition": Herding(trust="audited", class_quota=0.5),
    },
    "running averages that go on": {
        "settings": replace(SETTINGS, init="continue"),
        "make_algorithm": lambda network: SoftMatch(network, optimizer=SGD),
    },
    "classes of samples that go on": {
        "settings": replace(SETTINGS, init="continue"),
        "make_algorithm": lambda network: FlexMatch(network, optimizer=SGD, threshold=0.5),
    },
    "raw weights alone, one epoch": {"settings": replace(SETTINGS, weight_ema=None, steps_per_epoch=None)},
    "supervised": {
        "make_algorithm": lambda network: Supervised(network, optimizer=SGD, stop_at_train_accuracy=0.9),
        "acquisition": BADGE(),
        "data": {"mu": 0, "labelled_stream": "passes", "labelled_view": "weak"},
    },
}


class Diverging(FixMatch):
    """One loss that is not finite, in a round of 10 labels."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        outputs = super().training_step(batch, batch_idx)
        if batch["step"] == 5:
            outputs["loss"] = outputs["loss"] * torch.inf
        return outputs


def diverging(network: Any) -> FixMatch:
    return Diverging(network, optimizer=SGD, threshold=0.6)


OTHERS: dict[str, dict[str, Any]] = {
    "two rounds": {"settings": replace(SETTINGS, rounds=2)},
    "two rounds, continue": {"settings": replace(SETTINGS, rounds=2, init="continue")},
    "a step skipped": {"make_algorithm": diverging, "settings": replace(SETTINGS, non_finite="skip")},
}


Straight = Callable[..., Path]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """Return a function of a kind of run: the directory of one that nothing disturbed, which is made once."""

    @functools.cache
    def make(kind: str = "assl") -> Path:
        path = tmp_path_factory.mktemp("straight") / "run"
        run(path, **(KINDS | OTHERS)[kind])
        return path

    return make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("number", "step"), [(0, 5), (1, 6)])
def test_a_run_that_is_stopped_within_a_round_goes_on_from_its_checkpoint(
    straight: Straight, tmp_path: Path, kind: str, number: int, step: int
) -> None:
    path, keywords = straight(kind), KINDS[kind]
    steps: list[int] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            if number_of_round(trainer) == number:
                steps.append(trainer.global_step)

    if read_records(path)[number].steps <= step:
        pytest.skip("this algorithm has learned before that step")
    with pytest.raises(Stopped):
        run(tmp_path / "run", StopAt(number, step), **keywords)
    run(tmp_path / "run", Watch(), **keywords)
    assert steps[0] == step // 2 * 2, "from the last checkpoint, of every second step"
    assert_same_run(path, tmp_path / "run")


def test_a_run_may_be_stopped_again_and_again(straight: Straight, tmp_path: Path) -> None:
    settings = replace(SETTINGS, checkpoint=CheckpointSettings(every_n_steps=1))
    for number in (0, 1):
        for step in range(9):
            with pytest.raises(Stopped):
                run(tmp_path / "run", StopAt(number, step), settings=settings)
    run(tmp_path / "run", settings=settings)
    assert_same_run(straight(), tmp_path / "run")


def test_whatever_a_callback_logs_is_written_again_as_it_was(tmp_path: Path) -> None:
    class Log(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            values = {
                "phase": 'warm, "up"',
                "on": True,
                "small": 1e-7,
                "zero": -0.0,
                "none": float("nan"),
                "large": 10**20,
            }
            trainer.logger.log_metrics(values, step=trainer.global_step)

    run(tmp_path / "straight", Log())
    with pytest.raises(Stopped):
        run(tmp_path / "run", Log(), StopAt(0, 5))
    run(tmp_path / "run", Log())
    assert_same_run(tmp_path / "straight", tmp_path / "run")


def stopping(acquisition: Acquisition) -> Acquisition:
    """Like `acquisition`, but for that its query never ends."""

    class Stopping(Acquisition):
        requires = acquisition.requires

        def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
            raise Stopped

    return Stopping()


@pytest.mark.parametrize(
    "kind", ["assl", "continue", "kept features", "kept features of labelled samples", "supervised"]
)
def test_a_run_that_is_stopped_in_its_query_does_not_train_again(straight: Straight, tmp_path: Path, kind: str) -> None:
    keywords = KINDS[kind]
    with pytest.raises(Stopped):
        run(tmp_path / "run", **(keywords | {"acquisition": stopping(keywords.get("acquisition", ASSL()))}))
    assert json.loads((tmp_path / "run" / "round_00" / "state.json").read_text())["state"] == "trained"
    assert not (tmp_path / "run" / "round_00" / "resume").exists()
    run(tmp_path / "run", StopAt(0, 0), **keywords)  # which would stop a training of round 0
    assert_same_run(straight(kind), tmp_path / "run")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "supervised"])
def test_on_a_gpu_it_is_the_same_run_in_deterministic_mode(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_deterministic_mode(tmp_path, KINDS[kind], monkeypatch, "gpu")


@pytest.mark.parametrize("stop", [StopAt(0, 5), None])
def test_a_run_whose_checkpoints_have_no_features_of_labelled_samples_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: StopAt | None
) -> None:
    """As those of before there were any: in the middle of a training, or before its query."""

    class Earlier(FixMatch):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            outputs = super().training_step(batch, batch_idx)
            return {name: value for name, value in outputs.items() if "labelled" not in name}

    def of_earlier(self: SampleFeatures) -> dict[str, Any]:
        return {name: value for name, value in state_dict(self).items() if name != "seen"}

    state_dict = SampleFeatures.state_dict
    keywords = KINDS["kept features of labelled samples"]
    earlier = {
        "settings": keywords["settings"],
        "make_algorithm": lambda network: Earlier(network, optimizer=SGD, threshold=0.6),
        "acquisition": stopping(keywords["acquisition"]),
    }
    with monkeypatch.context() as patch:
        patch.setattr(SampleFeatures, "state_dict", of_earlier)
        with pytest.raises(Stopped):
            run(tmp_path / "run", *([stop] if stop else []), **earlier)
    records = run(tmp_path / "run", **keywords)
    assert [len(record.queried) for record in records] == [3, 0]


def test_deterministic_mode_changes_nothing_of_this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_deterministic_mode(tmp_path, KINDS["kept features"], monkeypatch, "cpu")


def check_deterministic_mode(
    tmp_path: Path, keywords: dict[str, Any], monkeypatch: pytest.MonkeyPatch, accelerator: str
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without which matrix products on a GPU vary

    make_trainer = functools.partial(small_runs.make_trainer, accelerator=accelerator, devices=1, deterministic=True)
    try:
        run(tmp_path / "straight", **(keywords | {"make_trainer": make_trainer}))
        for number, step in ((0, 5), (1, 7)):
            stopped = functools.partial(make_trainer, StopAt(number, step))
            with pytest.raises(Stopped):
                run(tmp_path / "run", **(keywords | {"make_trainer": stopped}))
        run(tmp_path / "run", **(keywords | {"make_trainer": make_trainer}))
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same_run(tmp_path / "straight", tmp_path / "run")


def test_a_model_checkpoint_of_ones_own_keeps_its_files(tmp_path: Path) -> None:
    def make_trainer(**keywords: Any) -> Trainer:
        return small_runs.make_trainer(ModelCheckpoint(filename="step_{step}", save_top_k=-1), **keywords)

    with pytest.raises(Stopped):
        run(tmp_path / "run", make_trainer=make_trainer, acquisition=stopping(ASSL()))
    run(tmp_path / "run", make_trainer=make_trainer)
    for number in ("round_00", "round_01"):
        kept = sorted(path.name for path in (tmp_path / "run" / number / "checkpoints").iterdir())
        assert kept == ["step_step=3.ckpt", "step_step=6.ckpt", "step_step=9.ckpt"]


# ---- which checkpoint


def stopped_run(run_dir: Path) -> list[Path]:
    """Stopped at step 8 of round 0, after checkpoints at 2, 4, 6 and 8, of which the last two are there."""
    with pytest.raises(Stopped):
        run(run_dir, StopAt(0, 8))
    found = sorted((run_dir / "round_00" / "resume").iterdir())
    assert [path.name for path in found] == ["step_00000006.ckpt", "step_00000008.ckpt"]
    return found


def first_step_of(run_dir: Path) -> int:
    steps: list[int] = []

    class Watch(Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            steps.append(trainer.global_step)

    run(run_dir, Watch())
    return steps[0]


def torn(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path: Path, _: Path) -> None:
    path.write_bytes(b"")


def with_a_wrong_byte(path: Path, _: Path) -> None:
    flip_a_bit(path)


def of_another_run(path: Path, directory: Path) -> None:
    shutil.copy(stopped_run(directory / "other")[-1], path)


def of_another_version(path: Path, _: Path) -> None:
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["assl_lightning"]["format"] = 99
    torch.save(checkpoint, path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (torn, "is torn"),
        (empty, "is torn"),
        (with_a_wrong_byte, "checksum is wrong"),
        (of_another_run, "run_id"),
        (of_another_version, "'format': 99"),
    ],
)
def test_a_checkpoint_that_is_not_whole_or_not_of_this_run_is_told_and_the_one_before_is_used(
    straight: Straight,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path, Path], None],
    told: str,
) -> None:
    newest = stopped_run(tmp_path / "run")[-1]
    damage(newest, tmp_path)
    with caplog.at_level(logging.WARNING, "assl_lightning"):
        assert first_step_of(tmp_path / "run") == 6
    assert "step_00000008.ckpt is passed over" in caplog.text
    assert told in caplog.text
    assert_same_run(straight(), tmp_path / "run")


def test_checkpoints_that_were_passed_over_are_in_nobodys_way(straight: Straight, tmp_path: Path) -> None:
    settings = replace(SETTINGS, checkpoint=CheckpointSettings(every_n_steps=1))
    with pytest.raises(Stopped):
        run(tmp_path / "run", StopAt(0, 8), settings=settings)
    directory = tmp_path / "run" / "round_00" / "resume"
    for path in list(directory.iterdir()):
        torn(path, tmp_path)
    with pytest.raises(Stopped):
        run(tmp_path / "run", StopAt(0, 3), settings=settings)
    assert sorted(path.stem for path in directory.iterdir()) == ["step_00000002", "step_00000003"]
    run(tmp_path / "run", settings=settings)
    assert_same_run(straight(), tmp_path / "run")


def test_without_any_good_checkpoint_the_round_begins_anew(straight: Straight, tmp_path: Path) -> None:
    for path in stopped_run(tmp_path / "run"):
        torn(path, tmp_path)
    assert first_step_of(tmp_path / "run") == 0
    assert_same_run(straight(), tmp_path / "run")


def test_what_was_being_written_when_the_process_was_killed_is_swept_away(tmp_path: Path) -> None:
    stopped_run(tmp_path / "run")
    leftover = tmp_path / "run" / "round_00" / "resume" / ".step_00000009.ckpt.123.tmp"
    leftover.write_bytes(b"half")
    run(tmp_path / "run")
    assert not list(tmp_path.rglob("*.tmp"))


# ---- bad weather


def test_seconds_are_counted_by_a_clock_that_cannot_be_set(tmp_path: Path) -> None:
    seconds = iter(range(0, 1000, 4))
    saved: list[int] = []

    class Counting(StepCheckpoints):
        def __init__(self) -> None:
            super().__init__(self._path, every_n_seconds=10, clock=lambda: next(seconds))

        def _path(self, step: int) -> Path:  # asked for once a save
            saved.append(step)
            return tmp_path / f"{step}.ckpt"

    run(tmp_path / "run", Counting(), settings=replace(SETTINGS, rounds=0, checkpoint=CheckpointSettings(None, None)))
    assert saved == [3, 6], "four seconds a look, of which a save takes one more"
    assert StepCheckpoints(Path).clock is time.monotonic  # type: ignore[arg-type]


def test_the_newest_checkpoint_is_the_one_of_the_latest_step_whatever_the_clock_said(tmp_path: Path) -> None:
    older, newer = stopped_run(tmp_path / "run")
    os.utime(newer, (0, 0))
    os.utime(older, (4e9, 4e9))
    assert first_step_of(tmp_path / "run") == 8


def test_a_full_disk_ends_the_run_with_the_file_and_keeps_what_there_was(straight: Straight, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Full(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 6:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    try:
        with pytest.raises(OSError, match=r"File too large: .*step_00000006\.ckpt") as caught:
            run(tmp_path / "run", Full())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "make room and give the same command again, which goes on" in line_of(caught.value)
    assert sorted(path.name for path in (tmp_path / "run").rglob("*.ckpt")) == [
        "step_00000002.ckpt",
        "step_00000004.ckpt",
    ]
    assert not list(tmp_path.rglob("*.tmp"))
    run(tmp_path / "run")
    assert_same_run(straight(), tmp_path / "run")


def test_a_directory_that_cannot_be_written_is_named(shared_directory: Path) -> None:
    run_dir = shared_directory / "run"
    run_dir.mkdir()
    with read_only(run_dir), pytest.raises(ValueError, match=rf"^run_dir {run_dir} cannot be written; choose another"):
        RunDirectory(run_dir).open({"seed": 0})
    assert not list(run_dir.iterdir())


def test_a_loss_that_is_not_finite_ends_the_run_and_no_checkpoint_holds_what_came_of_it(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(FloatingPointError, match=r"the loss of step 5 of round 0 .* \(labelled samples "):
            run(tmp_path / "run", make_algorithm=diverging)
        assert sorted(path.stem for path in tmp_path.rglob("*.ckpt")) == ["step_00000002", "step_00000004"]


def test_a_run_that_a_loss_has_stopped_goes_on_without_such_steps(straight: Straight, tmp_path: Path) -> None:
    settings = replace(SETTINGS, non_finite="skip")
    with pytest.raises(FloatingPointError):
        run(tmp_path / "run", make_algorithm=diverging)
    run(tmp_path / "run", make_algorithm=diverging, settings=settings)
    assert_same_run(straight("a step skipped"), tmp_path / "run")
    history = OmegaConf.load(tmp_path / "run" / "config.yaml").history
    assert list(history.changes[0].changes) == ["non_finite was 'stop', now 'skip'"]


def test_an_algorithm_whose_checkpoints_could_not_be_read_is_told_at_the_first_one(tmp_path: Path) -> None:
    class Remembering(FixMatch):
        def __init__(self, network: Any) -> None:
            super().__init__(network, optimizer=SGD, threshold=0.6)
            self.save_hyperparameters(ignore="network")
            self.hparams["optimizer"] = SGD

    with pytest.raises(ValueError, match=r"step_00000002\.ckpt cannot be read: .*; keep what is no tensor"):
        run(tmp_path / "run", make_algorithm=Remembering)


def test_a_step_that_was_skipped_is_counted_also_after_the_run_went_on(straight: Straight, tmp_path: Path) -> None:
    settings = replace(SETTINGS, non_finite="skip")
    records = read_records(straight("a step skipped"))
    assert [record.skipped_steps for record in records] == [1, 1]
    with pytest.raises(Stopped):
        run(tmp_path / "run", StopAt(0, 7), make_algorithm=diverging, settings=settings)
    run(tmp_path / "run", make_algorithm=diverging, settings=settings)
    assert_same_run(straight("a step skipped"), tmp_path / "run")


# ---- signals


class Raise(Callback):
    """Sends this process a signal in a certain step or test."""

    def __init__(self, signum: int, step: int, hook: str = "on_before_backward") -> None:
        self.signum, self.step = signum, step
        setattr(self, hook, self._raise)

    def _raise(self, trainer: Any, *_: Any) -> None:
        if trainer.datamodule.round_number == 0 and trainer.global_step == self.step:
            signal.raise_signal(self.signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("step", "hook", "saved", "resumed"),
    [
        (4, "on_before_backward", "step 5 is saved", 5),
        (5, "on_before_backward", "step 6 is saved", 6),  # an epoch's last: its test comes first
        (6, "on_validation_start", "step 6 is saved", 6),
        (4, "on_save_checkpoint", "step 5 is saved", 5),  # other ranks know of it from the next step on
    ],
)
def test_a_signal_saves_the_step_and_ends_the_run(
    straight: Straight, tmp_path: Path, signum: int, step: int, hook: str, saved: str, resumed: int
) -> None:
    settings = replace(SETTINGS, checkpoint=CheckpointSettings(4, None))
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match=saved) as caught:
        run(tmp_path / "run", Raise(signum, step, hook), settings=settings)
    assert caught.value.exit_code == 128 + signum
    assert signal.getsignal(signum) == before
    assert first_step_of(tmp_path / "run") == resumed
    assert_same_run(straight(), tmp_path / "run")


def test_a_signal_in_the_last_step_or_test_lets_the_round_be_kept(straight: Straight, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="round 0 is trained"):
        run(tmp_path / "run", Raise(signal.SIGTERM, 9, "on_validation_start"))
    run(tmp_path / "run", StopAt(0, 0))
    assert_same_run(straight(), tmp_path / "run")


def test_a_signal_in_the_last_round_s_last_test_ends_the_run_once_it_is_complete(tmp_path: Path) -> None:
    settings = replace(SETTINGS, rounds=0)
    with pytest.raises(Interrupted, match="terminated; all rounds are complete") as caught:
        run(tmp_path / "run", Raise(signal.SIGTERM, 9, "on_validation_start"), settings=settings)
    assert caught.value.exit_code == 143, "or the next job of a sweep would begin"
    assert len(read_records(tmp_path / "run")) == 1


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step_ends_the_run(straight: Straight, tmp_path: Path, signum: int) -> None:
    with pytest.raises(Interrupted, match="goes on from"):
        run(tmp_path / "run", Raise(signum, 0, "on_train_start"))
    run(tmp_path / "run")
    assert_same_run(straight(), tmp_path / "run")


def test_a_signal_outside_of_training_ends_the_run_at_once(tmp_path: Path) -> None:
    class Impatient(HeldBackLabels):
        def answer(self, request: LabelRequest) -> Answers:
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("the signal should have ended this")

    with pytest.raises(Interrupted, match="goes on from the last checkpoint"):
        run(tmp_path / "run", oracle=Impatient(LABELS[:POOL_SIZE]))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_is_lost_ends_the_run_before_the_next_round(tmp_path: Path) -> None:
    class Collected:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)  # what is raised in here goes no further

    class Collecting(HeldBackLabels):
        def answer(self, request: LabelRequest) -> Answers:
            Collected()
            return super().answer(request)

    with pytest.raises(Interrupted, match="goes on from the last complete round"):
        run(tmp_path / "run", oracle=Collecting(LABELS[:POOL_SIZE]))


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="interrupted; the same command goes on from the last checkpoint"):
        run(tmp_path / "run", Raise(signal.SIGINT, 4), Raise(signal.SIGINT, 4))
    assert sorted(path.name for path in tmp_path.rglob("step_*")) == ["step_00000002.ckpt", "step_00000004.ckpt"]


# ---- what may change


@pytest.mark.parametrize("init", ["rand", "continue"])
def test_a_finished_run_is_extended_by_more_rounds(straight: Straight, tmp_path: Path, init: Any) -> None:
    run(tmp_path / "run", settings=replace(SETTINGS, rounds=0, init=init))
    run(tmp_path / "run", StopAt(0, 0), settings=replace(SETTINGS, rounds=1, init=init))
    run(tmp_path / "run", settings=replace(SETTINGS, rounds=2, init=init))
    assert_same_run(straight("two rounds" if init == "rand" else "two rounds, continue"), tmp_path / "run")
    history = OmegaConf.load(tmp_path / "run" / "config.yaml").history.changes
    assert [list(note.changes) for note in history] == [["rounds was 0, now 1"], ["rounds was 1, now 2"]]
    assert [note.complete_rounds for note in history] == [1, 2]


@pytest.mark.parametrize("oracle_stops", [True, False])
def test_an_extension_may_be_stopped_too(straight: Straight, tmp_path: Path, oracle_stops: bool) -> None:
    class Stopping(Oracle):
        def answer(self, request: LabelRequest) -> Answers:
            raise Stopped

    run(tmp_path / "run", settings=replace(SETTINGS, rounds=0))
    stop = {"oracle": Stopping()} if oracle_stops else {"acquisition": stopping(ASSL())}
    for _ in range(2):
        with pytest.raises(Stopped):
            run(tmp_path / "run", **stop)
    run(tmp_path / "run", StopAt(0, 0))
    assert_same_run(straight(), tmp_path / "run")


def test_fewer_rounds_end_a_run_with_the_training_that_is_under_way(straight: Straight, tmp_path: Path) -> None:
    longer, shorter = replace(SETTINGS, rounds=2), SETTINGS
    with pytest.raises(Stopped):
        run(tmp_path / "run", StopAt(1, 5), settings=longer)
    run(tmp_path / "run", settings=shorter)
    assert_same_run(straight(), tmp_path / "run")
    assert run(tmp_path / "run", settings=shorter) == read_records(tmp_path / "run")
    (note,) = OmegaConf.load(tmp_path / "run" / "config.yaml").history.changes
    assert (list(note.changes), note.complete_rounds) == (["rounds was 2, now 1"], 1)
    run(tmp_path / "run", settings=longer)
    assert_same_run(straight("two rounds"), tmp_path / "run")


def test_a_run_may_end_with_a_query_that_has_no_answer_and_take_it_up_again(straight: Straight, tmp_path: Path) -> None:
    class Stopping(HeldBackLabels):
        def answer(self, request: LabelRequest) -> Answers:
            if request.round_number == 1:
                raise Stopped
            return super().answer(request)

    longer = replace(SETTINGS, rounds=2)
    with pytest.raises(Stopped):
        run(tmp_path / "run", settings=longer, oracle=Stopping(LABELS[:POOL_SIZE]))
    asked = (tmp_path / "run" / "round_01" / "state.json").read_text()
    for _ in range(2):  # a finished run that is started again does nothing
        ended = run(tmp_path / "run")
        assert [replace(one, seconds={}) for one in ended] == [
            replace(one, seconds={}) for one in read_records(straight())
        ]
        assert (tmp_path / "run" / "round_01" / "final.ckpt").exists()
        assert (tmp_path / "run" / "round_01" / "state.json").read_text() == asked
    run(tmp_path / "run", StopAt(1, 0), settings=longer)  # nothing is trained again
    assert_same_run(straight("two rounds"), tmp_path / "run")


def test_labels_that_were_given_are_kept_by_a_run_that_ends_before_it_trains_on_them(
    straight: Straight, tmp_path: Path
) -> None:
    stopped = (StopAt(1, 5),)
    with pytest.raises(Stopped):
        run(tmp_path / "run", *stopped)
    (ended,) = run(tmp_path / "run", settings=replace(SETTINGS, rounds=0))
    assert ended.queried == read_records(straight())[0].queried
    run(tmp_path / "run")
    assert_same_run(straight(), tmp_path / "run")


def test_a_run_cannot_end_before_what_it_has_trained(tmp_path: Path) -> None:
    run(tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"\(rounds was 1, now 0\); .*, rounds=1 to end it after the newest round that"
    ):
        run(tmp_path / "run", settings=replace(SETTINGS, rounds=0))


def test_how_often_it_is_saved_may_change_within_a_round(straight: Straight, tmp_path: Path) -> None:
    stopped_run(tmp_path / "run")
    run(tmp_path / "run", settings=replace(SETTINGS, checkpoint=CheckpointSettings(5, 7.5)))
    assert_same_run(straight(), tmp_path / "run")


def test_other_devices_are_refused_unless_asked_for_and_then_noted(tmp_path: Path) -> None:
    config = {"trainer": {"devices": 1, "precision": "32-true"}}
    with pytest.raises(Stopped):
        run(tmp_path / "run", StopAt(0, 5), settings=replace(SETTINGS, config=config))
    other = {"trainer": {"devices": "auto", "precision": "32-true"}}
    with pytest.raises(ValueError, match=r"trainer\.devices was 1, now 'auto'.*change_devices=true"):
        run(tmp_path / "run", settings=replace(SETTINGS, config=other))
    run(tmp_path / "run", settings=replace(SETTINGS, config=other, change_devices=True))
    history = OmegaConf.load(tmp_path / "run" / "config.yaml").history
    assert history.devices == "1 × cpu"
    assert list(history.changes[0].changes) == ["trainer.devices was 1, now 'auto'"]
    third = {"trainer": {"devices": "auto", "precision": "bf16"}}
    with pytest.raises(ValueError, match=r"precision was '32-true', now 'bf16'\); repeat"):
        run(tmp_path / "run", settings=replace(SETTINGS, config=third, change_devices=True))


@pytest.mark.parametrize("stop", [{}, {"acquisition": stopping(ASSL())}], ids=["in a training", "in a query"])
def test_devices_that_are_others_than_they_were_are_refused_whatever_the_configuration_says(
    tmp_path: Path, stop: dict[str, Any]
) -> None:
    with pytest.raises(Stopped):
        run(tmp_path / "run", *([] if stop else [StopAt(0, 5)]), **stop)
    file = tmp_path / "run" / "config.yaml"
    file.write_text(file.read_text().replace("1 × cpu", "1 × cuda"))
    with pytest.raises(ValueError, match=r"trained on 1 × cuda, and here is 1 × cpu.*change_devices=true"):
        run(tmp_path / "run")
    assert read_records(tmp_path / "run") == []
    run(tmp_path / "run", settings=replace(SETTINGS, change_devices=True))
    history = OmegaConf.load(file).history
    assert list(history.changes[-1].changes) == ["devices were 1 × cuda, now 1 × cpu"]
    assert history.devices == "1 × cpu"


# ---- SLURM


@pytest.mark.parametrize(
    ("job", "name"),
    [({"SLURM_JOB_ID": "77"}, "77"), ({"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}, "70_3")],
)
@pytest.mark.parametrize("succeeds", [True, False])
def test_a_job_of_slurm_that_is_told_of_its_end_is_saved_and_queued_again(
    straight: Straight,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    job: dict[str, str],
    name: str,
    succeeds: bool,
) -> None:
    of_slurm = {"SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", **job}
    for key, value in of_slurm.items():
        monkeypatch.setenv(key, value)
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n' + ("" if succeeds else "echo no >&2; exit 1\n"))
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:/usr/bin:/bin")

    with pytest.raises(Interrupted, match="step 5 is saved") as caught, caplog.at_level(logging.INFO, "assl_lightning"):
        run(tmp_path / "run", Raise(signal.SIGUSR1, 4))
    assert caught.value.exit_code == 138
    assert (tmp_path / "called").read_text() == f"requeue {name}\n"
    assert ("back in the queue" if succeeds else "failed (no); submit the job again") in caplog.text
    run(tmp_path / "run")
    assert_same_run(straight(), tmp_path / "run")
    assert not list(tmp_path.rglob("hpc_ckpt*")), "Lightning's own handler would save in the middle of a step"


def test_a_queue_whose_command_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm.requeue()
    assert "scontrol requeue 77 failed (" in caplog.text
    assert "'scontrol'); submit the job again, and it goes on" in caplog.text
