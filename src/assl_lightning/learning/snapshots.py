"""`PoolSnapshots`: predictions for the unlabelled samples at intervals during one training."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from assl_lightning.base.arguments import require_one_of, whole_number
from assl_lightning.base.seeding import make_generator
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.inference import evaluate
from assl_lightning.learning.settings import Weights
from assl_lightning.learning.simclr import SimCLR
from assl_lightning.learning.snapshot_files import DIRECTORY, Snapshot, snapshot_steps, write_snapshot
from assl_lightning.learning.views import images_of_parts
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.method import scores
from assl_lightning.method.callback import ASSLScoreCallback
from assl_lightning.networks.base import FeatureNetwork

Found = TypeVar("Found")


class PoolSnapshots(Callback):
    """Write the predictions for all unlabelled samples, and their running statistics, every n optimizer steps.

    The analyses of temporal instability read these files (Lim et al. 2023, §3.3, Fig. 3 and 4, Table 1): see
    `assl_lightning.report.instability`. A snapshot is one evaluation pass over images that are not augmented. It
    waits for the device, and changes nothing in training: each module's mode is put back, BatchNorm's running
    statistics stay, no random number is drawn from a default generator.

    Each is written at once to a file of its own (see `snapshot_files`) below `trainer.default_root_dir`, which for
    `run_rounds` is the round's directory; a killed fit keeps what it had. A fit that begins anew replaces the files of
    an earlier one. From the configuration:

        trainer:
          callbacks:
            - _target_: assl_lightning.learning.PoolSnapshots
              every_n_steps: 5000

    The trainer's list must hold an `ASSLScoreCallback` before it (as `run_rounds` does with algorithms that produce
    statistics), for weights="ema" also a `WeightEMA`; the datamodule must be a `PoolDataModule`, and the module's
    `network` a `FeatureNetwork`. Several of these callbacks may stand in one list, one for each kind of weights. There
    are no snapshots of a warm-up, which makes no predictions.

    Args:
        every_n_steps: optimizer steps between snapshots, ≥ 1; the paper's is 5,000.
        weights: "raw" or "ema", which weights predict. The paper does not say; averaged ones look far more stable.
        max_samples: at most so many of the unlabelled samples, the same ones in each snapshot of a round, drawn from
            (seed, round); ≥ 2. None: all of them.
        include_start: also one before the first step, of the initial weights.
    """

    def __init__(
        self,
        every_n_steps: int,
        weights: Weights = "raw",
        max_samples: int | None = None,
        include_start: bool = False,
    ) -> None:
        super().__init__()
        every_n_steps = whole_number("every_n_steps", every_n_steps)
        max_samples = None if max_samples is None else whole_number("max_samples", max_samples)
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps, the optimizer steps between snapshots, must be ≥ 1; got {every_n_steps}")
        require_one_of("weights", weights, Weights)
        if max_samples is not None and max_samples < 2:
            raise ValueError(f"max_samples must be ≥ 2, since one sample has no rank; got {max_samples}")
        self.every_n_steps = every_n_steps
        self.weights: Weights = weights
        self.max_samples = max_samples
        self.include_start = include_start
        self._last_step = 0
        self._index = torch.zeros(0, dtype=torch.int64)
        self._is_warm_up = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say what is missing before anything is trained."""
        self._is_warm_up = isinstance(pl_module, SimCLR)
        if stage != "fit" or self._is_warm_up:
            return
        _score_callback(trainer)
        _pool_datamodule(trainer)
        _network(pl_module)
        if self.weights == "ema":
            _weight_ema(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the samples; remove what an earlier fit left of the steps to come."""
        if self._is_warm_up:
            return
        self._last_step = trainer.global_step
        self._index = self._choose(_pool_datamodule(trainer))
        if not trainer.is_global_zero:
            return
        directory = self._directory(trainer)
        directory.mkdir(parents=True, exist_ok=True)
        for step, path in snapshot_steps(directory).items():
            if step > trainer.global_step or trainer.global_step == 0:
                path.unlink()
        if self.include_start and trainer.global_step == 0:
            self._take(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take a snapshot, if the optimizer has made a step whose turn it is."""
        if trainer.global_step == self._last_step or self._is_warm_up:
            return
        self._last_step = trainer.global_step
        if trainer.is_global_zero and trainer.global_step % self.every_n_steps == 0:
            self._take(trainer, pl_module)

    def _directory(self, trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / DIRECTORY / self.weights

    def _choose(self, datamodule: PoolDataModule) -> Tensor:
        """(n,) int64 unlabelled samples, ascending."""
        index = datamodule.pool.unlabelled
        if self.max_samples is None or len(index) <= self.max_samples:
            return index
        generator = make_generator(datamodule.seed, "pool_snapshots", datamodule.round_number)
        return index[torch.randperm(len(index), generator=generator)[: self.max_samples]].sort().values

    def _take(self, trainer: Trainer, pl_module: LightningModule) -> None:
        network = _network(pl_module)
        if self.weights == "ema":
            network = _weight_ema(trainer).averaged(network, prefix="network.")
        logits = _logits(network, self._index, trainer)
        uncertainty = scores.pseudo_el2n(logits)
        broken = self._index[~uncertainty.isfinite()]
        if len(broken):
            raise ValueError(
                f"at step {trainer.global_step} the {self.weights} weights' prediction for sample {int(broken[0])} is "
                f"not finite; look for a diverging loss"
            )
        score = _score_callback(trainer)
        statistics = score.statistics.rows(self._index.to(score.statistics.visits.device))
        write_snapshot(
            self._directory(trainer),
            Snapshot(
                step=np.array(trainer.global_step),
                index=self._index.numpy(),
                prediction=logits.argmax(-1).to(torch.int16).numpy(),
                max_probability=logits.softmax(-1).amax(-1).numpy(),
                uncertainty=uncertainty.numpy(),
                **{name: values.cpu().numpy() for name, values in vars(statistics).items()},
                c_u=np.array(score.c_u),
                c_i=np.array(score.c_i),
            ),
        )


def _logits(network: FeatureNetwork, index: Tensor, trainer: Trainer) -> Tensor:
    """(n, C) float32 logits on the CPU, of plain images, in evaluation mode; the features are not kept."""
    datamodule = _pool_datamodule(trainer)
    context = trainer.precision_plugin.forward_context
    device, parts = next(network.parameters()).device, index.split(datamodule.test_batch_size)
    found = []
    with closing(images_of_parts(datamodule.plain_view, parts, device)) as images_of:
        for part, images in zip(parts, images_of, strict=True):
            rows = torch.arange(len(part))
            found.append(evaluate(network, images.__getitem__, rows, batch_size=len(part), context=context)[0].cpu())
    return torch.cat(found)


def _score_callback(trainer: Trainer) -> ASSLScoreCallback:
    score = _first(trainer, ASSLScoreCallback)
    if score is None:
        raise ValueError(
            "PoolSnapshots also keeps the running statistics, but there is no ASSLScoreCallback among the trainer's "
            "callbacks; put one before it, or train with an algorithm that produces statistics, such as FixMatch"
        )
    return score


def _weight_ema(trainer: Trainer) -> WeightEMA:
    weight_ema = _first(trainer, WeightEMA)
    if weight_ema is None:
        raise ValueError(
            "PoolSnapshots with weights='ema' needs averaged weights, but there is no WeightEMA among the trainer's "
            "callbacks; put one before it (in a configuration, algorithm.weight_ema), or take weights='raw'"
        )
    return weight_ema


def _first(trainer: Trainer, kind: type[Found]) -> Found | None:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # set outside the class
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)


def _pool_datamodule(trainer: Trainer) -> PoolDataModule:
    datamodule = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, PoolDataModule):
        raise TypeError(
            f"PoolSnapshots needs to know the unlabelled samples: fit with a PoolDataModule as datamodule; got "
            f"{type(datamodule).__name__}"
        )
    return datamodule


def _network(module: LightningModule) -> FeatureNetwork:
    network = getattr(module, "network", None)
    if not isinstance(network, FeatureNetwork):
        raise TypeError(
            f"PoolSnapshots needs a module whose `network` is a FeatureNetwork, as every Algorithm's is; "
            f"{type(module).__name__} has {type(network).__name__}"
        )
    return network
