from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from assl_lightning.config.contradictions import check_budget
from assl_lightning.config.reading import _leaves, _read_values, read
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.config.values import show
from assl_lightning.loop import CheckpointSettings, RoundSettings, ScoreSettings
from assl_lightning.loop.settings import KEYS
from tests.shell import run_python

Change = dict[str, Any]


class Missing:
    """No value at all; its name is the same in every process, as the names of tests must be."""

    def __repr__(self) -> str:
        return "missing"


MISSING = Missing()


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """A valid configuration as Hydra leaves it, written out so that no YAML file can hide a mistake in the schema."""
    return {
        "name": "digits",
        "seed": 0,
        "run_dir": "runs/digits/seed_0",
        "rounds": 5,
        "initial_labels": 10,
        "initial_acquisition": "random",
        "initial_features": "network",
        "known_labels": "hidden",
        "hold_out": 0,
        "labels_per_round": 10,
        "steps_per_round": 200,
        "steps_per_epoch": None,
        "init": "rand",
        "continue_from": "raw",
        "non_finite": "stop",
        "checkpoint": {"every_n_steps": None, "every_n_seconds": 300},
        "change_devices": False,
        "score": {"alpha": 0.8, "c_u": 0.5, "c_i": 2, "variance": "post", "reset": True},
        "data": {
            "name": "digits",
            "num_classes": 10,
            "num_samples": 1297,
            "channels": 1,
            "image_size": [16, 16],
            "mean": [0.3],
            "std": [0.3],
            "imbalance_factor": 1,
            "imbalance_seed": 0,
            "unreadable": "fail",
            "num_workers": 0,
            "root": None,
            "source": {"_target_": "a.Source"},
            "weak": {"_target_": "a.Weak"},
            "strong": {"_target_": "a.Strong"},
        },
        "network": {"_target_": "a.Network", "num_classes": 10},
        "algorithm": {
            "name": "fixmatch",
            "batch_size": 32,
            "mu": 7,
            "labelled_view": "weak",
            "labelled_stream": "tiled",
            "max_passes": None,
            "include_labelled": False,
            "weight_ema": 0.999,
            "module": {
                "_target_": "a.FixMatch",
                "threshold": 0.95,
                "temperature": 1.0,
                "lambda_u": 1.0,
                "weight_decay": 5e-4,
                "weight_decay_exempt": "by_module",
                "stop_at_train_accuracy": None,
                "optimizer": {"_target_": "a.SGD", "lr": 0.03, "momentum": 0.9},
            },
        },
        "acquisition": {
            "name": "assl",
            "strategy": {"_target_": "a.ASSL"},
            "unvisited": "exclude",
            "weights": "raw",
            "features": "inference",
        },
        "warm_up": None,
        "stop": None,
        "repeat_round": None,
        "schedule": None,
        "cost_per_label": None,
        "trainer": {
            "_target_": "a.Trainer",
            "devices": 1,
            "log_every_n_steps": 50,
            "logger": {"_target_": "a.Logger"},
        },
        "oracle": {"_target_": "a.Oracle"},
    }


def changed(plain: dict[str, Any], change: Change) -> dict[str, Any]:
    result = copy.deepcopy(plain)
    for key, value in change.items():
        *sections, name = key.split(".")
        node = result
        for section in sections:
            node = node[section]
        if value is MISSING:
            del node[name]
        else:
            node[name] = value
    return result


def refused(plain: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        read(plain)
    return caught.value.lines


MALFORMED: list[tuple[Change, list[str]]] = [
    # unknown and missing keys
    ({"typo": 1}, ["typo=1: ", "the configuration has no key 'typo'", "its keys are acquisition, algorithm,"]),
    ({"round": 4}, ["round=4: ", "did you mean 'rounds'?"]),
    (
        {"score.alhpa": 0.5},
        ["score.alhpa=0.5: ", "did you mean 'alpha'?", "its keys are alpha, c_i, c_u, reset, variance"],
    ),
    ({"data.clases": 3}, ["data.clases=3: ", "data has no key 'clases'"]),
    ({"algorithm.batch": 3}, ["algorithm.batch=3: ", "did you mean 'batch_size'?"]),
    ({"acquisition.weight": "raw"}, ["acquisition.weight=raw: ", "did you mean 'weights'?"]),
    ({"seed": MISSING}, ["seed: is missing", "seed=VALUE"]),
    ({"score.alpha": MISSING}, ["score.alpha: is missing", "score.alpha=VALUE"]),
    # types
    ({"rounds": 2.5}, ["rounds=2.5: must be an integer, at least 0"]),
    ({"rounds": "3"}, ["rounds=3: must be an integer"]),
    ({"rounds": True}, ["rounds=true: must be an integer"]),
    ({"rounds": None}, ["rounds=null: must be an integer"]),
    ({"score.alpha": "abc"}, ["score.alpha=abc: must be a number, in (0, 1]"]),
    ({"score.alpha": float("nan")}, ["score.alpha=nan: must be a number"]),
    ({"score.c_u": float("inf")}, ["score.c_u=inf: must be a number"]),
    ({"score": 3}, ["score=3: must be a group of keys", "score=OPTION"]),
    ({"name": 3}, ["name=3: must be a text"]),
    ({"algorithm.include_labelled": 1}, ["algorithm.include_labelled=1: must be true or false"]),
    ({"data.mean": [0.3, "x"]}, ["data.mean=[0.3, x]: must be a list of numbers"]),
    ({"data.image_size": [16]}, ["data.image_size=[16]: must be a list of integers, [height, width]"]),
    ({"network": {"width": 3}}, ["network={width: 3}: must name the class to build in network._target_"]),
    ({"oracle": None}, ["oracle=null: must name the class to build in oracle._target_"]),
    # ranges and choices
    ({"seed": -1}, ["seed=-1: must be at least 0"]),
    ({"rounds": -1}, ["rounds=-1: must be at least 0"]),
    ({"initial_labels": -1}, ["initial_labels=-1: must be", "at least 0"]),
    ({"initial_labels": 0}, ["initial_labels=0, known_labels=hidden: must be at least 1"]),
    ({"hold_out": 1270}, ["hold_out + initial_labels + rounds × labels_per_round = 1330", "for example rounds=1"]),
    ({"hold_out": 2000}, ["hold_out=2000, initial_labels=10: must be at most 1297 together, the images in the pool"]),
    ({"labels_per_round": 0}, ["labels_per_round=0: must be at least 1"]),
    ({"steps_per_round": 0}, ["steps_per_round=0: must be at least 1"]),
    ({"steps_per_epoch": 0}, ["steps_per_epoch=0: must be at least 1"]),
    ({"run_dir": " "}, ["run_dir= : must be a text that is not empty"]),
    ({"run_dir": ""}, ["run_dir='': must be a text that is not empty"]),
    ({"init": "random"}, ["init=random: must be one of rand, continue", "did you mean 'rand'?"]),
    ({"score.alpha": 0}, ["score.alpha=0: must be in (0, 1]"]),
    ({"score.alpha": 1.7}, ["score.alpha=1.7: must be in (0, 1]"]),
    ({"score.c_u": -0.5}, ["score.c_u=-0.5: must be at least 0"]),
    ({"score.c_i": -1}, ["score.c_i=-1: must be at least 0"]),
    ({"score.variance": "before"}, ["score.variance=before: must be one of post, pre"]),
    ({"data.num_classes": 1}, ["data.num_classes=1: must be at least 2"]),
    ({"data.imbalance_factor": 0.5}, ["data.imbalance_factor=0.5: must be at least 1"]),
    ({"data.imbalance_factor": None}, ["data.imbalance_factor=null: must be a number, at least 1"]),
    ({"data.imbalance_seed": -1}, ["data.imbalance_seed=-1: must be at least 0"]),
    ({"data.std": [0]}, ["data.std=[0]: must be numbers above 0"]),
    ({"data.image_size": [16, 0]}, ["data.image_size=[16, 0]: must be [height, width], each at least 1"]),
    ({"algorithm.batch_size": 0}, ["algorithm.batch_size=0: must be at least 1"]),
    ({"algorithm.mu": -1}, ["algorithm.mu=-1: must be at least 0"]),
    ({"algorithm.weight_ema": 1}, ["algorithm.weight_ema=1: must be in [0, 1), or null"]),
    ({"algorithm.max_passes": 0}, ["algorithm.max_passes=0: must be at least 1"]),
    ({"algorithm.labelled_view": "strong"}, ["algorithm.labelled_view=strong: must be one of weak, plain"]),
    ({"algorithm.labelled_stream": "tile"}, ["algorithm.labelled_stream=tile: must be one of tiled, passes"]),
    ({"acquisition.unvisited": "skip"}, ["acquisition.unvisited=skip: must be one of exclude, infer, random"]),
    ({"acquisition.weights": "mean"}, ["acquisition.weights=mean: must be one of raw, ema"]),
    # what every algorithm means the same by
    ({"algorithm.module.threshold": 0}, ["algorithm.module.threshold=0: must be above 0"]),
    ({"algorithm.module.threshold": "high"}, ["algorithm.module.threshold=high: must be a number, above 0"]),
    ({"algorithm.module.temperature": -1}, ["algorithm.module.temperature=-1: must be above 0"]),
    ({"algorithm.module.lambda_u": -1}, ["algorithm.module.lambda_u=-1: must be at least 0"]),
    ({"algorithm.module.weight_decay": None}, ["algorithm.module.weight_decay=null: must be a number, at least 0"]),
    ({"algorithm.module.stop_at_train_accuracy": 99}, ["stop_at_train_accuracy=99: must be in (0, 1]"]),
    ({"algorithm.module.optimizer.lr": 0}, ["algorithm.module.optimizer.lr=0: must be above 0"]),
    ({"algorithm.module.optimizer.momentum": 1}, ["algorithm.module.optimizer.momentum=1: must be in [0, 1)"]),
    ({"algorithm.module.weight_decay_exempt": "by_nam"}, ["weight_decay_exempt=by_nam: ", "did you mean 'by_name'?"]),
    # contradictions
    ({"rounds": 200}, ["rounds=200, ", "= 2010 labels", "has 1297 images", "for example rounds=128"]),
    ({"labels_per_round": 1000}, ["labels_per_round=1000, ", "= 5010 labels", "for example rounds=1"]),
    ({"initial_labels": 2000}, ["initial_labels=2000: must be at most 1297"]),
    ({"data.num_samples": 59}, ["= 60 labels", "has 59 images"]),
    (
        {"steps_per_epoch": 300},
        ["steps_per_epoch=300: must divide steps_per_round=200", "the nearest that does is 200"],
    ),
    ({"steps_per_epoch": 60}, ["steps_per_epoch=60: must divide steps_per_round=200", "the nearest that does is 50"]),
    ({"data.channels": 3, "data.std": [1, 1, 1]}, ["data.mean=[0.3]: must hold data.channels=3 numbers"]),
    ({"network.num_classes": 12}, ["network.num_classes=12: must equal data.num_classes=10", "digits has"]),
    ({"network.num_classes": 9}, ["network.num_classes=9: must equal data.num_classes=10"]),
    (
        {"acquisition.weights": "ema", "algorithm.weight_ema": None},
        [
            "acquisition.weights=ema, algorithm.weight_ema=null: averaged weights need weight_ema",
            "such as 0.999",
        ],
    ),
    ({"trainer.devices": 3}, ["algorithm.batch_size=32: must be a multiple of 3", "trainer.devices=3", "example 33"]),
    ({"trainer.devices": [0, 1, 2]}, ["algorithm.batch_size=32: must be a multiple of 3", "trainer.devices=[0, 1, 2]"]),
    ({"trainer.devices": 0}, ["trainer.devices=0: must be a number of devices"]),
    ({"trainer.devices": 1.5}, ["trainer.devices=1.5: must be a number of devices"]),
    (
        {"trainer.devices": 2, "algorithm.labelled_stream": "passes"},
        ["trainer.devices=2: must be 1 with algorithm.labelled_stream=passes", "labelled_stream=tiled"],
    ),
    ({"trainer.limit_val_batches": 1}, ["trainer.limit_val_batches=1: ", "the whole test set is always used"]),
    ({"trainer.max_epochs": 3}, ["trainer.max_epochs=3: ", "leave it out, use steps_per_round"]),
    ({"trainer.accumulate_grad_batches": 2}, ["trainer.accumulate_grad_batches=2: ", "use algorithm.batch_size"]),
    ({"trainer.log_every_n_steps": 0}, ["trainer.log_every_n_steps=0: must be at least 1"]),
    ({"trainer.cuda_graph": 1}, ["trainer.cuda_graph=1: must be true or false"]),
    (
        {"trainer.memory_format": "nhwc"},
        ["trainer.memory_format=nhwc: must be one of auto, contiguous, channels_last"],
    ),
    ({"trainer.matmul_precision": "fast"}, ["trainer.matmul_precision=fast: must be one of highest, high, medium"]),
    ({"trainer.logger": True}, ["trainer.logger=true: must be a logger's group", "trainer/logger=csv"]),
    # values that Lightning would refuse with its own list, or take
    (
        {"trainer.precision": "bf17"},
        ["trainer.precision=bf17: must be one of 32-true, bf16-mixed, 16-mixed, auto (did you mean 'bf16-mixed'?)"],
    ),
    ({"trainer.precision": "transformer-engine"}, ["trainer.precision=transformer-engine: must be one of 32-true, "]),
    ({"trainer.accelerator": "gpux"}, ["must be one of auto, cpu, gpu, cuda, mps (did you mean 'gpu'?)"]),
    (
        {"trainer.accelerator": None},
        ["trainer.accelerator=null: must be one of auto, cpu, gpu, cuda, mps; for another"],
    ),
    ({"trainer.strategy": "dpp"}, ["trainer.strategy=dpp: must be one of auto, ddp, ", "(did you mean 'ddp'?)"]),
    ({"trainer.strategy": 3}, ["trainer.strategy=3: must be one of auto, ddp, ", "in trainer.strategy._target_"]),
    ({"trainer.deterministic": "perhaps"}, ["trainer.deterministic=perhaps: must be one of true, false, warn, null"]),
    ({"trainer.deterministic": 1}, ["trainer.deterministic=1: must be one of true, false, warn, null"]),
    ({"trainer.gradient_clip_algorithm": "vale"}, ["must be one of norm, value, null (did you mean 'value'?)"]),
    ({"trainer.gradient_clip_val": -1}, ["trainer.gradient_clip_val=-1: must be at least 0, or null"]),
    ({"trainer.profiler": "simpl"}, ["trainer.profiler=simpl: must be one of simple, ", "(did you mean 'simple'?)"]),
    ({"trainer.benchmark": "x"}, ["trainer.benchmark=x: must be true or false, or null"]),
    ({"trainer.sync_batchnorm": "x"}, ["trainer.sync_batchnorm=x: must be true or false"]),
    ({"trainer.num_nodes": 0}, ["trainer.num_nodes=0: must be at least 1"]),
    ({"trainer.model_registry": 3}, ["trainer.model_registry=3: must be a text, or null"]),
    (
        {"trainer.devices": "two"},
        ["trainer.devices=two: must be a number of devices, a list of their numbers, or auto"],
    ),
    ({"trainer.devices": -2}, ["trainer.devices=-2: must be a number of devices"]),
    ({"trainer.devices": "0"}, ["trainer.devices=0: must be a number of devices"]),
    ({"trainer.devices": [-1]}, ["trainer.devices=[-1]: must be a number of devices"]),
    ({"trainer.devices": []}, ["trainer.devices=[]: must be a number of devices"]),
    ({"name": None}, ["name=null: must be a text that is not empty"]),
]


@pytest.mark.parametrize(("change", "words"), MALFORMED, ids=lambda value: str(value)[:60])
def test_a_wrong_value_is_one_line_that_names_it_and_what_to_do(
    plain: dict[str, Any], change: Change, words: list[str]
) -> None:
    lines = refused(changed(plain, change))

    assert len(lines) == 1, lines
    assert "\n" not in lines[0]
    assert [word for word in words if word not in lines[0]] == [], lines[0]


FITTING: list[Change] = [
    {"rounds": 0},
    {"rounds": 128, "labels_per_round": 10, "initial_labels": 17},  # every image of the pool
    {"score.alpha": 1},
    {"score.c_u": 0, "score.c_i": 0},
    {"steps_per_epoch": 50},
    {"steps_per_epoch": 200},
    {"data.imbalance_factor": 100.5},
    {"data.num_samples": None, "rounds": 10**6},  # known once the data is loaded
    {"algorithm.module.threshold": 1.5},  # no pseudo-label at all: the supervised gradient
    {"algorithm.weight_ema": None},
    {"algorithm.mu": 0},  # for an algorithm that looks at labelled images alone
    {"trainer.devices": 4},
    {"trainer.devices": "auto"},
    {"trainer.devices": -1},
    {"trainer.devices": "0,"},  # device number 0
    {"trainer.devices": [0]},
    {"trainer.precision": 32},
    {"trainer.precision": "bf16"},
    {"trainer.precision": "64-true"},  # refused with the reason once there is a Trainer
    {"trainer.strategy": "ddp_notebook"},  # likewise
    {"trainer.strategy": {"_target_": "their.Strategy"}},
    {"trainer.deterministic": "warn"},
    {"trainer.gradient_clip_val": 0.5},
    {"trainer.logger": False},
    {"network": {"_target_": "a.Network"}},
]


@pytest.mark.parametrize("change", [{}, *FITTING], ids=lambda value: str(value)[:60])
def test_a_value_at_the_edge_of_what_is_sensible_is_taken(plain: dict[str, Any], change: Change) -> None:
    wanted = changed(plain, change)

    assert read(wanted).as_dict() == wanted


@pytest.mark.parametrize("value", [["statistics"], [], "anything", None])
def test_keys_that_configurations_had_once_are_taken_and_left_out(plain: dict[str, Any], value: object) -> None:
    """As in a file of the user's, or in the config.yaml of a run that an older version began."""
    written = changed(plain, {"acquisition.requires": value, "algorithm.produces": value})

    assert read(written).as_dict() == read(plain).as_dict()


VALUES: list[object] = [
    *(-1, 0, 0.5, 1, 1.0, 2, 10**9, 10**10, float("nan"), None, True, []),
    *("", "1", "raw", "ema", "rand", "infer", "post"),
]


@pytest.mark.parametrize("key", [key for key, _ in _leaves(RoundSettings, "")])
def test_a_setting_is_refused_on_the_command_line_as_in_python(plain: dict[str, Any], key: str) -> None:
    """Each value: what one takes, the other takes too, as the same."""
    name = {key: name for name, key in KEYS.items()}.get(key, key)
    section, _, last = name.rpartition(".")
    for value in VALUES:
        try:
            settings = RoundSettings(**({section: SECTIONS[section](**{last: value})} if section else {last: value}))
        except (TypeError, ValueError):
            assert any(line.startswith(show(key, value)) for line in refused(changed(plain, {key: value}))), value
            continue
        errors: list[str] = []
        read_value = _read_values(changed(plain, {key: value}), errors)[key]
        assert errors == [], value
        of_python = getattr(getattr(settings, section), last) if section else getattr(settings, last)
        assert (type(read_value), read_value) == (type(of_python), of_python)


SECTIONS: dict[str, Any] = {"score": ScoreSettings, "checkpoint": CheckpointSettings}


def test_every_wrong_value_has_a_line_of_its_own(plain: dict[str, Any]) -> None:
    lines = refused(changed(plain, {"rounds": -1, "score.alpha": 2, "typo": 0}))

    assert [line.partition(":")[0] for line in lines] == ["typo=0", "rounds=-1", "score.alpha=2"]


def test_reading_changes_nothing_and_keeps_nothing_of_what_it_read(plain: dict[str, Any]) -> None:
    before = copy.deepcopy(plain)
    given = copy.deepcopy(plain)
    config = read(given)
    config.as_dict()["network"]["num_classes"] = 3
    given["network"]["num_classes"] = 4

    assert config.network["num_classes"] == 10
    assert plain == before


def test_an_integer_is_taken_where_a_number_is_wanted(plain: dict[str, Any]) -> None:
    assert isinstance(read(plain).settings.score.c_i, float)


@pytest.mark.parametrize(("num_samples", "fits"), [(60, True), (59, False)])
def test_the_budget_is_counted_exactly(plain: dict[str, Any], num_samples: int, fits: bool) -> None:
    config = read(plain)  # 10 + 5 × 10 labels

    assert (check_budget(config, num_samples) == []) == fits


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (False, "false"), ([1, "a"], "[1, a]"), ({"a": None}, "{a: null}"), (5e-4, "0.0005"), ("", "''")],
)
def test_values_are_shown_as_one_types_them(value: object, text: str) -> None:
    assert show("key", value) == f"key={text}"


def test_a_long_value_is_cut_short() -> None:
    assert len(show("key", list(range(100)))) == len("key=") + 60


def test_every_top_level_key_of_the_default_configuration_is_in_the_schema(
    plain: dict[str, Any], compose_run: Callable[..., Config]
) -> None:
    assert plain.keys() == compose_run().as_dict().keys()


@pytest.mark.e2e
def test_the_schema_waits_for_no_heavy_import() -> None:
    heavy = "{'torch', 'lightning', 'hydra'} & sys.modules.keys()"
    code = f"import sys, assl_lightning.config.schema; print(sorted({heavy}))"
    done = run_python("-c", code)

    assert done.stdout == "[]\n"
