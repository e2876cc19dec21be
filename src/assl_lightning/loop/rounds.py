"""The outer loop: train, score, query, label, repeat.

Every random draw follows from (seed, purpose, round, step), and the files that a round needs are written before it
begins. So the same call goes on after the last complete round, with the picks of an uninterrupted run.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from assl_lightning.base.interruption import Interrupted, Interruption
from assl_lightning.base.paths import expanded
from assl_lightning.base.processes import from_first_rank, is_first_rank, open_process_group, wait_for_all_ranks
from assl_lightning.base.run_files import FINAL_CHECKPOINT, INITIAL, POOL, QUERIED_PROBABILITIES, STATE
from assl_lightning.base.versions import require_versions
from assl_lightning.data.contact_sheet import contact_sheet
from assl_lightning.data.pool import Pool
from assl_lightning.data.sources.undecodable import Row
from assl_lightning.learning.accepting import as_feature_network
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.simclr import SimCLR
from assl_lightning.learning.trained_model import TrainedModel
from assl_lightning.loop import slurm
from assl_lightning.loop.answered import answered_samples
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.first_query import choose_first
from assl_lightning.loop.fitting import Fitting
from assl_lightning.loop.oracles import LabelRequest, Oracle, Pending
from assl_lightning.loop.part_checks import check_labels, check_parts
from assl_lightning.loop.progress import progress_of
from assl_lightning.loop.querying import Picks, query
from assl_lightning.loop.records import RoundRecord, without_query
from assl_lightning.loop.round_log import MakeLogger, RoundLog
from assl_lightning.loop.settings import RoundSettings
from assl_lightning.loop.telling import describe_left, tell_outlook, tell_picked
from assl_lightning.loop.training import RoundTraining
from assl_lightning.loop.warming_up import WarmUp
from assl_lightning.method.candidates import Acquisition
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.stopping.rules import StopRule

log = logging.getLogger(__name__)

_MAX_THUMBNAILS = 100  # of a round's queries
_GO_ON = "Another number of rounds, another rule, or stop=none goes on with it"


def run_rounds(
    *,
    pool: Pool,
    datamodule: PoolDataModule,
    make_network: Callable[[], nn.Module],
    make_algorithm: Callable[[FeatureNetwork], Algorithm],
    make_trainer: Callable[..., Trainer],
    acquisition: Acquisition,
    oracle: Oracle,
    settings: RoundSettings,
    run_dir: Path | str,
    make_progress: Callable[..., Callback] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    unreadable: Sequence[Row] = (),
    make_warm_up: Callable[[FeatureNetwork], SimCLR] | None = None,
    stop: StopRule | None = None,
    make_round_logger: MakeLogger | None = None,
) -> list[RoundRecord]:
    """Run active learning, or go on with it, and return the records of all complete rounds.

    Args:
        pool: the samples. Labels that are known beforehand count from round 0 on; the answers of the oracle add the
            others. Excluded samples (`Pool.exclude`) are never asked for. A later call may give a pool with more
            samples behind those of the run: if the run waits for labels, they join the next round, and samples that are
            excluded by then leave the run, labelled or not.
        datamodule: the data of the same pool.
        make_network: returns a network that gives logits: a `FeatureNetwork`, or any other classifier, which is adapted
            (`networks.adapt.with_features`). Called once a round, under the same initial random state each
            time, and once before the first.
        make_algorithm: called with each network; returns an `Algorithm`.
        make_trainer: called once a round with keywords of `Trainer`: `max_epochs`, `callbacks`, `plugins`, `logger`,
            `default_root_dir` and some switches; `functools.partial(Trainer, accelerator="gpu")` is enough. To add
            callbacks or another logger, write a function that adds them to those of the call.
        acquisition: the strategy that picks samples to label.
        oracle: labels the picks. A `Pending` answer ends the call; the same call asks again.
        settings: see `RoundSettings`.
        run_dir: the directory of the run's files; created if it is missing.
        make_progress: returns a callback; called once a round with `round`, `rounds`, `labels`, `images_per_step`, and
            once for the warm-up (see `make_warm_up`), with `round=None`.
        clock: returns seconds, for the times in the records.
        unreadable: the images that were excluded because they cannot be decoded; the directory lists them.
        make_warm_up: called once, with the network, before the first label is asked for; returns a training on images
            alone, such as `SimCLR`, of all of the pool's images that are neither held out nor excluded. The rounds
            begin with its weights. None: they begin with random ones.
        stop: a rule that may end the run after a round, which then asks for no labels. Given other `rounds`, another
            rule or none, the call goes on; a rule that was overruled in this way is not asked again.
        make_round_logger: called once a round, with `save_dir` and `id`, for a logger of Lightning that gets the test
            accuracies with the number of labels as the step, and the images of the query where it takes images. All
            rounds of a run have the same `save_dir` and `id`.

    Raises:
        ValueError: the settings contradict the pool, the algorithm or the run in `run_dir`, or the network or the
            algorithm lacks what the loop needs; before any training.
        TypeError: a part is of another kind; before any training.
        ImportError: Lightning is too old for the loop.
        Interrupted: Ctrl-C or SIGTERM came while the call ran in the main thread. A training is saved at its next step,
            and the same call goes on from there. SIGUSR1 in a SLURM job does the same, and puts the job back into the
            queue; so does the signal of submitit, which manages its queue itself.
    """
    require_versions("lightning")
    directory = RunDirectory(expanded(run_dir))
    interruption = Interruption((signal.SIGINT, signal.SIGTERM, *slurm.preemption_signals()))
    fitting = Fitting(make_trainer, settings, directory, clock, interruption)
    warm_up = None

    def make_feature_network() -> FeatureNetwork:
        return as_feature_network(make_network(), pool.num_classes, datamodule.pool_images.shape[1:])

    if make_warm_up is not None:
        warm_up = WarmUp(fitting, datamodule, make_feature_network, make_warm_up, make_progress)
    training = RoundTraining(
        fitting=fitting,
        datamodule=datamodule,
        make_network=make_feature_network,
        make_algorithm=make_algorithm,
        acquisition=acquisition,
        make_progress=make_progress,
        warm_up=warm_up,
        stop=stop,
    )
    loop = _Loop(
        pool=pool,
        datamodule=datamodule,
        training=training,
        acquisition=acquisition,
        oracle=oracle,
        settings=settings,
        directory=directory,
        clock=clock,
        interruption=interruption,
        unreadable=unreadable,
        gone=pool.excluded,
        stop=stop,
        make_round_logger=make_round_logger,
    )
    try:
        with interruption:
            return loop.run()
    except Interrupted as interrupted:
        if interrupted.signum == slurm.requeue_signal() and is_first_rank():
            slurm.requeue()
        raise


@dataclass(frozen=True)
class _Loop:
    pool: Pool
    datamodule: PoolDataModule
    training: RoundTraining
    acquisition: Acquisition
    oracle: Oracle
    settings: RoundSettings
    directory: RunDirectory
    clock: Callable[[], float]
    interruption: Interruption
    unreadable: Sequence[Row]
    gone: Tensor  # (G,) int64, excluded when the call began: they leave the run at the next round, labelled or not
    stop: StopRule | None
    make_round_logger: MakeLogger | None

    def run(self) -> list[RoundRecord]:
        has_begun = self.directory.has_begun
        check_parts(self.pool, self.datamodule, self.acquisition, self.oracle, self.settings, has_begun=has_begun)
        self.training.check()
        open_process_group(self.training.fitting.make_trainer)
        config = self.settings.as_dict()
        if is_first_rank():
            self.directory.open(config)
        wait_for_all_ranks()
        if not is_first_rank():
            self.directory.open(config)
            return self._run()
        with self.directory.held():
            self.directory.remove_temporary_files()
            self.directory.config.note_changes(config)
            self.directory.note_samples(self.pool, self.datamodule.test_ids)
            self.directory.note_unreadable(self.unreadable)
            return self._run()

    def _run(self) -> list[RoundRecord]:
        records = self.directory.records()
        must_reopen = self.directory.under_way() < len(records) <= self.settings.rounds
        has_begun = self.directory.has(0, POOL)
        wait_for_all_ranks()  # all ranks have read the files that the first one may change from here on
        if records and not must_reopen and is_first_rank():
            self.directory.tidy(records[-1])
        if len(records) > self.settings.rounds:
            log.info("the run in %s is finished; nothing to do", self.directory.path)
            self._load_last(records[-1])
            return records
        if must_reopen and self._has_ended(records[-1]):
            self._load_last(records[-1])
            return records
        if must_reopen:
            self._reopen(records.pop())
        if not has_begun and not self._label_the_first():
            return records
        for number in range(len(records), self.settings.rounds + 1):
            self.interruption.raise_if_asked("the same command goes on from the last complete round")
            record = self._round(number, records)
            if record is None:
                return records
            records.append(record)
            if record.is_stopped(self.settings.rounds):
                break
        self.interruption.raise_if_asked("all rounds are complete")
        return records

    def _round(self, number: int, before: Sequence[RoundRecord]) -> RoundRecord | None:
        """Train, query and label; return None while the answers are pending. Each of the three starts from files."""
        state, record = self.directory.read_state(number)
        is_waiting = state == "waiting"
        self.directory.load_pool(number, self.pool, grown=is_waiting)
        trained = None
        if record is None:
            trained, record = self._train(number)
            if number != self.settings.repeat_round:
                self._tell([*before, record])
        if number == self.settings.repeat_round and not is_waiting and not record.floor:
            record = self._repeat(record)
            self._tell([*before, record])
        done = self._query_and_label(record, before, trained, is_waiting=is_waiting)
        if done is None:
            return None
        if is_first_rank():
            self.directory.commit(done)
        wait_for_all_ranks()
        return done

    def _query_and_label(
        self, record: RoundRecord, before: Sequence[RoundRecord], trained: TrainedModel | None, *, is_waiting: bool
    ) -> RoundRecord | None:
        """Ask for labels, unless this is the last round, or a rule ends the run; None while the answers are pending."""
        number, rounds = record.round, self.settings.rounds
        if number == rounds:
            record = without_query(record)  # the run may have queried before its `rounds` were lowered
            self._log(record)
            return record
        if is_waiting:
            return self._label_picks(record, self._request_again(record))
        record = self._decide(record, before)
        if record.stopped is not None and record.is_stopped(rounds):
            log.info("the run ends after round %d of %d: %s. %s", number, rounds, record.stopped["reason"], _GO_ON)
            self._log(record)
            return record
        record, request = self._query(record, trained or self.training.restore(number))
        return self._label_picks(record, request)

    def _train(self, number: int) -> tuple[TrainedModel, RoundRecord]:
        with self.interruption.deferred():
            if is_first_rank():
                self.directory.write_state(number, "training")
            trained, record = self.training.train(number)
            if is_first_rank():
                self.directory.write_state(number, "trained", record)
                self.directory.checkpoints(number).remove()
        if number < self.settings.rounds:
            self.interruption.raise_if_asked(f"round {number} is trained, and the same command goes on with its query")
        return trained, record

    def _repeat(self, record: RoundRecord) -> RoundRecord:
        """Train the round a second time, to know how far two trainings on the same labels agree."""
        number = record.round
        reason = from_first_rank(lambda: self.training.why_not_repeated(number))
        if reason is not None:
            log.info("round %d is not trained once more, in spite of repeat_round=%d: %s", number, number, reason)
            return record
        log.info("round %d is trained once more on its labels, since repeat_round=%d", number, number)
        started = self.clock()
        with self.interruption.deferred():
            floor = self.training.repeat(number)
            seconds = record.seconds | {"repeat": self.clock() - started}
            record = replace(record, floor=floor, seconds=seconds)
            if is_first_rank():
                self.directory.write_state(number, "trained", record)
                self.directory.remove_repeat(number)
        wait_for_all_ranks()
        if number < self.settings.rounds:
            self.interruption.raise_if_asked(f"round {number} is trained twice, and the same command goes on with it")
        return record

    def _decide(self, record: RoundRecord, before: Sequence[RoundRecord]) -> RoundRecord:
        """Ask the rule whether the run ends here, unless it was overruled; note its reason in the record."""
        rounds = [*before, record]
        if self.stop is None or self.stop.name in [one.stopped["rule"] for one in rounds if one.stopped is not None]:
            return record
        reason = self.stop.decide(progress_of(rounds))
        if reason is None:
            return record
        return replace(record, stopped={"rule": self.stop.name, "rounds": self.settings.rounds, "reason": reason})

    def _query(self, record: RoundRecord, trained: TrainedModel) -> tuple[RoundRecord, LabelRequest]:
        started = self.clock()
        left = len(self.pool.unlabelled)
        if not left:
            raise ValueError(
                f"round {record.round} has nothing to ask for: all of the pool's {self.pool.num_samples} samples have "
                f"a label, are held out or excluded; the run ends here, and keeps its results so far"
            )
        picks = query(
            self.acquisition,
            self.datamodule,
            trained,
            budget=min(self.settings.labels_after(record.round), left),  # fewer are left if images have gone
            unvisited=self.settings.unvisited,
            answered=lambda: answered_samples(self.directory, self.pool, record.round),
        )
        record = replace(
            record,
            queried=picks.index.tolist(),
            drawn_at_random=picks.drawn_at_random,
            candidates=picks.candidates,
            pick_probabilities=[*picks.pick_probabilities],
            seconds=record.seconds | {"acquire": self.clock() - started},
        )
        details = {"score": picks.score, "parts": picks.parts, "prediction": picks.prediction}
        request = self._request(record.round, picks.index, **details)
        if is_first_rank():
            self._write_query(record, picks, request.sample_id)
        return record, request

    def _write_query(self, record: RoundRecord, picks: Picks, sample_ids: tuple[str, ...]) -> None:
        number = record.round
        self.directory.write_queried(number, picks.rows(sample_ids), picks.histograms)
        thumbnails = contact_sheet(self.datamodule.pool_images[picks.index[:_MAX_THUMBNAILS]])
        self.directory.write_thumbnails(number, thumbnails)
        found = {"index": picks.index, "probabilities": picks.probabilities}
        self.directory.save_tensors(number, QUERIED_PROBABILITIES, found)
        self.directory.write_state(number, "waiting", record)
        self._log(record, thumbnails)

    def _label_picks(self, record: RoundRecord, request: LabelRequest) -> RoundRecord | None:
        """Label a round's picks; return None while the answers are pending."""
        started = self.clock()
        if not self._label(request):
            return None
        seconds = record.seconds | {"label": self.clock() - started}
        record = replace(record, queried_labels=self.pool.labels[request.index].tolist(), seconds=seconds)
        if is_first_rank():
            tell_picked(self.directory.path, self.settings.as_dict(), record)
        return record

    def _label(self, request: LabelRequest, held_out: Tensor | None = None) -> bool:
        """Ask the oracle and save the pool for the next round; return False while the answers are pending."""
        number = request.round_number + 1
        answers = from_first_rank(lambda: self.oracle.answer(request))
        if isinstance(answers, Pending):
            log.warning("%s%s", answers.message, describe_left(self.settings, number))
            return False
        self.pool.apply(answers, request.index, number, held_out=held_out, gone=self.gone)
        check_labels(self.pool, self.settings.hold_out)
        if is_first_rank():
            self.directory.save_tensors(number, POOL, self.pool.state_dict())
        wait_for_all_ranks()
        return True

    def _label_the_first(self) -> bool:
        """Label the initial samples and the hold-out; return False while the answers are pending."""
        held_out, initial = self.directory.read_initial() or choose_first(self.datamodule, self.settings, self.training)
        if is_first_rank():
            self.directory.write_initial(held_out, initial)
        asked = torch.cat([held_out, initial])
        with self.directory.reading(0, INITIAL):
            self.pool.check_indices(asked)
        return self._label(self._request(-1, asked), held_out)

    def _request(self, number: int, index: Tensor, **details: Any) -> LabelRequest:
        return LabelRequest(
            number,
            index,
            tuple(self.pool.sample_ids[sample] for sample in index.tolist()),
            labelled=self.pool.labelled,
            directory=self.directory.round(number + 1),
            **details,
        )

    def _request_again(self, record: RoundRecord) -> LabelRequest:
        """Return the request of a round that waits for its labels."""
        with self.directory.reading(record.round, STATE):
            queried = torch.tensor(record.queried, dtype=torch.int64)
            self.pool.check_unlabelled(queried)
        return self._request(record.round, queried)

    def _log(self, record: RoundRecord, pictures: bytes | None = None) -> None:
        if is_first_rank():
            RoundLog(self.make_round_logger, self.directory.path, self.directory.config.run_id).add(record, pictures)

    def _tell(self, records: Sequence[RoundRecord]) -> None:
        tell_outlook(records, self.settings.as_dict())

    def _has_ended(self, last: RoundRecord) -> bool:
        """True, with a message, if this very rule has ended the run, and nothing else is asked for since."""
        if last.stopped is None or self.stop is None or not last.is_stopped(self.settings.rounds):
            return False
        if last.stopped["rule"] != self.stop.name or self.directory.read_state(last.round)[1] is not None:
            return False
        reason = last.stopped["reason"]
        log.info("the run in %s ended after round %d: %s. %s", self.directory.path, last.round, reason, _GO_ON)
        return True

    def _load_last(self, last: RoundRecord) -> None:
        """Restore the labels of the last round of a run that makes no more."""
        has_grown = self.directory.read_state(last.round)[0] == "waiting"
        self.directory.load_pool(last.round, self.pool, grown=has_grown)

    def _reopen(self, record: RoundRecord) -> None:
        """Set the last round of a finished run back to "trained" when it gets more rounds, so that it queries."""
        state, _ = self.directory.read_state(record.round)
        if state == "training" and is_first_rank():
            self.directory.require(record.round, FINAL_CHECKPOINT)
            self.directory.write_state(record.round, "trained", record.overruled())
        wait_for_all_ranks()
