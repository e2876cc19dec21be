"""Answers of people about the class of an image, and the one of several answers that counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

Kind = Literal["label", "skip", "bad"]
"""The kinds of answers. label: a class; skip: "I do not know", so that the image may be asked for again; bad: an image
that must not be asked for again, and is left out."""

Conflicts = Literal["error", "latest", "majority"]
"""The policy for a sample about which people differ. error: it waits until they agree; latest: the latest answer
counts; majority: the answer that most people gave counts, and after a tie it waits."""


@dataclass(frozen=True)
class Answer:
    """A person's answer to one sample."""

    sample_id: str
    kind: Kind
    annotator: str
    source: str  # where it came from: "page", "labels.csv, line 7", "label_studio, task 12"
    round: int  # of the batch that asked for it
    label: str | None = None  # the class's name if `kind` is "label"
    seconds: float | None = None  # that it took, ≥ 0; None if unknown
    at: str | None = None  # the time by which it counts, ISO 8601; in the ledger always in UTC; None: now
    id: int | None = None  # its number in the ledger, from 1; None: not in it yet
    stated: str | None = None  # the time that its source gave; None if it gave none, or an older version wrote it
    decides: bool = False  # True: it is no vote, but settles what people differ about


@dataclass(frozen=True)
class Incoming:
    """An answer from a line of a file or an annotation of a tool. Its sample and class may not exist."""

    where: str  # its place, for people: "labels.csv, line 7", "export.json, task 12"
    sample_id: str
    kind: Kind
    label: str | None = None  # the class's name if `kind` is "label"
    annotator: str = ""  # "" if it is not given
    seconds: float | None = None  # that it took
    at: str | None = None  # the time of the answer, as `as_utc` writes it; None if it is not given
    decides: bool = False  # see `Answer`
    round: int | None = None  # of the batch beside which the file lies; None if it came another way

    def matches(self, answer: Answer) -> bool:
        """True if `answer` was taken from this line: the same place, content and, if the line has one, time.

        The round is compared, too, since each round's files have the same name.
        """
        same_time = self.at in (None, answer.at, answer.stated)
        same_round = self.round in (None, answer.round)
        same_place = (self.where, self.sample_id) == (answer.source, answer.sample_id)
        same_content = content_of(self) == content_of(answer) and self.decides == answer.decides
        return same_time and same_round and same_place and same_content

    def as_answer(self, round_number: int) -> Answer:
        """Return the answer as the ledger takes it, for the batch of a round."""
        return Answer(
            sample_id=self.sample_id,
            kind=self.kind,
            annotator=self.annotator,
            source=self.where,
            round=round_number,
            label=self.label,
            seconds=self.seconds,
            at=self.at,
            decides=self.decides,
        )


@dataclass(frozen=True)
class ResolvedLabel:
    """The answer that counts for a sample, out of all that were given."""

    kind: Literal["label", "skip", "bad", "conflict"]
    label: str | None  # if `kind` is "label"
    votes: tuple[Answer, ...]  # each annotator's latest answer, oldest first; no decisions
    decision: Answer | None = None  # the latest one, which settles what people differ about

    @property
    def differs(self) -> bool:
        """True if people gave different answers, whether settled or not. A skip differs from no answer."""
        return len({(vote.kind, vote.label) for vote in self.votes if vote.kind != "skip"}) > 1


def resolve(answers: Iterable[Answer], conflicts: Conflicts) -> Mapping[str, ResolvedLabel]:
    """Return sample id → the answer that counts, for all samples that have one.

    The times of the answers decide which is later (see `in_time`), not the order in which they came. An annotator's
    latest answer is their vote, also if they were asked several times or in several rounds. A skip gives way to any
    vote that is not a skip. A decision counts under every policy, also against later votes; a decision to skip gives
    way to later votes.

    >>> votes = [Answer("a.png", "label", person, "page", 0, name) for person, name in (("Ann", "ok"), ("Bo", "dent"))]
    >>> resolve(votes, "latest")["a.png"].label, resolve(votes, "majority")["a.png"].kind
    ('dent', 'conflict')
    """
    last: dict[str, dict[str, Answer]] = {}
    decisions: dict[str, Answer] = {}
    for answer in in_time(answers):
        of_sample = last.setdefault(answer.sample_id, {})
        if answer.decides:
            decisions[answer.sample_id] = answer
            continue
        of_sample.pop(answer.annotator, None)  # so that the order is that of the latest answers
        of_sample[answer.annotator] = answer
    return {name: _resolve_votes(tuple(votes.values()), decisions.get(name), conflicts) for name, votes in last.items()}


def _resolve_votes(votes: tuple[Answer, ...], decision: Answer | None, conflicts: Conflicts) -> ResolvedLabel:
    decided = [vote for vote in votes if vote.kind != "skip"]
    if decision is not None:
        if decision.kind != "skip":
            return ResolvedLabel(decision.kind, decision.label, votes, decision)
        decided = [vote for vote in decided if in_time([decision, vote])[-1] is vote]
    if not decided:
        return ResolvedLabel("skip", None, votes, decision)
    counted = Counter((vote.kind, vote.label) for vote in decided).most_common()
    if len(counted) == 1 or conflicts == "latest":
        return ResolvedLabel(decided[-1].kind, decided[-1].label, votes, decision)
    if conflicts == "majority" and counted[0][1] > counted[1][1]:
        kind, label = counted[0][0]
        return ResolvedLabel(kind, label, votes, decision)
    return ResolvedLabel("conflict", None, votes, decision)


# --- answers that differ ---------------------------------------------------------------------------------------------


Voice = tuple[str, str, bool]
"""Sample, annotator, and True for a decision: of answers in which these are equal the latest counts."""


def voice_of(answer: Answer | Incoming) -> Voice:
    """Return the sample and the annotator of an answer, and whether it is a decision."""
    return answer.sample_id, answer.annotator, answer.decides


def content_of(answer: Answer | Incoming) -> tuple[Kind, str | None]:
    """Return the content of an answer: its kind, and the label if it is one."""
    return answer.kind, answer.label


def later_of(first: Incoming, second: Incoming, now: str) -> Incoming | None:
    """Return the later of two answers of one file and one `Voice`; None if they differ and have no different times.

    Of equal answers the first counts unless the second has a later time. A time after `now` counts as now.
    """
    times = [min(answer.at, now) if answer.at else None for answer in (first, second)]
    if None in times or times[0] == times[1]:
        return first if content_of(first) == content_of(second) else None
    return max((first, second), key=lambda answer: answer.at or "")


def describe(answer: Answer | Incoming) -> str:
    """Return the content of an answer for messages: the label in quotes, or skip or bad."""
    return repr(answer.label) if answer.kind == "label" else answer.kind


def describe_author(answer: Answer | Incoming) -> str:
    """Return the annotator for messages."""
    return repr(answer.annotator) if answer.annotator else "an annotator without a name"


def describe_change(answer: Incoming, earlier: Incoming) -> str:
    """Return the problem that one voice answers twice, differently."""
    return (
        f"{answer.where}: {describe_author(answer)} says {describe(answer)} of {answer.sample_id!r}, and "
        f"{describe(earlier)} in {earlier.where}; leave one of them"
    )


def describe_difference(answer: Incoming, others: Iterable[Answer | Incoming]) -> str:
    """Return the problem that `answer` contradicts the answers of other people."""
    different = " and ".join(
        f"{describe_author(other)} {describe(other)} ({other.where if isinstance(other, Incoming) else other.source})"
        for other in others
    )
    return f"{answer.where}: {describe_author(answer)} says {describe(answer)} of {answer.sample_id!r}, but {different}"


# --- times and names -------------------------------------------------------------------------------------------------


def in_time(answers: Iterable[Answer]) -> list[Answer]:
    """Sort answers by their times, oldest first; answers of equal times, and without one, stay in their order.

    An answer that is not in the ledger yet and has no time counts as given now, after all others.
    """
    return sorted(answers, key=lambda answer: (answer.at is None, answer.at or ""))


def utc_now() -> str:
    """Return the present time as `as_utc` writes it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def as_utc(text: str) -> str:
    """Return a time of ISO 8601 in UTC, to the millisecond, so that texts compare as their times do.

    Raises:
        ValueError: it is no such time.

    >>> as_utc("2026-01-31T14:05:00+02:00"), as_utc("2026-01-31 14:05")  # UTC if no zone is given
    ('2026-01-31T12:05:00.000+00:00', '2026-01-31T14:05:00.000+00:00')
    """
    try:
        moment = datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in ("Z", "z") else text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return aware.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    except OverflowError as error:
        raise ValueError(f"{text!r} is no time that exists ({error})") from None


def name_of(annotator: str) -> str:
    """Return an annotator's name as people read it: answers from a table may have none.

    >>> name_of("Ann"), name_of("")
    ('Ann', 'no name')
    """
    return annotator or "no name"
