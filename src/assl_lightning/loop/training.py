"""The training of one round, with a Trainer, an algorithm and callbacks of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from assl_lightning.base.processes import is_first_rank
from assl_lightning.base.run_files import FINAL_CHECKPOINT, PREDICTIONS, REPEAT, STATISTICS
from assl_lightning.base.seeding import derive_key
from assl_lightning.learning.accepting import check_algorithm
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.latest_predictions import LatestPredictions
from assl_lightning.learning.non_finite import NonFinite
from assl_lightning.learning.step_seed import StepSeed
from assl_lightning.learning.trained_model import TrainedModel
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.loop.class_history import read_history
from assl_lightning.loop.comparing import compare_predictions
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.fitting import Fitting, Times
from assl_lightning.loop.records import RoundRecord
from assl_lightning.loop.requirements import find_contradictions
from assl_lightning.loop.round_results import check_steps, make_record, write_evaluation
from assl_lightning.loop.settings import RoundSettings
from assl_lightning.loop.warming_up import WarmUp
from assl_lightning.method.callback import ASSLScoreCallback
from assl_lightning.method.candidates import Acquisition
from assl_lightning.method.settings import FURTHER
from assl_lightning.method.statistics import SampleStatistics, pad_to
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.networks.class_rows import carry_rows
from assl_lightning.stopping.rules import StopRule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundTraining:
    """Trainer of a run's rounds; the arguments are those of `run_rounds`."""

    fitting: Fitting
    datamodule: PoolDataModule
    make_network: Callable[[], FeatureNetwork]
    make_algorithm: Callable[[FeatureNetwork], Algorithm]
    acquisition: Acquisition
    make_progress: Callable[..., Callback] | None
    warm_up: WarmUp | None  # None: trainings begin at random weights
    stop: StopRule | None = None

    @property
    def settings(self) -> RoundSettings:
        """The settings of the run."""
        return self.fitting.settings

    @property
    def directory(self) -> RunDirectory:
        """The directory of the run."""
        return self.fitting.directory

    def check(self) -> None:
        """Make a network and an algorithm and throw them away.

        Raises:
            TypeError, ValueError: they lack what the loop needs, or contradict the strategy or the settings.
        """
        algorithm = self._initial_algorithm()
        check_algorithm(algorithm, self.datamodule.pool_images.shape[1:])
        self._check_requirements(algorithm)

    def train(self, number: int) -> tuple[TrainedModel, RoundRecord]:
        """Train a round, from its last checkpoint if there is one; return the model and the round's record.

        Raises:
            Interrupted: a signal came; the training is saved.
        """
        settings = self.settings
        self._start_round(number)
        algorithm = self._new_algorithm(number)
        score = self._score_callback(algorithm, number)
        weight_ema = None if settings.weight_ema is None else WeightEMA(settings.weight_ema)
        latest = self._latest_predictions(algorithm)
        times, non_finite = Times(self.fitting.clock), NonFinite(settings.non_finite)
        checkpoints = self.fitting.step_checkpoints(self.directory.checkpoints(number))
        callbacks = [StepSeed(settings.seed, number), non_finite, score, latest, weight_ema, times, checkpoints]
        trainer = self._new_trainer(number, [*callbacks, self._progress(number)])
        self._fit(trainer, algorithm, number)
        seconds = {"train": times.of_fit - times.of_tests, "test": times.of_tests}
        check_steps(trainer, number, self.datamodule.num_steps, last_test=times.last_step)

        # weights_only: a checkpoint without callbacks would hold neither the averaged weights nor the statistics
        trainer.save_checkpoint(self.directory.round(number) / FINAL_CHECKPOINT, weights_only=False)
        statistics = None if score is None else score.statistics.to("cpu")
        if statistics is not None and is_first_rank():
            self.directory.save_tensors(number, STATISTICS, statistics.state_dict())
        tested = algorithm.tested if weight_ema is None else weight_ema.tested
        if tested is not None and is_first_rank():
            write_evaluation(self.directory, self.datamodule, number, tested)
        record = make_record(
            number,
            trainer,
            self.datamodule,
            statistics,
            tested_weights="raw" if weight_ema is None else "ema",
            mask_rate=algorithm.last_logged.get("mask_rate"),
            skipped_steps=non_finite.skipped,
            seconds=seconds,
        )
        if latest is not None:
            record = replace(record, agreement=self._agreement(number, latest.classes.cpu()))
        network = algorithm.network.to(trainer.strategy.root_device)
        if settings.acquisition_weights == "ema" and weight_ema is not None:
            network = weight_ema.averaged(network, prefix="network.")
        return _model(trainer, network, statistics, score), record

    def why_not_repeated(self, number: int) -> str | None:
        """Return why a trained round cannot be trained once more, in words; None if it can be."""
        if self._latest_predictions(self._initial_algorithm()) is None:
            return "its algorithm looks at no unlabelled images, so that there are no predictions to compare"
        needed = [(number, PREDICTIONS, "earlier versions wrote none")]
        if self.settings.init == "continue" and number > 0:
            needed.append((number - 1, FINAL_CHECKPOINT, "init=continue begins with its weights"))
        for needed_round, name, why in needed:
            if not self.directory.has(needed_round, name):
                return f"{self.directory.round(needed_round) / name} is not there; {why}"
        return None

    def repeat(self, number: int) -> dict[str, float]:
        """Train a round once more, on the same labels and from the same weights, with other draws in its steps.

        Nothing is wanted of it but the fields of the `Agreement` of its latest predictions with those of the round. A
        training that was stopped goes on from its checkpoint; once the result is written down,
        `RunDirectory.remove_repeat` removes its files. Call it only where `why_not_repeated` gives no reason.

        Raises:
            Interrupted: a signal came; the training is saved.
        """
        self._start_round(number, derive_key(self.settings.seed, "repeat"))
        algorithm = self._new_algorithm(number)
        latest = self._latest_predictions(algorithm)
        assert latest is not None
        weight_ema = None if self.settings.weight_ema is None else WeightEMA(self.settings.weight_ema)
        checkpoints = self.directory.repeat_checkpoints(number)
        saving = self.fitting.step_checkpoints(checkpoints)
        seeding = StepSeed(self.datamodule.seed, number)
        callbacks = [seeding, NonFinite(self.settings.non_finite), latest, weight_ema, saving]
        directory = self.directory.round(number) / REPEAT
        trainer = self.fitting.new_trainer(directory, self.datamodule.num_epochs, callbacks)
        self.fitting.fit(trainer, algorithm, self.datamodule, checkpoints)
        first: Tensor = self.directory.load_tensors(number, PREDICTIONS)["classes"]
        agreement = compare_predictions(first, latest.classes.cpu(), self.datamodule.pool.unlabelled)
        self._start_round(number)
        return agreement

    def _agreement(self, number: int, classes: Tensor) -> dict[str, float]:
        """Write the latest predictions (N,) of a round, and compare them with those of the round before."""
        if is_first_rank():
            self.directory.save_tensors(number, PREDICTIONS, {"classes": classes.clone()})
        if number == 0 or not self.directory.has(number - 1, PREDICTIONS):  # a run of an early version has none
            return {}
        before: Tensor = self.directory.load_tensors(number - 1, PREDICTIONS)["classes"]
        history = read_history(self.directory.path)
        present = None if history is None else history.present_labels(number - 1)
        with self.directory.reading(number - 1, PREDICTIONS):
            return compare_predictions(before, classes, self.datamodule.pool.unlabelled, present)

    def _fit(self, trainer: Trainer, algorithm: Algorithm, number: int) -> None:
        """Fit from the last good checkpoint, or from the start."""
        try:
            self.fitting.fit(trainer, algorithm, self.datamodule, self.directory.checkpoints(number))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # of batch norm
                raise
            raise ValueError(
                f"round {number}: a step of one image cannot train this network ({error}); it needs "
                f"algorithm.batch_size of at least 2 on each device, and more than one labelled image"
            ) from error

    def restore(self, number: int) -> TrainedModel:
        """Restore the model that `train` returned for a round from the round's files."""
        self._start_round(number)
        checkpoint = self.directory.load_tensors(number, FINAL_CHECKPOINT)
        algorithm = self._initial_algorithm()
        score = self._score_callback(algorithm, number)
        with self.directory.reading(number, FINAL_CHECKPOINT):
            raw = checkpoint.get("current_model_state", checkpoint["state_dict"])
            algorithm.load_state_dict(checkpoint["state_dict"] if self.settings.acquisition_weights == "ema" else raw)
            if score is not None:
                score.load_state_dict(checkpoint["callbacks"][score.state_key])
        trainer = self._new_trainer(number, [])
        network = algorithm.network.to(trainer.strategy.root_device)
        return _model(trainer, network, None if score is None else score.statistics, score)

    def untrained(self) -> TrainedModel:
        """Return the network with the weights at which its first training begins."""
        self._start_round(0)
        trainer = self._new_trainer(0, [])
        return _model(trainer, self._new_algorithm(0).network.to(trainer.strategy.root_device))

    def _start_round(self, number: int, seed: int | None = None) -> None:
        self.datamodule.start_round(
            number,
            seed=self.settings.seed if seed is None else seed,
            steps_per_round=self.settings.steps_per_round,
            steps_per_epoch=self.settings.steps_per_epoch,
        )

    def _new_algorithm(self, number: int) -> Algorithm:
        """Make the algorithm with the weights at which a round begins.

        These are the run's initial ones, of which the warm-up trains the features; under `init: continue`, those of
        the last round.
        """
        algorithm = self._initial_algorithm()
        if self.settings.init == "continue" and number > 0:
            self._continue_from(algorithm, number - 1)
        elif self.warm_up is not None:
            self.warm_up.load_into(algorithm.network)
        return algorithm

    def _continue_from(self, algorithm: Algorithm, number: int) -> None:
        """Load the weights with which round `number` ended; what is of a class goes to the class as it is now."""
        checkpoint = self.directory.load_tensors(number, FINAL_CHECKPOINT)
        has_raw = self.settings.continue_from == "raw" and "current_model_state" in checkpoint
        with self.directory.reading(number, FINAL_CHECKPOINT):
            state = checkpoint["current_model_state" if has_raw else "state_dict"]
            classes = read_history(self.directory.path)
            if classes is not None and classes.names(number) != classes.names():
                state = _carried_over(state, algorithm, classes.present_labels(number))
            algorithm.load_state_dict(state)

    def _initial_algorithm(self) -> Algorithm:
        with self.fitting.initial_weights():
            return self.make_algorithm(self.make_network())

    def _score_callback(self, algorithm: Algorithm, number: int) -> ASSLScoreCallback | None:
        self._check_requirements(algorithm)
        if "statistics" not in algorithm.produces:
            return None
        score = self.settings.score
        callback = ASSLScoreCallback(
            self.datamodule.pool.num_samples,
            alpha=score.alpha,
            c_u=score.c_u,
            c_i=score.c_i,
            variance=score.variance,
            assume_unique=self.datamodule.draws_distinct,
            reset=score.reset,
            keep_features=self.settings.acquisition_features == "training" and "features" in self.acquisition.requires,
            skip_non_finite=self.settings.non_finite == "skip",
            further=[name for name in FURTHER if name in self.acquisition.requires],
        )
        if not score.reset and number > 0:
            self._continue_statistics(callback, number - 1)
        return callback

    def _continue_statistics(self, callback: ASSLScoreCallback, number: int) -> None:
        """Load the statistics of round `number`, unless some of them are by class and the classes have changed."""
        history = read_history(self.directory.path)
        if callback.further and history is not None and history.names(number) != history.names():
            log.warning(
                "the classes have changed, so that the statistics begin anew with round %d: %s are by class",
                number + 1,
                " and ".join(callback.further),
            )
            return
        state = self.directory.load_tensors(number, STATISTICS)
        with self.directory.reading(number, STATISTICS):
            callback.load_state_dict({"statistics": pad_to(state, self.datamodule.pool.num_samples)})

    def _latest_predictions(self, algorithm: Algorithm) -> LatestPredictions | None:
        if "statistics" not in algorithm.produces:
            return None
        pool = self.datamodule.pool
        return LatestPredictions(pool.num_samples, pool.num_classes, assume_unique=self.datamodule.draws_distinct)

    def _check_requirements(self, algorithm: Algorithm) -> None:
        contradictions = find_contradictions(self.acquisition, algorithm, self.settings, self.datamodule.mu, self.stop)
        if contradictions:
            raise ValueError(str(contradictions[0]))

    def _new_trainer(self, number: int, callbacks: list[Callback | None]) -> Trainer:
        return self.fitting.new_trainer(self.directory.round(number), self.datamodule.num_epochs, callbacks)

    def _progress(self, number: int) -> Callback | None:
        if self.make_progress is None:
            return None
        views = 2 * self.datamodule.mu if len(self.datamodule.streamed) else 0
        return self.make_progress(
            round=number,
            rounds=self.settings.rounds,
            labels=len(self.datamodule.pool.labelled),
            images_per_step=self.datamodule.batch_size * (1 + views),
        )


def _model(
    trainer: Trainer,
    network: FeatureNetwork,
    statistics: SampleStatistics | None = None,
    score: ASSLScoreCallback | None = None,
) -> TrainedModel:
    features = None
    if score is not None and score.keep_features:
        features = score.features.to(trainer.strategy.root_device)
    return TrainedModel(network, statistics, trainer.precision_plugin.forward_context, features)


def _carried_over(
    state: Mapping[str, Tensor], algorithm: Algorithm, present: Sequence[int | None]
) -> Mapping[str, Tensor]:
    """Return a state for the classes as they are now; counts and averages of each class begin anew.

    Args:
        state: of an algorithm whose classes were others.
        algorithm: with the present classes.
        present: the present class of each former one; None for one that is none any more.
    """
    carried = state
    for name, head in algorithm.heads.items():
        carried = carry_rows(carried, head, present, f"{name}.")
    kept = {name for name, _ in algorithm.named_buffers() if not name.startswith("network.")}
    return {**carried, **{name: value for name, value in algorithm.state_dict().items() if name in kept}}
