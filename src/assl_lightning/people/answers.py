"""Answers that come from outside, by a file or a labelling tool, before anybody has looked whether they may be true."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assl_lightning.people.ledger import Answer, Kind


@dataclass(frozen=True)
class Incoming:
    """What a line of a file, or an annotation of a tool, says. Sample and class may be ones that do not exist."""

    where: str  # it stands, for people: "labels.csv, line 7", "export.json, task 12"
    sample_id: str
    kind: Kind
    label: str | None = None  # the class's name where `kind` is "label"
    annotator: str = ""  # "" where it does not say
    seconds: float | None = None  # that it took
    at: str | None = None  # when it was given, as `ledger.as_utc` has it; None where it does not say
    decides: bool = False  # see `ledger.Answer`
    round: int | None = None  # of the batch beside which it lies; None where it came by another way

    def is_of(self, answer: Answer) -> bool:
        """True where `answer` was taken from this line: the same place, content and, where the line has one, time.

        Each round's files have the same name.
        """
        of_one_time = self.at in (None, answer.at, answer.stated)
        of_one_round = self.round in (None, answer.round)
        said = (answer.source, answer.sample_id, answer.kind, answer.label, answer.decides)
        return (
            of_one_time and of_one_round and said == (self.where, self.sample_id, self.kind, self.label, self.decides)
        )


class IngestError(ValueError):
    """Labels that came back cannot be taken; `lines` says why, one sentence for each problem, and nothing was taken."""

    def __init__(self, lines: str | Iterable[str]) -> None:
        self.lines = (lines,) if isinstance(lines, str) else tuple(lines)
        super().__init__("\n".join(self.lines))


def is_utf8(text: str) -> bool:
    """Whether a text can be written at all: JSON and the names of files may hold half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
