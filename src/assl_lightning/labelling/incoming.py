"""Answers that come from outside, by a file or a labelling tool, before anybody has looked whether they may be true."""

from __future__ import annotations

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
