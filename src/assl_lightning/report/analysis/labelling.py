"""What people were asked in a run and what they said: how long it took them, and how far they agree with the model,
with what held before, and with one another.

Everything is as the answers stand when it is read; it lies in the batches and in the ledger.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from scipy.stats import binomtest

from assl_lightning.base.run_files import LEDGER
from assl_lightning.data.answers import Answer, Conflicts, ResolvedLabel, in_time, resolve
from assl_lightning.people.batch import AskedSample, LabelBatch, find_batches
from assl_lightning.people.ledger import Ledger
from assl_lightning.report.analysis.runs import Run

Given = tuple[Answer, int | None]
"""An answer, and the id of the row that took it back; None where it stands."""


@dataclass(frozen=True)
class Question:
    """A sample that people were asked about in a round, and what they say of it."""

    round: int  # that trains on the label
    sample: AskedSample
    image: Path  # as people saw it
    is_for_test: bool  # of the hold-out
    given: tuple[Given, ...]  # the answers to it, in the order in which they came
    verdict: ResolvedLabel | None  # of those that stand; None where there is none
    second: Answer | None = None  # the earliest that stands and is no skip, where the sample was asked for once more
    before: ResolvedLabel | None = None  # what held by the answers of earlier rounds, as `second` came

    @property
    def label(self) -> str | None:
        """The class that people say it is, where they say one."""
        return None if self.verdict is None else self.verdict.label

    @property
    def state(self) -> str:
        """label | skip | bad | conflict | unanswered."""
        return "unanswered" if self.verdict is None else self.verdict.kind

    @property
    def agrees_with_model(self) -> bool | None:
        """Whether people say what the model took it for; None where one of the two is not known."""
        return None if self.label is None or self.sample.prediction is None else self.label == self.sample.prediction

    @property
    def agrees_with_before(self) -> bool | None:
        """Whether it got the same label when it was asked for once more; None where there are no two to compare."""
        if self.second is None or self.before is None or self.before.kind != "label":
            return None
        return self.second.label == self.before.label

    @property
    def is_by_same_person(self) -> bool | None:
        """Whether who gave the label that held also gave the second; None where a name is missing."""
        if self.second is None or self.before is None:
            return None
        who = {vote.annotator for vote in self.before.votes if vote.label == self.before.label}
        return None if "" in who | {self.second.annotator} else self.second.annotator in who


@dataclass(frozen=True)
class LabellingRound:
    """What people did for one round."""

    round: int  # that trains on the labels
    is_open: bool  # whether answers are still waited for
    questions: tuple[Question, ...]  # in the batch's order
    given: tuple[Given, ...]  # all answers, in the order in which they came

    def count(self, state: str) -> int:
        """How many of the samples that are asked for the first time have a `Question.state`."""
        return sum(question.state == state for question in self.new)

    @property
    def new(self) -> tuple[Question, ...]:
        """Those that are not asked for once more."""
        return tuple(question for question in self.questions if not question.sample.again)

    @property
    def again(self) -> tuple[Question, ...]:
        """Those that had a label and were asked for once more."""
        return tuple(question for question in self.questions if question.sample.again)


@dataclass(frozen=True)
class Work:
    """Answers and the time that they took, also of those that were taken back or replaced since."""

    answers: int
    taken_back: int
    timed: int  # answers whose time is known
    seconds: float  # that these took together
    timed_labels: int  # of these, labels that stand and are their annotator's last word on a sample
    annotators: Mapping[str, int]  # name → answers, most first; "" where it is not known who

    @property
    def labels_per_hour(self) -> float | None:
        """Of one person's work; None where no time is known."""
        return 3600 * self.timed_labels / self.seconds if self.seconds > 0 else None


@dataclass(frozen=True)
class Labelling:
    """All that people did for a run."""

    conflicts: Conflicts
    shows_predictions: bool  # whether people could see what the model took a sample for
    rounds: tuple[LabellingRound, ...]
    holds: Mapping[str, ResolvedLabel]  # sample id → what holds by the answers of all rounds
    contested: tuple[Question, ...]  # the newest about each sample of which people say different things
    seen_by_several: int  # samples of which more than one person said something that is no skip

    @property
    def questions(self) -> tuple[Question, ...]:
        """Of all rounds."""
        return tuple(question for one in self.rounds for question in one.questions)

    @property
    def given(self) -> tuple[Given, ...]:
        """All answers, by round."""
        return tuple(given for one in self.rounds for given in one.given)


@dataclass(frozen=True)
class Agreement:
    """How many of n pairs agree."""

    n: int
    agreeing: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % by Wilson (1927), in [0, 1]; of n ≥ 1."""
        found = binomtest(self.agreeing, self.n).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)


def agreement(found: Sequence[bool | None]) -> Agreement:
    """Of those that are known.

    >>> agreement([True, None, False])
    Agreement(n=2, agreeing=1)
    """
    known = [one for one in found if one is not None]
    return Agreement(len(known), sum(known))


def work_of(given: Sequence[Given]) -> Work:
    """What some answers took; they are in the order in which they came."""
    answers = [answer for answer, _ in given]
    times = [answer.seconds for answer in answers if _is_time(answer.seconds)]
    votes = [answer for answer in in_time(_standing(given)) if not answer.decides]
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
    """What people did for a run; None where nobody was asked.

    Raises:
        ValueError: a batch or the ledger is not what its name says; it is named.
    """
    batches = find_batches(run.directory)
    if not batches:
        return None
    oracle: Mapping[str, Any] = run.config.get("oracle") or {}
    policies: tuple[Conflicts, ...] = get_args(Conflicts)
    conflicts: Conflicts = next((policy for policy in policies if policy == oracle.get("conflicts")), "error")
    history = Ledger(run.directory / LEDGER).history(as_now=True)
    hold_out = int(run.config.get("hold_out") or 0)
    return labelling_of(batches, history, conflicts, hold_out)


def labelling_of(
    batches: Sequence[LabelBatch], history: Sequence[Given], conflicts: Conflicts, hold_out: int = 0
) -> Labelling:
    """From at least one batch, by round, and all answers of the ledger in its order.

    `hold_out` samples, the first of round 0, were drawn for the test.
    """
    of_round: dict[int, list[Given]] = defaultdict(list)
    for answer, taken in history:
        of_round[answer.round].append((answer, taken))
    rounds = tuple(_round(batch, of_round[batch.round], history, conflicts, hold_out) for batch in batches)
    newest = {question.sample.sample_id: question for one in rounds for question in one.questions}
    holds = {name: one for name, one in resolve(_standing(history), conflicts).items() if name in newest}
    decided = {name: [vote for vote in verdict.votes if vote.kind != "skip"] for name, verdict in holds.items()}
    contents = {name: {(vote.kind, vote.label) for vote in votes} for name, votes in decided.items()}
    return Labelling(
        conflicts=conflicts,
        shows_predictions=any(batch.show_predictions for batch in batches),
        rounds=rounds,
        holds=holds,
        contested=tuple(question for name, question in newest.items() if len(contents.get(name, ())) > 1),
        seen_by_several=sum(len(votes) > 1 for votes in decided.values()),
    )


def _round(
    batch: LabelBatch, given: Sequence[Given], history: Sequence[Given], conflicts: Conflicts, hold_out: int
) -> LabellingRound:
    of_sample = _by_sample(given)
    again = {sample.sample_id for sample in batch.samples if sample.again}
    earlier = _by_sample([one for one in history if one[0].round < batch.round and one[0].sample_id in again])
    holds = resolve(_standing(given), conflicts)
    seconds = {
        name: next(
            (answer for answer in in_time(_standing(of_sample[name])) if answer.kind != "skip" and not answer.decides),
            None,
        )
        for name in again
    }
    before = {
        name: resolve(_standing(earlier[name], as_of=second), conflicts).get(name)
        for name, second in seconds.items()
        if second is not None
    }
    questions = tuple(
        Question(
            round=batch.round,
            sample=sample,
            image=batch.image_path(sample),
            is_for_test=batch.round == 0 and place < hold_out,
            given=tuple(of_sample[sample.sample_id]),
            verdict=holds.get(sample.sample_id),
            second=seconds.get(sample.sample_id),
            before=before.get(sample.sample_id),
        )
        for place, sample in enumerate(batch.samples)
    )
    return LabellingRound(batch.round, batch.is_open, questions, tuple(given))


def _by_sample(given: Sequence[Given]) -> defaultdict[str, list[Given]]:
    found: defaultdict[str, list[Given]] = defaultdict(list)
    for answer, taken in given:
        found[answer.sample_id].append((answer, taken))
    return found


def _standing(given: Sequence[Given], as_of: Answer | None = None) -> Iterator[Answer]:
    """The answers that stand; with `as_of`, those that stood as that one came."""
    if as_of is None:
        return (answer for answer, taken in given if taken is None)
    now = as_of.id or 0
    return (answer for answer, taken in given if (answer.id or 0) < now and (taken is None or taken > now))


def _is_time(seconds: float | None) -> bool:
    return seconds is not None and isfinite(seconds) and seconds >= 0
