"""The results of a trained round: whether it made all its steps, its record, and its test, image by image."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from assl_lightning.data.contact_sheet import contact_sheet
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.image_predictions import TestedImages
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.evaluation import Evaluation, confident_errors
from assl_lightning.loop.records import RoundRecord
from assl_lightning.method.statistics import SampleStatistics


def check_steps(trainer: Trainer, number: int, num_steps: int, *, last_test: int | None) -> None:
    """Raise unless round `number` made all its steps, or its algorithm stopped early, and ended with a test.

    Args:
        num_steps: of the round.
        last_test: the step of the last test.
    """
    stopped_early = trainer.should_stop and 0 < trainer.global_step < num_steps
    if trainer.global_step != num_steps and not stopped_early:
        raise RuntimeError(
            f"round {number} was to train {num_steps} steps, but the trainer made {trainer.global_step}; "
            f"a trainer setting such as max_steps or limit_train_batches must have cut it short"
        )
    if last_test != trainer.global_step:
        raise RuntimeError(
            f"round {number} was last tested at step {last_test}, not at its last step, "
            f"{trainer.global_step}; a trainer setting such as check_val_every_n_epoch must have left it out"
        )


def make_record(
    number: int,
    trainer: Trainer,
    datamodule: PoolDataModule,
    statistics: SampleStatistics | None,
    *,
    tested_weights: Literal["raw", "ema"],
    mask_rate: Tensor | None,
    skipped_steps: int,
    seconds: dict[str, float],
) -> RoundRecord:
    """Make the record of a round that is trained, and asked for no labels yet.

    Args:
        tested_weights: the weights that the round reports: averaged ones, where there are any.
        mask_rate: (), as last logged; None without pseudo-labels.
    """
    pool = datamodule.pool
    return RoundRecord(
        round=number,
        labels=len(pool.labelled),
        unlabelled=len(pool.unlabelled),
        steps=trainer.global_step,
        test_accuracy_ema=_share(trainer, f"test_accuracy_{tested_weights}"),
        test_accuracy_raw=_share(trainer, "test_accuracy_raw"),
        test_balanced_accuracy_ema=_share(trainer, f"test_balanced_accuracy_{tested_weights}"),
        test_balanced_accuracy_raw=_share(trainer, "test_balanced_accuracy_raw"),
        test_images=datamodule.num_test_images,
        num_classes=pool.num_classes,
        coverage=_coverage(statistics, pool.unlabelled),
        mask_rate=None if mask_rate is None else round(mask_rate.item(), 7),
        skipped_steps=skipped_steps,
        seconds=seconds,
    )


def write_evaluation(directory: RunDirectory, datamodule: PoolDataModule, number: int, tested: TestedImages) -> None:
    """Write what was predicted for each test image, and the pictures of the most confident errors."""
    columns = {name: column.numpy() for name, column in tested._asdict().items()}
    evaluation = Evaluation(**columns)
    position = tested.position[torch.from_numpy(confident_errors(evaluation))]
    evaluation = replace(evaluation, pictured=datamodule.tested_names(position))
    sheet = contact_sheet(datamodule.tested_images(position)) if len(position) else None
    directory.write_evaluation(number, evaluation, sheet)


def _share(trainer: Trainer, name: str) -> float:
    """Return a logged share, to the precision of a ratio in float32."""
    if name not in trainer.callback_metrics:
        raise RuntimeError(
            f"the test of the training logged no {name}; on_validation_epoch_end of the algorithm must log it, as that "
            f"of Algorithm does; it logged {', '.join(sorted(trainer.callback_metrics)) or 'nothing'}"
        )
    return round(trainer.callback_metrics[name].item(), 7)


def _coverage(statistics: SampleStatistics | None, unlabelled: Tensor) -> float | None:
    """Return the share of the unlabelled samples that training visited; None where it is not known."""
    if statistics is None or not len(unlabelled):
        return None
    return (statistics.visits[unlabelled] > 0).float().mean().item()
