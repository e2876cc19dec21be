"""A fit of one's own, with Lightning's ModelCheckpoint, resumes to the last bit."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from assl_lightning import ASSLScoreCallback, FixMatch, PoolDataModule
from assl_lightning.augment import Normalise, StrongAugment, WeakAugment
from assl_lightning.data.pool import Pool
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.networks.small import SmallCNN


class Watching(FixMatch):
    """Notes which batches it was given."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.steps: list[int] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.steps.append(batch["step"])
        return super().training_step(batch, batch_idx)


def fit(directory: Path, resume: Path | None = None) -> tuple[Watching, WeightEMA, ASSLScoreCallback]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (50, 1, 12, 12), dtype=torch.uint8, generator=generator)
    pool = Pool(50, 4)
    pool.label(torch.arange(6), torch.arange(6) % 4, 0)
    datamodule = PoolDataModule(
        pool,
        pool_images=images,
        test_images=images[:5],
        test_labels=torch.zeros(5, dtype=torch.int64),
        normalise=Normalise((0.5,), (0.3,)),
        weak=WeakAugment(),
        strong=StrongAugment(),
        batch_size=4,
        mu=3,
        steps_per_round=12,
        steps_per_epoch=4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SmallCNN(4, width=4)
    algorithm = Watching(network, optimizer=functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9), threshold=0.3)
    weight_ema, score = WeightEMA(0.8), ASSLScoreCallback()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        callbacks=[
            weight_ema,
            score,
            ModelCheckpoint(directory, every_n_train_steps=2, save_top_k=-1, filename="{step}"),
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=2,
    )
    trainer.fit(algorithm, datamodule=datamodule, ckpt_path=resume, weights_only=True if resume else None)
    return algorithm, weight_ema, score


@pytest.mark.parametrize("step", [4, 6, 8])
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.filterwarnings("ignore:The dirpath has changed from")
def test_a_fit_resumed_at_an_epochs_end_or_in_its_middle_equals_the_undisturbed_one(tmp_path: Path, step: int) -> None:
    whole, whole_ema, whole_score = fit(tmp_path / "whole")
    resumed, resumed_ema, resumed_score = fit(tmp_path / "rest", resume=tmp_path / "whole" / f"step={step}.ckpt")
    assert whole.steps == list(range(12))
    assert resumed.steps == list(range(step, 12))
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    for name, value in whole_ema.averaged(whole).state_dict().items():
        assert torch.equal(resumed_ema.averaged(resumed).state_dict()[name], value), name
    assert torch.equal(whole_score.scores().nan_to_num(-1), resumed_score.scores().nan_to_num(-1))
