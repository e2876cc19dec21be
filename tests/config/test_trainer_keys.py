"""The values of the trainer's keys, compared with Lightning's own lists."""

from __future__ import annotations

from typing import get_args

import pytest
from lightning.fabric.plugins.precision.precision import _PRECISION_INPUT
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry

from assl_lightning.config.trainer_keys import check_trainer

PRECISIONS = [precision for group in get_args(_PRECISION_INPUT) for precision in get_args(group)]


def taken(key: str, values: list[object]) -> set[object]:
    return {value for value in values if not check_trainer({"_target_": "Trainer", key: value})}


def test_every_precision_of_lightnings_is_taken_but_for_one_that_needs_another_library() -> None:
    assert "bf16-mixed" in PRECISIONS
    left_out = {*PRECISIONS} - taken("precision", PRECISIONS)
    assert left_out == {"transformer-engine", "transformer-engine-float16"}


@pytest.mark.parametrize("key", ["accelerator", "strategy"])
def test_a_name_that_is_taken_is_one_of_lightnings(key: str) -> None:
    line = check_trainer({"_target_": "Trainer", key: "nonsense"})[0]
    named = {*line.partition("must be one of ")[2].partition(";")[0].split(", ")}
    assert taken(key, [*named]) == named
    registry = {"accelerator": AcceleratorRegistry, "strategy": StrategyRegistry}[key]
    assert named - {*registry} == ({"auto", "gpu"} if key == "accelerator" else {"auto"})


@pytest.mark.parametrize(("key", "value"), [("strategy", "DDP"), ("profiler", "SIMPLE"), ("accelerator", "CPU")])
def test_names_that_lightning_takes_in_capitals_are_taken(key: str, value: str) -> None:
    assert check_trainer({"_target_": "Trainer", key: value}) == []


def test_another_accelerator_is_not_taken_for_a_misspelt_one() -> None:
    assert "did you mean" not in check_trainer({"_target_": "Trainer", "accelerator": "tpu"})[0]
    assert "did you mean 'gpu'" in check_trainer({"_target_": "Trainer", "accelerator": "gpuu"})[0]
