"""Review of the answers that people send back: whether each may be true, and which of them go into the ledger.

All of them go in, or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from assl_lightning.base.run_files import LEDGER
from assl_lightning.base.suggestions import Suggestions
from assl_lightning.base.tables import is_utf8, looks_missing
from assl_lightning.base.words import counted, first_few
from assl_lightning.data.answers import (
    Answer,
    Conflicts,
    Incoming,
    Voice,
    content_of,
    describe,
    describe_author,
    describe_change,
    describe_difference,
    in_time,
    later_of,
    utc_now,
    voice_of,
)
from assl_lightning.data.same_names import SameNames
from assl_lightning.people.batch import LabelBatch, find_all_batches, waiting_batch
from assl_lightning.people.errors import IngestError
from assl_lightning.people.ledger import Ledger

_SHOWN = 5  # lines that a notice about many of them names
_AGREE = (
    "agree on one, or choose --conflicts latest, or majority, under which a tie is settled on the page; a correction "
    "has the name of the person whose answer it corrects (column annotator, or --annotator NAME)"
)
_MOST_CLASSES = 20  # that a message names


@dataclass(frozen=True)
class Judgement:
    """The outcome of a review. Any problem means that nothing is applied."""

    answers: tuple[Answer, ...]  # to append to the ledger; none if there is a problem
    problems: tuple[str, ...]  # in the order of the lines
    notices: tuple[str, ...]


def ingest(
    run_dir: Path,
    incoming: Sequence[Incoming],
    *,
    conflicts: Conflicts = "error",
    dry_run: bool = False,
    revoked: Sequence[Answer] = (),
) -> Judgement:
    """Review incoming answers, and write those that are new into the ledger of a run: all of them, or none.

    They are reviewed while no other process can write, so that of two answers that contradict each other one is
    refused, however close together they come.

    Args:
        run_dir: the run's directory.
        incoming: the answers.
        conflicts: the policy for answers of different people, see `Conflicts`.
        dry_run: write nothing.
        revoked: answers that were taken back; lines that gave one of them, and still stand in a file, are passed over.

    Raises:
        IngestError: with every problem; nothing was written.
        ValueError: there is no run or batch, or one of its files cannot be read or written.
    """
    batches = find_all_batches(run_dir)
    if not batches:
        waiting_batch(run_dir)  # raises, and says why there is none
    ledger = Ledger(run_dir / LEDGER)
    if revoked:
        requested = RequestedSamples(batches)
        incoming = [one for one in incoming if not any(map(requested.with_known_names(one).matches, revoked))]
    judgement = _accepted(judge(incoming, batches, ledger.active_answers(), conflicts=conflicts))
    if dry_run or not judgement.answers:
        return judgement

    def judge_again(active: Sequence[Answer]) -> Sequence[Answer]:
        nonlocal judgement
        judgement = _accepted(judge(incoming, batches, active, conflicts=conflicts))
        return judgement.answers

    ledger.append_judged(judge_again)
    return judgement


def judge(
    incoming: Sequence[Incoming],
    batches: Sequence[LabelBatch],
    active: Sequence[Answer],
    *,
    conflicts: Conflicts = "error",
) -> Judgement:
    """Decide which of the incoming answers are written, given the `active` answers of the ledger.

    An answer belongs to the newest batch that asked for its sample. An answer with the same content as its annotator's
    latest is not written again, unless that batch asks once more; one with another content is a correction. An answer
    whose time is before that of its annotator's latest is kept, and corrects nothing. See `Conflicts` for the answers
    of different people.
    """
    requested = RequestedSamples(batches)
    review = _Review(requested, active, conflicts)
    for position, answer in enumerate(incoming):
        review.look_up(position, requested.with_known_names(answer))
    review.compare()
    problems = tuple(text for _, text in sorted(review.problems, key=lambda problem: problem[0]))
    if problems:
        return Judgement((), problems, ())
    return Judgement(tuple(review.answers), (), (*review.notices, *_progress(batches, active, review.answers)))


def unanswered(batch: LabelBatch, active: Iterable[Answer]) -> list[str]:
    """Return the sample ids of a batch without an answer, in its order.

    A sample that was skipped in an earlier batch, or is asked for again, counts as unanswered until this batch has its
    answer.
    """
    known: set[str] = set()
    answered: set[str] = set()
    for answer in active:
        if answer.round == batch.round:
            answered.add(answer.sample_id)
        elif answer.kind != "skip":
            known.add(answer.sample_id)
    return [
        sample.sample_id
        for sample in batch.samples
        if sample.sample_id not in answered and (sample.again or sample.sample_id not in known)
    ]


def _accepted(judgement: Judgement) -> Judgement:
    if judgement.problems:
        raise IngestError(judgement.problems)
    return judgement


def _progress(batches: Sequence[LabelBatch], active: Sequence[Answer], new: Sequence[Answer]) -> Iterator[str]:
    for batch in batches:
        if batch.is_open and (not batch.is_audit or unanswered(batch, active)):  # before these answers
            count, left = len(batch.samples), len(unanswered(batch, [*active, *new]))
            have = f"{left} of {count} images have no answer yet" if left else f"all {count} images have an answer"
            yield f"{batch.title}: {have}"


class RequestedSamples:
    """The samples that all batches ask for, and the classes that they may be of."""

    def __init__(self, batches: Sequence[LabelBatch]) -> None:
        self.batch: dict[str, LabelBatch] = {}  # sample id → the newest that asked for it
        self.again: set[str] = set()  # samples that this batch asks for once more
        self.open = {batch.directory for batch in batches if batch.is_open}
        paths: dict[str, str] = {}
        for batch in sorted(batches, key=lambda batch: batch.round):
            for sample in batch.samples:
                self.batch[sample.sample_id] = batch
                (self.again.add if sample.again else self.again.discard)(sample.sample_id)
                if sample.path is not None:
                    paths[sample.path] = sample.sample_id
        self._classes = tuple(dict.fromkeys(name for batch in batches for name in batch.class_names))
        self._present = {name: now for batch in batches for name, now in batch.former_names.items()}
        self._sample_names = SameNames(self.batch)
        self._class_names = SameNames((*self._classes, *self._present))
        self._sample_hints, self._class_hints = Suggestions(self.batch, paths), Suggestions(self._classes)

    def with_known_names(self, answer: Incoming) -> Incoming:
        """Return the answer with the run's own form of its sample's and its class's name (`SameNames.find_cell`).

        A former name of a class becomes the present one.
        """
        sample_id = self._sample_names.find_cell(answer.sample_id) or answer.sample_id
        if answer.label is None:
            return replace(answer, sample_id=sample_id)
        label = self._class_names.find_cell(answer.label) or answer.label
        return replace(answer, sample_id=sample_id, label=self._present.get(label, label))

    def problems(self, answer: Incoming) -> Iterator[str]:
        """Yield the problems of the sample, the class and the annotator of an answer."""
        batch = self.batch.get(answer.sample_id)
        if batch is None:
            yield f"{answer.sample_id!r} is no sample that was asked for{self._sample_hints.hint(answer.sample_id)}"
        classes = self._classes if batch is None else batch.class_names
        if answer.kind == "label" and answer.label not in classes:
            label = answer.label or ""
            hint = self._class_hints.hint(label) or f"; they are {first_few(map(repr, classes), _MOST_CLASSES)}"
            hint += "; where the class is not known, leave the cell empty" if looks_missing(label.strip()) else ""
            yield f"{label!r} is none of the classes{hint}"
        if not is_utf8(answer.annotator):
            yield f"the annotator must be a text that UTF-8 can write; got {answer.annotator!a}"


@dataclass
class _Review:
    """The state of a review."""

    requested: RequestedSamples
    active: Sequence[Answer]
    conflicts: Conflicts
    answers: list[Answer] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)  # position among the incoming, what is wrong
    _by_voice: dict[Voice, list[tuple[int, Incoming]]] = field(default_factory=dict)
    _now: str = field(default_factory=utc_now)

    def look_up(self, position: int, answer: Incoming) -> None:
        """Record the problems of one answer alone, or keep it for `compare`."""
        found = [f"{answer.where}: {problem}" for problem in self.requested.problems(answer)]
        self.problems += [(position, problem) for problem in found]
        if not found:
            self._by_voice.setdefault(voice_of(answer), []).append((position, answer))

    def compare(self) -> None:
        """Compare the answers with each other and with the ledger, and find the new ones."""
        votes = sorted((self._latest(given) for given in self._by_voice.values()), key=lambda vote: vote[0])
        ledger = _LedgerView(self.active)
        new: list[tuple[int, Incoming]] = []
        known: list[str] = []
        for position, answer in votes:
            last = ledger.last(answer)
            if last is None or self._is_asked_once_more(answer, last):
                new.append((position, answer))
            elif content_of(last) == content_of(answer):
                confirms = self._is_later(answer, last) and not ledger.has(answer)
                new.extend([(position, answer)] if confirms else [])
                known.extend([] if confirms else [answer.where])
            elif ledger.is_outdated(answer, last) or (ledger.has(answer) and self._is_earlier(answer, last)):
                self.notices.append(
                    f"{answer.where}: {describe(answer)} of {answer.sample_id!r} was taken over before, and replaced "
                    f"since by {describe(last)} ({last.source}), which stays"
                )
            elif self._is_earlier(answer, last):
                self._keep_earlier(answer, last)
            else:
                new.append((position, answer))
                self.notices.append(
                    f"{answer.where}: {describe_author(answer)} corrects {answer.sample_id!r} from {describe(last)} "
                    f"({last.source}) to {describe(answer)}"
                )
        self._summarise(known, "in the ledger already, and not written again")
        self._compare_people(new, ledger)
        self._append((answer for _, answer in new), ledger)

    def _keep_earlier(self, answer: Incoming, last: Answer) -> None:
        """Keep an answer that came late, in the round of its annotator's latest answer, which still counts."""
        self.notices.append(
            f"{answer.where}: {describe(answer)} of {answer.sample_id!r} was given at {answer.at}, before "
            f"{describe(last)} at {last.at} ({last.source}), which stays"
        )
        self.answers.append(answer.as_answer(last.round))

    def _moment(self, answer: Incoming) -> str:
        """Return the time at which an answer counts as given: now, if it has no time or one in the future."""
        return min(answer.at or self._now, self._now)

    def _is_earlier(self, answer: Incoming, last: Answer) -> bool:
        return answer.at is not None and last.at is not None and self._moment(answer) < last.at

    def _is_later(self, answer: Incoming, last: Answer) -> bool:
        return answer.at is not None and last.at is not None and self._moment(answer) > last.at

    def _is_asked_once_more(self, answer: Incoming, last: Answer) -> bool:
        """True for the second opinion that was asked for; False for a line of a file that was taken before."""
        is_later = last.round < self.requested.batch[answer.sample_id].round
        is_asked = answer.sample_id in self.requested.again or last.kind == "skip"
        return is_asked and is_later and not answer.matches(last) and not self._is_earlier(answer, last)

    def _latest(self, given: Sequence[tuple[int, Incoming]]) -> tuple[int, Incoming]:
        """Choose the answer that counts among those of one voice: the latest, by their times or the policy."""
        kept_position, kept = given[0]
        for position, answer in given[1:]:
            later = later_of(kept, answer, self._now)
            if later is None and self.conflicts == "latest":
                later = answer if self._moment(answer) >= self._moment(kept) else kept
            if later is None:
                self.problems.append((position, describe_change(answer, kept)))
                continue
            older = kept if later is answer else answer
            if content_of(answer) == content_of(kept):
                self.notices.append(
                    f"{answer.where}: repeats the answer to {answer.sample_id!r} of {kept.where}; it counts once"
                )
            else:
                self.notices.append(
                    f"{later.where}: {describe(later)} of {answer.sample_id!r} replaces {describe(older)} of "
                    f"{older.where}"
                )
            kept_position, kept = (position, answer) if later is answer else (kept_position, kept)
        return kept_position, kept

    def _compare_people(self, new: Sequence[tuple[int, Incoming]], ledger: _LedgerView) -> None:
        """Note the answers that contradict another person's, if the policy is "error"."""
        if self.conflicts != "error":
            return
        beside: dict[str, list[Incoming]] = {}
        replaced = {voice_of(answer) for _, answer in new}
        settled = ledger.settled | {answer.sample_id for _, answer in new if answer.decides}
        for position, answer in new:
            if answer.sample_id in settled:
                continue
            others: list[Answer | Incoming] = [
                vote for vote in ledger.votes(answer.sample_id) if voice_of(vote) not in replaced
            ]
            others += beside.get(answer.sample_id, [])
            contrary = [other for other in others if _contradict(answer, other)]
            if contrary:
                difference = describe_difference(answer, contrary[:_SHOWN])
                self.problems.append((position, f"{difference}; {_AGREE}"))
            beside.setdefault(answer.sample_id, []).append(answer)

    def _append(self, new: Iterable[Incoming], ledger: _LedgerView) -> None:
        late: dict[int, list[str]] = {}
        for answer in new:
            batch = self.requested.batch[answer.sample_id]
            if batch.directory not in self.requested.open:
                late.setdefault(batch.round, []).append(answer.where)
            decision = ledger.decision(answer.sample_id)
            if decision is not None and not answer.decides and content_of(decision) != content_of(answer):
                self.notices.append(
                    f"{answer.where}: {describe(answer)} of {answer.sample_id!r} is kept, but "
                    f"{describe_author(decision)} decided for {describe(decision)}, which holds until that is taken "
                    f"back (--undo {decision.id})"
                )
            if answer.at is not None and answer.at > self._now:
                self.notices.append(
                    f"{answer.where}: the time {answer.at} is still to come; the answer counts as given now"
                )
            self.answers.append(answer.as_answer(batch.round))
        for number, places in late.items():
            self._summarise(places, f"for round {number}, which has trained already; the next round takes them over")

    def _summarise(self, places: Sequence[str], what: str) -> None:
        if places:
            are = "is" if len(places) == 1 else "are"
            self.notices.append(f"{counted(len(places), 'answer')} {are} {what} ({first_few(places, _SHOWN, '; ')})")


class _LedgerView:
    """The active answers of the ledger, by sample and annotator."""

    def __init__(self, active: Sequence[Answer]) -> None:
        self._by_voice: dict[Voice, list[Answer]] = {}
        self._votes: dict[str, dict[str, Answer]] = {}
        self._decisions: dict[str, Answer] = {}
        for answer in in_time(active):
            self._by_voice.setdefault(voice_of(answer), []).append(answer)
            if answer.decides:
                self._decisions[answer.sample_id] = answer
            else:
                self._votes.setdefault(answer.sample_id, {})[answer.annotator] = answer

    def votes(self, sample_id: str) -> list[Answer]:
        """Return each annotator's latest answer to a sample."""
        return list(self._votes.get(sample_id, {}).values())

    def decision(self, sample_id: str) -> Answer | None:
        """Return the latest decision on a sample."""
        return self._decisions.get(sample_id)

    @property
    def settled(self) -> set[str]:
        """The samples that have a decision."""
        return set(self._decisions)

    def last(self, answer: Incoming) -> Answer | None:
        """Return the latest answer of the same voice."""
        answers = self._by_voice.get(voice_of(answer))
        return answers[-1] if answers else None

    def has(self, answer: Incoming) -> bool:
        """True if this very line was taken over before."""
        return any(map(answer.matches, self._by_voice.get(voice_of(answer), ())))

    def is_outdated(self, answer: Incoming, last: Answer) -> bool:
        """True if this very line was taken over before, and its annotator then answered differently elsewhere."""
        return self.has(answer) and last.source != answer.where


def _contradict(answer: Answer | Incoming, other: Answer | Incoming) -> bool:
    """True if two answers differ and neither is a skip."""
    return "skip" not in (answer.kind, other.kind) and content_of(answer) != content_of(other)
