"""Whole runs on the stripes, with everything real: a training of a few steps in each round."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from assl_lightning import FixMatch, run_rounds
from assl_lightning.data.pool import Pool
from assl_lightning.loop.oracles import HeldBackLabels
from assl_lightning.loop.records import RoundRecord
from assl_lightning.loop.settings import RoundSettings
from assl_lightning.method.assl import ASSL
from assl_lightning.networks.small import SmallCNN
from tests.stripes import CLASSES, LABELS, POOL_SIZE, SGD, make_datamodule


def make_trainer(
    *more: Callback, callbacks: list[Callback] | None = None, kind: type[Trainer] = Trainer, **keywords: Any
) -> Trainer:
    """Make a trainer on the CPU with the run's own callbacks and `more`."""
    settings: dict[str, Any] = {"accelerator": "cpu", "log_every_n_steps": 2}
    return kind(callbacks=[*(callbacks or []), *more], **(settings | keywords))


def run(
    run_dir: Path,
    *callbacks: Callback,
    settings: RoundSettings,
    pool: Pool | None = None,
    data: dict[str, Any] | None = None,
    **changes: Any,
) -> list[RoundRecord]:
    """Run the rounds, with `callbacks` in each training and `data` for the datamodule, but for what is changed."""
    pool = Pool(POOL_SIZE, CLASSES) if pool is None else pool
    arguments: dict[str, Any] = {
        "make_network": lambda: SmallCNN(CLASSES, width=4),
        "make_algorithm": lambda network: FixMatch(network, optimizer=SGD, threshold=0.6),
        "make_trainer": partial(make_trainer, *callbacks),
        "acquisition": ASSL(),
        "oracle": HeldBackLabels(LABELS[:POOL_SIZE]),
        "datamodule": make_datamodule(pool, **(data or {})),
    }
    return run_rounds(pool=pool, settings=settings, run_dir=run_dir, **(arguments | changes))
