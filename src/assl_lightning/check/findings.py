"""What a check has to say: one sentence each, and whether the run should wait until it is mended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["wrong", "remark"]


@dataclass(frozen=True)
class Finding:
    """Something is wrong, or worth knowing; the sentence says what was found, where, and what to do."""

    severity: Severity
    sentence: str


def wrong(sentence: str) -> Finding:
    """What the run should not begin with."""
    return Finding("wrong", sentence)


def remark(sentence: str) -> Finding:
    """What is worth knowing, and stops nothing."""
    return Finding("remark", sentence)
