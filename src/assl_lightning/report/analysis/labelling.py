"""The labelling by people: their answers, their time, and how far they agree.

They are compared with the model, with earlier labels, and with each other. All of it is read from the batches and the
ledger, with all answers up to now.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from assl_lightning.base.proportions import Proportion
from assl_lightning.base.run_files import LEDGER
from assl_lightning.data.answers import Answer, Conflicts, ResolvedLabel, in_time, resolve
from assl_lightning.people.batch import AskedSample, LabelBatch, find_audits, find_batches
from assl_lightning.people.ledger import Ledger
from assl_lightning.report.analysis.runs import Run

Given = tuple[Answer, int | None]
"""An answer, and the id of the row that took it back, or None."""


@dataclass(frozen=True)
class Question:
    """A sample that people were asked about in a round, with their answers."""

    round: int  # which trains on the label
    sample: AskedSample
    image: Path  # the file that people saw
    is_for_test: bool  # the sample belongs to the hold-out
    given: tuple[Given, ...]  # its answers, in the order in which they came
    verdict: ResolvedLabel | None  # from the answers that were not taken back; None if there are none
    second: Answer | None = None  # of a sample that was asked again: the first answer but skips
    before: ResolvedLabel | None = None  # by the answers of earlier rounds, when `second` came

    @property
    def label(self) -> str | None:
        """The class that people give, or None."""
        return None if self.verdict is None else self.verdict.label

    @property
    def state(self) -> str:
        """One of label, skip, bad, conflict, unanswered."""
        return "unanswered" if self.verdict is None else self.verdict.kind

    @property
    def agrees_with_model(self) -> bool | None:
        """True if the label is the model's prediction; None if one of the two is unknown."""
        return None if self.label is None or self.sample.prediction is None else self.label == self.sample.prediction

    @property
    def agrees_with_before(self) -> bool | None:
        """True if the second answer gave the same label; None if there are no two labels to compare."""
        if self.second is None or self.before is None or self.before.kind != "label":
            return None
        return self.second.label == self.before.label

    @property
    def is_by_same_person(self) -> bool | None:
        """True if one of those who gave the earlier label gave the second answer; None if a name is missing."""
        if self.second is None or self.before is None:
            return None
        annotators = {vote.annotator for vote in self.before.votes if vote.label == self.before.label}
        return None if "" in annotators | {self.second.annotator} else self.second.annotator in annotators


@dataclass(frozen=True)
class LabellingRound:
    """The labelling of one round."""

    round: int  # which trains on the labels
    is_open: bool  # the run still waits for answers
    questions: tuple[Question, ...]  # in the order of the batch
    given: tuple[Given, ...]  # all answers to its batch, in the order in which they came

    def count(self, state: str) -> int:
        """Count the samples with this `Question.state` among those that are asked for the first time."""
        return sum(question.state == state for question in self.new)

    @property
    def new(self) -> tuple[Question, ...]:
        """The samples that are asked for the first time."""
        return tuple(question for question in self.questions if not question.sample.again)

    @property
    def again(self) -> tuple[Question, ...]:
        """The samples that had a label and are asked again."""
        return tuple(question for question in self.questions if question.sample.again)


@dataclass(frozen=True)
class Work:
    """The number of answers and the time that they took, including answers that were taken back or replaced."""

    answers: int
    taken_back: int
    timed: int  # answers with a known time
    seconds: float  # the sum of these times
    timed_labels: int  # of the timed answers, labels that count: not taken back, and their annotator's latest
    annotators: Mapping[str, int]  # name → answers, most first; "" is an unknown annotator

    @property
    def labels_per_hour(self) -> float | None:
        """The labels in an hour of one person's work; None if no time is known."""
        return 3600 * self.timed_labels / self.seconds if self.seconds > 0 else None


@dataclass(frozen=True)
class Labelling:
    """The labelling of a run."""

    conflicts: Conflicts
    shows_predictions: bool  # people could see the model's predictions
    rounds: tuple[LabellingRound, ...]
    holds: Mapping[str, ResolvedLabel]  # sample id → label by the answers of all rounds
    contested: tuple[Question, ...]  # the newest question about each sample with different answers
    seen_by_several: int  # samples that several people answered without skipping
    audits: tuple[Given, ...] = ()  # all answers to audits, which no round waited for

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions of all rounds."""
        return tuple(question for part in self.rounds for question in part.questions)

    @property
    def given(self) -> tuple[Given, ...]:
        """All answers, by round, and then those to audits."""
        return (*(given for part in self.rounds for given in part.given), *self.audits)


def agreeing(found: Sequence[bool | None]) -> Proportion:
    """Count the agreeing pairs among those that are known.

    >>> agreeing([True, None, False])
    Proportion(successes=1, count=2)
    """
    known = [agrees for agrees in found if agrees is not None]
    return Proportion(sum(known), len(known))


def work_of(given: Sequence[Given]) -> Work:
    """Summarise answers, given in the order in which they came."""
    answers = [answer for answer, _ in given]
    times = [answer.seconds for answer in answers if _is_time(answer.seconds)]
    votes = [answer for answer in in_time(_active(given)) if not answer.decides]
    last = {(answer.sample_id, answer.annotator, answer.round): answer for answer in votes}
    return Work(
        answers=len(answers),
        taken_back=sum(taken is not None for _, taken in given),
        timed=len(times),
        seconds=float(sum(time for time in times if time is not None)),
        timed_labels=sum(answer.kind == "label" and _is_time(answer.seconds) for answer in last.values()),
        annotators=dict(Counter(answer.annotator for answer in answers).most_common()),
    )


def read_labelling(run: Run) -> Labelling | None:
    """Read the labelling of a run; None if people were not asked.

    Raises:
        ValueError: a batch or the ledger cannot be read.
    """
    batches = find_batches(run.directory)
    if not batches:
        return None
    oracle: Mapping[str, Any] = run.config.get("oracle") or {}
    policies: tuple[Conflicts, ...] = get_args(Conflicts)
    conflicts: Conflicts = next((policy for policy in policies if policy == oracle.get("conflicts")), "error")
    history = Ledger(run.directory / LEDGER).history(as_now=True)
    hold_out = int(run.config.get("hold_out") or 0)
    return labelling_of(batches, history, conflicts, hold_out, find_audits(run.directory))


def labelling_of(
    batches: Sequence[LabelBatch],
    history: Sequence[Given],
    conflicts: Conflicts,
    hold_out: int = 0,
    audits: Sequence[LabelBatch] = (),
) -> Labelling:
    """Combine at least one batch, by round, and the batches of audits with all answers of the ledger, in its order.

    The first `hold_out` samples of round 0 were drawn for the test. An audit has the number of the next round, so that
    only the sample tells which of the two an answer belongs to.
    """
    asked, audited = ({(of.round, one.sample_id) for of in some for one in of.samples} for some in (batches, audits))
    of_round: dict[int, list[Given]] = defaultdict(list)
    of_audits: list[Given] = []
    for answer, taken in history:
        place = (answer.round, answer.sample_id)
        if place in asked:
            of_round[answer.round].append((answer, taken))
        elif place in audited:
            of_audits.append((answer, taken))
    rounds = tuple(_round(batch, of_round[batch.round], history, conflicts, hold_out) for batch in batches)
    newest = {question.sample.sample_id: question for part in rounds for question in part.questions}
    holds = {name: label for name, label in resolve(_active(history), conflicts).items() if name in newest}
    decided = {name: [vote for vote in verdict.votes if vote.kind != "skip"] for name, verdict in holds.items()}
    contents = {name: {(vote.kind, vote.label) for vote in votes} for name, votes in decided.items()}
    return Labelling(
        conflicts=conflicts,
        shows_predictions=any(batch.show_predictions for batch in batches),
        rounds=rounds,
        holds=holds,
        contested=tuple(question for name, question in newest.items() if len(contents.get(name, ())) > 1),
        seen_by_several=sum(len(votes) > 1 for votes in decided.values()),
        audits=tuple(of_audits),
    )


def _round(
    batch: LabelBatch, given: Sequence[Given], history: Sequence[Given], conflicts: Conflicts, hold_out: int
) -> LabellingRound:
    of_sample = _by_sample(given)
    again = {sample.sample_id for sample in batch.samples if sample.again}
    earlier = _by_sample(
        [(answer, taken) for answer, taken in history if answer.round < batch.round and answer.sample_id in again]
    )
    holds = resolve(_active(given), conflicts)
    seconds = {
        name: next(
            (answer for answer in in_time(_active(of_sample[name])) if answer.kind != "skip" and not answer.decides),
            None,
        )
        for name in again
    }
    before = {
        name: resolve(_active(earlier[name], as_of=second), conflicts).get(name)
        for name, second in seconds.items()
        if second is not None
    }
    questions = tuple(
        Question(
            round=batch.round,
            sample=sample,
            image=batch.image_path(sample),
            is_for_test=batch.round == 0 and position < hold_out,
            given=tuple(of_sample[sample.sample_id]),
            verdict=holds.get(sample.sample_id),
            second=seconds.get(sample.sample_id),
            before=before.get(sample.sample_id),
        )
        for position, sample in enumerate(batch.samples)
    )
    return LabellingRound(batch.round, batch.is_open, questions, tuple(given))


def _by_sample(given: Sequence[Given]) -> defaultdict[str, list[Given]]:
    found: defaultdict[str, list[Given]] = defaultdict(list)
    for answer, taken in given:
        found[answer.sample_id].append((answer, taken))
    return found


def _active(given: Sequence[Given], as_of: Answer | None = None) -> Iterator[Answer]:
    """Yield the answers that were not taken back; with `as_of`, those before that answer, as of then."""
    if as_of is None:
        return (answer for answer, taken in given if taken is None)
    now = as_of.id or 0
    return (answer for answer, taken in given if (answer.id or 0) < now and (taken is None or taken > now))


def _is_time(seconds: float | None) -> bool:
    return seconds is not None and isfinite(seconds) and seconds >= 0
