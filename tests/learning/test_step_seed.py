from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from assl_lightning.learning.step_seed import StepSeed


class Dropping(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.masks: list[list[float]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.masks.append(nn.functional.dropout(torch.ones(8)).tolist())
        return self.layer(batch).sum()  # type: ignore[no-any-return]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def masks(seed: int, round_number: int, noise: int = 0) -> list[list[float]]:
    torch.manual_seed(noise)
    module = Dropping()
    data: Any = DataLoader([torch.ones(1)] * 4, batch_size=1)  # type: ignore[arg-type]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[StepSeed(seed, round_number)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(module, data)
    return module.masks


def test_dropout_follows_from_seed_round_and_step_alone() -> None:
    first = masks(0, 0)
    assert first == masks(0, 0, noise=5)
    assert len({tuple(mask) for mask in first}) == 4
    assert first != masks(0, 1)
    assert first != masks(1, 0)


def test_the_default_generator_is_given_back_as_it_was() -> None:
    def after(with_callback: bool) -> Tensor:
        torch.manual_seed(3)
        if with_callback:
            state = torch.get_rng_state()
            masks(0, 0, noise=3)
            # what the module's own initialisation and the loader drew before the fit is not the callback's
            torch.set_rng_state(state)
        return torch.rand(1)

    assert torch.equal(after(False), after(True))

    class Probe(StepSeed):
        before: Tensor
        after: Tensor

        def on_fit_start(self, *arguments: Any) -> None:
            super().on_fit_start(*arguments)
            self.before = torch.get_rng_state()

        def on_fit_end(self, *arguments: Any) -> None:
            assert not torch.equal(self.before, torch.get_rng_state())
            super().on_fit_end(*arguments)
            self.after = torch.get_rng_state()

    probe = Probe(0, 0)
    data: Any = DataLoader([torch.ones(1)] * 2, batch_size=1)  # type: ignore[arg-type]
    Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[probe],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    ).fit(Dropping(), data)
    assert torch.equal(probe.before, probe.after)
