"""A small run from Python, as one process or as several: python tests/ddp_run.py OUTPUT DEVICES.

DDP_RUN_NODES says how many nodes there are; 1 without it.

Each rank writes what it saw to OUTPUT/rank_N.pt: the indices of each step, the table of statistics and the labelled
samples of each round. The network has no batch norm, so that one process and two compute the same.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from assl_lightning import FixMatch, run_rounds
from assl_lightning.data.pool import Pool
from assl_lightning.loop.oracles import HeldBackLabels
from assl_lightning.loop.settings import CheckpointSettings, RoundSettings
from assl_lightning.method.assl import ASSL
from assl_lightning.method.callback import ASSLScoreCallback
from assl_lightning.networks.base import FeatureNetwork

sys.path.insert(0, str(Path(__file__).parents[1]))  # it is run as a script

from tests.stripes import CLASSES, LABELS, POOL_SIZE, SGD, make_datamodule

SETTINGS = RoundSettings(
    rounds=2,
    initial_labels=6,
    labels_per_round=3,
    steps_per_round=6,
    steps_per_epoch=3,
    weight_ema=0.8,
    checkpoint=CheckpointSettings(every_n_steps=2),
)


class Plain(FeatureNetwork):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(16, CLASSES), 16, CLASSES)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images)
        return features


class Watch(Callback):
    """Keeps what this rank saw, over all rounds."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Any]] = {"labelled": [], "index": [], "tables": [], "pools": []}

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen["labelled"].append(batch["labelled_index"].clone())
        self.seen["index"].append(batch["index"].clone())

    def on_train_end(self, trainer: Any, module: Any) -> None:
        (score,) = (callback for callback in trainer.callbacks if isinstance(callback, ASSLScoreCallback))
        self.seen["tables"].append(score.statistics.state_dict())
        self.seen["pools"].append(trainer.datamodule.pool.labelled.clone())


def main(output: Path, devices: int, nodes: int) -> None:
    torch.set_num_threads(1)
    pool, watch = Pool(POOL_SIZE, CLASSES), Watch()

    def make_trainer(**keywords: Any) -> Trainer:
        callbacks = [*keywords.pop("callbacks", []), watch]
        return Trainer(
            accelerator="cpu",
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
            log_every_n_steps=2,
            callbacks=callbacks,
            **keywords,
        )

    records = run_rounds(
        pool=pool,
        datamodule=make_datamodule(pool),
        make_network=Plain,
        make_algorithm=lambda network: FixMatch(network, optimizer=SGD, threshold=0.5),
        make_trainer=make_trainer,
        acquisition=ASSL(),
        oracle=HeldBackLabels(LABELS[:POOL_SIZE]),
        settings=SETTINGS,
        run_dir=output / "run",
    )
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    torch.save({**watch.seen, "queried": [record.queried for record in records]}, output / f"rank_{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(os.environ.get("DDP_RUN_NODES", "1")))
