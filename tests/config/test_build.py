from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning_utilities.core.imports import RequirementCache
from omegaconf import OmegaConf
from rich.console import Console
from torch import nn

from assl_lightning.commands import messages, running
from assl_lightning.config import build, prepare, unreadable
from assl_lightning.config.classifier import load_classifier
from assl_lightning.config.instantiate import check_arguments, make_network, round_logger_factory
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.data.pool import Answers
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.learning.fixmatch import FixMatch
from assl_lightning.learning.step_graph import StepGraph
from assl_lightning.loop.oracles import HeldBackLabels, LabelRequest, Pending
from assl_lightning.loop.records import RoundRecord, read_records, trained_records
from assl_lightning.networks.base import FeatureNetwork

Compose = Callable[..., Config]
SHORT = [
    "rounds=1",
    "warm_up=none",
    "steps_per_round=2",
    "initial_labels=12",
    "algorithm.batch_size=4",
    "trainer.accelerator=cpu",
]


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quiet() -> Iterator[Console]:
    """A console that keeps what it was given; Lightning's tips are left out meanwhile."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    yield Console(file=StringIO(), width=100)
    logger.setLevel(level)


class OwnCallback(Callback):
    """A callback as a user would add it; `made` has one entry for each that was made."""

    made: ClassVar[list[Callback]] = []

    def __init__(self) -> None:
        self.made.append(self)


class WrongShape(FeatureNetwork):
    """Logits with one dimension too many."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(nn.Linear(16, num_classes), 16, num_classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0]


def assemble(config: Config) -> build.Parts:
    prepared = prepare.prepare(config)
    return build.make_parts(prepared.config, prepared.source)


def refused(config: Config) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        assemble(config)
    return caught.value.lines


# --- arguments -------------------------------------------------------------------------------------------------------


def test_an_argument_that_a_class_does_not_take_is_named_with_the_nearest_one() -> None:
    node = {"_target_": "assl_lightning.networks.SmallCNN", "num_classes": 10, "channels": 1, "widht": 8}

    assert check_arguments("network", node) == [
        "network.widht=8: SmallCNN takes no argument 'widht' (did you mean 'width'?); "
        "it takes num_classes, channels, width"
    ]


def test_arguments_are_checked_below_other_arguments() -> None:
    optimizer = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "momentun": 0.9}
    node = {"_target_": "assl_lightning.learning.FixMatch", "_partial_": True, "optimizer": optimizer}

    (line,) = check_arguments("algorithm.module", node)
    assert line.startswith("algorithm.module.optimizer.momentun=0.9: SGD takes no argument")
    assert "did you mean 'momentum'?" in line


@pytest.mark.parametrize("target", ["assl_lightning.networks.small.SmalCNN", "no_such_package.Network", "Network", ""])
def test_a_class_that_cannot_be_imported_is_named(target: str) -> None:
    (line,) = check_arguments("network", {"_target_": target})

    assert line.startswith("network._target_=")
    assert "cannot be imported (" in line
    assert line.endswith("name package.module.Class")


def test_a_class_that_takes_anything_is_not_second_guessed() -> None:
    assert check_arguments("network", {"_target_": "torchvision.models.resnet18", "zero_init_residual": True}) == []


# --- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+network.dropuot=1", ["network.dropuot=1: SmallCNN takes no argument 'dropuot'"]),
        ("network._target_=assl_lightning.nowhere.Network", ["network._target_=assl_lightning.nowhere.Network: "]),
        ("network.width=-1", ["network.width=-1: width must be an integer of at least 1"]),
        ("acquisition.strategy.weight=all", ["acquisition.strategy.weight=all: weight must be"]),
        ("data.weak.pad_fraction=2", ["data.weak.pad_fraction=2: "]),
        ("data.num_classes=12", ["data.num_classes=12: must be what digits has once loaded, data.num_classes=10"]),
        (
            "data.num_samples=1296",
            ["data.num_samples=1296: must be what digits has once loaded, data.num_samples=1297"],
        ),
        ("oracle.noise=1.5", ["oracle.noise=1.5: noise must be in [0, 1], the share of wrong answers; got 1.5"]),
        ("data.source.num_test=5000", ["data.source.num_test=5000: num_test must be in"]),
        ("trainer.precision=bf16-true", ["trainer.precision=bf16-true: must be 32-true, bf16-mixed or 16-mixed"]),
        ("trainer.precision=16-true", ["trainer.precision=16-true: must be 32-true"]),
        ("trainer.precision=64", ["trainer.precision=64-true: must be 32-true"]),
        ("run_dir=file", ["run_dir=file: must be a directory, or not exist"]),
    ],
)
def test_what_does_not_fit_its_class_or_data_is_one_line_and_leaves_nothing(
    compose_run: Compose, working_directory: Path, override: str, words: list[str]
) -> None:
    (working_directory / "file").touch()

    (line,) = refused(compose_run(override))
    assert "\n" not in line
    assert [word for word in words if word not in line] == [], line
    assert [path.name for path in working_directory.iterdir()] == ["file"]


def test_a_gpu_that_is_not_there_is_named_by_its_key(
    compose_run: Compose, monkeypatch: pytest.MonkeyPatch, working_directory: Path
) -> None:
    monkeypatch.setattr("assl_lightning.config.instantiate.has_gpu", lambda: False)

    assert refused(compose_run("trainer.accelerator=gpu")) == (
        "trainer.accelerator=gpu: must be auto or cpu here, since PyTorch finds no GPU on this machine",
    )


def test_the_number_of_images_may_be_left_open_and_the_budget_is_checked_once_it_is_known(compose_run: Compose) -> None:
    config = compose_run("data.num_samples=null", "rounds=200")

    (line,) = refused(config)
    assert line.startswith("rounds=200, ")
    assert "has 1297 images" in line


def test_a_long_tail_that_leaves_too_few_images_says_so(compose_run: Compose) -> None:
    (line,) = refused(compose_run("data.imbalance_factor=100", "rounds=100"))

    assert line.startswith("rounds=100, labels_per_round=10, initial_labels=10: ")
    assert "= 1010 labels, but the pool of digits has 321 images (after data.imbalance_factor=100" in line
    assert line.endswith("for example rounds=31")


def test_a_logger_whose_package_is_missing_says_which(
    compose_run: Compose, monkeypatch: pytest.MonkeyPatch, working_directory: Path
) -> None:
    missing = RequirementCache("no-such-package-as-wandb")
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", missing)

    (line,) = refused(compose_run("trainer/logger=wandb"))
    assert line.startswith("trainer.logger: ")
    assert "no-such-package-as-wandb" in line
    assert list(working_directory.iterdir()) == []


@pytest.mark.parametrize("name", ["csv", "mlflow", "none"])
def test_other_loggers_get_no_curve_over_the_rounds(compose_run: Compose, name: str) -> None:
    assert round_logger_factory(compose_run(f"trainer/logger={name}")) is None


def test_tensorboard_gets_the_curve_in_the_directory_of_the_call(compose_run: Compose, tmp_path: Path) -> None:
    make_logger = round_logger_factory(compose_run("trainer/logger=tensorboard"))
    assert make_logger is not None
    logger = make_logger(save_dir=str(tmp_path / "curve"), id="abc")
    assert isinstance(logger, TensorBoardLogger)
    assert Path(logger.log_dir) == tmp_path / "curve"


def test_weights_and_biases_goes_on_with_the_run_of_the_id(
    compose_run: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)  # it is imported at its first log
    make_logger = round_logger_factory(compose_run("trainer/logger=wandb", "name=castings", "seed=3"))
    assert make_logger is not None
    logger = make_logger(save_dir=str(tmp_path), id="abc")
    assert isinstance(logger, WandbLogger)
    assert (logger.version, logger.save_dir) == ("abc", str(tmp_path))
    wanted = {
        "id": "abc",
        "resume": "allow",
        "name": "castings/seed_3: accuracy against labels",
        "group": "castings/seed_3",
        "project": "assl_lightning",
    }
    assert logger._wandb_init.items() >= wanted.items()


def test_a_network_whose_logits_have_the_wrong_shape_is_refused(compose_run: Compose) -> None:
    config = replace(compose_run(), network={"_target_": f"{__name__}.WrongShape", "num_classes": 10})

    assert refused(config) == (
        "network: for images of shape (2, 1, 16, 16) the logits must have shape (2, 10); WrongShape gives (2, 16, 16)",
    )


# --- parts -----------------------------------------------------------------------------------------------------------


def test_the_settings_reach_the_parts(compose_run: Compose) -> None:
    config = compose_run(
        "seed=7",
        "score.c_u=1.5",
        "score.variance=pre",
        "steps_per_epoch=50",
        "init=continue",
        "acquisition.unvisited=random",
        "algorithm.mu=3",
        "algorithm.weight_ema=0.99",
        "algorithm.module.threshold=0.8",
        "algorithm.module.optimizer.lr=0.5",
    )
    settings, parts = build.make_settings(config), assemble(config)

    assert (settings.seed, settings.steps_per_epoch, settings.init, settings.unvisited) == (7, 50, "continue", "random")
    assert (settings.score.c_u, settings.score.variance, settings.weight_ema) == (1.5, "pre", 0.99)
    assert settings.config == config.as_dict()
    assert (parts.datamodule.batch_size, parts.datamodule.mu) == (32, 3)
    assert parts.datamodule.pool is parts.pool
    network = parts.make_network()
    assert isinstance(network, FeatureNetwork)
    algorithm = parts.make_algorithm(network)
    assert isinstance(algorithm, FixMatch)
    assert algorithm.threshold == 0.8
    optimizer = algorithm.configure_optimizers()
    assert optimizer.defaults["lr"] == 0.5
    assert getattr(parts.acquisition, "c_u") == 1.5  # noqa: B009 - the protocol does not have it


def test_checking_moves_no_random_generator(compose_run: Compose) -> None:
    config = compose_run()
    before = torch.get_rng_state()
    prepare.check(config)

    torch.testing.assert_close(torch.get_rng_state(), before)


def test_a_long_tail_shortens_the_pool_after_it_was_compared_with_what_was_declared(compose_run: Compose) -> None:
    balanced = assemble(compose_run())
    parts = assemble(compose_run("data.imbalance_factor=10", "seed=3"))
    others = assemble(compose_run("data.imbalance_factor=10", "data.imbalance_seed=1"))

    assert balanced.pool.num_samples == 1297
    assert parts.pool.num_samples == others.pool.num_samples < 1297
    assert set(parts.pool.sample_ids) < set(balanced.pool.sample_ids)
    assert set(parts.pool.sample_ids) != set(others.pool.sample_ids)
    assert len(parts.datamodule.pool_images) == parts.pool.num_samples
    torch.testing.assert_close(parts.datamodule.test_images, balanced.datamodule.test_images)


def test_the_oracles_noise_is_a_function_of_the_seed(compose_run: Compose) -> None:
    index = torch.arange(1297)
    request = LabelRequest(round_number=0, index=index, sample_id=tuple(map(str, index.tolist())))

    def ask(*overrides: str) -> torch.Tensor:
        answers = assemble(compose_run(*overrides)).oracle.answer(request)
        assert isinstance(answers, Answers)
        return answers.label

    truth, noisy = ask(), ask("oracle.noise=0.25")
    assert 0.2 < (truth != noisy).double().mean() < 0.3
    assert torch.equal(noisy, ask("oracle.noise=0.25"))
    assert not torch.equal(noisy, ask("oracle.noise=0.25", "seed=1"))


def test_a_trainer_has_the_loops_callbacks_and_the_configurations_new_each_time(
    compose_run: Compose, working_directory: Path
) -> None:
    config = compose_run("trainer.accelerator=cpu", "+trainer.gradient_clip_val=0.5")
    node = {"_target_": f"{__name__}.OwnCallback"}
    config = replace(config, trainer=config.trainer | {"callbacks": [node]})
    make_trainer = assemble(config).make_trainer
    OwnCallback.made.clear()
    given = Callback()
    trainers = [
        make_trainer(max_epochs=3, callbacks=[given], default_root_dir=str(working_directory / name), logger=True)
        for name in ("a", "b")
    ]

    assert [trainer.max_epochs for trainer in trainers] == [3, 3]
    assert [trainer.gradient_clip_val for trainer in trainers] == [0.5, 0.5]
    for trainer, name, made in zip(trainers, ("a", "b"), OwnCallback.made, strict=True):
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        assert given in callbacks
        assert made in callbacks
        assert isinstance(trainer.logger, CSVLogger)
        assert Path(trainer.logger.log_dir) == working_directory / name


@pytest.mark.parametrize(
    ("network", "memory_format", "is_last"),
    [
        ("vit_small", "channels_last", True),
        ("vit_small", "auto", False),
        ("small_cnn", "auto", True),
        ("small_cnn", "contiguous", False),
    ],
)
def test_weights_lie_in_memory_as_the_trainers_key_says(
    compose_run: Compose, network: str, memory_format: str, is_last: bool
) -> None:
    config = compose_run("data=cifar10", f"network={network}", f"trainer.memory_format={memory_format}")
    weights = [one for one in make_network(config).parameters() if one.ndim == 4 and min(one.shape[1:]) > 1]
    assert {one.is_contiguous(memory_format=torch.channels_last) for one in weights} == {is_last}


def test_the_trainers_own_keys_of_speed(compose_run: Compose, working_directory: Path) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        for overrides, precision, graphs in (
            (["trainer.cuda_graph=true", "trainer.matmul_precision=high"], "high", 1),
            ([], "highest", 0),  # as torch has it, also after a job that wanted less
        ):
            make_trainer = assemble(compose_run("trainer.accelerator=cpu", *overrides)).make_trainer
            trainer = make_trainer(default_root_dir=str(working_directory))
            assert torch.get_float32_matmul_precision() == precision
            callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
            assert sum(isinstance(one, StepGraph) for one in callbacks) == graphs
    finally:
        torch.set_float32_matmul_precision(before)


def test_no_logger_is_no_logger(compose_run: Compose, working_directory: Path) -> None:
    parts = assemble(compose_run("trainer/logger=none", "trainer.accelerator=cpu"))

    assert parts.make_trainer(default_root_dir=str(working_directory)).loggers == []


# --- a whole run -----------------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_a_run_leaves_its_directory_and_prints_its_rounds(
    compose_run: Compose, quiet: Console, working_directory: Path
) -> None:
    config = compose_run(*SHORT)
    records = running.run(config, quiet)
    run_dir = working_directory / "runs" / "digits" / "seed_0"

    assert [(record.labels, record.steps, len(record.queried)) for record in records] == [(12, 2, 10), (22, 2, 0)]
    assert records == read_records(run_dir)
    assert (run_dir / "report" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert (run_dir / "round_01" / "metrics.csv").exists()
    written = OmegaConf.to_container(OmegaConf.load(run_dir / "config.yaml"))
    assert isinstance(written, dict)
    expected = config.as_dict()
    expected["trainer"] = {**config.trainer, "precision": "32-true"}  # what "auto" is on a CPU
    assert {key: written[key] for key in expected} == expected
    assert isinstance(quiet.file, StringIO)
    text = quiet.file.getvalue()
    assert "queried" in text
    assert "accuracy against labels: runs/digits/seed_0/report/curve.png" in text
    assert [path.name for path in working_directory.iterdir()] == ["runs"]

    before = {path: path.stat().st_mtime_ns for path in run_dir.glob("round_*/*")}
    assert running.run(config, quiet) == records
    assert {path: path.stat().st_mtime_ns for path in run_dir.glob("round_*/*")} == before


@pytest.mark.e2e
def test_a_run_below_the_home_directory_is_there_alone_with_its_loggers_files(
    compose_run: Compose, quiet: Console, working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = working_directory / "home"
    monkeypatch.setenv("HOME", str(home))

    running.run(compose_run(*SHORT, "rounds=0", "run_dir='~/mine'"), quiet)

    assert [path.name for path in working_directory.iterdir()] == ["home"]
    assert [path.name for path in home.iterdir()] == ["mine"]
    assert (home / "mine" / "round_00" / "metrics.csv").is_file()


@pytest.mark.e2e
def test_a_run_that_waits_for_labels_shows_its_newest_training(
    compose_run: Compose, quiet: Console, working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose_run(*SHORT, "run_dir=waiting")
    drawn: list[list[RoundRecord]] = []
    monkeypatch.setattr(running, "plot_curve", lambda records, *_: drawn.append(records))
    monkeypatch.setattr(HeldBackLabels, "answer", answer_the_first)
    assert running.run(config, quiet) == []
    assert isinstance(quiet.file, StringIO)
    (shown,) = drawn[0]
    assert (shown.round, shown.labels, len(shown.queried)) == (0, 12, 10)
    assert f"{100 * shown.test_accuracy_ema:.2f}" in quiet.file.getvalue()
    assert drawn == [trained_records(working_directory / "waiting", config.settings.rounds)]


def answer_the_first(oracle: HeldBackLabels, request: LabelRequest) -> Answers | Pending:
    if request.round_number < 0:
        return Answers(request.index, torch.zeros_like(request.index))
    return Pending("wait")


@pytest.mark.e2e
def test_a_step_of_one_image_that_comes_up_in_a_run_is_named_by_its_keys(
    compose_run: Compose, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where people answer for one image alone, which cannot be known before."""
    for module in (build, prepare):
        monkeypatch.setattr(module, "check_single_images", lambda *_: None)
    overrides = ["algorithm=supervised", "acquisition=random", "network=resnet18", "initial_labels=1"]

    with pytest.raises(ValueError, match="round 0: a step of one image cannot train this network") as caught:
        running.run(compose_run(*overrides, "warm_up=none", "steps_per_round=1", "trainer.accelerator=cpu"), quiet)

    assert "it needs algorithm.batch_size of at least 2 on each device, and more than one labelled" in str(caught.value)


@pytest.mark.e2e
def test_a_supervised_run_has_no_statistics_and_one_accuracy(compose_run: Compose, quiet: Console) -> None:
    records = running.run(compose_run(*SHORT, "algorithm=supervised", "acquisition=entropy"), quiet)

    assert [(record.labels, record.coverage) for record in records] == [(12, None), (22, None)]
    assert all(record.test_accuracy_ema == record.test_accuracy_raw for record in records)


def test_the_command_line_says_what_the_loop_says_and_leaves_lightnings_tips_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quiet: Console
) -> None:
    ours, lightnings = logging.getLogger("assl_lightning"), logging.getLogger("lightning.pytorch")
    monkeypatch.setattr(ours, "handlers", [])
    lightnings.setLevel(logging.INFO)
    monkeypatch.setattr(ours, "propagate", False)
    messages.set_up_messages()
    messages.set_up_messages()
    logging.getLogger("assl_lightning.loop.rounds").info("the run is finished")

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("the run is finished\n", "")
    tips = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    assert not tips.isEnabledFor(logging.INFO)
    assert tips.isEnabledFor(logging.WARNING)


TRAINING = "acquisition.features=training"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["algorithm=supervised"],
            "acquisition=herding, algorithm=supervised: Herding needs statistics of unlabelled images, and Supervised "
            "keeps none; choose FixMatch, or an acquisition without them, such as random",
        ),
        (["algorithm.mu=0"], "algorithm.mu=0, algorithm=fixmatch_small: mu must be at least 1, since FixMatch keeps"),
        (
            ["acquisition=badge", TRAINING],
            "acquisition.features=training, acquisition=badge: features of training are for strategies that need no "
            "logits, which only a pass over the pool gives, and BADGE needs them; set features to inference",
        ),
        (
            ["acquisition=kmeans_plus_plus", TRAINING, "algorithm=supervised"],
            "acquisition.features=training, algorithm=supervised: features of training need an algorithm that looks",
        ),
        (
            ["acquisition=assl_div", TRAINING, "acquisition.weights=ema"],
            "acquisition.features=training, acquisition.weights=ema: features of training are those of the raw weights",
        ),
        (
            ["acquisition=assl_div", TRAINING, "score.reset=false"],
            "acquisition.features=training, score.reset=false: features of training are each round's own, but",
        ),
        (
            ["acquisition=assl_div", TRAINING, "acquisition.unvisited=infer"],
            "acquisition.features=training, acquisition.unvisited=infer: features of samples that training never",
        ),
    ],
)
def test_a_strategy_that_does_not_fit_is_one_line_with_its_keys_before_anything_is_written(
    compose_run: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = compose_run(*overrides, "trainer.accelerator=cpu")

    with pytest.raises(ConfigurationError) as caught:
        prepare.prepare(config)

    (found,) = caught.value.lines
    assert found.startswith(line)
    assert list(tmp_path.iterdir()) == []


# --- images that cannot be decoded -----------------------------------------------------------------------------------

UNREADABLE = (
    "data.num_samples=60",
    "data.num_classes=3",
    "data.image_size=[8,8]",
    f"data.source._target_={__name__}.load",
)


def load(image_size: int, num_test: int, split_seed: int) -> PoolSource:
    """Sixty images in three classes, the last `num_test` of which cannot be decoded."""
    labels = torch.arange(60) % 3
    images = torch.randint(256, (60, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return PoolSource(
        pool_images=images,
        hidden_labels=labels,
        test_images=255 - images,
        test_labels=labels,
        class_names=("a", "b", "c"),
        sample_ids=tuple(f"image/{index}" for index in range(60)),
        unreadable=torch.arange(60 - num_test, 60),
    )


@pytest.fixture
def with_unreadable(compose_run: Compose, monkeypatch: pytest.MonkeyPatch) -> Compose:
    """A configuration whose source says that four of its sixty pool images cannot be decoded."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules[load.__module__])
    return lambda *overrides: compose_run(*UNREADABLE, "data.source.num_test=4", *overrides)


def test_images_that_cannot_be_decoded_are_refused_unless_they_may_be_left_out(with_unreadable: Compose) -> None:
    assert refused(with_unreadable()) == (
        "data.unreadable=fail: 4 of the pool's 60 images cannot be decoded: image/56; image/57; image/58; and 1 more; "
        "mend them or take them out, or leave them out of the run with data.unreadable=exclude",
    )


def test_images_that_cannot_be_decoded_are_left_out_for_good_and_named(
    with_unreadable: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    parts = assemble(with_unreadable("data.unreadable=exclude"))

    assert (parts.pool.labelled_in_round == -2).nonzero()[:, 0].tolist() == [56, 57, 58, 59]
    assert parts.pool.num_samples == 60
    assert parts.pool.sample_ids[56] == "image/56"
    assert [entry.getMessage() for entry in caplog.records if entry.name == unreadable.__name__] == [
        "4 of the pool's 60 images cannot be decoded and are left out of the run, which keeps their indices: "
        "image/56, image/57, image/58, and 1 more; runs/digits/seed_0/unreadable.csv has all"
    ]
    assert parts.unreadable[0] == ("pool", "image/56", "it cannot be decoded")


def test_the_budget_counts_the_images_that_can_be_decoded(with_unreadable: Compose) -> None:
    fits = ("data.unreadable=exclude", "rounds=1", "labels_per_round=6", "initial_labels=50")
    assemble(with_unreadable(*fits))

    (line,) = refused(with_unreadable(*fits, "initial_labels=51"))
    assert "= 57 labels, but the pool of digits has 56 images (without 4 that cannot be decoded)" in line


@pytest.mark.e2e
def test_a_run_goes_on_only_without_the_images_that_it_had_left_out(
    with_unreadable: Compose, quiet: Console, working_directory: Path
) -> None:
    begun = [*SHORT, "data.unreadable=exclude", "steps_per_round=1"]
    running.run(with_unreadable(*begun), quiet)
    assemble(with_unreadable(*begun))
    assemble(with_unreadable(*begun, "data.source.num_test=3"))  # one was mended, and stays out

    (line,) = refused(with_unreadable(*begun, "data.source.num_test=6"))
    assert line == (
        "run_dir=runs/digits/seed_0: the run has 2 images in its pool that cannot be decoded any more, such "
        "as image/54; fetch them again to go on with it, or choose another run_dir"
    )


@pytest.mark.e2e
@pytest.mark.parametrize(
    "target", ["assl_lightning.data.load_digits", "assl_lightning.data.sources.digits.load_digits"]
)
def test_a_run_of_the_time_when_sources_took_the_key_goes_on(compose_run: Compose, quiet: Console, target: str) -> None:
    config = compose_run(*SHORT, "steps_per_round=1")
    records = running.run(config, quiet)
    file = Path(config.run_dir) / "config.yaml"
    before = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(before, dict)
    before["data"]["source"] |= {"_target_": target, "unreadable": "fail"}
    file.write_text(OmegaConf.to_yaml(OmegaConf.create(before)))

    by_hand = (f"data.source._target_={target}", "+data.source.unreadable=exclude")  # as a YAML of the user's may say
    assert running.run(compose_run(*SHORT, "steps_per_round=1", *by_hand), quiet) == records
    assert load_classifier(config.run_dir).class_names == tuple("0123456789")


@pytest.mark.e2e
def test_a_run_that_began_before_there_was_the_key_goes_on(compose_run: Compose, quiet: Console) -> None:
    config = compose_run(*SHORT, "steps_per_round=1")
    records = running.run(config, quiet)
    file = Path(config.run_dir) / "config.yaml"
    before = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(before, dict)
    assert before["data"].pop("unreadable") == "fail"
    file.write_text(OmegaConf.to_yaml(OmegaConf.create(before)))

    assert running.run(config, quiet) == records
