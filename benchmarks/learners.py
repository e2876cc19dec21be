"""What a training step of each learning algorithm costs, beside FixMatch's.

The steps are on one batch that is staged on the device: forward, judgement of the pseudo-labels, backward, optimizer
and averaging of the weights, without Lightning's loop, augmentation and score callback, which are the same for all.
They take turns, so that a ratio is of one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Trainer

from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.learning.pseudo_labels import PseudoLabelling
from assl_lightning.learning.weight_ema import WeightEMA
from benchmarks.figures import Figure
from benchmarks.measuring import in_turns, ratios
from benchmarks.setups import SETUPS, TINY, Setup, configured
from benchmarks.step import trainer_overrides

REFERENCE = "fixmatch"
_MODULE = "algorithm.module."
LEARNERS = {
    REFERENCE: [],
    "softmatch": ["algorithm=softmatch_small"],
    "freematch": ["algorithm=freematch_small"],
    "flexmatch": ["algorithm=flexmatch_small"],
    "adamatch": ["algorithm=adamatch_small"],
    "uda": ["algorithm=uda_small"],
    "fixmatch, balanced_head=true": [f"{_MODULE}balanced_head=true"],
    "fixmatch, teacher=ema": [f"{_MODULE}teacher=ema"],
}
_ON_A_CPU = ("small_cnn, digits, 32 + 160 + 160",)


def measure(device: torch.device, quick: bool) -> Iterator[Figure]:
    """Steps a second of FixMatch, and for each other one how many times as long its step takes."""
    named = {setup.name: setup for setup in SETUPS}
    for setup in TINY if quick else [named[name] for name in _ON_A_CPU]:
        calls = {name: _step(setup, overrides, device) for name, overrides in LEARNERS.items()}
        each = 2 if quick else 20
        taken = in_turns(calls, device, repeats=2 if quick else 15, calls_each=each)
        figure = partial(Figure, "learners", size=setup.name)
        speeds = tuple(1 / value for value in taken[REFERENCE])
        yield figure(f"{REFERENCE}: steps a second", unit="1/s", values=speeds)
        for name, values in taken.items():
            if name != REFERENCE:
                yield figure(f"{name} ÷ {REFERENCE}", unit="×", values=ratios(values, taken[REFERENCE]))


def _step(setup: Setup, overrides: list[str], device: torch.device) -> Callable[[], None]:
    """Make a step of an algorithm of its own on a first batch."""
    config, parts = configured([*setup.overrides, *overrides, *trainer_overrides(device)])
    pool = parts.datamodule.pool
    first = torch.arange(0, pool.num_samples, 13)
    pool.label(first, first % pool.num_classes, 0)
    algorithm = parts.make_algorithm(parts.make_network()).to(device).train()
    weight_ema = WeightEMA(config.settings.weight_ema or 0.999)
    trainer: Any = Trainer(
        accelerator="auto", devices=1, callbacks=[weight_ema], logger=False, enable_checkpointing=False
    )
    trainer.datamodule = parts.datamodule
    algorithm.trainer = trainer
    algorithm.log_step = lambda *_, **__: None  # type: ignore[method-assign]
    _count(algorithm, pool.labels[pool.labelled])
    weight_ema.on_fit_start(trainer, algorithm)
    optimizer: Any = algorithm.configure_optimizers()
    parts.datamodule.start_round(0, seed=0, steps_per_round=2, steps_per_epoch=None)
    batch: Any = parts.datamodule.on_after_batch_transfer(
        _moved(next(iter(parts.datamodule.train_dataloader())), device), 0
    )

    def step() -> None:
        with trainer.precision_plugin.forward_context():
            output: Any = algorithm.training_step(batch, 0)
        optimizer.zero_grad()
        output["loss"].backward()
        optimizer.step()
        weight_ema.average(algorithm)

    return step


def _count(algorithm: Algorithm, labels: torch.Tensor) -> None:
    if isinstance(algorithm, PseudoLabelling) and algorithm.balanced is not None:
        algorithm.balanced.count(labels)


def _moved(item: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in item.items()}
