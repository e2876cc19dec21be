"""Whether what people send back may be true, and what of it goes into the ledger: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from assl_lightning.base.cells import MISSING_WORDS
from assl_lightning.base.run_files import LEDGER
from assl_lightning.base.suggestions import Suggestions
from assl_lightning.base.words import counted, first_few
from assl_lightning.data.answers import Answer, Conflicts, Incoming, in_time, utc_now
from assl_lightning.people.answers import IngestError, is_utf8
from assl_lightning.people.batch import LabelBatch, find_batches, waiting_batch
from assl_lightning.people.ledger import Ledger

_SHOWN = 5  # lines that a notice over many of them names


@dataclass(frozen=True)
class Judgement:
    """What becomes of answers that came from outside. Any problem means that nothing is applied."""

    answers: tuple[Answer, ...]  # to append to the ledger; none where there is a problem
    problems: tuple[str, ...]  # in the order of the lines
    notices: tuple[str, ...]


def ingest(
    run_dir: Path, incoming: Sequence[Incoming], *, conflicts: Conflicts = "error", dry_run: bool = False
) -> Judgement:
    """Judge answers that came from outside, and write those that are new into the ledger of a run.

    They are judged while nobody else can write, so that of two that contradict each other one is refused, however close
    together they come. Whatever happens, all are written or none. A `dry_run` writes nothing.

    Raises:
        IngestError: with every problem; nothing was written.
        ValueError: there is no run or batch, or one of its files cannot be read or written.
    """
    batches = find_batches(run_dir)
    if not batches:
        waiting_batch(run_dir)  # which says why there is none
    ledger = Ledger(run_dir / LEDGER)
    judgement = _accepted(judge(incoming, batches, ledger.active_answers(), conflicts=conflicts))
    if dry_run or not judgement.answers:
        return judgement

    def judge_again(standing: Sequence[Answer]) -> Sequence[Answer]:
        nonlocal judgement
        judgement = _accepted(judge(incoming, batches, standing, conflicts=conflicts))
        return judgement.answers

    ledger.append_judged(judge_again)
    return judgement


def judge(
    incoming: Sequence[Incoming],
    batches: Sequence[LabelBatch],
    standing: Sequence[Answer],
    *,
    conflicts: Conflicts = "error",
) -> Judgement:
    """Decide which of the answers that came together are written, in view of all that stand.

    An answer belongs to the newest batch that asked for its sample. What its annotator said before, to the same effect,
    is not written again, unless that batch asks once more; to another effect, it is a correction. An answer whose time
    is before that of its annotator's latest is kept, and corrects nothing. See `Conflicts` for what others said.
    """
    asked = _Asked(batches)
    judging = _Judging(asked, standing, conflicts)
    for place, one in enumerate(incoming):
        judging.look_up(place, asked.with_present_class(one))
    judging.compare()
    problems = tuple(text for _, text in sorted(judging.problems, key=lambda problem: problem[0]))
    if problems:
        return Judgement((), problems, ())
    return Judgement(tuple(judging.answers), (), (*judging.notices, *_progress(batches, standing, judging.answers)))


def unanswered(batch: LabelBatch, standing: Iterable[Answer]) -> list[str]:
    """The sample ids of a batch without an answer, in its order.

    What is asked once more needs an answer to this batch, and so does what was skipped in another: it would be asked in
    vain for ever.
    """
    known: set[str] = set()
    answered: set[str] = set()
    for answer in standing:
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


def _progress(batches: Sequence[LabelBatch], standing: Sequence[Answer], new: Sequence[Answer]) -> Iterator[str]:
    for batch in batches:
        if batch.is_open:
            count, left = len(batch.samples), len(unanswered(batch, [*standing, *new]))
            have = f"{left} of {count} images have no answer yet" if left else f"all {count} images have an answer"
            yield f"round {batch.round}: {have}"


class _Asked:
    """What was asked for, in all batches."""

    def __init__(self, batches: Sequence[LabelBatch]) -> None:
        self.batch: dict[str, LabelBatch] = {}  # sample id → the newest that asked for it
        self.again: set[str] = set()  # samples that this asks for once more
        self.open_rounds = {batch.round for batch in batches if batch.is_open}
        aliases: dict[str, str] = {}
        for batch in sorted(batches, key=lambda one: one.round):
            for sample in batch.samples:
                self.batch[sample.sample_id] = batch
                (self.again.add if sample.again else self.again.discard)(sample.sample_id)
                if sample.path is not None:
                    aliases[sample.path] = sample.sample_id
        classes = dict.fromkeys(name for batch in batches for name in batch.class_names)
        self.samples, self.classes = Suggestions(self.batch, aliases), Suggestions(classes)
        self._classes = tuple(classes)
        self._former = {name: now for batch in batches for name, now in batch.former_names.items()}

    def with_present_class(self, one: Incoming) -> Incoming:
        """The answer, with a former name of a class replaced by the present one."""
        return one if one.label is None else replace(one, label=self._former.get(one.label, one.label))

    def problems(self, one: Incoming) -> Iterator[str]:
        batch = self.batch.get(one.sample_id)
        if batch is None:
            yield f"{one.sample_id!r} is no sample that was asked for{self.samples.hint(one.sample_id)}"
        classes = self._classes if batch is None else batch.class_names
        if one.kind == "label" and one.label not in classes:
            label = one.label or ""
            hint = self.classes.hint(label) or f"; they are {_listed(classes)}"
            hint += "; where the class is not known, leave the cell empty" if label in MISSING_WORDS else ""
            yield f"{label!r} is none of the classes{hint}"
        if not is_utf8(one.annotator):
            yield f"the annotator must be a text that UTF-8 can write; got {one.annotator!a}"


@dataclass
class _Judging:
    """One judgement on its way."""

    asked: _Asked
    standing: Sequence[Answer]
    conflicts: Conflicts
    answers: list[Answer] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)  # place among the incoming, what is wrong
    _said: dict[tuple[str, str, bool], list[tuple[int, Incoming]]] = field(default_factory=dict)  # see `_voice`
    _now: str = field(default_factory=utc_now)

    def look_up(self, place: int, one: Incoming) -> None:
        """Whether sample and class exist."""
        found = [f"{one.where}: {problem}" for problem in self.asked.problems(one)]
        self.problems += [(place, problem) for problem in found]
        if not found:
            self._said.setdefault(_voice(one), []).append((place, one))

    def compare(self) -> None:
        """The answers with one another, and with those that stand."""
        votes = sorted((self._one_of(said) for said in self._said.values()), key=lambda vote: vote[0])
        before = _Before(self.standing)
        new: list[tuple[int, Incoming]] = []
        known: list[str] = []
        for place, one in votes:
            last = before.last(one)
            if last is None or self._is_asked_once_more(one, last):
                new.append((place, one))
            elif _content(last) == _content(one):
                confirms = self._is_later(one, last) and not before.has(one)
                new.extend([(place, one)] if confirms else [])
                known.extend([] if confirms else [one.where])
            elif before.is_outdated(one, last) or (before.has(one) and self._is_earlier(one, last)):
                self.notices.append(
                    f"{one.where}: {_said(one)} of {one.sample_id!r} was taken over before, and replaced since by "
                    f"{_said(last)} ({last.source}), which stays"
                )
            elif self._is_earlier(one, last):
                self._keep_earlier(one, last)
            else:
                new.append((place, one))
                self.notices.append(
                    f"{one.where}: {_who(one)} corrects {one.sample_id!r} from {_said(last)} ({last.source}) to "
                    f"{_said(one)}"
                )
        self._summarise(known, "in the ledger already, and not written again")
        self._compare_people(new, before)
        self._append((one for _, one in new), before)

    def _keep_earlier(self, one: Incoming, last: Answer) -> None:
        """Keep an answer that came late, in the round of its annotator's latest answer, which goes on to count."""
        self.notices.append(
            f"{one.where}: {_said(one)} of {one.sample_id!r} was given at {one.at}, before {_said(last)} at {last.at} "
            f"({last.source}), which stays"
        )
        self.answers.append(_answer_of(one, last.round))

    def _moment(self, one: Incoming) -> str:
        """The time at which the answer counts as given: now, where it has no time, or one in the future."""
        return min(one.at or self._now, self._now)

    def _is_earlier(self, one: Incoming, last: Answer) -> bool:
        return one.at is not None and last.at is not None and self._moment(one) < last.at

    def _is_later(self, one: Incoming, last: Answer) -> bool:
        return one.at is not None and last.at is not None and self._moment(one) > last.at

    def _is_asked_once_more(self, one: Incoming, last: Answer) -> bool:
        """Whether this is the second opinion that was wanted, and not the line of a file that was taken before."""
        is_later = last.round < self.asked.batch[one.sample_id].round
        is_asked = one.sample_id in self.asked.again or last.kind == "skip"
        return is_asked and is_later and not one.matches(last) and not self._is_earlier(one, last)

    def _one_of(self, said: Sequence[tuple[int, Incoming]]) -> tuple[int, Incoming]:
        """Choose the answer that counts of one annotator's to one sample: the latest, by their times or the policy."""
        kept_place, kept = said[0]
        for place, one in said[1:]:
            if _content(one) == _content(kept):
                self.notices.append(f"{one.where}: says the same of {one.sample_id!r} as {kept.where}; it counts once")
                if one.at and kept.at and one.at > kept.at:
                    kept_place, kept = place, one
            elif self.conflicts == "latest" or (one.at and kept.at and self._moment(one) != self._moment(kept)):
                is_newer = self._moment(one) >= self._moment(kept)
                newer, older = (one, kept) if is_newer else (kept, one)
                self.notices.append(
                    f"{newer.where}: {_said(newer)} of {one.sample_id!r} replaces {_said(older)} of {older.where}"
                )
                kept_place, kept = (place, one) if is_newer else (kept_place, kept)
            else:
                self.problems.append(
                    (
                        place,
                        f"{one.where}: {_who(one)} says {_said(one)} of {one.sample_id!r}, and {_said(kept)} in "
                        f"{kept.where}; leave one of them",
                    )
                )
        return kept_place, kept

    def _compare_people(self, new: Sequence[tuple[int, Incoming]], before: _Before) -> None:
        """Under the policy error, nobody may contradict what another said, before or beside it."""
        if self.conflicts != "error":
            return
        beside: dict[str, list[Incoming]] = {}
        replaced = {_voice(one) for _, one in new}
        settled = before.settled | {one.sample_id for _, one in new if one.decides}
        for place, one in new:
            if one.sample_id in settled:
                continue
            others: list[Answer | Incoming] = [
                answer for answer in before.votes(one.sample_id) if _voice(answer) not in replaced
            ]
            others += beside.get(one.sample_id, [])
            contrary = [other for other in others if _contradict(one, other)]
            if contrary:
                told = " and ".join(f"{_who(other)} {_said(other)} ({_source(other)})" for other in contrary[:_SHOWN])
                self.problems.append(
                    (
                        place,
                        f"{one.where}: {_who(one)} says {_said(one)} of {one.sample_id!r}, but {told}; agree on one, "
                        f"or choose --conflicts latest, or majority, under which a tie is settled on the page",
                    )
                )
            beside.setdefault(one.sample_id, []).append(one)

    def _append(self, new: Iterable[Incoming], before: _Before) -> None:
        late: dict[int, list[str]] = {}
        for one in new:
            batch = self.asked.batch[one.sample_id]
            if batch.round not in self.asked.open_rounds:
                late.setdefault(batch.round, []).append(one.where)
            decision = before.decision(one.sample_id)
            if decision is not None and not one.decides and _content(decision) != _content(one):
                self.notices.append(
                    f"{one.where}: {_said(one)} of {one.sample_id!r} is kept, but {_who(decision)} decided for "
                    f"{_said(decision)}, which holds until that is taken back (--undo {decision.id})"
                )
            if one.at is not None and one.at > self._now:
                self.notices.append(f"{one.where}: the time {one.at} is still to come; the answer counts as given now")
            self.answers.append(_answer_of(one, batch.round))
        for number, places in late.items():
            self._summarise(places, f"for round {number}, which has trained already; the next round takes them over")

    def _summarise(self, places: Sequence[str], what: str) -> None:
        if places:
            are = "is" if len(places) == 1 else "are"
            self.notices.append(f"{counted(len(places), 'answer')} {are} {what} ({first_few(places, _SHOWN, '; ')})")


def _answer_of(one: Incoming, round_number: int) -> Answer:
    return Answer(
        sample_id=one.sample_id,
        kind=one.kind,
        annotator=one.annotator,
        source=one.where,
        round=round_number,
        label=one.label,
        seconds=one.seconds,
        at=one.at,
        decides=one.decides,
    )


def _voice(answer: Answer | Incoming) -> tuple[str, str, bool]:
    """Sample, annotator, and True for a decision: of answers in which these are equal the latest counts."""
    return answer.sample_id, answer.annotator, answer.decides


class _Before:
    """What stands in the ledger, by sample and annotator."""

    def __init__(self, standing: Sequence[Answer]) -> None:
        self._said: dict[tuple[str, str, bool], list[Answer]] = {}
        self._votes: dict[str, dict[str, Answer]] = {}
        self._decisions: dict[str, Answer] = {}
        for answer in in_time(standing):
            self._said.setdefault(_voice(answer), []).append(answer)
            if answer.decides:
                self._decisions[answer.sample_id] = answer
            else:
                self._votes.setdefault(answer.sample_id, {})[answer.annotator] = answer

    def votes(self, sample_id: str) -> list[Answer]:
        """Each annotator's latest answer."""
        return list(self._votes.get(sample_id, {}).values())

    def decision(self, sample_id: str) -> Answer | None:
        """The latest decision on a sample."""
        return self._decisions.get(sample_id)

    @property
    def settled(self) -> set[str]:
        """The samples that have a decision."""
        return set(self._decisions)

    def last(self, one: Incoming) -> Answer | None:
        """The latest standing answer of the annotator of `one` to its sample."""
        answers = self._said.get(_voice(one))
        return answers[-1] if answers else None

    def has(self, one: Incoming) -> bool:
        """True where this very line was taken over before."""
        return any(map(one.matches, self._said.get(_voice(one), ())))

    def is_outdated(self, one: Incoming, last: Answer) -> bool:
        """Whether this very line was taken over before, and its annotator then said something else elsewhere."""
        return self.has(one) and last.source != one.where


def _content(answer: Answer | Incoming) -> tuple[str, str | None]:
    return answer.kind, answer.label


def _contradict(one: Answer | Incoming, other: Answer | Incoming) -> bool:
    """A skip contradicts nobody."""
    return "skip" not in (one.kind, other.kind) and _content(one) != _content(other)


def _said(answer: Answer | Incoming) -> str:
    return repr(answer.label) if answer.kind == "label" else answer.kind


def _who(answer: Answer | Incoming) -> str:
    return repr(answer.annotator) if answer.annotator else "somebody without a name"


def _source(answer: Answer | Incoming) -> str:
    return answer.source if isinstance(answer, Answer) else answer.where


def _listed(names: Sequence[str]) -> str:
    return first_few(map(repr, names), most=20)
