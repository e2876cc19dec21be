"""Runs whose network is trained on images alone before the first label is asked for."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from assl_lightning.acquisition.kmeans_plus_plus import KMeansPlusPlus
from assl_lightning.acquisition.random import RandomSampling
from assl_lightning.base.interruption import Interrupted
from assl_lightning.base.seeding import make_generator
from assl_lightning.data.pool import Pool
from assl_lightning.learning.inference import evaluate
from assl_lightning.learning.simclr import SimCLR
from assl_lightning.learning.view_pairs import ViewPairDataModule
from assl_lightning.loop import CheckpointSettings
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.oracles import HeldBackLabels, LabelRequest, Pending
from assl_lightning.loop.records import read_records
from assl_lightning.loop.warm_up_record import read_warm_up
from assl_lightning.method.candidates import Candidates
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.networks.small import SmallCNN
from tests import small_runs, test_resuming
from tests.damage import flip_a_bit
from tests.same_run import differences_of_runs
from tests.stripes import CLASSES, IMAGES, LABELS, POOL_SIZE, SGD, make_datamodule
from tests.test_resuming import Stopped, Straight, WithDropout

pytestmark = pytest.mark.e2e  # it makes whole runs, over and over

STEPS = 7
SETTINGS = replace(test_resuming.SETTINGS, steps_per_round=4, steps_per_epoch=None, initial_labels=4)


def make_warm_up(network: FeatureNetwork) -> SimCLR:
    return SimCLR(network, optimizer=SGD, steps=STEPS, batch_size=8)


run = functools.partial(
    small_runs.run,
    settings=SETTINGS,
    make_network=WithDropout,
    make_warm_up=make_warm_up,
    acquisition=RandomSampling(),
)


def in_warm_up(trainer: Any) -> bool:
    return isinstance(trainer.datamodule, ViewPairDataModule)


class StopWarmUpAt(Callback):
    """Ends the warm-up, as a kill would, in the middle of a certain step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_backward(self, trainer: Any, module: Any, loss: Tensor) -> None:
        if in_warm_up(trainer) and trainer.global_step == self.step:
            raise Stopped


class Watch(Callback):
    """Keeps the steps of the warm-up, the samples of each, and the weights at which each training began."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.samples: list[list[int]] = []
        self.begun: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if in_warm_up(trainer):
            self.steps.append(trainer.global_step)
            self.samples.append(batch["index"].tolist())

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if not in_warm_up(trainer):
            self.begun.append({name: value.clone() for name, value in module.network.state_dict().items()})


def warm_weights(run_dir: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(run_dir / "warm_up.ckpt", weights_only=True)["state_dict"]
    return weights


def assert_same_run(one: Path, other: Path) -> None:
    assert list(differences_of_runs(one, other)) == []


KINDS: dict[str, dict[str, Any]] = {
    "random": {},
    "far apart": {"settings": replace(SETTINGS, initial_acquisition="kmeans_plus_plus", hold_out=0)},
}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """Return a function of a kind of run: the directory of one that nothing disturbed, which is made once."""

    @functools.cache
    def make(kind: str = "random") -> Path:
        path = tmp_path_factory.mktemp("straight") / "run"
        run(path, **KINDS[kind])
        return path

    return make


# ---- what it leaves


def test_a_warm_up_is_recorded_and_leaves_the_weights_of_the_features(straight: Straight) -> None:
    record = read_warm_up(straight())
    assert record is not None
    assert (record.steps, record.images, record.skipped_steps) == (STEPS, POOL_SIZE, 0)
    assert record.seconds > 0
    assert record.loss is not None
    assert 0 < record.loss < 3
    names = {name for name in SmallCNN(CLASSES, width=4).state_dict() if not name.startswith("head.")}
    assert warm_weights(straight()).keys() == names
    assert sorted(path.name for path in (straight() / "warm_up").iterdir()) == ["metrics.csv"]
    rows = (straight() / "warm_up" / "metrics.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["epoch", "0", "0", "0"], "every second step"


def test_without_a_warm_up_there_is_none_of_it(tmp_path: Path) -> None:
    run(tmp_path / "run", make_warm_up=None)
    assert read_warm_up(tmp_path / "run") is None
    assert not list((tmp_path / "run").glob("warm_up*"))


@pytest.mark.parametrize("init", ["rand", "continue"])
def test_rounds_begin_with_its_features_and_the_heads_own_initial_weights(tmp_path: Path, init: Any) -> None:
    settings = replace(SETTINGS, init=init)
    cold, warm = Watch(), Watch()
    run(tmp_path / "cold", cold, settings=settings, make_warm_up=None)
    run(tmp_path / "warm", warm, settings=settings)
    weights = warm_weights(tmp_path / "warm")
    for number in (0, 1) if init == "rand" else (0,):
        begun, initial = warm.begun[number], cold.begun[0]
        for name, value in begun.items():
            assert torch.equal(value, initial[name] if name.startswith("head.") else weights[name]), name
        assert not torch.equal(begun["trunk.0.0.weight"], initial["trunk.0.0.weight"])
    if init == "continue":
        state = torch.load(tmp_path / "warm" / "round_01" / "final.ckpt", weights_only=True)
        assert state["state_dict"].keys() > {"network.trunk.0.0.weight"}
        assert not torch.equal(warm.begun[1]["trunk.0.0.weight"], weights["trunk.0.0.weight"])


def test_the_seed_decides(tmp_path: Path, straight: Straight) -> None:
    run(tmp_path / "other", settings=replace(SETTINGS, seed=1))
    weights, others = warm_weights(straight()), warm_weights(tmp_path / "other")
    assert not torch.equal(weights["trunk.0.0.weight"], others["trunk.0.0.weight"])


# ---- what it is trained on


def test_it_is_trained_on_all_images_but_those_that_are_held_out_or_excluded(tmp_path: Path) -> None:
    pool, watch = Pool(POOL_SIZE, CLASSES), Watch()
    labelled, excluded = torch.tensor([3, 17, 40]), torch.tensor([5, 6])
    pool.label(labelled, LABELS[labelled], 0)
    pool.exclude(excluded)
    none = {"test_images": IMAGES[:0], "test_labels": LABELS[:0]}
    run(tmp_path / "run", watch, pool=pool, data=none, settings=replace(SETTINGS, hold_out=10, rounds=0))
    assert all(len(set(batch)) == 8 for batch in watch.samples)
    seen = {sample for batch in watch.samples for sample in batch}
    expected = set(range(POOL_SIZE)) - {5, 6} - set(pool.held_out.tolist())
    assert len(expected) == 48, "six batches of eight: a pass"
    assert seen == expected
    assert {3, 17, 40} <= seen
    record = read_warm_up(tmp_path / "run")
    assert record is not None
    assert record.images == 48


def test_a_batch_larger_than_the_pool_is_the_pool(tmp_path: Path) -> None:
    watch = Watch()

    def larger(network: FeatureNetwork) -> SimCLR:
        return SimCLR(network, optimizer=SGD, steps=2, batch_size=500)

    run(tmp_path / "run", watch, make_warm_up=larger, settings=replace(SETTINGS, rounds=0))
    assert [sorted(batch) for batch in watch.samples] == [list(range(POOL_SIZE))] * 2


# ---- the first picks


def test_the_first_picks_are_far_apart_in_its_features(straight: Straight) -> None:
    network = WithDropout()
    network.load_state_dict(warm_weights(straight("far apart")), strict=False)
    view = make_datamodule(Pool(POOL_SIZE, CLASSES)).plain_view
    _, features = evaluate(network, view, torch.arange(POOL_SIZE), batch_size=256)
    candidates = Candidates(torch.arange(POOL_SIZE), features=features)
    expected = KMeansPlusPlus(first="uniform").acquire(candidates, 4, make_generator(0, "initial_acquisition")).index
    asked = RunDirectory(straight("far apart")).read_initial()
    assert asked is not None
    assert asked[1].tolist() == expected.tolist()


# ---- stopped and started again


@pytest.mark.parametrize("step", [0, 1, 4, 6])
def test_a_run_that_is_stopped_within_the_warm_up_goes_on_from_its_checkpoint(
    straight: Straight, tmp_path: Path, step: int
) -> None:
    watch = Watch()
    with pytest.raises(Stopped):
        run(tmp_path / "run", StopWarmUpAt(step), **KINDS["far apart"])
    assert read_warm_up(tmp_path / "run") is None
    run(tmp_path / "run", watch, **KINDS["far apart"])
    assert watch.steps == list(range(step // 2 * 2, STEPS)), "from the last checkpoint, of every second step"
    assert_same_run(straight("far apart"), tmp_path / "run")


def test_a_run_may_be_stopped_again_and_again(straight: Straight, tmp_path: Path) -> None:
    settings = replace(SETTINGS, checkpoint=CheckpointSettings(every_n_steps=1))
    for step in range(STEPS):
        with pytest.raises(Stopped):
            run(tmp_path / "run", StopWarmUpAt(step), settings=settings)
    run(tmp_path / "run", settings=settings)
    assert_same_run(straight(), tmp_path / "run")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_and_ends_the_run(straight: Straight, tmp_path: Path, signum: int) -> None:
    class Raise(Callback):
        def on_before_backward(self, trainer: Any, module: Any, loss: Tensor) -> None:
            if in_warm_up(trainer) and trainer.global_step == 2:
                signal.raise_signal(signum)

    watch, settings = Watch(), replace(SETTINGS, checkpoint=CheckpointSettings(None, None))
    with pytest.raises(Interrupted, match="step 3 is saved"):
        run(tmp_path / "run", Raise(), settings=settings)
    run(tmp_path / "run", watch, settings=settings)
    assert watch.steps == [3, 4, 5, 6]
    assert_same_run(straight(), tmp_path / "run")


def test_a_signal_in_the_last_step_lets_the_warm_up_be_kept(straight: Straight, tmp_path: Path) -> None:
    class Raise(Callback):
        def on_train_end(self, trainer: Any, module: Any) -> None:
            if in_warm_up(trainer):
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match="the warm-up is complete, and the same command goes on from there"):
        run(tmp_path / "run", Raise())
    run(tmp_path / "run", StopWarmUpAt(0))
    assert_same_run(straight(), tmp_path / "run")


@pytest.mark.parametrize("name", ["save", "write_warm_up", "remove", "write_initial"])
def test_a_run_that_is_stopped_before_any_of_its_writes_is_the_same_run(
    straight: Straight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Before its weights and its record, between the two, and once each of them is there."""
    places = {
        "save": "assl_lightning.loop.directory.tensor_files.save",
        "write_warm_up": "assl_lightning.loop.directory.write_warm_up",
        "remove": "assl_lightning.loop.fit_checkpoints.FitCheckpoints.remove",
        "write_initial": "assl_lightning.loop.directory.RunDirectory.write_initial",
    }

    def stop(*_: object) -> None:
        raise Stopped

    settings = replace(SETTINGS, checkpoint=CheckpointSettings(None, None) if name == "save" else SETTINGS.checkpoint)
    with monkeypatch.context() as patch:
        patch.setattr(places[name], stop)
        with pytest.raises(Stopped):
            run(tmp_path / "run", settings=settings)
    watch = Watch()
    run(tmp_path / "run", watch, settings=settings)
    assert watch.steps == {"save": [*range(7)], "write_warm_up": [6]}.get(name, [])
    assert_same_run(straight(), tmp_path / "run")


def test_people_are_asked_after_it_and_it_is_not_repeated_when_they_have_answered(
    straight: Straight, tmp_path: Path
) -> None:
    class Asking(HeldBackLabels):
        has_answered = False

        def answer(self, request: LabelRequest) -> Any:
            assert read_warm_up(tmp_path / "run") is not None
            return super().answer(request) if self.has_answered else Pending("wait")

    watch, oracle = Watch(), Asking(LABELS[:POOL_SIZE])
    for _ in range(2):
        assert run(tmp_path / "run", watch, oracle=oracle) == []
    assert watch.steps == [*range(STEPS)]
    oracle.has_answered = True
    run(tmp_path / "run", watch, oracle=oracle)
    assert watch.steps == [*range(STEPS)]
    assert_same_run(straight(), tmp_path / "run")


def test_a_run_that_is_extended_is_not_warmed_up_again(straight: Straight, tmp_path: Path) -> None:
    run(tmp_path / "run", settings=replace(SETTINGS, rounds=0))
    run(tmp_path / "run", StopWarmUpAt(0))
    assert_same_run(straight(), tmp_path / "run")


# ---- a pool that changes


def grown_pool() -> tuple[Pool, dict[str, Any]]:
    """Twenty images more."""
    return Pool(80, CLASSES), {"pool_images": IMAGES[:80]}


@pytest.mark.parametrize("complete", [False, True])
def test_a_pool_that_has_changed_before_anything_was_asked_is_warmed_up_on_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complete: bool
) -> None:
    def stop(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        if complete:
            patch.setattr(RunDirectory, "write_initial", stop)
        with pytest.raises(Stopped):
            run(tmp_path / "run", *([] if complete else [StopWarmUpAt(4)]))
    watch = Watch()
    for run_dir in (tmp_path / "run", tmp_path / "straight"):
        pool, data = grown_pool()
        run(run_dir, watch, pool=pool, data=data, oracle=HeldBackLabels(LABELS[:80]))
    assert watch.steps == [*range(STEPS)] * 2
    assert (tmp_path / "run" / "samples.csv").exists()
    for name, value in warm_weights(tmp_path / "straight").items():
        assert torch.equal(warm_weights(tmp_path / "run")[name], value)


def test_images_that_come_while_labels_are_waited_for_change_nothing_of_it(tmp_path: Path) -> None:
    class Waiting(HeldBackLabels):
        def answer(self, request: LabelRequest) -> Any:
            return Pending("wait") if request.round_number == 0 else super().answer(request)

    watch = Watch()
    run(tmp_path / "run", watch, oracle=Waiting(LABELS[:POOL_SIZE]))
    before = warm_weights(tmp_path / "run")
    pool, data = grown_pool()
    run(tmp_path / "run", watch, pool=pool, data=data, oracle=HeldBackLabels(LABELS[:80]))
    assert len(read_records(tmp_path / "run")) == 2
    assert watch.steps == [*range(STEPS)]
    for name, value in before.items():
        assert torch.equal(warm_weights(tmp_path / "run")[name], value)
        assert torch.equal(watch.begun[1][name], value)


# ---- what goes wrong


def lost(path: Path) -> None:
    path.unlink()


def of_another_network(path: Path) -> None:
    weights = torch.load(path, weights_only=True)["state_dict"]
    torch.save({"state_dict": {f"body.{name}": value for name, value in weights.items()}}, path)


def of_another_width(path: Path) -> None:
    torch.save({"state_dict": {"trunk.0.0.weight": torch.zeros(3)}}, path)


def of_something_else(path: Path) -> None:
    torch.save({"weights": {}}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lost, r"warm_up\.ckpt is missing, but the run cannot go on without it; restore it or begin anew"),
        (flip_a_bit, r"warm_up\.ckpt cannot be read: its checksum is wrong .*; restore it or begin anew"),
        (of_another_network, r"warm_up\.ckpt does not hold what this run needs of it .*: only one of the two networks"),
        (of_another_width, r"warm_up\.ckpt does not hold what .* size mismatch for trunk\.0\.0\.weight"),
        (of_something_else, r"warm_up\.ckpt does not hold what .*KeyError"),
    ],
)
def test_weights_that_are_lost_or_damaged_are_named(
    straight: Straight, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    run(tmp_path / "run", settings=replace(SETTINGS, rounds=0))
    damage(tmp_path / "run" / "warm_up.ckpt")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(tmp_path / "run")


def test_a_trainer_that_cuts_it_short_is_noticed(tmp_path: Path) -> None:
    make_trainer = functools.partial(small_runs.make_trainer, max_steps=3)
    with pytest.raises(
        RuntimeError, match="the warm-up was to train 7 steps, but the trainer made 3; a trainer setting"
    ):
        run(tmp_path / "run", make_trainer=make_trainer)


def diverging(network: FeatureNetwork) -> SimCLR:
    """One loss that is not finite, the last."""

    class Diverging(SimCLR):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            outputs = super().training_step(batch, batch_idx)
            if self.trainer.global_step == STEPS - 1:
                outputs["loss"] = outputs["loss"] * torch.inf
            return outputs

    return Diverging(network, optimizer=SGD, steps=STEPS, batch_size=8)


def test_a_loss_that_is_not_finite_ends_it_or_is_counted(tmp_path: Path) -> None:
    message = r"the loss of step 6 of the warm-up was not finite \(samples \d+, .*\); lower the learning rate"
    with pytest.raises(FloatingPointError, match=message):
        run(tmp_path / "run", make_warm_up=diverging)
    assert not (tmp_path / "run" / "warm_up.ckpt").exists()
    run(tmp_path / "run", make_warm_up=diverging, settings=replace(SETTINGS, non_finite="skip"))
    record = read_warm_up(tmp_path / "run")
    assert record is not None
    assert (record.steps, record.loss, record.skipped_steps) == (STEPS, None, 1)
