from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from assl_lightning import ASSLScoreCallback, FixMatch, PoolDataModule
from assl_lightning.augment import Normalise, StrongAugment, WeakAugment
from assl_lightning.data.pool import Pool
from assl_lightning.learning.non_finite import NonFinite
from assl_lightning.learning.settings import OnNonFinite
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.networks.small import SmallCNN

BAD_STEPS = (3, 4)


class Bad(LightningModule):
    """Its loss or its gradient is not finite at certain steps; a batch norm sees the bad numbers too."""

    def __init__(
        self, bad_steps: tuple[int, ...] = BAD_STEPS, *, gradient_alone: bool = False, fused: bool | None = None
    ) -> None:
        super().__init__()
        self.fused = fused
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.bad_steps, self.gradient_alone = bad_steps, gradient_alone

    def forward(self, batch: Tensor) -> Tensor:
        output: Tensor = self.layers(batch)
        return output

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if batch_idx not in self.bad_steps:
            return self.forward(batch).square().mean()
        if not self.gradient_alone:
            return self.forward(batch / 0).square().mean()
        return (self.forward(batch).mean() * 0).sqrt()  # 0, with the gradient 0 · ∞

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1, fused=self.fused)


def fit(module: Bad, on_non_finite: OnNonFinite, **keywords: Any) -> tuple[NonFinite, Trainer]:
    torch.manual_seed(0)
    images = torch.randn(8, 16, 4)
    callback = NonFinite(on_non_finite)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[callback],
        **({"log_every_n_steps": 3} | keywords),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(images, batch_size=None))  # type: ignore[arg-type]
    return callback, trainer


def test_a_loss_that_is_not_finite_ends_the_fit_where_the_algorithms_log() -> None:
    module = Bad()
    with pytest.raises(FloatingPointError, match="the loss of step 3 was not finite; lower the learning rate"):
        fit(module, "stop", log_every_n_steps=6)
    assert module.trainer.global_step == 6, "nothing waits for the device in between"


@pytest.mark.parametrize(
    ("gradient_alone", "told"), [(False, "the loss of step 3"), (True, "after 4 steps the weights are not finite")]
)
def test_no_checkpoint_holds_what_came_of_it(tmp_path: Path, gradient_alone: bool, told: str) -> None:
    class Saving(NonFinite):
        def on_before_zero_grad(self, trainer: Trainer, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")

    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[Saving()],
        log_every_n_steps=50,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    torch.manual_seed(0)
    with pytest.raises(FloatingPointError, match=told):
        trainer.fit(Bad(gradient_alone=gradient_alone), DataLoader(torch.randn(8, 16, 4), batch_size=None))  # type: ignore[arg-type]
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["0", "1", "2", "3"], (
        "each before the step of its number"
    )


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
@pytest.mark.parametrize("fused", [None, True])  # fused: without a number that the host reads
@pytest.mark.parametrize("bad_steps", [BAD_STEPS, (0, 2)])  # 0: before there is a momentum
@pytest.mark.parametrize("gradient_alone", [False, True])
def test_steps_that_are_skipped_leave_weights_momentum_and_batch_norm_as_they_were(
    gradient_alone: bool, bad_steps: tuple[int, ...], fused: bool | None
) -> None:
    skipping = Bad(bad_steps, gradient_alone=gradient_alone, fused=fused)
    callback, trainer = fit(skipping, "skip")
    assert callback.skipped == 2
    assert callback.state_dict() == {"skipped": 2}
    assert trainer.global_step == 8

    class Without(Bad):
        """The bad steps return nothing, which is Lightning's own way to leave a step out."""

        def training_step(self, batch: Tensor, batch_idx: int) -> Any:
            return None if batch_idx in bad_steps else super().training_step(batch, batch_idx)

    expected = Without(bad_steps, fused=fused)
    fit(expected, "stop")
    for name, value in expected.state_dict().items():
        assert torch.equal(skipping.state_dict()[name], value), name


@pytest.mark.parametrize("bad_step", [0, 1])  # the first batch of a step, and its last
def test_a_step_of_several_batches_is_left_out_as_a_whole(bad_step: int) -> None:
    module = Bad((bad_step,), fused=True)
    callback, _ = fit(module, "skip", accumulate_grad_batches=2)
    assert callback.skipped == 1
    assert all(bool(value.isfinite().all()) for value in module.state_dict().values())


def test_without_a_bad_step_skipping_changes_nothing() -> None:
    skipping, stopping = Bad(()), Bad(())
    assert fit(skipping, "skip")[0].skipped == 0
    fit(stopping, "stop")
    for name, value in stopping.state_dict().items():
        assert torch.equal(skipping.state_dict()[name], value), name


def test_the_count_goes_on_after_a_checkpoint() -> None:
    callback = NonFinite("skip")
    callback.load_state_dict({"skipped": 5})
    assert callback.skipped == 5
    assert callback.state_dict() == {"skipped": 5}


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match="on_non_finite must be one of stop, skip; got 'ignore'"):
        NonFinite("ignore")  # type: ignore[arg-type]


# ---- in the loop's own trainings


def fit_fixmatch(on_non_finite: OnNonFinite, bad_step: int) -> tuple[NonFinite, ASSLScoreCallback, FixMatch]:
    class Diverging(FixMatch):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch["step"] == bad_step:
                batch["weak"] = batch["weak"] * torch.inf
            return super().training_step(batch, batch_idx)

    pool = Pool(40, 3)
    pool.label(torch.arange(6), torch.arange(6) % 3, 0)
    images = torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    datamodule = PoolDataModule(
        pool,
        pool_images=images,
        test_images=images[:4],
        test_labels=torch.zeros(4, dtype=torch.int64),
        normalise=Normalise((0.5,), (0.3,)),
        weak=WeakAugment(),
        strong=StrongAugment(),
        batch_size=4,
        mu=3,
        steps_per_round=6,
    )
    torch.manual_seed(0)
    module = Diverging(SmallCNN(3, width=4), optimizer=functools.partial(torch.optim.SGD, lr=0.05), threshold=0.3)
    callback, score = NonFinite(on_non_finite), ASSLScoreCallback(skip_non_finite=on_non_finite == "skip")
    Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[callback, score, WeightEMA(0.9)],
        log_every_n_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(module, datamodule=datamodule)
    return callback, score, module


def test_the_error_tells_round_step_and_samples() -> None:
    with pytest.raises(FloatingPointError) as caught:
        fit_fixmatch("stop", bad_step=2)
    assert "the loss of step 2 of round 0 was not finite (labelled samples " in str(caught.value)
    told = str(caught.value).split("unlabelled samples ")[1].split(", and ")[0]
    assert len(told.split(", ")) == 8
    assert all(6 <= int(sample) < 40 for sample in told.split(", "))


def test_a_skipped_step_is_neither_in_the_weights_nor_in_the_statistics() -> None:
    callback, score, module = fit_fixmatch("skip", bad_step=2)
    assert callback.skipped == 1
    assert all(value.isfinite().all() for value in module.state_dict().values())
    assert int(score.statistics.visits.sum()) == 5 * 12, "of 6 steps one was left out"
    assert score.scores().isinf().sum() == 0
