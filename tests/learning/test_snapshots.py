from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from rich.console import Console
from torch import Tensor, nn

from assl_lightning.augment.normalise import Normalise
from assl_lightning.augment.strong import StrongAugment
from assl_lightning.augment.weak import WeakAugment
from assl_lightning.commands import running
from assl_lightning.config import prepare
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.data.pool import Pool
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.fixmatch import FixMatch
from assl_lightning.learning.snapshot_files import Snapshot, read_snapshots
from assl_lightning.learning.snapshots import PoolSnapshots
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.method.callback import ASSLScoreCallback
from assl_lightning.networks.base import FeatureNetwork

NUM_SAMPLES, NUM_CLASSES = 40, 3
IMAGES = torch.randint(0, 256, (NUM_SAMPLES, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
STATISTICS = ("uncertainty_mean", "uncertainty_variance", "inconsistency_mean", "inconsistency_variance", "visits")


class Network(FeatureNetwork):
    """BatchNorm that learns, BatchNorm that is frozen, and dropout: each would tell if evaluation touched it."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(8, NUM_CLASSES), 8, NUM_CLASSES)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
        self.frozen = nn.BatchNorm1d(8)

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.frozen(self.body(images))
        return features


class Freeze(Callback):
    """Keeps one module in evaluation mode, as Lightning's own fine-tuning callbacks do at the fit's start."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.network.frozen.eval()  # type: ignore[union-attr]


class Recorder(Callback):
    """Copies of the network and of the statistics after some steps."""

    def __init__(self, steps: tuple[int, ...], score: ASSLScoreCallback, weight_ema: WeightEMA | None = None) -> None:
        self.steps, self.score, self.weight_ema = steps, score, weight_ema
        self.networks: dict[int, nn.Module] = {}
        self.statistics: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        if trainer.global_step in self.steps:
            network = pl_module.network
            assert isinstance(network, nn.Module)
            averaged = self.weight_ema and self.weight_ema.averaged(network, prefix="network.")
            self.networks[trainer.global_step] = averaged or deepcopy(network)
            self.statistics[trainer.global_step] = {
                name: getattr(self.score.statistics, name).clone() for name in STATISTICS
            }


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Lightning's tips are left out meanwhile."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(level)


def make_algorithm() -> FixMatch:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network()
    sgd = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True)
    return FixMatch(network, optimizer=sgd, threshold=0.5)


def make_datamodule(seed: int = 0, steps: int = 12) -> PoolDataModule:
    pool = Pool(NUM_SAMPLES, NUM_CLASSES)
    pool.label(torch.tensor([4, 11, 30]), torch.tensor([0, 1, 2]), round_number=0)
    weak = WeakAugment()
    return PoolDataModule(
        pool,
        pool_images=IMAGES,
        test_images=IMAGES[:5],
        test_labels=torch.zeros(5, dtype=torch.int64),
        normalise=Normalise((0.5,), (0.3,)),
        weak=weak,
        strong=StrongAugment(weak=weak),
        batch_size=4,
        mu=2,
        test_batch_size=16,
        seed=seed,
        steps_per_round=steps,
        steps_per_epoch=4,
    )


def fit(
    directory: Path,
    callbacks: list[Callback],
    *,
    algorithm: LightningModule | None = None,
    datamodule: Any = None,
    ckpt_path: Path | None = None,
    **settings: Any,
) -> LightningModule:
    algorithm = algorithm or make_algorithm()
    trainer = Trainer(
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=str(directory),
        log_every_n_steps=4,
        **({"max_epochs": 3} | settings),
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        trainer.fit(algorithm, datamodule=datamodule or make_datamodule(), ckpt_path=ckpt_path)
    return algorithm


def snapshots_in(directory: Path, weights: str = "raw") -> list[Snapshot]:
    return read_snapshots(directory / "snapshots" / weights)


def steps_in(directory: Path, weights: str = "raw") -> list[int]:
    return [int(snapshot.step) for snapshot in snapshots_in(directory, weights)]


def probabilities(network: nn.Module, index: int) -> list[float]:
    """Of one plain image, by its definition in float64."""
    network = deepcopy(network).double().eval()
    with torch.no_grad():
        logits = network((IMAGES[index][None].double() / 255 - 0.5) / 0.3)[0].tolist()
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("weights", ["raw", "ema"])
def test_a_snapshot_is_the_prediction_for_each_unlabelled_sample_and_its_statistics_at_that_step(
    tmp_path: Path, weights: Any
) -> None:
    score, weight_ema = ASSLScoreCallback(c_u=0.7, c_i=1.5), WeightEMA(0.8)
    recorder = Recorder((5, 10), score, weight_ema if weights == "ema" else None)
    fit(tmp_path, [Freeze(), score, weight_ema, recorder, PoolSnapshots(5, weights)])

    snapshots = snapshots_in(tmp_path, weights)
    assert [int(snapshot.step) for snapshot in snapshots] == [5, 10]
    for snapshot in snapshots:
        step = int(snapshot.step)
        assert snapshot.index.tolist() == [i for i in range(NUM_SAMPLES) if i not in (4, 11, 30)]
        for row, index in enumerate(snapshot.index.tolist()):
            p = probabilities(recorder.networks[step], index)
            top = p.index(max(p))
            assert snapshot.prediction[row] == top
            assert snapshot.max_probability[row] == pytest.approx(p[top], rel=1e-4)
            expected = math.sqrt(sum((value - (c == top)) ** 2 for c, value in enumerate(p)))
            assert snapshot.uncertainty[row] == pytest.approx(expected, rel=1e-3)
        for name in STATISTICS:
            np.testing.assert_array_equal(
                getattr(snapshot, name), recorder.statistics[step][name][snapshot.index], err_msg=name
            )
        assert (float(snapshot.c_u), float(snapshot.c_i)) == (0.7, 1.5)
    assert (snapshots[0].uncertainty != snapshots[1].uncertainty).all(), "the network has learned meanwhile"
    assert snapshots[0].prediction.dtype == np.int16
    assert snapshots[0].uncertainty.dtype == np.float32


def test_snapshots_change_nothing_in_training(tmp_path: Path) -> None:
    def final_state(name: str, *snapshots: PoolSnapshots) -> dict[str, Tensor]:
        score, weight_ema = ASSLScoreCallback(), WeightEMA(0.8)
        algorithm = fit(tmp_path / name, [Freeze(), score, weight_ema, *snapshots])
        averaged = weight_ema.averaged(algorithm).state_dict()
        statistics = {key: value for key, value in score.statistics.state_dict().items() if isinstance(value, Tensor)}
        return {**algorithm.state_dict(), **{f"averaged.{key}": value for key, value in averaged.items()}, **statistics}

    without = final_state("without")
    with_both = final_state("with", PoolSnapshots(1, include_start=True), PoolSnapshots(2, "ema"))
    assert any("running_mean" in name for name in without)
    assert without.keys() == with_both.keys()
    for name, value in without.items():
        assert torch.equal(value, with_both[name]), name
    assert steps_in(tmp_path / "with") == list(range(13))
    assert steps_in(tmp_path / "with", "ema") == [2, 4, 6, 8, 10, 12]


def test_tiny_uncertainties_keep_their_rank(tmp_path: Path) -> None:
    algorithm = make_algorithm()
    head = algorithm.network.head
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.mul_(20)
        head.bias.copy_(torch.tensor([60.0, 0.0, 0.0]))
    fit(tmp_path, [ASSLScoreCallback(), PoolSnapshots(12, include_start=True)], algorithm=algorithm)
    start = snapshots_in(tmp_path)[0]
    saturated = start.max_probability == 1
    assert saturated.sum() > 10
    assert len(set(start.uncertainty[saturated].tolist())) == saturated.sum()
    assert (start.uncertainty > 0).all()


def test_a_limited_snapshot_holds_the_same_samples_at_every_step_and_for_every_kind_of_weights(tmp_path: Path) -> None:
    def chosen(name: str, seed: int) -> list[int]:
        both = [PoolSnapshots(6, max_samples=8), PoolSnapshots(6, "ema", max_samples=8)]
        callbacks: list[Callback] = [ASSLScoreCallback(), WeightEMA(0.8), *both]
        fit(tmp_path / name, callbacks, datamodule=make_datamodule(seed))
        indices = {tuple(snapshot.index) for kind in ("raw", "ema") for snapshot in snapshots_in(tmp_path / name, kind)}
        assert len(indices) == 1
        return [int(i) for i in indices.pop()]

    first = chosen("first", seed=0)
    assert len(set(first)) == 8
    assert first == sorted(first)
    assert not {4, 11, 30} & set(first)
    assert chosen("again", seed=0) == first
    assert chosen("other", seed=1) != first


def test_a_limit_above_the_number_of_unlabelled_samples_leaves_all(tmp_path: Path) -> None:
    fit(tmp_path, [ASSLScoreCallback(), PoolSnapshots(12, max_samples=1000)])
    assert len(snapshots_in(tmp_path)[0].index) == NUM_SAMPLES - 3


def test_steps_are_counted_by_the_optimizer(tmp_path: Path) -> None:
    fit(tmp_path, [ASSLScoreCallback(), PoolSnapshots(2)], accumulate_grad_batches=2)
    assert steps_in(tmp_path) == [2, 4, 6]


class Kill(Callback):
    """Ends a fit in the middle, after its checkpoint was written."""

    def __init__(self, step: int, checkpoint: Path) -> None:
        self.step, self.checkpoint = step, checkpoint

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        if trainer.global_step == self.step - 1:
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
        if trainer.global_step == self.step:
            raise OSError("killed")


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_killed_fit_keeps_its_snapshots_and_a_resumed_one_leaves_what_the_undisturbed_one_does(
    tmp_path: Path,
) -> None:
    def snapshots() -> list[Callback]:
        return [ASSLScoreCallback(), PoolSnapshots(2, include_start=True)]

    straight = tmp_path / "straight"
    fit(straight, [*snapshots(), Seed()])
    halting = tmp_path / "halting"
    with pytest.raises(OSError, match="killed"):
        fit(halting, [*snapshots(), Seed(), Kill(6, tmp_path / "half.ckpt")])
    assert steps_in(halting) == [0, 2, 4, 6]

    fit(halting, [*snapshots(), Seed()], ckpt_path=tmp_path / "half.ckpt", max_epochs=2)
    assert steps_in(halting) == [0, 2, 4, 6, 8], "and none at step 5, where it went on"
    for one, other in zip(snapshots_in(straight), snapshots_in(halting), strict=False):
        for name, values in vars(one).items():
            np.testing.assert_array_equal(values, getattr(other, name), err_msg=name)


class Seed(Callback):
    """Dropout as a function of the step."""

    def on_train_batch_start(self, trainer: Trainer, *arguments: Any) -> None:
        torch.manual_seed(trainer.global_step)


def test_a_fit_that_begins_anew_replaces_the_snapshots_of_an_earlier_one(tmp_path: Path) -> None:
    fit(tmp_path, [ASSLScoreCallback(), PoolSnapshots(2, include_start=True)])
    fit(tmp_path, [ASSLScoreCallback(), PoolSnapshots(5)])
    assert steps_in(tmp_path) == [5, 10]


def test_a_prediction_that_is_not_finite_names_its_sample_and_leaves_no_file(tmp_path: Path) -> None:
    class Break(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
            if trainer.global_step == 4:
                torch.nn.init.constant_(pl_module.network.head.bias, torch.nan)  # type: ignore[union-attr, arg-type]

    with pytest.raises(ValueError, match=r"at step 4 the raw weights' prediction for sample 0 is not finite; look for"):
        fit(tmp_path, [ASSLScoreCallback(), Break(), PoolSnapshots(2)])
    assert steps_in(tmp_path) == [2]


# --- what is missing -------------------------------------------------------------------------------------------------


def test_a_trainer_that_keeps_no_statistics_is_refused_before_it_trains(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"there is no ASSLScoreCallback among the trainer's callbacks; put one before"
    ):
        fit(tmp_path, [PoolSnapshots(5)])
    assert not (tmp_path / "snapshots").exists()


def test_averaged_weights_need_a_callback_that_averages(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weights='ema' needs averaged weights, but there is no WeightEMA"):
        fit(tmp_path, [ASSLScoreCallback(), PoolSnapshots(5, "ema")])


class Bare(LightningModule):
    """No network."""


class Other(LightningDataModule):
    """No pool."""

    num_samples = 3


@dataclass
class Fitting:
    """As much of a Trainer as is looked at before it trains."""

    datamodule: LightningDataModule
    callbacks: tuple[Callback, ...] = (ASSLScoreCallback(1),)


def test_another_module_or_datamodule_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="fit with a PoolDataModule as datamodule; got Other"):
        PoolSnapshots(5).setup(Fitting(Other()), make_algorithm(), "fit")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="every Algorithm's is; Bare has NoneType"):
        PoolSnapshots(5).setup(Fitting(make_datamodule()), Bare(), "fit")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"every_n_steps": 0}, "every_n_steps, the optimizer steps between snapshots, must be ≥ 1; got 0"),
        ({"every_n_steps": 5, "weights": "avg"}, "weights must be one of raw, ema; got 'avg'"),
        ({"every_n_steps": 5, "max_samples": 1}, "max_samples must be ≥ 2, since one sample has no rank; got 1"),
    ],
)
def test_an_impossible_setting_is_refused_where_it_is_written(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PoolSnapshots(**arguments)


# --- from the configuration ------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_a_run_of_rounds_has_snapshots_where_its_configuration_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose_run: Callable[..., Config]
) -> None:
    monkeypatch.chdir(tmp_path)
    raw, averaged = (
        f"{{_target_: assl_lightning.learning.PoolSnapshots, {arguments}}}"
        for arguments in ("every_n_steps: 2, max_samples: 30", "every_n_steps: 4, weights: ema")
    )
    config = compose_run(
        *(
            "rounds=1",
            "warm_up=none",
            "steps_per_round=4",
            "initial_labels=12",
            "algorithm.batch_size=4",
            "trainer.accelerator=cpu",
        ),
        f"+trainer.callbacks=[{raw}, {averaged}]",
    )
    running.run(config, Console(file=StringIO()))
    for number in (0, 1):
        directory = tmp_path / config.run_dir / f"round_{number:02d}"
        assert steps_in(directory) == [2, 4]
        assert steps_in(directory, "ema") == [4]
        assert len(snapshots_in(directory)[0].index) == 30


def test_a_misspelt_argument_in_the_configuration_is_named(compose_run: Callable[..., Config]) -> None:
    config = compose_run("+trainer.callbacks=[{_target_: assl_lightning.learning.PoolSnapshots, every_n_step: 2}]")
    with pytest.raises(ConfigurationError, match="every_n_step"):
        prepare.check(config)


@pytest.mark.parametrize(
    ("experiment", "steps", "snapshots"), [("instability", 500_000, 100), ("instability_small", 10_000, 50)]
)
def test_the_experiments_end_with_a_snapshot(
    compose_run: Callable[..., Config], experiment: str, steps: int, snapshots: int
) -> None:
    config = compose_run(f"+experiment={experiment}")
    nodes = config.trainer["callbacks"]
    assert (config.settings.rounds, config.settings.initial_labels, config.settings.steps_per_round) == (0, 100, steps)
    assert [node["weights"] for node in nodes] == ["raw", "ema"]
    assert [node["every_n_steps"] * snapshots for node in nodes] == [steps, steps]
    prepare.check(config)
