"""The outer loop: train, score, query, label, and go round again.

Each round has a Trainer, an algorithm and callbacks of its own (a Trainer that fits twice trains nothing the second
time). Everything random follows from (seed, purpose, round, step), and what a round needs lies on disk before it
begins, so that the same call goes on from the last complete round with the picks it would have had.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from assl_lightning.acquisition.base import Acquisition
from assl_lightning.algorithms.base import Algorithm
from assl_lightning.callbacks.checkpointing import AtomicCheckpointIO
from assl_lightning.callbacks.score import ASSLScoreCallback
from assl_lightning.callbacks.step_seed import StepSeed
from assl_lightning.callbacks.weight_ema import WeightEMA
from assl_lightning.contact_sheet import contact_sheet
from assl_lightning.data.pool import Pool
from assl_lightning.datamodule import PoolDataModule
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.oracles import Answers, LabelRequest, Oracle, Pending
from assl_lightning.querying import Trained, Unvisited, query
from assl_lightning.records import RoundRecord
from assl_lightning.run_directory import RunDirectory
from assl_lightning.seeding import derive_key, make_generator
from assl_lightning.statistics import SampleStatistics, Variance

log = logging.getLogger(__name__)

Init = Literal["rand", "continue"]
Weights = Literal["raw", "ema"]
Features = Literal["inference", "training"]

_MAX_THUMBNAILS = 100  # of a round's queries


@dataclass(frozen=True)
class ScoreSettings:
    """Constants of Eq. 3–6, and whether the statistics start afresh each round; see `ASSLScoreCallback`."""

    alpha: float = 0.8
    c_u: float = 0.5
    c_i: float = 2.0
    variance: Variance = "post"
    reset: bool = True

    def __post_init__(self) -> None:
        ASSLScoreCallback(1, self.alpha, self.c_u, self.c_i, variance=self.variance)  # raises for what it would refuse


@dataclass(frozen=True)
class RoundSettings:
    """What a run does.

    Attributes:
        seed: of every draw.
        rounds: acquisitions, ≥ 0; trainings are one more.
        initial_labels: drawn uniformly from the pool before the first training.
        labels_per_round: K, asked for after each training but the last.
        steps_per_round: optimizer steps of a training.
        steps_per_epoch: a test follows every so many steps; None: once a round.
        init: "rand" restores the same initial weights each round, "continue" goes on from the last round's.
        continue_from: which of the last round's weights "continue" takes, "raw" or "ema".
        score: constants of the statistics.
        unvisited: what becomes of unlabelled samples that training never visited; see `querying.query`.
        acquisition_weights: which weights make the logits and features that an acquisition may need.
        acquisition_features: where its features come from: "inference", a pass over the pool, or "training", the latest
            weak views', which the callback then keeps on the device.
        weight_ema: decay of the averaged weights that are tested; None: the raw weights alone.
        config: whatever else tells this run from another; joins these settings in config.yaml, which a run that goes
            on is compared with.
    """

    seed: int = 0
    rounds: int = 10
    initial_labels: int = 100
    labels_per_round: int = 100
    steps_per_round: int = 5120
    steps_per_epoch: int | None = None
    init: Init = "rand"
    continue_from: Weights = "raw"
    score: ScoreSettings = field(default_factory=ScoreSettings)
    unvisited: Unvisited = "exclude"
    acquisition_weights: Weights = "raw"
    acquisition_features: Features = "inference"
    weight_ema: float | None = 0.999
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (
            ("rounds", 0),
            ("initial_labels", 1),
            ("labels_per_round", 1),
            ("steps_per_round", 1),
            ("steps_per_epoch", 1),
        ):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}")
        for name, choices in (
            ("init", get_args(Init)),
            ("continue_from", get_args(Weights)),
            ("unvisited", get_args(Unvisited)),
            ("acquisition_weights", get_args(Weights)),
            ("acquisition_features", get_args(Features)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}")
        if self.weight_ema is not None:
            WeightEMA(self.weight_ema)  # raises for a decay that it would refuse
        for name in ("acquisition_weights", "continue_from"):
            if getattr(self, name) == "ema" and self.weight_ema is None:
                raise ValueError(f"{name} = 'ema' needs averaged weights; set weight_ema, such as 0.999")

    @property
    def total_labels(self) -> int:
        """Labels that the last round trains on."""
        return self.initial_labels + self.rounds * self.labels_per_round


def run_rounds(
    *,
    pool: Pool,
    datamodule: PoolDataModule,
    make_network: Callable[[], FeatureNetwork],
    make_algorithm: Callable[[FeatureNetwork], Algorithm],
    make_trainer: Callable[..., Trainer],
    acquisition: Acquisition,
    oracle: Oracle,
    settings: RoundSettings,
    run_dir: Path | str,
    make_progress: Callable[..., Callback] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[RoundRecord]:
    """Run active learning, or go on with it, and return the records of all complete rounds.

    Args:
        pool: the samples; nobody labelled yet. Its labels are filled in as the oracle answers.
        datamodule: over the same pool.
        make_network: called once a round, under the same initial random state each time.
        make_algorithm: called once a round with the network.
        make_trainer: called once a round as `Trainer` is, with the keywords `max_epochs`, `callbacks`, `plugins`,
            `logger`, `default_root_dir` and some switches; `functools.partial(Trainer, accelerator="gpu")` will do. To
            add callbacks of your own, or another logger, write a function that puts them beside those of the call.
        acquisition: the strategy.
        oracle: who labels. A `Pending` answer ends the call; the same call asks again.
        settings: what the run does.
        run_dir: where its files go; created here.
        make_progress: called once a round with `round`, `rounds`, `labels`, `images_per_step`; gives a callback.
        clock: seconds, for the times in the records.

    Raises:
        ValueError: settings that contradict the pool, the algorithm or the run that `run_dir` holds; before training.
    """
    loop = _Loop(
        pool=pool,
        datamodule=datamodule,
        make_network=make_network,
        make_algorithm=make_algorithm,
        make_trainer=make_trainer,
        acquisition=acquisition,
        oracle=oracle,
        settings=settings,
        directory=RunDirectory(Path(run_dir)),
        make_progress=make_progress,
        clock=clock,
    )
    return loop.run()


@dataclass(frozen=True)
class _Loop:
    pool: Pool
    datamodule: PoolDataModule
    make_network: Callable[[], FeatureNetwork]
    make_algorithm: Callable[[FeatureNetwork], Algorithm]
    make_trainer: Callable[..., Trainer]
    acquisition: Acquisition
    oracle: Oracle
    settings: RoundSettings
    directory: RunDirectory
    make_progress: Callable[..., Callback] | None
    clock: Callable[[], float]

    def run(self) -> list[RoundRecord]:
        self._check_pool()
        own = {key: value for key, value in asdict(self.settings).items() if key != "config"}
        self.directory.open({**own, **self.settings.config})
        with self.directory.held() if is_first_rank() else nullcontext():
            return self._run()

    def _run(self) -> list[RoundRecord]:
        records = self.directory.records()
        if records and is_first_rank():
            self.directory.tidy(records[-1].round)
        if len(records) > self.settings.rounds:
            log.info("the run in %s is finished; nothing to do", self.directory.path)
            self.pool.load_state_dict(self.directory.load_tensors(records[-1].round, "pool.pt"))
            return records
        if not self._begin():
            return records
        for number in range(len(records), self.settings.rounds + 1):
            record = self._round(number)
            if record is None:
                break
            records.append(record)
        return records

    def _check_pool(self) -> None:
        if self.datamodule.pool is not self.pool:
            raise ValueError("datamodule and run_rounds must share one pool; they were given two")
        if self.settings.total_labels > self.pool.num_samples:
            raise ValueError(
                f"initial_labels + rounds × labels_per_round = {self.settings.initial_labels} + {self.settings.rounds} "
                f"× {self.settings.labels_per_round} = {self.settings.total_labels}, but the pool has only "
                f"{self.pool.num_samples} samples; lower one of them"
            )

    # ---- labels

    def _begin(self) -> bool:
        """Initial labels, unless a run that goes on has them; False where the oracle must be waited for."""
        if self.directory.has(0, "pool.pt"):
            return True
        order = torch.randperm(self.pool.num_samples, generator=make_generator(self.settings.seed, "initial_labels"))
        request = self._request(-1, order[: self.settings.initial_labels])
        return self._label(request)

    def _request(self, number: int, index: Tensor, **details: Any) -> LabelRequest:
        names = tuple(self.pool.sample_ids[i] for i in index.tolist())
        return LabelRequest(number, index, names, directory=self.directory.round(max(number, 0)), **details)

    def _label(self, request: LabelRequest) -> bool:
        """Ask, and save the pool that the next round trains on; False where the answers are pending."""
        answers = self.oracle.answer(request)
        if isinstance(answers, Pending):
            log.warning("%s", answers.message)
            return False
        self._check_answers(request, answers)
        self.pool.label(answers.index, answers.label, request.round_number + 1)
        self.pool.exclude(answers.excluded)
        if is_first_rank():
            self.directory.save_tensors(request.round_number + 1, "pool.pt", self.pool.state_dict())
        _wait_for_all_ranks()
        return True

    @staticmethod
    def _check_answers(request: LabelRequest, answers: Answers) -> None:
        unasked = set(answers.index.tolist()) | set(answers.excluded.tolist())
        unasked -= set(request.index.tolist())
        if unasked:
            raise ValueError(
                f"the oracle answered for sample {min(unasked)}, which was not asked for; "
                f"answer only the {len(request.index)} samples of the request"
            )

    # ---- one round

    def _round(self, number: int) -> RoundRecord | None:
        """Train, acquire and label; None where the oracle must be waited for."""
        self.pool.load_state_dict(self.directory.load_tensors(number, "pool.pt"))
        record = self.directory.waiting_record(number)
        if record is None:
            record, request = self._train_and_acquire(number)
        else:
            request = self._request(number, torch.tensor(record.queried, dtype=torch.int64))
        if request is not None:
            started = self.clock()
            if not self._label(request):
                return None
            seconds = record.seconds | {"label": self.clock() - started}
            record = replace(record, queried_labels=self.pool.labels[request.index].tolist(), seconds=seconds)
        if is_first_rank():
            self.directory.commit(record)
        _wait_for_all_ranks()
        return record

    def _train_and_acquire(self, number: int) -> tuple[RoundRecord, LabelRequest | None]:
        if is_first_rank():
            self.directory.write_state(number, "training")
        trained, record = self._train(number)
        if number == self.settings.rounds:
            return record, None
        started = self.clock()
        picks = query(
            self.acquisition,
            self.datamodule,
            trained,
            budget=self.settings.labels_per_round,
            unvisited=self.settings.unvisited,
        )
        record = replace(
            record,
            queried=picks.index.tolist(),
            drawn_at_random=picks.drawn_at_random,
            seconds=record.seconds | {"acquire": self.clock() - started},
        )
        request = self._request(number, picks.index, score=picks.score, parts=picks.parts, prediction=picks.prediction)
        if is_first_rank():
            self.directory.write_queried(number, picks.rows(request.sample_id), picks.histograms)
            thumbnails = contact_sheet(self.datamodule.pool_images[picks.index[:_MAX_THUMBNAILS]])
            self.directory.write_thumbnails(number, thumbnails)
            self.directory.write_state(number, "waiting", asdict(record))
        return record, request

    # ---- training

    def _train(self, number: int) -> tuple[Trained, RoundRecord]:
        settings, datamodule = self.settings, self.datamodule
        datamodule.start_round(
            number,
            seed=settings.seed,
            steps_per_round=settings.steps_per_round,
            steps_per_epoch=settings.steps_per_epoch,
        )
        num_steps, num_labelled, num_unlabelled = (
            datamodule.num_steps,
            len(self.pool.labelled),
            len(self.pool.unlabelled),
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
            self.pool.num_samples,
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
            labels = len(self.pool.labelled)
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
        unlabelled = self.pool.unlabelled
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


def _wait_for_all_ranks() -> None:
    """What the first rank has written is there for the others to read."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def is_first_rank() -> bool:
    """Whether this process is the one that writes."""
    return getattr(rank_zero_only, "rank", 0) in (0, None)
