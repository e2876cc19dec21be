"""How every algorithm in conf/algorithm behaves. A new YAML file there is tested here without a new line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from assl_lightning import FixMatch
from assl_lightning.config.compose import conf_dir
from tests.learning import contract
from tests.stripes import SGD

OF_FILES = sorted(path.stem for path in (conf_dir() / "algorithm").glob("*.yaml"))
BALANCED, TEACHER = "algorithm.module.balanced_head=true", "algorithm.module.teacher=ema"
SWITCHES = (BALANCED, TEACHER, f"{BALANCED} {TEACHER}")
SWITCHED = [
    f"{name} {switch}"
    for name in OF_FILES
    for switch in SWITCHES
    if name != "supervised" and not name.endswith("_small")  # whose module is the same
]
NAMES = [*OF_FILES, *SWITCHED]

pytestmark = [
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
]

every_algorithm = pytest.mark.parametrize("name", NAMES)


def test_there_are_algorithms() -> None:
    assert {"fixmatch", "supervised"} <= set(NAMES)


@pytest.mark.parametrize(
    "check",
    [
        contract.check_step_output,
        contract.check_views,
        contract.check_gradient,
        contract.check_without_unlabelled,
    ],
)
@every_algorithm
def test_a_step_keeps_the_contract(name: str, check: Callable[[contract.Make], None]) -> None:
    check(contract.make_of_configuration(name))


@every_algorithm
def test_a_training_goes_on_from_any_checkpoint_to_the_last_bit(name: str, tmp_path: Path) -> None:
    contract.check_resume(contract.make_of_configuration(name), tmp_path)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    for devices in (1, 2):
        command = [sys.executable, str(Path(contract.__file__)), str(tmp_path), str(devices), *NAMES]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert result.returncode == 0, result.stderr
    for name in NAMES:
        one, two = (torch.load(tmp_path / f"{name}_{devices}.pt", weights_only=True) for devices in (1, 2))
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)  # gradients are summed in another order


class Swapped(FixMatch):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        output: Any = super().training_step(batch, batch_idx)
        return output | {"logits_weak": output["logits_strong"], "logits_strong": output["logits_weak"]}


class Attached(FixMatch):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) | {"logits_weak": self(batch["weak"])}


class PositionsInTheBatch(FixMatch):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) | {"index": torch.arange(len(batch["index"]))}


class TeachesByTheWeakView(FixMatch):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        output: Any = super().training_step(batch, batch_idx)
        return output | {"loss": output["loss"] + self(batch["weak"]).square().mean()}


class NeedsUnlabelled(FixMatch):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        output: Any = super().training_step(batch, batch_idx)
        return output | {"loss": output["loss"] + 0 * self(batch["strong"]).mean()}  # the mean of nothing is NaN


class Forgetful(FixMatch):
    """Its unlabelled loss weighs as much as the confidence that it saw, in an attribute that no checkpoint holds."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        output: Any = super().training_step(batch, batch_idx)
        self.lambda_u = 0.5 * self.lambda_u + 0.5 * output["logits_weak"].softmax(-1).max(-1).values.mean().item()
        return output


@pytest.mark.parametrize(
    ("broken", "check", "said"),
    [
        (Swapped, contract.check_views, "logits_weak"),
        (Attached, contract.check_step_output, "logits_weak must be detached"),
        (PositionsInTheBatch, contract.check_step_output, "the pool's indices"),
        (TeachesByTheWeakView, contract.check_gradient, "no gradient into the weak view"),
        (NeedsUnlabelled, contract.check_without_unlabelled, "the loss without unlabelled images"),
    ],
)
def test_the_contract_finds_an_algorithm_that_breaks_it(broken: type[FixMatch], check: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check(lambda: broken(contract.make_network(), optimizer=SGD))


def test_the_contract_finds_a_state_that_no_checkpoint_holds(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="resumed from step 3"):
        contract.check_resume(lambda: Forgetful(contract.make_network(), optimizer=SGD), tmp_path)
