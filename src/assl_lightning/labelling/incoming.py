"""Answers that come from outside, by a file or a labelling tool, before anybody has looked whether they may be true."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assl_lightning.labelling.ledger import Kind


@dataclass(frozen=True)
class Incoming:
    """What a line of a file, or an annotation of a tool, says. Sample and class may be ones that do not exist."""

    where: str  # it stands, for people: "labels.csv, line 7", "export.json, task 12"
    sample_id: str
    kind: Kind
    label: str | None = None  # the class's name where `kind` is "label"
    annotator: str = ""  # "" where it does not say
    seconds: float | None = None  # that it took
    at: str | None = None  # when it was given, ISO 8601


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
