"""One round's training: a Trainer, an algorithm and callbacks of its own, and what is left for the query.

A Trainer that fits twice trains nothing the second time, so each round has a new one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from assl_lightning.acquisition.base import Acquisition
from assl_lightning.algorithms.base import Algorithm
from assl_lightning.callbacks.checkpointing import AtomicCheckpointIO
from assl_lightning.callbacks.score import ASSLScoreCallback
from assl_lightning.callbacks.step_seed import StepSeed
from assl_lightning.callbacks.weight_ema import WeightEMA
from assl_lightning.datamodule import PoolDataModule
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.querying import Trained
from assl_lightning.records import RoundRecord
from assl_lightning.round_settings import RoundSettings
from assl_lightning.run_directory import RunDirectory
from assl_lightning.seeding import derive_key
from assl_lightning.statistics import SampleStatistics


@dataclass(frozen=True)
class RoundTraining:
    """Trains the rounds of a run; the arguments are those of `run_rounds`."""

    datamodule: PoolDataModule
    make_network: Callable[[], FeatureNetwork]
    make_algorithm: Callable[[FeatureNetwork], Algorithm]
    make_trainer: Callable[..., Trainer]
    acquisition: Acquisition
    settings: RoundSettings
    directory: RunDirectory
    make_progress: Callable[..., Callback] | None
    clock: Callable[[], float]

    def train(self, number: int) -> tuple[Trained, RoundRecord]:
        settings, datamodule = self.settings, self.datamodule
        datamodule.start_round(
            number,
            seed=settings.seed,
            steps_per_round=settings.steps_per_round,
            steps_per_epoch=settings.steps_per_epoch,
        )
        num_steps, num_labelled, num_unlabelled = (
            datamodule.num_steps,
            len(self.datamodule.pool.labelled),
            len(self.datamodule.pool.unlabelled),
        )
        algorithm = self._new_algorithm(number)
        score = self._score_callback(algorithm, number)
        weight_ema = None if settings.weight_ema is None else WeightEMA(settings.weight_ema)
        tests = _Tests(self.clock)
        trainer = self._new_trainer(number, [StepSeed(settings.seed, number), score, weight_ema, tests])

        started = self.clock()
        with warnings.catch_warnings():
            # the round's directory holds pool.pt before the CSV logger comes to it
            warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
            # the algorithms log by the round's step, so that an epoch may be shorter than the interval
            warnings.filterwarnings("ignore", message="The number of training batches .* logging interval")
            trainer.fit(algorithm, datamodule=datamodule)
        seconds = self.clock() - started
        stopped_early = trainer.should_stop and 0 < trainer.global_step < num_steps
        if trainer.global_step != num_steps and not stopped_early:
            raise RuntimeError(
                f"round {number} was to train {num_steps} steps, but the trainer made {trainer.global_step}; "
                f"a trainer setting such as max_steps or limit_train_batches must have cut it short"
            )
        if tests.last_step != trainer.global_step:
            raise RuntimeError(
                f"round {number} was last tested at step {tests.last_step}, not at its last step, "
                f"{trainer.global_step}; a trainer setting such as check_val_every_n_epoch must have left it out"
            )
        # weights_only: a checkpoint without callbacks would hold neither the averaged weights nor the statistics
        trainer.save_checkpoint(self.directory.round(number) / "final.ckpt", weights_only=False)
        statistics = None if score is None else score.statistics.to("cpu")
        if statistics is not None and is_first_rank():
            self.directory.save_tensors(number, "statistics.pt", statistics.state_dict())

        averaged = "raw" if weight_ema is None else "ema"
        record = RoundRecord(
            round=number,
            labels=num_labelled,
            unlabelled=num_unlabelled,
            steps=trainer.global_step,
            test_accuracy_ema=_accuracy(trainer, f"test_accuracy_{averaged}"),
            test_accuracy_raw=_accuracy(trainer, "test_accuracy_raw"),
            test_balanced_accuracy_ema=_accuracy(trainer, f"test_balanced_accuracy_{averaged}"),
            test_balanced_accuracy_raw=_accuracy(trainer, "test_balanced_accuracy_raw"),
            coverage=self._coverage(statistics),
            seconds={"train": seconds - tests.seconds, "test": tests.seconds},
        )
        network = algorithm.network.to(trainer.strategy.root_device)
        if settings.acquisition_weights == "ema" and weight_ema is not None:
            network = weight_ema.averaged(network, prefix="network.")
        features = score.features if score is not None and score.keep_features else None
        return Trained(network, statistics, trainer.precision_plugin.forward_context, features), record

    def _new_algorithm(self, number: int) -> Algorithm:
        """The same initial weights each round; under `init: continue`, then the last round's."""
        with torch.random.fork_rng():
            torch.manual_seed(derive_key(self.settings.seed, "initial_weights"))
            algorithm = self.make_algorithm(self.make_network())
        if self.settings.init == "continue" and number > 0:
            checkpoint = self.directory.load_tensors(number - 1, "final.ckpt")
            is_raw_apart = self.settings.continue_from == "raw" and "current_model_state" in checkpoint
            algorithm.load_state_dict(checkpoint["current_model_state" if is_raw_apart else "state_dict"])
        return algorithm

    def _score_callback(self, algorithm: Algorithm, number: int) -> ASSLScoreCallback | None:
        keep_features = self.settings.acquisition_features == "training" and "features" in self.acquisition.requires
        if "statistics" not in algorithm.produces:
            if keep_features:
                raise ValueError(
                    f"acquisition_features = 'training' needs features that training keeps, but "
                    f"{type(algorithm).__name__} keeps none; choose FixMatch, or 'inference'"
                )
            if "statistics" in self.acquisition.requires:
                raise ValueError(
                    f"{type(self.acquisition).__name__} needs the statistics that training keeps, but "
                    f"{type(algorithm).__name__} produces none; choose FixMatch, or another acquisition"
                )
            return None
        score = self.settings.score
        if keep_features:
            self._check_kept_features()
        callback = ASSLScoreCallback(
            self.datamodule.pool.num_samples,
            alpha=score.alpha,
            c_u=score.c_u,
            c_i=score.c_i,
            variance=score.variance,
            assume_unique=self.datamodule.draws_distinct,
            reset=score.reset,
            keep_features=keep_features,
        )
        if not score.reset and number > 0:
            callback.load_state_dict({"statistics": self.directory.load_tensors(number - 1, "statistics.pt")})
        return callback

    def _check_kept_features(self) -> None:
        """Raise where features of training would be mixed with those of a pass, or be missing."""
        others = sorted(self.acquisition.requires & {"head", "labelled", "logits"})
        if others:
            raise ValueError(
                f"acquisition_features = 'training' is for strategies that need nothing else of the network, but "
                f"{type(self.acquisition).__name__} also needs {', '.join(others)}; use 'inference'"
            )
        if self.settings.acquisition_weights == "ema":
            raise ValueError(
                "acquisition_features = 'training' are those of the raw weights; use acquisition_weights = 'raw'"
            )
        if self.settings.unvisited == "infer":
            raise ValueError(
                "acquisition_features = 'training' has none for samples that training never visited, so unvisited must "
                "be 'exclude' or 'random'; got 'infer'"
            )
        if not self.settings.score.reset:
            raise ValueError(
                "acquisition_features = 'training' are each round's own, but with score.reset off a sample may count "
                "as visited that this round never saw; use reset, or 'inference'"
            )

    def _new_trainer(self, number: int, callbacks: list[Callback | None]) -> Trainer:
        directory = self.directory.round(number)
        wanted = [callback for callback in callbacks if callback is not None]
        if self.make_progress is not None:
            labels = len(self.datamodule.pool.labelled)
            views = 2 * self.datamodule.mu if len(self.datamodule.streamed) else 0
            images = self.datamodule.batch_size * (1 + views)
            progress = self.make_progress(
                round=number, rounds=self.settings.rounds, labels=labels, images_per_step=images
            )
            wanted.append(progress)
        return self.make_trainer(
            max_epochs=self.datamodule.num_epochs,
            callbacks=wanted,
            plugins=[AtomicCheckpointIO()],
            logger=CSVLogger(str(directory), name="", version=""),
            default_root_dir=str(directory),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,  # or a shorter last epoch would end without a test
        )

    def _coverage(self, statistics: SampleStatistics | None) -> float | None:
        unlabelled = self.datamodule.pool.unlabelled
        if statistics is None or not len(unlabelled):
            return None
        return (statistics.visits[unlabelled] > 0).float().mean().item()


class _Tests(Callback):
    """When a fit was last tested, and the seconds that its tests took."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._started = 0.0
        self.seconds = 0.0
        self.last_step: int | None = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = self._clock()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds += self._clock() - self._started
        self.last_step = trainer.global_step


def _accuracy(trainer: Trainer, name: str) -> float:
    return round(trainer.callback_metrics[name].item(), 7)  # what a float32 ratio is good for


def is_first_rank() -> bool:
    """Whether this process is the one that writes."""
    return getattr(rank_zero_only, "rank", 0) in (0, None)
