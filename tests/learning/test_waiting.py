"""No algorithm's step waits for the device, with any switch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from assl_lightning import FixMatch
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.learning.weight_ema import WeightEMA
from tests.learning import contract
from tests.learning.test_contract import NAMES
from tests.stripes import SGD

LEARNERS = [name for name in NAMES if not name.partition(" ")[0].endswith("_small")]  # whose module is the same


def step_of(algorithm: Algorithm, device: torch.device) -> Callable[[], Tensor]:
    """A step in the middle of a fit on a device, with backward pass and averaging of the weights; nothing is logged."""
    datamodule = contract.make_data()
    batch: Any = datamodule.on_after_batch_transfer(next(iter(datamodule.train_dataloader())), 0)
    batch = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    weight_ema = WeightEMA(0.9)
    trainer: Any = Trainer(accelerator="cpu", callbacks=[weight_ema], logger=False, enable_checkpointing=False)
    trainer.datamodule = datamodule
    algorithm.trainer = trainer
    algorithm.setup("fit")
    algorithm.to(device)
    weight_ema.on_fit_start(trainer, algorithm)

    def step() -> Tensor:
        assert trainer  # which the algorithm has a weak reference to
        output: Any = algorithm.training_step(batch, 0)
        output["loss"].backward()
        weight_ema.average(algorithm)
        loss: Tensor = output["loss"].detach()
        return loss

    return step


@pytest.mark.parametrize("name", LEARNERS)
def test_a_step_waits_for_no_number(name: str) -> None:
    """Tensors on the meta device have shapes but no numbers, so whatever would wait for a device raises."""
    step = step_of(contract.make_of_configuration(name)(), torch.device("meta"))
    for _ in range(3):
        step()


@pytest.mark.gpu
@pytest.mark.parametrize("name", LEARNERS)
def test_a_step_on_a_gpu_waits_for_no_number(name: str) -> None:
    step = step_of(contract.make_of_configuration(name)(), torch.device("cuda"))
    step()  # libraries may wait when they are loaded
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Reads(FixMatch):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        output: Any = super().training_step(batch, batch_idx)
        self.threshold = output["logits_weak"].max().item()
        return output


class Selects(FixMatch):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        output: Any = super().training_step(batch, batch_idx)
        return output | {"logits_weak": output["logits_weak"][output["logits_weak"][:, 0] > 0]}


@pytest.mark.parametrize("waits", [Reads, Selects])
def test_a_step_that_waits_is_found(waits: type[FixMatch]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match=r"[Mm]eta"):
        step_of(waits(contract.make_network(), optimizer=SGD), torch.device("meta"))()
