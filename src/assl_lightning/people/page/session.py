"""One batch and the answers of its annotators: the part of the page that does not depend on the web."""

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
"""Of the answers, in the ledger."""

GRID_SOURCE = "page, grid"
"""Of the answers that were given to several images at a time, in the grid."""

LONGEST_SECONDS = 300.0
"""More than this counts as this: after five minutes nobody is looking any more."""

COLUMNS = ("sample_id", "label", "status", "annotator", "seconds", "at")
"""Of the table of answers; `status` is empty beside a label, else skip or bad."""

_DECIDES = "decides"  # one more column, where there are decisions

_LONGEST_NAME = 60
_LARGEST_NUMBER = 1e12
_DELAY = 60.0  # seconds that an answer may be on its way, over a tunnel too; the page sends one after the other
_LONGEST_AGE = 30 * 86400.0  # seconds that an answer may have waited for its server


class AnswerError(ValueError):
    """An answer that does not fit this batch."""


class ClosedError(ValueError):
    """A batch whose labels the run has already taken over."""


class Session:
    """One batch and the ledger that its answers go to.

    Args:
        batch: what is asked.
        ledger: of the same run; every answer is in it before the call that gives it returns.
        conflicts: what becomes of samples about which people differ, as the run has it.
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
        self._writing = threading.Lock()  # what is sent twice at a time is kept once, too
        self._latest: dict[str, datetime] = {}  # annotator → the time of what came last from them
        self._samples = {sample.sample_id: sample for sample in batch.samples}
        self._here: set[str] = set()  # who answered by this session
        self.added: list[tuple[str, str]] = []  # classes, each with who added it
        self.share = share
        own, common = (batch.samples, ()) if share is None else share.split(batch)
        self._own = {sample.sample_id for sample in own or common}  # who answers one of them labels this share
        self._asked = {sample.sample_id for sample in (*own, *common)}

    def refresh(self) -> LabelBatch:
        """The batch with the classes that its run has by now; they may change while people label."""
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
        """True if `add_class` can add classes: here is the run, and its settings name them."""
        return self.batch.is_open and can_change(self.batch.run_dir)

    def add_class(self, annotator: str, name: object) -> LabelBatch:
        """Add a class to the run, for everybody, and return the batch with it.

        Raises:
            AnswerError: it is no name, or taken; here is only a copy of the batch, or the data have their own classes.
            ClosedError: it comes too late.
        """
        text = unicodedata.normalize("NFC", name).strip() if isinstance(name, str) else ""
        if not text or len(text) > _LONGEST_NAME or not text.isprintable():
            raise AnswerError(
                f"a class must be a name of 1 to {_LONGEST_NAME} characters on one line; got {shown(name)}"
            )
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
        """The samples of this share as this annotator meets them: shuffled, always the same, and differently for each.

        What the model wants most would otherwise come first for everybody, and tired eyes would see the rest.
        """
        seed = f"{self.batch.run_id}\0{self.batch.round}\0{annotator}\0"
        samples = self.batch.samples if whole_batch else self.asked
        return sorted(samples, key=lambda sample: hashlib.sha256((seed + sample.sample_id).encode()).digest())

    def groups(self, annotator: str) -> list[list[AskedSample]]:
        """The samples in groups that the model takes for alike, the largest first, those without a prediction last.

        In a group those come first about which the model is surest, by the score of the acquisition; samples without a
        score come last. Neither the order of groups nor that within one says which class the model predicts.
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
        """Their standing answers to this batch, oldest first; of several to one image the last is theirs."""
        return [answer for answer in self._standing() if answer.annotator == annotator]

    def disputes(self) -> Mapping[str, ResolvedLabel]:
        """Sample id → verdict, with the votes, for all samples of the batch about which people differ."""
        holds = resolve(self.ledger.active_answers(), self.conflicts)
        return {name: holds[name] for name in self._samples if name in holds and holds[name].differs}

    def unsettled(self) -> list[str]:
        """The samples about which people differ and for which the run waits."""
        return [name for name, verdict in self.disputes().items() if verdict.kind == "conflict"]

    def decisions(self) -> list[Answer]:
        """All standing decisions on this batch, oldest first; of several on one image the last holds."""
        return [answer for answer in self._all_standing() if answer.decides]

    def progress(self) -> Mapping[str, int]:
        """Annotator → how many of the images they answered, in the order in which they began.

        Of a share only its own images and those in common count, and not people who answered images of other shares
        and none of its own.
        """
        answered: dict[str, set[str]] = {}
        elsewhere = set()
        for answer in self._standing():
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

        Whoever has answered only images in common may be of another share, and is left out unless that was done here.
        """
        begun = {answer.annotator for answer in self._standing() if answer.sample_id in self._own} | self._here
        return [who for who, answered in self.progress().items() if who in begun and answered < len(self._asked)]

    def answer(self, annotator: str, content: Mapping[str, Any]) -> Answer:
        """Keep an answer: `sample_id`, `kind`, `label`, `seconds` that it took, `age` in seconds since it was given.

        With `decides` it settles what people differ about, and is no vote beside theirs. With `grid` it was given to
        several images at a time, which its source says. The same answer as the one that stands adds nothing, so that
        one whose receipt was lost may be sent again.

        Raises:
            AnswerError: a sample, class or number that cannot be.
            ClosedError: it comes too late.
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
            standing = self.ledger.active_answers(sample_id)
            place = (annotator, self.batch.round, False)
            before = [one for one in standing if (one.annotator, one.round, one.decides) == place]
            if before and (before[-1].kind, before[-1].label) == (kind, label):
                return before[-1]
            return self.ledger.append([new])[0]

    def _time_of(self, annotator: str, age: float) -> datetime:
        """The time at which an answer of this age was given.

        Answers of one browser come in their order, each after a delay of its own, which must not change that order.
        """
        with self._writing:
            at = datetime.now(timezone.utc) - timedelta(seconds=age)
            latest = self._latest.get(annotator, at)
            self._latest[annotator] = max(at, latest)
            return latest if at < latest < at + timedelta(seconds=_DELAY) else at

    def _decide(self, new: Answer) -> Answer:
        with self._writing:
            self._check_open()
            before = [one for one in self.decisions() if one.sample_id == new.sample_id]
            last = before[-1] if before else None
            if last and (last.annotator, last.kind, last.label) == (new.annotator, new.kind, new.label):
                return last
            if new.sample_id not in self.disputes():
                raise AnswerError(f"people do not differ about {new.sample_id!r} any more; reload the page")
            return self.ledger.append([new])[0]

    def undo(self, annotator: str, number: object) -> None:
        """Take back an answer that they gave on the page; one that was taken back before stays so.

        Raises:
            AnswerError: it is not theirs, or of another batch.
            ClosedError: it comes too late.
        """
        with self._writing:
            self._check_open()
            given = {one.id: revoked_by for one, revoked_by in self.ledger.history() if self._is_of(one, annotator)}
            if not is_integer(number) or number not in given:
                raise AnswerError(f"id must be of an answer that {annotator!r} gave on this page; got {shown(number)}")
            if given[number] is None:
                self.ledger.revoke([number], annotator, SOURCE)

    def table(self, annotator: str | None = None) -> str:
        """Each annotator's (or this one's) last answer to each image, as CSV with `COLUMNS`, in order of time.

        Where there are decisions, they come with it, and a column more tells them from the others.
        """
        last: dict[tuple[str, str, bool], Answer] = {}
        for answer in self._all_standing():
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
        """The labelled set of the run so far, all rounds and all people, as CSV; see `people.labelled_set`."""
        return labelled_set(self.batch.run_dir, self.conflicts).table()

    def _standing(self) -> list[Answer]:
        return [answer for answer in self._all_standing() if not answer.decides]

    def _all_standing(self) -> list[Answer]:
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
    """A name as the ledger has it: composed characters, no spaces around.

    Raises:
        AnswerError: it is none.
    """
    name = unicodedata.normalize("NFC", value).strip() if isinstance(value, str) else ""
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise AnswerError(
            f"annotator must be a name of 1 to {_LONGEST_NAME} characters on one line; got {shown(value)}; type another"
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
