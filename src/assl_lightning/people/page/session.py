"""A batch and the answers of its annotators: the part of the page that does not depend on the web."""

from __future__ import annotations

import hashlib
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from reprlib import repr as shown
from typing import Any, cast, get_args

from assl_lightning.base.arguments import is_integer, is_number
from assl_lightning.base.csv_text import table_as_csv
from assl_lightning.data.answers import Answer, Conflicts, Kind, ResolvedLabel, resolve
from assl_lightning.loop.class_history import read_history
from assl_lightning.people.batch import AskedSample, LabelBatch, read_batch
from assl_lightning.people.class_changes import add_class, can_change
from assl_lightning.people.labelled_set import labelled_set
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.shares import Share

SOURCE = "page"
"""The source of answers in the ledger."""

GRID_SOURCE = "page, grid"
"""The source of answers that were given to several images at a time, in the grid."""

LONGEST_SECONDS = 300.0
"""The most seconds that an answer is recorded with: nobody looks at an image for more than five minutes."""

COLUMNS = ("sample_id", "label", "status", "annotator", "seconds", "at")
"""The columns of the table of answers; `status` is empty beside a label, else skip or bad."""

_DECIDES = "decides"  # a further column, if there are decisions

_LONGEST_NAME = 60
_LARGEST_NUMBER = 1e12
_DELAY = 60.0  # seconds that an answer may be on its way, over a tunnel too; the page sends one after the other
_LONGEST_AGE = 30 * 86400.0  # seconds that an answer may have waited for its server


class AnswerError(ValueError):
    """An answer that does not fit this batch."""


class ClosedError(ValueError):
    """A batch whose labels the run has already taken over."""


class Session:
    """A batch and the ledger of its answers.

    Args:
        batch: the samples to label, and their classes.
        ledger: the run's; an answer is in it when the call that gives it returns.
        conflicts: the run's policy for samples about which people differ.
        share: the part of the batch that is labelled here; None for all of it.

    Raises:
        ValueError: the share has no images.
    """

    def __init__(
        self, batch: LabelBatch, ledger: Ledger, conflicts: Conflicts = "error", share: Share | None = None
    ) -> None:
        self.batch = batch
        self.ledger = ledger
        self.conflicts: Conflicts = conflicts
        self._writing = threading.Lock()  # an answer that is sent twice at the same time is kept once
        self._latest: dict[str, datetime] = {}  # annotator → the time of their latest answer
        self._samples = {sample.sample_id: sample for sample in batch.samples}
        self._here: set[str] = set()  # annotators who answered in this session
        self.added: list[tuple[str, str]] = []  # classes, each with the annotator who added it
        self.share = share
        own, common = (batch.samples, ()) if share is None else share.split(batch)
        self._own = {sample.sample_id for sample in own or common}  # answers to these show that a person has this share
        self._asked = {sample.sample_id for sample in (*own, *common)}

    def refresh(self) -> LabelBatch:
        """Return the batch with the present classes of its run, which may change while people label."""
        classes = read_history(self.batch.run_dir)
        if classes is not None and classes.names() != self.batch.class_names:
            self.batch = read_batch(self.batch.directory)
        return self.batch

    @property
    def asked(self) -> list[AskedSample]:
        """The samples of this share of the batch, or all, in the order of the batch."""
        return [sample for sample in self.batch.samples if sample.sample_id in self._asked]

    @property
    def takes_classes(self) -> bool:
        """True if `add_class` can add classes: the run's directory is here, and its configuration names the classes."""
        return self.batch.is_open and can_change(self.batch.run_dir)

    def add_class(self, annotator: str, name: object) -> LabelBatch:
        """Add a class to the run, for all annotators, and return the batch with it.

        Raises:
            AnswerError: the name is invalid or taken, or classes cannot be added (`takes_classes`).
            ClosedError: the run has taken the labels over.
        """
        text = _name("a class", name)
        with self._writing:
            self._check_open()
            if not self.takes_classes:
                raise AnswerError(
                    "classes are added where the run is, and only to a run whose settings name its classes "
                    "(data.source.class_names)"
                )
            try:
                add_class(self.batch.run_dir, text)
            except ValueError as error:
                raise AnswerError(str(error)) from None
            self.added.append((text, annotator))
        return self.refresh()

    def order(self, annotator: str, *, whole_batch: bool = False) -> list[AskedSample]:
        """Return the samples of this share in an order that is random, but the same each time an annotator begins.

        In one order for all, the samples with the highest scores would come first for everybody, and the last samples
        would be labelled by tired people.
        """
        seed = f"{self.batch.run_id}\0{self.batch.round}\0{annotator}\0"
        samples = self.batch.samples if whole_batch else self.asked
        return sorted(samples, key=lambda sample: hashlib.sha256((seed + sample.sample_id).encode()).digest())

    def groups(self, annotator: str) -> list[list[AskedSample]]:
        """Return the samples in groups of one predicted class, the largest first; those without a prediction are last.

        In a group the samples with the lowest scores come first, about which the model is surest; samples without a
        score come last. Neither order reveals the predicted class.
        """
        order = self.order(annotator)
        alike: dict[str | None, list[AskedSample]] = {}
        for sample in order:
            alike.setdefault(sample.prediction, []).append(sample)
        for group in alike.values():
            group.sort(key=lambda sample: (sample.score is None, sample.score or 0.0))
        without = alike.pop(None, None)
        groups = sorted(alike.values(), key=len, reverse=True)  # of equal sizes in the order above, which is random
        return [*groups, *([without] if without else [])]

    def answers(self, annotator: str) -> list[Answer]:
        """Return an annotator's active answers to this batch, oldest first; of several to one image the last counts."""
        return [answer for answer in self._active() if answer.annotator == annotator]

    def disputes(self) -> Mapping[str, ResolvedLabel]:
        """Return sample id → the resolved label, with the votes, of the samples about which people differ."""
        resolved = resolve(self.ledger.active_answers(), self.conflicts)
        return {name: resolved[name] for name in self._samples if name in resolved and resolved[name].differs}

    def unsettled(self) -> list[str]:
        """Return the samples about which people differ and for which the run waits."""
        return [name for name, verdict in self.disputes().items() if verdict.kind == "conflict"]

    def decisions(self) -> list[Answer]:
        """Return the active decisions on this batch, oldest first; of several on one image the last counts."""
        return [answer for answer in self._active_and_decisions() if answer.decides]

    def progress(self) -> Mapping[str, int]:
        """Return annotator → the number of images that they answered, in the order in which they began.

        With a share, only its own images and those in common count; annotators who answered images of other shares and
        none of its own are left out.
        """
        answered: dict[str, set[str]] = {}
        elsewhere = set()
        for answer in self._active():
            if answer.sample_id in self._asked:
                answered.setdefault(answer.annotator, set()).add(answer.sample_id)
            else:
                elsewhere.add(answer.annotator)
        return {
            annotator: len(names)
            for annotator, names in answered.items()
            if annotator not in elsewhere or not names.isdisjoint(self._own)
        }

    def unfinished(self) -> list[str]:
        """Return the annotators who have begun and have images left.

        An annotator who has answered only images in common may have another share, and is left out unless they answered
        in this session.
        """
        begun = {answer.annotator for answer in self._active() if answer.sample_id in self._own} | self._here
        progress = self.progress().items()
        return [annotator for annotator, answered in progress if annotator in begun and answered < len(self._asked)]

    def answer(self, annotator: str, content: Mapping[str, Any]) -> Answer:
        """Record an answer: `sample_id`, `kind`, `label`, `seconds` that it took, `age` in seconds since it was given.

        With `decides` it is a decision on a sample about which people differ, and no vote. With `grid` it was given to
        several images at a time, which is recorded as its source. An answer that equals the annotator's last one adds
        nothing, so that a browser may send an answer again.

        Raises:
            AnswerError: an invalid sample, class or number.
            ClosedError: the run has taken the labels over.
        """
        self.refresh()
        kind, label = self._verdict_of(content)
        sample_id = self._sample_of(content.get("sample_id")).sample_id
        seconds = _number("seconds", content.get("seconds"), LONGEST_SECONDS)
        age = _number("age", content.get("age"), _LONGEST_AGE) or 0.0
        at = self._time_of(annotator, age).isoformat(timespec="milliseconds")
        rounded = None if seconds is None else round(seconds, 2)
        source = GRID_SOURCE if _flag("grid", content.get("grid")) else SOURCE
        new = Answer(sample_id, kind, annotator, source, self.batch.round, label=label, seconds=rounded, at=at)
        if _flag("decides", content.get("decides")):
            return self._decide(replace(new, decides=True))
        with self._writing:
            self._check_open()
            self._here.add(annotator)
            votes = [answer for answer in self.ledger.active_answers(sample_id) if not answer.decides]
            before = [vote for vote in votes if (vote.annotator, vote.round) == (annotator, self.batch.round)]
            if before and (before[-1].kind, before[-1].label) == (kind, label):
                return before[-1]
            return self.ledger.append([new])[0]

    def _time_of(self, annotator: str, age: float) -> datetime:
        """Return the time at which an answer of this age was given.

        The answers of a browser arrive in their order, but with different delays, which must not change the order.
        """
        with self._writing:
            at = datetime.now(timezone.utc) - timedelta(seconds=age)
            latest = self._latest.get(annotator, at)
            self._latest[annotator] = max(at, latest)
            return latest if at < latest < at + timedelta(seconds=_DELAY) else at

    def _decide(self, new: Answer) -> Answer:
        with self._writing:
            self._check_open()
            before = [decision for decision in self.decisions() if decision.sample_id == new.sample_id]
            last = before[-1] if before else None
            if last and (last.annotator, last.kind, last.label) == (new.annotator, new.kind, new.label):
                return last
            if new.sample_id not in self.disputes():
                raise AnswerError(f"people do not differ about {new.sample_id!r} any more; reload the page")
            return self.ledger.append([new])[0]

    def undo(self, annotator: str, number: object) -> None:
        """Take back an answer that the annotator gave on the page; repeating it has no effect.

        Raises:
            AnswerError: the answer is another annotator's, or to another batch.
            ClosedError: the run has taken the labels over.
        """
        with self._writing:
            self._check_open()
            history = self.ledger.history()
            given = {answer.id: revoked_by for answer, revoked_by in history if self._is_of(answer, annotator)}
            if not is_integer(number) or number not in given:
                raise AnswerError(f"id must be of an answer that {annotator!r} gave on this page; got {shown(number)}")
            if given[number] is None:
                self.ledger.revoke([number], annotator, SOURCE)

    def table(self, annotator: str | None = None) -> str:
        """Return each annotator's (or one's) last answer to each image, as CSV with `COLUMNS`, in order of time.

        Decisions are among them, marked in a further column.
        """
        last: dict[tuple[str, str, bool], Answer] = {}
        for answer in self._active_and_decisions():
            if annotator in (None, answer.annotator):
                key = (answer.annotator, answer.sample_id, answer.decides)
                last.pop(key, None)
                last[key] = answer
        with_decisions = any(answer.decides for answer in last.values())
        if not with_decisions:
            return table_as_csv(COLUMNS, map(_row, last.values()))
        rows = ([*_row(answer), "yes" if answer.decides else ""] for answer in last.values())
        return table_as_csv([*COLUMNS, _DECIDES], rows)

    def labelled_table(self) -> str:
        """Return the labelled set of the run so far, of all rounds and all people, as CSV (`people.labelled_set`)."""
        return labelled_set(self.batch.run_dir, self.conflicts).table()

    def _active(self) -> list[Answer]:
        return [answer for answer in self._active_and_decisions() if not answer.decides]

    def _active_and_decisions(self) -> list[Answer]:
        of_batch = (answer for answer in self.ledger.active_answers() if answer.round == self.batch.round)
        return [answer for answer in of_batch if answer.sample_id in self._samples]

    def _is_of(self, answer: Answer, annotator: str) -> bool:
        asked = answer.round == self.batch.round and answer.sample_id in self._samples
        return asked and answer.annotator == annotator and answer.source in (SOURCE, GRID_SOURCE)

    def _check_open(self) -> None:
        if not self.batch.is_open:
            raise ClosedError(
                f"the labels of round {self.batch.round} were taken over meanwhile, so it takes no more answers; those "
                f"given before are kept"
            )

    def _sample_of(self, sample_id: object) -> AskedSample:
        sample = self._samples.get(sample_id) if isinstance(sample_id, str) else None
        if sample is None:
            raise AnswerError(f"sample_id must be one of the batch's {len(self._samples)}; got {shown(sample_id)}")
        return sample

    def _verdict_of(self, content: Mapping[str, Any]) -> tuple[Kind, str | None]:
        kind, label = content.get("kind"), content.get("label")
        if isinstance(label, str):
            label = self.batch.former_names.get(label, label)  # from a page that was loaded before
        if kind not in get_args(Kind):
            raise AnswerError(f"kind must be one of {', '.join(get_args(Kind))}; got {shown(kind)}")
        if kind == "label" and label not in self.batch.class_names:
            raise AnswerError(
                f"label must be one of the batch's {len(self.batch.class_names)} classes; got {shown(label)}"
            )
        if kind != "label" and label is not None:
            raise AnswerError(f"label must be left out of a {kind}; got {shown(label)}")
        return cast("Kind", kind), label


def annotator_of(value: object) -> str:
    """Return an annotator's name as the ledger has it: composed characters, no spaces around.

    Raises:
        AnswerError: the value is no name.
    """
    return _name("annotator", value)


def _name(what: str, value: object) -> str:
    name = unicodedata.normalize("NFC", value).strip() if isinstance(value, str) else ""
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise AnswerError(
            f"{what} must be a name of 1 to {_LONGEST_NAME} characters on one line; got {shown(value)}; type another"
        )
    return name


def _number(name: str, value: object, largest: float) -> float | None:
    if value is None:
        return None
    if not is_number(value) or not 0 <= value <= _LARGEST_NUMBER:
        raise AnswerError(f"{name} must be a number of at least 0, or null; got {shown(value)}")
    return min(float(value), largest)


def _flag(name: str, value: object) -> bool:
    if value is not None and not isinstance(value, bool):
        raise AnswerError(f"{name} must be true, false or left out; got {shown(value)}")
    return value is True


def _row(answer: Answer) -> Sequence[object]:
    status = "" if answer.kind == "label" else answer.kind
    seconds = "" if answer.seconds is None else answer.seconds
    return answer.sample_id, answer.label or "", status, answer.annotator, seconds, answer.at
