"""A small run from Python, as one process or as several: python tests/ddp_run.py OUTPUT DEVICES.

DDP_RUN_NODES says how many nodes there are; 1 without it. With DDP_RUN_WARM_UP the network is warmed up before the
first label, and the first labels are far apart in its features.

Each rank writes what it saw to OUTPUT/rank_N.pt: the indices of each step, the table of statistics and the labelled
samples of each round. The network has no batch norm, so that one process and two compute the same.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from assl_lightning import FixMatch
from assl_lightning.learning.simclr import SimCLR
from assl_lightning.loop import CheckpointSettings, RoundSettings
from assl_lightning.method.assl import ASSL
from assl_lightning.method.callback import ASSLScoreCallback
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.settings import FURTHER
from assl_lightning.networks.base import FeatureNetwork

sys.path.insert(0, str(Path(__file__).parents[1]))  # it is run as a script

from tests.small_runs import make_trainer, run
from tests.stripes import CLASSES, SGD

SETTINGS = RoundSettings(
    rounds=2,
    initial_labels=6,
    labels_per_round=3,
    steps_per_round=6,
    steps_per_epoch=3,
    weight_ema=0.8,
    checkpoint=CheckpointSettings(every_n_steps=2),
    acquisition_features="training",
)


class BesideFeatures:
    """ASSL, but for that it also asks for features of both kinds of samples, and further statistics: they are kept."""

    requires: frozenset[Requirement] = frozenset({"statistics", "features", "labelled", *FURTHER})

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        return ASSL().acquire(candidates, budget, generator)


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
        names = ("labelled", "index", "tables", "features", "pools", "warmed_up")
        self.seen: dict[str, list[Any]] = {name: [] for name in names}

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if isinstance(module, SimCLR):
            self.seen["warmed_up"].append(batch["index"].clone())
            return
        self.seen["labelled"].append(batch["labelled_index"].clone())
        self.seen["index"].append(batch["index"].clone())

    def on_train_end(self, trainer: Any, module: Any) -> None:
        if isinstance(module, SimCLR):
            return
        (score,) = (callback for callback in trainer.callbacks if isinstance(callback, ASSLScoreCallback))
        self.seen["tables"].append(score.statistics.state_dict())
        self.seen["features"].append(score.features.state_dict())
        self.seen["pools"].append(trainer.datamodule.pool.labelled.clone())


def make_warm_up(network: FeatureNetwork) -> SimCLR:
    return SimCLR(network, optimizer=SGD, steps=5, batch_size=8)


def main(output: Path, devices: int, nodes: int, *, is_warm: bool) -> None:
    torch.set_num_threads(1)
    watch = Watch()
    strategy = "ddp" if devices * nodes > 1 else "auto"
    records = run(
        output / "run",
        settings=replace(SETTINGS, initial_acquisition="kmeans_plus_plus") if is_warm else SETTINGS,
        acquisition=BesideFeatures(),
        make_network=Plain,
        make_algorithm=lambda network: FixMatch(network, optimizer=SGD, threshold=0.5),
        make_trainer=partial(make_trainer, watch, devices=devices, num_nodes=nodes, strategy=strategy),
        make_warm_up=make_warm_up if is_warm else None,
    )
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    torch.save({**watch.seen, "queried": [record.queried for record in records]}, output / f"rank_{rank}.pt")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        int(sys.argv[2]),
        int(os.environ.get("DDP_RUN_NODES", "1")),
        is_warm="DDP_RUN_WARM_UP" in os.environ,
    )
